defmodule Pyre.Integration.CallsTest do
  # What a call and a cast do to a state, and what the caller learns.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  describe "a state" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Journal")}
    end

    test "is committed with the reply", %{pyre: pyre, id: id} do
      assert Pyre.state(pyre, id) == {:ok, %{}, 0}
      assert Pyre.call(pyre, id, :append, %{entry: 7}) == {:ok, 1}
      assert Pyre.state(pyre, id) == {:ok, %{"entries" => [7]}, 1}
      assert Pyre.call!(pyre, id, "append", %{"entry" => 8}) == 2
      assert {:ok, %{"entries" => [7, 8]}, 2} = Pyre.state(pyre, id)
    end

    test "travels only where it changed", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 7})
      for _time <- 1..5, do: assert(Pyre.call(pyre, id, :entries) == {:ok, [7]})
      assert {:ok, _state, 1} = Pyre.state(pyre, id)
    end

    test "is rolled back when the handler raises", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})

      assert {:error, %PythonError{type: "ValueError", message: "entry 2 is wrong", expected: false} = error} =
               Pyre.call(pyre, id, :fail, %{entry: 2})

      assert error.traceback =~ "journal.py"
      assert Pyre.call(pyre, id, :entries) == {:ok, [1]}
      assert {:ok, %{"entries" => [1]}, 1} = Pyre.state(pyre, id)

      assert_raise PythonError, "ValueError: entry 3 is wrong", fn ->
        Pyre.call!(pyre, id, :fail, %{entry: 3})
      end
    end

    test "is rolled back without a restart when the handler refuses", %{pyre: pyre, id: id} do
      pid = Pyre.whereis(pyre, id)

      assert {:error, %PythonError{type: "Reject", message: "no such entry", expected: true, data: data}} =
               Pyre.call(pyre, id, :refuse, %{entry: 2})

      assert data == %{"entry" => 2}

      assert {:error, %PythonError{type: "KeyError", expected: true}} =
               Pyre.call(pyre, id, :expect, %{entry: 2})

      assert Pyre.call(pyre, id, :entries) == {:ok, []}
      assert Pyre.whereis(pyre, id) == pid
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, id)
    end

    test "keeps what was committed before the handler raised", %{pyre: pyre, id: id} do
      assert {:error, %PythonError{message: "after the commit"}} =
               Pyre.call(pyre, id, :commit_then_fail, %{entry: 4})

      assert Pyre.call(pyre, id, :entries) == {:ok, [4]}
      assert {:ok, %{"entries" => [4]}, 1} = Pyre.state(pyre, id)
    end

    test "can be changed from a thread", %{pyre: pyre, id: id} do
      for entry <- 1..3, do: {:ok, ^entry} = Pyre.call(pyre, id, :append_in_thread, %{entry: entry})
      assert {:ok, %{"entries" => [1, 2, 3]}, 3} = Pyre.state(pyre, id)
    end

    test "is replaced by put_state, once where a revision is expected", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      assert Pyre.put_state(pyre, id, %{entries: [5, 6]}, expect_revision: 1) == {:ok, 2}

      assert {:error, %Error{kind: :invalid_args, message: message}} =
               Pyre.put_state(pyre, id, %{entries: []}, expect_revision: 1)

      assert message =~ "revision is 2, not 1"
      assert Pyre.call(pyre, id, :append, %{entry: 7}) == {:ok, 3}
    end

    test "that Python can't use is an error, never a blank one", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.put_state(pyre, id, %{entries: "no list"})
      assert {:error, error} = Pyre.call(pyre, id, :entries)
      assert Exception.message(error) =~ "entries"
      assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, id, :entries)
      assert Pyre.state(pyre, id) == {:ok, %{"entries" => "no list"}, 1}
    end

    test "survives a SystemExit in a handler, as does the interpreter", %{pyre: pyre, id: id} do
      os_pid = os_pid(pyre)
      {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      assert {:error, %PythonError{type: "SystemExit"}} = Pyre.call(pyre, id, :leave)
      assert Pyre.call(pyre, id, :entries) == {:ok, [1]}
      assert os_pid(pyre) == os_pid
    end
  end

  describe "the order of one sender" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Journal")}
    end

    test "is kept, however many messages are under way", %{pyre: pyre, id: id} do
      for entry <- 1..2_000, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry})
      assert Pyre.call(pyre, id, :entries) == {:ok, Enum.to_list(1..2_000)}
    end

    test "is kept where some run in threads and some wait", %{pyre: pyre, id: id} do
      for entry <- 1..60 do
        {handler, args} =
          case rem(entry, 3) do
            0 -> {:append, %{}}
            1 -> {:append_in_thread, %{}}
            2 -> {:append_slowly, %{seconds: 0.001}}
          end

        :ok = Pyre.cast(pyre, id, handler, Map.put(args, :entry, entry))
      end

      assert Pyre.call(pyre, id, :entries) == {:ok, Enum.to_list(1..60)}
    end

    test "is kept for each of many senders", %{pyre: pyre, id: id} do
      1..10
      |> Task.async_stream(fn sender ->
        for n <- 1..100, do: :ok = Pyre.cast(pyre, id, :append, %{entry: sender * 1_000 + n})
      end)
      |> Stream.run()

      {:ok, entries} = Pyre.call(pyre, id, :entries)
      assert length(entries) == 1_000

      for {sender, mine} <- Enum.group_by(entries, &div(&1, 1_000)),
          do: assert(mine == Enum.map(1..100, &(sender * 1_000 + &1)))
    end
  end

  describe "a timeout" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Gatekeeper"), folder: workspace()}
    end

    test "cancels the running handler and rolls its changes back", %{pyre: pyre, id: id, folder: folder} do
      args = %{folder: folder, name: "a"}
      assert {:error, %Error{kind: :timeout} = error} = Pyre.call(pyre, id, :go_half, args, timeout: 100)
      assert error.details.committed == false
      refute Error.retryable?(error)
      assert gate(folder, "a") == ["1"]
      assert Pyre.call(pyre, id, :passed) == {:ok, []}
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, id)
    end

    test "withdraws a message that waits: it never runs", %{pyre: pyre, id: id, folder: folder} do
      running = Task.async(fn -> Pyre.call(pyre, id, :go, %{folder: folder, name: "a"}) end)
      await_gate(folder, "a")

      assert {:error, %Error{kind: :deadline} = error} =
               Pyre.call(pyre, id, :go, %{folder: folder, name: "b"}, timeout: 50)

      assert Error.retryable?(error)
      open_gate(folder, "a")
      open_gate(folder, "b")
      assert Task.await(running) == {:ok, 1}
      assert Pyre.call(pyre, id, :passed) == {:ok, [["a", 1]]}
      assert gate(folder, "b") == []
    end

    test "leaves nothing in the caller's mailbox", %{pyre: pyre, id: id, folder: folder} do
      for name <- ["a", "b", "c"] do
        assert {:error, %Error{kind: kind}} =
                 Pyre.call(pyre, id, :go, %{folder: folder, name: name}, timeout: 30)

        # Where 30 ms were not enough to begin.
        assert kind in [:timeout, :deadline]
      end

      assert {:error, %Error{kind: kind}} =
               Pyre.call(pyre, id, :go_in_thread, %{folder: folder, name: "t"}, timeout: 30)

      assert kind in [:timeout, :deadline]

      open_gate(folder, "t")
      assert {:ok, _passed} = Pyre.call(pyre, id, :passed)
      assert {:error, %Error{kind: :timeout}} = Pyre.run(pyre, "_plain", "sleep", [5], timeout: 30)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "of a handler in a thread rolls back too, and the next message waits for the thread", context do
      %{pyre: pyre, id: id, folder: folder} = context
      args = %{folder: folder, name: "t"}
      assert {:error, %Error{kind: :timeout} = error} = Pyre.call(pyre, id, :go_in_thread, args, timeout: 50)
      assert error.details.committed == false
      next = Task.async(fn -> Pyre.call(pyre, id, :passed) end)
      assert Pyre.call(pyre, start_agent!(pyre, "Gatekeeper"), :count) == {:ok, 0}
      assert Task.yield(next, 50) == nil
      open_gate(folder, "t")
      assert Task.await(next) == {:ok, []}
    end

    test "of 0 answers at once", %{pyre: pyre, id: id, folder: folder} do
      assert {:error, %Error{kind: kind}} = Pyre.call(pyre, id, :go, %{folder: folder, name: "a"}, timeout: 0)

      assert kind in [:deadline, :timeout]
    end

    test "of a caller that dies ends the handler", %{pyre: pyre, id: id, folder: folder} do
      caller = spawn(fn -> Pyre.call(pyre, id, :go, %{folder: folder, name: "a"}, timeout: :infinity) end)
      await_gate(folder, "a")
      Process.exit(caller, :kill)
      assert Pyre.call(pyre, id, :passed) == {:ok, []}
    end
  end

  describe "a handler beside others" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Gatekeeper"), folder: workspace()}
    end

    test "answers while another one runs, from what was committed", %{pyre: pyre, id: id, folder: folder} do
      running = Task.async(fn -> Pyre.call(pyre, id, :go_half, %{folder: folder, name: "a"}) end)
      await_gate(folder, "a")
      assert Pyre.call(pyre, id, :count) == {:ok, 0}
      open_gate(folder, "a")
      assert Task.await(running) == {:ok, 1}
      assert Pyre.call(pyre, id, :count) == {:ok, 1}
    end

    test "can't write", %{pyre: pyre, id: id} do
      assert {:error, error} = Pyre.call(pyre, id, :try_to_write)
      assert Exception.message(error) =~ "read-only"
    end
  end

  describe "priorities:" do
    setup do
      {:ok, pyre: start_pyre!()}
    end

    test "high ones run first, low ones last, from Elixir and from Python", %{pyre: pyre} do
      folder = workspace()
      id = start_agent!(pyre, "Listener", id: "prioritised")
      deaf = start_agent!(pyre, "Deaf", id: "deaf")
      busy = Task.async(fn -> Pyre.call(pyre, id, :stand, %{folder: folder}) end)
      await_gate(folder, "busy")

      for {topic, opts} <- [low: [priority: :low], one: [], high: [priority: :high], two: []],
          do: :ok = Pyre.cast(pyre, id, :also, %{topic: topic}, opts)

      {:ok, nil} = Pyre.call(pyre, deaf, :hasten, %{to: id})
      open_gate(folder, "busy")
      Task.await(busy)
      eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, id)) end)
      {:ok, %{"heard" => heard}, _revision} = Pyre.state(pyre, id)
      assert Enum.map(heard, &List.last/1) == ~w(high from-python one two low)
    end

    test "another word is refused", %{pyre: pyre} do
      assert_raise ArgumentError, ~r/priority/, fn -> Pyre.cast(pyre, "x", :add, %{}, priority: :urgent) end
    end
  end
end
