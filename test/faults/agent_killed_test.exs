defmodule Pyre.Faults.AgentKilledTest do
  # Promise: the death of an agent's process, by force or by its handler, costs no state and no accepted message.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace()}
  end

  describe "a handler that raises" do
    test "ends the process of its agent, and its supervisor starts the next", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      pid = Pyre.whereis(pyre, "j")
      monitor = Process.monitor(pid)
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
      assert_receive {:DOWN, ^monitor, :process, ^pid, {:agent_failed, "j", "ValueError: entry 0 is wrong"}}
      assert Pyre.call(pyre, "j", :entries) == {:ok, []}
      assert is_pid(Pyre.whereis(pyre, "j")) and Pyre.whereis(pyre, "j") != pid
      assert {:ok, %{restarts: 1, last_error: %PythonError{type: "ValueError"}}} = Pyre.info(pyre, "j")
    end

    test "keeps what is queued, in order", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      {:ok, 1} = Pyre.call(pyre, "j", :append_slowly, %{entry: 0, seconds: 0.05})

      for entry <- 1..200 do
        handler = if entry in [50, 150], do: :fail, else: :append
        :ok = Pyre.cast(pyre, "j", handler, %{entry: entry})
      end

      assert Pyre.call(pyre, "j", :entries) == {:ok, Enum.to_list(0..200) -- [50, 150]}
      assert Pyre.info(pyre).counters.dropped_casts == 2
    end

    test "does not make callers of the next messages wait in vain", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")

      results =
        1..30
        |> Task.async_stream(
          fn n -> Pyre.call(pyre, "j", if(rem(n, 15) == 0, do: :fail, else: :append), %{entry: n}) end,
          max_concurrency: 30
        )
        |> Enum.map(fn {:ok, result} -> result end)

      assert Enum.count(results, &match?({:ok, _count}, &1)) == 28
      assert Enum.count(results, &match?({:error, %PythonError{}}, &1)) == 2
    end
  end

  describe "a process that is killed" do
    test "while idle comes back with its state", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      Process.exit(Pyre.whereis(pyre, "j"), :kill)
      assert Pyre.call(pyre, "j", :append, %{entry: 2}) == {:ok, 2}
    end

    test "loses no queued cast, and what ran is told or run again", %{pyre: pyre, folder: folder} do
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      running = Task.async(fn -> Pyre.call(pyre, "g", :go, %{folder: folder, name: "a"}) end)
      await_gate(folder, "a")
      for n <- 1..50, do: :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "#{n}"})
      waiting = Task.async(fn -> Pyre.call(pyre, "g", :passed, %{}, timeout: 20_000) end)
      eventually(fn -> match?({:ok, %{mailbox: 52}}, Pyre.info(pyre, "g")) end)
      for n <- 1..50, do: open_gate(folder, "#{n}")
      Process.exit(Pyre.whereis(pyre, "g"), :kill)
      assert {:error, %Error{kind: :agent_down, details: %{begun: true}}} = Task.await(running)
      assert Task.await(waiting, 20_000) == {:ok, for(n <- 1..50, do: ["#{n}", 1])}
      assert {:ok, %{mailbox: 0, mailbox_bytes: 0, restarts: 1}} = Pyre.info(pyre, "g")
    end

    test "while a cast runs: it is run again, never beside itself", %{pyre: pyre, folder: folder} do
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      :ok = Pyre.cast(pyre, "g", :go_in_thread, %{folder: folder, name: "a"})
      await_gate(folder, "a")
      Process.exit(Pyre.whereis(pyre, "g"), :kill)
      other = Task.async(fn -> Pyre.call(pyre, "g", :passed, %{}, timeout: 20_000) end)
      # The thread of the first attempt can't be ended: nothing new runs before it has let go.
      assert Task.yield(other, 100) == nil
      assert gate(folder, "a") == ["1"]
      open_gate(folder, "a")
      assert Task.await(other, 20_000) == {:ok, [["a", 2]]}
      assert gate(folder, "a") == ["1", "2"]
    end

    test "while an idempotent call runs: it is run again", %{pyre: pyre, folder: folder} do
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")

      call =
        Task.async(fn -> Pyre.call(pyre, "g", :go_again, %{folder: folder, name: "a"}, timeout: 20_000) end)

      await_gate(folder, "a")
      Process.exit(Pyre.whereis(pyre, "g"), :kill)
      assert await_gate(folder, "a", 2) == ["1", "2"]
      open_gate(folder, "a")
      assert Task.await(call, 20_000) == {:ok, 2}
    end

    test "again and again under load: every accepted cast is run, in order", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 1_000)

      sender =
        Task.async(fn -> for entry <- 1..1_000, do: :ok = Pyre.cast(pyre, "j", :append, %{entry: entry}) end)

      for _time <- 1..5 do
        pid = eventually(fn -> Pyre.whereis(pyre, "j") end)
        monitor = Process.monitor(pid)
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
      end

      Task.await(sender)
      {:ok, entries} = Pyre.call(pyre, "j", :entries, %{}, timeout: 20_000)
      assert Enum.uniq(entries) == Enum.to_list(1..1_000)
      assert entries == Enum.sort(entries)
    end

    # It was taken to wait for whom it had called, so those could never call it again: each time a deadlock.
    test "while it waits for another agent: it waits for nobody any more", %{pyre: pyre, folder: folder} do
      for {id, class} <- [{"a", "Asker"}, {"b", "Asker"}, {"g", "Gatekeeper"}],
          do: {:ok, ^id} = Pyre.start_agent(pyre, class, id: id)

      at_gate = %{of: "g", handler: "go", args: %{folder: folder, name: "gate"}}

      call =
        Task.async(fn -> Pyre.call(pyre, "a", :ask_any, %{of: "b", handler: "ask_any", args: at_gate}) end)

      await_gate(folder, "gate")
      Process.exit(Pyre.whereis(pyre, "a"), :kill)
      assert {:error, %Error{kind: :agent_down}} = Task.await(call)
      open_gate(folder, "gate")
      assert Pyre.call(pyre, "b", :ask_any, %{of: "a", handler: "ask", args: %{path: []}}) == {:ok, ["a"]}
    end

    test "while stop_agent waits: the stop is carried out", %{pyre: pyre, folder: folder} do
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
      await_gate(folder, "a")
      stopping = Task.async(fn -> Pyre.stop_agent(pyre, "g", timeout: 10_000) end)
      eventually(fn -> match?({:ok, %{mailbox: 2}}, Pyre.info(pyre, "g")) end)
      Process.exit(Pyre.whereis(pyre, "g"), :kill)
      assert Task.await(stopping, 20_000) == :ok
      assert Pyre.agents(pyre) == []
    end
  end
end
