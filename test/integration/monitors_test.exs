defmodule Pyre.Integration.MonitorsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  setup do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 1)
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp rows(pyre), do: :ets.info(Instance.get(pyre).monitors, :size)

  describe "who monitors" do
    test "is told once when the agent is stopped", %{pyre: pyre} do
      {:ok, ref} = Pyre.monitor(pyre, "j")
      :ok = Pyre.stop_agent(pyre, "j")
      assert_receive {:DOWN, ^ref, :agent, "j", :stopped}
      # The next under this id is another.
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      :ok = Pyre.stop_agent(pyre, "j")
      {:ok, last} = Pyre.monitor(pyre, "j")
      assert_receive {:DOWN, ^last, :agent, "j", %Error{kind: :not_found}}
      refute_received {:DOWN, ^ref, :agent, _id, _reason}
      eventually(fn -> rows(pyre) == 0 end)
    end

    test "is told the Python error when the agent is terminated, and not of its restarts", %{pyre: pyre} do
      {:ok, ref} = Pyre.monitor(pyre, "j")
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail, %{entry: 1})
      assert {:ok, []} = Pyre.call(pyre, "j", :entries)
      refute_received {:DOWN, ^ref, :agent, _id, _reason}
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail, %{entry: 2})

      assert_receive {:DOWN, ^ref, :agent, "j", %PythonError{type: "ValueError", message: "entry 2 is wrong"}}
      assert {:ok, %{status: :terminated}} = Pyre.info(pyre, "j")
      # It is told at once, like one who comes too late for a process.
      {:ok, late} = Pyre.monitor(pyre, "j")
      assert_receive {:DOWN, ^late, :agent, "j", %PythonError{type: "ValueError"}}
      :ok = Pyre.stop_agent(pyre, "j")
      refute_received {:DOWN, _ref, :agent, _id, _reason}
    end

    test "is told of each restart where it asks for that", %{pyre: pyre} do
      {:ok, quiet} = Pyre.monitor(pyre, "j")
      {:ok, ref} = Pyre.monitor(pyre, "j", restarts: true)
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail, %{entry: 1})
      assert_receive {:RESTARTED, ^ref, :agent, "j", %PythonError{message: "entry 1 is wrong"}}
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail, %{entry: 2})
      assert_receive {:DOWN, ^ref, :agent, "j", %PythonError{message: "entry 2 is wrong"}}
      assert_receive {:DOWN, ^quiet, :agent, "j", %PythonError{}}
      refute_received {:RESTARTED, _ref, :agent, _id, _error}
    end

    test "hears no more after demonitor, nor finds what came before it", %{pyre: pyre} do
      {:ok, ref} = Pyre.monitor(pyre, "j")
      {:ok, witness} = Pyre.monitor(pyre, "j")
      assert :ok = Pyre.demonitor(pyre, ref)
      :ok = Pyre.stop_agent(pyre, "j")
      assert_receive {:DOWN, ^witness, :agent, "j", :stopped}
      refute_received {:DOWN, ^ref, :agent, _id, _reason}
      {:ok, unknown} = Pyre.monitor(pyre, "nobody")
      assert :ok = Pyre.demonitor(pyre, unknown)
      refute_received {:DOWN, ^unknown, :agent, _id, _reason}
      assert_raise ArgumentError, ~r/a reference/, fn -> Pyre.demonitor(pyre, "j") end
    end

    test "leaves nothing behind when it ends", %{pyre: pyre} do
      task =
        Task.async(fn ->
          {:ok, _ref} = Pyre.monitor(pyre, "j")
          {:ok, _ref} = Pyre.monitor(pyre, "j", restarts: true)
          rows(pyre)
        end)

      assert Task.await(task) == 4
      eventually(fn -> rows(pyre) == 0 end)

      eventually(fn ->
        match?(%{agents: a, watchers: w, monitors: m} when {a, w, m} == {%{}, %{}, %{}}, state(pyre))
      end)
    end

    test "is told when the instance ends", %{pyre: pyre} do
      {:ok, ref} = Pyre.monitor(pyre, "j")
      :ok = Supervisor.stop(pyre)
      assert_receive {:DOWN, ^ref, :agent, "j", %Error{kind: :stopping}}
    end

    test "gives a possible id", %{pyre: pyre} do
      assert {:error, %Error{kind: :invalid_id}} = Pyre.monitor(pyre, "")
    end
  end

  defp state(pyre), do: pyre |> process(:monitors) |> :sys.get_state()

  describe "an agent that monitors" do
    setup %{pyre: pyre} do
      {:ok, "w"} = Pyre.start_agent(pyre, "Watchman", id: "w", max_restarts: 10)
      :ok
    end

    test "gets on_down once, with the error as an exception", %{pyre: pyre} do
      for _twice <- 1..2, do: {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "j"})
      for entry <- 1..2, do: {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail, %{entry: entry})
      assert [["j", "RemoteError", "ValueError: entry 2 is wrong"]] = downs(pyre, "w", 1)
    end

    test "is told of a stop, and of an id that nobody has", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "nobody"})
      {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "j"})
      :ok = Pyre.stop_agent(pyre, "j")
      assert [["nobody", "NotFound", _words], ["j", "Stopped", _stopped]] = downs(pyre, "w", 2)
    end

    test "hears no more after demonitor", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "j"})
      {:ok, nil} = Pyre.call(pyre, "w", :unwatch, %{id: "j"})
      {:ok, ref} = Pyre.monitor(pyre, "j")
      :ok = Pyre.stop_agent(pyre, "j")
      assert_receive {:DOWN, ^ref, :agent, "j", :stopped}
      assert {:ok, []} = Pyre.call(pyre, "w", :downs)
    end

    test "in a thread, too", %{pyre: pyre} do
      {:ok, "t"} = Pyre.start_agent(pyre, "ThreadWatchman", id: "t")
      {:ok, nil} = Pyre.call(pyre, "t", :watch, %{id: "j"})
      :ok = Pyre.stop_agent(pyre, "j")
      assert ["j"] = downs(pyre, "t", 1)
    end

    test "without an on_down is refused", %{pyre: pyre} do
      {:ok, "b"} = Pyre.start_agent(pyre, "Blind", id: "b")
      assert {:ok, "unknown_handler"} = Pyre.call(pyre, "b", :watch, %{id: "j"})
    end

    test "watches no more once it is stopped", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "j"})
      :ok = Pyre.stop_agent(pyre, "w")
      assert rows(pyre) == 0
    end

    test "is told even where its mailbox is full", %{pyre: pyre, folder: folder} do
      {:ok, "s"} = Pyre.start_agent(pyre, "Watchman", id: "s", max_mailbox: 1)
      {:ok, nil} = Pyre.call(pyre, "s", :watch, %{id: "j"})
      :ok = Pyre.cast(pyre, "s", :stand, %{folder: folder, name: "a"})
      await_gate(folder, "a")
      assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "s", :stand, %{folder: folder, name: "b"})
      {:ok, ref} = Pyre.monitor(pyre, "j")
      :ok = Pyre.stop_agent(pyre, "j")
      assert_receive {:DOWN, ^ref, :agent, "j", :stopped}
      open_gate(folder, "a")
      assert [["j", "Stopped", _words]] = downs(pyre, "s", 1)
    end
  end

  defp downs(pyre, id, count) do
    eventually(fn ->
      case Pyre.call(pyre, id, :downs) do
        {:ok, downs} -> length(downs) >= count && downs
        {:error, %Error{kind: :overloaded}} -> false
      end
    end)
  end
end
