defmodule Pyre.Integration.RequestsTest do
  # Calls that are under way: awaited, looked at, cancelled, many at a time.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError, Request}

  setup do
    pyre = start_pyre!()
    for id <- ["a", "b", "c"], do: start_agent!(pyre, "Relay", id: id)
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp count(pyre, id) do
    case Pyre.state(pyre, id) do
      {:ok, state, _revision} -> Map.get(state || %{}, "count", 0)
      _none -> 0
    end
  end

  defp cancelled?(folder, id), do: File.exists?(Path.join(folder, "#{id}.cancelled"))

  describe "a request" do
    test "is awaited once, by its owner", %{pyre: pyre} do
      {:ok, request} = Pyre.call_async(pyre, "a", :add)
      assert %Request{agent: "a", message_id: {"a", number}} = request
      assert is_integer(number)
      assert {:ok, 1} = Pyre.await(request)
      assert :done = Pyre.status(request)
      assert {:error, %Error{kind: :not_found, message: message}} = Pyre.await(request)
      assert message =~ "taken already"
      assert :already_done = Pyre.cancel(request)

      other =
        Task.async(fn ->
          assert_raise(ArgumentError, ~r/by the process that made it/, fn -> Pyre.await(request) end)
        end)

      assert %ArgumentError{} = Task.await(other)
    end

    test "is looked at, and awaited for a while only", %{pyre: pyre, folder: folder} do
      {:ok, running} = Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: []})
      await_gate(folder, "end")
      {:ok, queued} = Pyre.call_async(pyre, "a", :add)
      assert {Pyre.status(running), Pyre.status(queued)} == {:running, :queued}
      assert {:error, %Error{kind: :timeout, details: %{pending: true}}} = Pyre.await(running, 20)
      open_gate(folder, "end")
      assert {:ok, "a"} = Pyre.await(running)
      assert {:ok, 2} = Pyre.await(queued)
    end

    test "has its call's errors and deadline", %{pyre: pyre, folder: folder} do
      assert {:error, %Error{kind: :not_found}} = Pyre.call_async(pyre, "nobody", :add)
      {:ok, request} = Pyre.call_async(pyre, "a", :fail)
      assert {:error, %PythonError{}} = Pyre.await(request)
      {:ok, request} = Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: []}, timeout: 100)
      assert {:error, %Error{kind: :timeout, details: %{committed: false}}} = Pyre.await(request)
      eventually(fn -> cancelled?(folder, "a") end)
      assert count(pyre, "a") == 0
    end

    test "is cancelled when its owner dies, queued or running", %{pyre: pyre, folder: folder} do
      owner =
        spawn(fn ->
          {:ok, _running} =
            Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: []}, timeout: 60_000)

          {:ok, _queued} = Pyre.call_async(pyre, "a", :add, %{}, timeout: 60_000)
          receive do: (:never -> :ok)
        end)

      await_gate(folder, "end")
      eventually(fn -> match?({:ok, %{mailbox: 2}}, Pyre.info(pyre, "a")) end)
      Process.exit(owner, :kill)
      eventually(fn -> cancelled?(folder, "a") end)
      eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, "a")) end)
      assert {:ok, 1} = Pyre.call(pyre, "a", :add)
    end
  end

  describe "cancel" do
    test "takes a queued message out", %{pyre: pyre, folder: folder} do
      {:ok, running} = Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: []})
      await_gate(folder, "end")
      {:ok, queued} = Pyre.call_async(pyre, "a", :add)
      assert :cancelled = Pyre.cancel(queued)

      assert {:error, %Error{kind: :cancelled, message: message, details: %{committed: false}}} =
               Pyre.await(queued)

      assert message =~ "before it had begun"
      open_gate(folder, "end")
      assert {:ok, "a"} = Pyre.await(running)
      assert count(pyre, "a") == 1
    end

    test "ends what a running one waits for, down the chain", %{pyre: pyre, folder: folder} do
      {:ok, request} = Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: ["b", "c"]})
      await_gate(folder, "end")
      assert :cancelled = Task.await(Task.async(fn -> Pyre.cancel(pyre, request.message_id) end))
      assert {:error, %Error{kind: :cancelled}} = Pyre.await(request)
      for id <- ["a", "b", "c"], do: eventually(fn -> cancelled?(folder, id) end)
      # All of them work on, and nothing was committed.
      for id <- ["a", "b", "c"], do: assert({:ok, 1} = Pyre.call(pyre, id, :add))
    end

    test "a cast that is cancelled is no dead letter", %{pyre: pyre, folder: folder} do
      :ok = Pyre.cast(pyre, "a", :pass_on, %{folder: folder, route: []})
      await_gate(folder, "end")
      {:ok, %{running: [%{message_id: number, handler: "pass_on"}]}} = Pyre.info(pyre, "a")
      assert :cancelled = Pyre.cancel(pyre, {"a", number})
      eventually(fn -> cancelled?(folder, "a") end)
      assert {:ok, 1} = Pyre.call(pyre, "a", :add)
      assert Pyre.dead_letters(pyre) == []
      assert :already_done = Pyre.cancel(pyre, {"a", number})
    end

    test "tells what it can't find, and refuses what is no id", %{pyre: pyre} do
      assert :not_found = Pyre.cancel(pyre, {"nobody", 1})
      assert :not_found = Pyre.cancel(pyre, {"a", 1_000})
      assert_raise ArgumentError, ~r/expected a message's id/, fn -> Pyre.cancel(pyre, 7) end

      for function <- [&Pyre.cancel/1, &Pyre.status/1, &Pyre.await/1],
          do: assert_raise(ArgumentError, ~r/expected a request/, fn -> function.(:none) end)
    end

    test "and the commit: whichever is first has won, and both sides agree", %{pyre: pyre} do
      verdicts =
        for n <- 1..300 do
          {:ok, request} = Pyre.call_async(pyre, "b", :add, %{slow: if(rem(n, 2) == 0, do: 0.001, else: 0.0)})
          if rem(n, 3) == 0, do: :erlang.yield()
          verdict = Pyre.cancel(request)
          result = Pyre.await(request)

          case verdict do
            :cancelled -> assert {:error, %Error{kind: :cancelled}} = result
            :already_done -> assert {:ok, _count} = result
          end

          verdict
        end

      done = Enum.count(verdicts, &(&1 == :already_done))
      assert {:ok, total} = Pyre.call(pyre, "b", :add)
      assert total == done + 1
    end
  end

  describe "in Python" do
    test "a call that its handler gives up is cancelled at the callee", %{pyre: pyre, folder: folder} do
      assert {:ok, "gave up"} = Pyre.call(pyre, "a", :impatient, %{folder: folder, to: "b", seconds: 0.1})
      eventually(fn -> cancelled?(folder, "b") end)
      assert {:ok, 1} = Pyre.call(pyre, "b", :add)
    end

    test "nested calls have the smaller deadline", %{pyre: pyre} do
      assert {:ok, [own, nested]} = Pyre.call(pyre, "a", :remaining, %{to: "b"}, timeout: 2_000)
      assert own <= 2.1 and nested < own
    end

    test "what is shielded is finished, its calls too, and no more", %{pyre: pyre, folder: folder} do
      {:ok, request} = Pyre.call_async(pyre, "a", :shielded, %{folder: folder, to: "b"})
      await_gate(folder, "shielded")
      assert :cancelled = Pyre.cancel(request)
      assert {:error, %Error{kind: :cancelled}} = Pyre.await(request)
      open_gate(folder, "shielded")
      eventually(fn -> File.exists?(Path.join(folder, "finished")) end)
      # The next message waits for its end.
      assert {:ok, 1} = Pyre.call(pyre, "a", :add)
      refute File.exists?(Path.join(folder, "went-on"))
      assert count(pyre, "b") == 1
    end

    test "a shield that is not left in time is broken", %{pyre: pyre, folder: folder} do
      os_pid = os_pid(pyre)
      {:ok, request} = Pyre.call_async(pyre, "a", :shielded, %{folder: folder, seconds: 0.1})
      await_gate(folder, "shielded")
      assert :cancelled = Pyre.cancel(request)
      eventually(fn -> os_pid(pyre) != os_pid end, 15_000)
      assert {:ok, 1} = Pyre.call(pyre, "a", :add, %{}, timeout: 20_000)
    end
  end

  describe "call_many" do
    test "gives the results in order, and each its own error", %{pyre: pyre} do
      calls = [{"a", :add, %{}}, {"nobody", :add, %{}}, {"b", :fail, %{}}, {"a", :add, %{}}, {"c", :add, %{}}]

      assert [{:ok, 1}, {:error, %Error{kind: :not_found}}, {:error, %PythonError{}}, {:ok, 2}, {:ok, 1}] =
               Pyre.call_many(pyre, calls)

      assert Pyre.call_many(pyre, []) == []
    end

    test "has so many under way at a time", %{pyre: pyre, folder: folder} do
      ids = for n <- 1..6, do: start_agent!(pyre, "Relay", id: "many-#{n}")
      calls = for id <- ids, do: {id, :pass_on, %{folder: folder, route: [], name: id}}
      task = Task.async(fn -> Pyre.call_many(pyre, calls, max_concurrency: 2) end)
      for id <- ["many-1", "many-2"], do: await_gate(folder, id)
      waiting = for id <- ids, {:ok, %{mailbox: 1}} <- [Pyre.info(pyre, id)], do: id
      assert waiting == ["many-1", "many-2"]
      open_gate(folder, "many-1")
      await_gate(folder, "many-3")
      for id <- ids, do: open_gate(folder, id)
      assert Task.await(task) == for(id <- ids, do: {:ok, id})
    end

    test "cancels at its deadline what is under way, and begins no more", %{pyre: pyre, folder: folder} do
      calls = [{"a", :add, %{}} | for(id <- ["b", "c"], do: {id, :pass_on, %{folder: folder, route: []}})]

      assert [{:ok, 1}, {:error, %Error{kind: :timeout}}, {:error, %Error{kind: :deadline}}] =
               Pyre.call_many(pyre, calls, timeout: 300, max_concurrency: 1)

      eventually(fn -> cancelled?(folder, "b") end)
      assert count(pyre, "c") == 0
    end

    test "refuses what is no list of calls", %{pyre: pyre} do
      assert_raise ArgumentError, ~r/expected a list of/, fn -> Pyre.call_many(pyre, :all) end

      assert_raise ArgumentError, ~r/expected {id, handler, args}/, fn ->
        Pyre.call_many(pyre, [{"a", :add}])
      end
    end
  end
end
