defmodule Pyre.Faults.WorkerKilledTest do
  # Promise: an interpreter may be killed at any moment; agents keep address, queue and state, and whoever waits is told.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace(), id: start_agent!(pyre, "Gatekeeper", id: "g")}
  end

  defp kill(pyre), do: pyre |> os_pid() |> signal("KILL")

  test "agents answer again with their committed state, without anybody asking", %{pyre: pyre} do
    for n <- 1..50, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}")
    for n <- 1..50, do: {:ok, 1} = Pyre.call(pyre, "j#{n}", :append, %{entry: n})
    pids = for n <- 1..50, do: Pyre.whereis(pyre, "j#{n}")
    kill(pyre)
    for n <- 1..50, do: assert(Pyre.call(pyre, "j#{n}", :entries) == {:ok, [n]})
    # A dead worker is no crash of an agent.
    assert pids == for(n <- 1..50, do: Pyre.whereis(pyre, "j#{n}"))
    assert [%{deaths: 1, status: :ready}] = Pyre.workers(pyre)
  end

  test "a call that had begun is answered worker_down, and did not run twice", context do
    %{pyre: pyre, id: id, folder: folder} = context
    call = Task.async(fn -> Pyre.call(pyre, id, :go, %{folder: folder, name: "a"}) end)
    await_gate(folder, "a")
    kill(pyre)
    assert {:error, %Error{kind: :worker_down, details: %{begun: true}} = error} = Task.await(call)
    refute Error.retryable?(error)
    assert error.message =~ "signal 9"
    open_gate(folder, "a")
    assert Pyre.call(pyre, id, :passed) == {:ok, []}
    assert gate(folder, "a") == ["1"]
  end

  test "an idempotent call that had begun is run again", %{pyre: pyre, id: id, folder: folder} do
    call = Task.async(fn -> Pyre.call(pyre, id, :go_again, %{folder: folder, name: "a"}, timeout: 20_000) end)
    await_gate(folder, "a")
    kill(pyre)
    assert await_gate(folder, "a", 2) == ["1", "2"]
    open_gate(folder, "a")
    assert Task.await(call, 20_000) == {:ok, 2}
    assert Pyre.call(pyre, id, :passed) == {:ok, [["a", 2]]}
  end

  test "a cast that had begun is run again, as the next attempt", %{pyre: pyre, id: id, folder: folder} do
    :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    kill(pyre)
    assert await_gate(folder, "a", 2) == ["1", "2"]
    open_gate(folder, "a")
    assert Pyre.call(pyre, id, :passed) == {:ok, [["a", 2]]}
  end

  test "a cast under which interpreters keep dying is given up", %{pyre: pyre, id: id, folder: folder} do
    :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: "a"})
    for attempt <- 1..3, do: await_gate(folder, "a", attempt) && kill(pyre)
    assert Pyre.call(pyre, id, :passed, %{}, timeout: 20_000) == {:ok, []}
    assert gate(folder, "a") == ["1", "2", "3"]
    assert Pyre.info(pyre).counters.dropped_casts == 1
  end

  test "what was waiting is run, in order", %{pyre: pyre, id: id, folder: folder} do
    running = Task.async(fn -> Pyre.call(pyre, id, :go, %{folder: folder, name: "first"}) end)
    await_gate(folder, "first")
    for n <- 1..20, do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: "#{n}"})
    waiting = Task.async(fn -> Pyre.call(pyre, id, :passed, %{}, timeout: 20_000) end)
    eventually(fn -> match?({:ok, %{mailbox: 22}}, Pyre.info(pyre, id)) end)
    for n <- 1..20, do: open_gate(folder, "#{n}")
    kill(pyre)
    assert {:error, %Error{kind: :worker_down}} = Task.await(running)
    assert Task.await(waiting, 20_000) == {:ok, for(n <- 1..20, do: ["#{n}", 1])}
  end

  test "no other agent's message that had not begun is lost or run twice", %{pyre: pyre, folder: folder} do
    for n <- 1..20, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}")
    blocker = start_agent!(pyre, "Gatekeeper")
    block = Task.async(fn -> Pyre.call(pyre, blocker, :hold_loop, %{folder: folder, name: "a"}) end)
    await_gate(folder, "a")
    # The loop is held: these are written to the pipe, and can't begin.
    calls =
      for n <- 1..20,
          do: Task.async(fn -> Pyre.call(pyre, "j#{n}", :append, %{entry: n}, timeout: 20_000) end)

    eventually(fn -> Pyre.info(pyre).counters.delivered >= 21 end)
    kill(pyre)
    assert {:error, %Error{kind: :worker_down, details: %{begun: true}}} = Task.await(block)
    for call <- calls, do: assert(Task.await(call, 20_000) == {:ok, 1})
    for n <- 1..20, do: assert({:ok, %{"entries" => [^n]}, 1} = Pyre.state(pyre, "j#{n}"))
    assert Pyre.info(pyre).counters.resent == 20
  end

  test "many kills under many senders lose no cast, and keep each sender's order", %{pyre: pyre} do
    for n <- 1..8, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}", max_restarts: 100)

    senders =
      for n <- 1..8 do
        Task.async(fn ->
          for entry <- 1..300,
              do: :ok = Pyre.cast(pyre, "j#{n}", :append_slowly, %{entry: entry, seconds: 0.0005})
        end)
      end

    for _time <- 1..3, do: kill_interpreter(pyre)
    Task.await_many(senders, 20_000)

    for n <- 1..8 do
      {:ok, entries} = Pyre.call(pyre, "j#{n}", :entries, %{}, timeout: 20_000)
      # At least once: a cast whose commit was in the pipe may have run again.
      assert Enum.uniq(entries) == Enum.to_list(1..300)
      assert length(entries) <= 303
      assert entries == Enum.sort(entries)
    end
  end

  test "nothing is left in the caller's mailbox", %{pyre: pyre, id: id, folder: folder} do
    me = self()

    caller =
      spawn_link(fn ->
        result = Pyre.call(pyre, id, :go, %{folder: folder, name: "a"})
        {:ok, _passed} = Pyre.call(pyre, id, :passed)
        send(me, {:done, result, Process.info(self(), :messages)})
        receive do: (:never -> :ok)
      end)

    await_gate(folder, "a")
    kill(pyre)
    assert_receive {:done, {:error, %Error{kind: :worker_down}}, {:messages, []}}, 10_000
    Process.unlink(caller)
    Process.exit(caller, :kill)
  end

  test "a timer that was set fires all the same", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 5, seconds: 0.3})
    kill(pyre)
    eventually(fn -> match?({:ok, %{"entries" => [5]}, _revision}, Pyre.state(pyre, "j")) end)
  end

  test "children of the interpreter die with it", %{pyre: pyre} do
    {:ok, "s"} = Pyre.start_agent(pyre, "Sleeper", id: "s")
    {:ok, child} = Pyre.call(pyre, "s", :start_child)
    os_pid = os_pid(pyre)
    kill_interpreter(pyre)
    assert_os_pid_exited(os_pid)
    assert_os_pid_exited(child)
  end

  test "an interpreter that exits by itself says its last words in the error", %{pyre: pyre} do
    {:ok, "n"} = Pyre.start_agent(pyre, "Noise", id: "n")

    assert {:error, %Error{kind: :worker_down} = error} =
             Pyre.call(pyre, "n", :last_words, %{text: "farewell"})

    assert error.message =~ "status 17"
    assert error.message =~ "farewell"
    assert error.details.begun
    os_pid(pyre)
    [%{last_error: nil, deaths: 1}] = Pyre.workers(pyre)
  end

  test "a function that was running is answered worker_down", %{pyre: pyre} do
    assert {:error, %Error{kind: :worker_down}} = Pyre.run(pyre, "_plain", "die")
    assert {:ok, 3} = Pyre.run(pyre, "_plain", "add", [1, 2])
  end

  test "a stopped interpreter that is then killed is replaced", %{pyre: pyre, id: id, folder: folder} do
    os_pid = os_pid(pyre)
    signal(os_pid, "STOP")
    call = Task.async(fn -> Pyre.call(pyre, id, :passed, %{}, timeout: 20_000) end)
    # Fills the pipe: the worker's process must not be suspended by it.
    for n <- 1..200,
        do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: String.duplicate("x", 200), n: n})

    big = start_agent!(pyre, "Echo")

    others =
      for _n <- 1..5,
          do:
            Task.async(fn ->
              Pyre.call(pyre, big, :kind, %{value: :binary.copy("y", 1_000_000)}, timeout: 20_000)
            end)

    eventually(fn -> Pyre.info(pyre).counters.delivered >= 2 end)
    signal(os_pid, "KILL")
    assert Task.await(call, 20_000) == {:ok, []}
    for other <- others, do: assert(Task.await(other, 20_000) == {:ok, "str"})
  end

  test "the agents of one worker move to another where there is one" do
    pyre = start_pyre!(workers: 2)
    for n <- 1..20, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}")
    for n <- 1..20, do: {:ok, 1} = Pyre.call(pyre, "j#{n}", :append, %{entry: n})

    assert [10, 10] =
             for(
               worker <- [1, 2],
               do: Enum.count(1..20, &match?({:ok, %{worker: ^worker}}, Pyre.info(pyre, "j#{&1}")))
             )

    signal(os_pid(pyre, 1), "KILL")
    for n <- 1..20, do: assert(Pyre.call(pyre, "j#{n}", :append, %{entry: 0}) == {:ok, 2})
  end

  test "the table of waiting agents is empty in the end", %{pyre: pyre, id: id} do
    kill_interpreter(pyre)
    assert {:ok, []} = Pyre.call(pyre, id, :passed)
    instance = Instance.get(pyre)
    assert :ets.tab2list(instance.mailbox) == []
    assert :ets.tab2list(instance.waits) == []
    assert {:ok, %{mailbox: 0, mailbox_bytes: 0}} = Pyre.info(pyre, id)
  end
end
