defmodule Pyre.Integration.LimitsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  describe "a rate" do
    test "of a class holds for each of its agents", %{} do
      pyre = start_pyre!()
      for id <- ["a", "b"], do: start_agent!(pyre, "Throttled", id: id)
      for id <- ["a", "b"], _n <- 1..3, do: assert({:ok, "pong"} = Pyre.call(pyre, id, :ping))

      assert {:error, %Error{kind: :rate_limited, message: message, details: details} = error} =
               Pyre.call(pyre, "a", :ping)

      assert message =~ ~s(the agent "a" takes 3 messages in 3600000 ms)
      assert details.retry_after_ms in 1_000_000..1_200_001
      assert Error.retryable?(error)
      assert {:error, %Error{kind: :rate_limited}} = Pyre.cast(pyre, "a", :ping)
      # Whatever an operator wants of it is none of them.
      assert :ok = Pyre.restart_agent(pyre, "a")
      assert {:ok, %{rate_limit: {3, 3_600_000}, mailbox: 0}} = Pyre.info(pyre, "a")
      :ok = Pyre.stop_agent(pyre, "a")
      {:ok, "a"} = Pyre.start_agent(pyre, "Throttled", id: "a")
      assert {:ok, "pong"} = Pyre.call(pyre, "a", :ping)
    end

    test "of an agent, and of all agents of a class" do
      pyre = start_pyre!(limits: [{"Few", rate: {5, 3_600_000}}])
      start_agent!(pyre, "Few", id: "a", rate_limit: {2, 3_600_000})
      start_agent!(pyre, "Few", id: "b")
      assert [{:ok, _}, {:ok, _}, {:error, own}] = for(_n <- 1..3, do: Pyre.call(pyre, "a", :ping))
      assert own.message =~ ~s(the agent "a" takes 2)
      results = for _n <- 1..5, do: Pyre.call(pyre, "b", :ping)
      # What its own limit refused was not counted for the class.
      assert Enum.count(results, &match?({:ok, "pong"}, &1)) == 3
      assert {:error, %Error{kind: :rate_limited, message: message}} = List.last(results)
      assert message =~ "all agents of Few take 5"
    end

    test "lets as many through as it says, over time and from many senders" do
      pyre = start_pyre!()
      start_agent!(pyre, "Few", id: "a", rate_limit: {10, 500})
      until = System.monotonic_time(:millisecond) + 2_000

      accepted =
        1..4
        |> Enum.map(fn _n -> Task.async(fn -> pour(pyre, until, 0) end) end)
        |> Task.await_many(20_000)
        |> Enum.sum()

      # A full bucket at the start, and what has flowed in since.
      assert accepted in 45..52
    end
  end

  defp pour(pyre, until, count) do
    cond do
      System.monotonic_time(:millisecond) >= until -> count
      Pyre.cast(pyre, "a", :ping) == :ok -> pour(pyre, until, count + 1)
      true -> pour(pyre, until, count)
    end
  end

  describe "concurrency" do
    setup do
      pyre = start_pyre!(limits: [{{:tenant, "acme"}, concurrency: 1}])
      {:ok, pyre: pyre, folder: workspace()}
    end

    defp begin(pyre, ids, folder) do
      for id <- ids do
        {:ok, request} = Pyre.call_async(pyre, id, :stand, %{folder: folder}, timeout: 20_000)
        eventually(fn -> map_size(slots(pyre)) > 0 end)
        request
      end
    end

    defp slots(pyre), do: Pyre.info(pyre).slots
    defp few(pyre), do: Map.get(slots(pyre), {:class, "Few"}, %{running: 0, waiting: 0})

    test "two of a class run, the others in their turn", %{pyre: pyre, folder: folder} do
      ids = for n <- 1..5, do: start_agent!(pyre, "Few", id: "few-#{n}")
      requests = begin(pyre, ids, folder)
      for id <- ["few-1", "few-2"], do: await_gate(folder, id)
      eventually(fn -> few(pyre) == %{running: 2, waiting: 3} end)
      open_gate(folder, "few-2")
      await_gate(folder, "few-3")
      assert gate(folder, "few-4") == []
      for id <- ids, do: open_gate(folder, id)
      assert Enum.map(requests, &Pyre.await/1) == for(_id <- ids, do: {:ok, 1})
      eventually(fn -> few(pyre) == %{running: 0, waiting: 0} end)
    end

    test "a slot comes back, whatever dies", %{pyre: pyre, folder: folder} do
      ids = for n <- 1..4, do: start_agent!(pyre, "Few", id: "few-#{n}", max_restarts: 10)
      requests = begin(pyre, ids, folder)
      for id <- ["few-1", "few-2"], do: await_gate(folder, id)
      # An agent's process,
      Process.exit(Pyre.whereis(pyre, "few-1"), :kill)
      await_gate(folder, "few-3")
      # who waits,
      Process.exit(Pyre.whereis(pyre, "few-4"), :kill)
      # the interpreter,
      kill_interpreter(pyre)
      eventually(fn -> Enum.all?(Pyre.workers(pyre), &(&1.status == :ready)) end)
      # and who keeps the slots.
      slots = process(pyre, :slots)
      Process.exit(slots, :kill)
      eventually(fn -> process(pyre, :slots) not in [nil, slots] end)
      for id <- ids, do: open_gate(folder, id)
      for request <- requests, do: Pyre.await(request)
      for id <- ids, do: assert({:ok, "pong"} = Pyre.call(pyre, id, :ping, %{}, timeout: 20_000))
      eventually(fn -> few(pyre) == %{running: 0, waiting: 0} end)
    end

    test "one that is cancelled or stopped while it waits leaves the queue", %{pyre: pyre, folder: folder} do
      ids = for n <- 1..4, do: start_agent!(pyre, "Few", id: "few-#{n}")
      [_first, _second, third, fourth] = begin(pyre, ids, folder)
      eventually(fn -> few(pyre) == %{running: 2, waiting: 2} end)
      assert :cancelled = Pyre.cancel(third)
      :ok = Pyre.stop_agent(pyre, "few-4")
      assert {:error, %Error{kind: :stopped}} = Pyre.await(fourth)
      for id <- ids, do: open_gate(folder, id)
      eventually(fn -> few(pyre) == %{running: 0, waiting: 0} end)
      assert gate(folder, "few-3") == []
      assert {:ok, "pong"} = Pyre.call(pyre, "few-3", :ping)
    end

    test "of a tenant", %{pyre: pyre, folder: folder} do
      ids = for n <- 1..2, do: start_agent!(pyre, "Relay", id: "acme-#{n}", isolation: {:tenant, "acme"})

      [first, second] =
        for id <- ids do
          {:ok, request} =
            Pyre.call_async(pyre, id, :pass_on, %{folder: folder, route: [], name: id}, timeout: 20_000)

          eventually(fn -> map_size(slots(pyre)) > 0 end)
          request
        end

      await_gate(folder, "acme-1")
      eventually(fn -> slots(pyre) == %{{:tenant, "acme"} => %{running: 1, waiting: 1}} end)
      for id <- ids, do: open_gate(folder, id)
      assert {{:ok, "acme-1"}, {:ok, "acme-2"}} = {Pyre.await(first), Pyre.await(second)}
    end
  end

  describe "messages under way" do
    setup do
      pyre = start_pyre!(max_in_flight: 3)
      ids = for n <- 1..6, do: start_agent!(pyre, "Relay", id: "r#{n}")
      {:ok, pyre: pyre, ids: ids, folder: workspace()}
    end

    defp pass_on(pyre, id, folder, route, name) do
      {:ok, request} =
        Pyre.call_async(pyre, id, :pass_on, %{folder: folder, route: route, name: name}, timeout: 20_000)

      request
    end

    test "are so many in one interpreter, and the others wait on the BEAM", %{
      pyre: pyre,
      ids: ids,
      folder: folder
    } do
      requests = for id <- ids, do: pass_on(pyre, id, folder, [], id)
      entered = fn -> Enum.count(ids, &(gate(folder, &1) != [])) end
      eventually(fn -> entered.() == 3 end)
      # Also while others are put, and end.
      {:error, %Error{}} = Pyre.call(pyre, List.last(ids), :add, %{}, timeout: 100)
      assert entered.() == 3
      [first | _others] = Enum.filter(ids, &(gate(folder, &1) != []))
      open_gate(folder, first)
      eventually(fn -> entered.() == 4 end)
      for id <- ids, do: open_gate(folder, id)
      assert Enum.map(requests, &Pyre.await/1) == for(id <- ids, do: {:ok, id})
    end

    test "are more where handlers wait for each other", %{pyre: pyre, folder: folder} do
      requests =
        for {one, other} <- [{"r1", "r4"}, {"r2", "r5"}, {"r3", "r6"}],
            do: pass_on(pyre, one, folder, [other], other)

      for id <- ["r4", "r5", "r6"], do: await_gate(folder, id)
      for id <- ["r4", "r5", "r6"], do: open_gate(folder, id)
      assert Enum.map(requests, &Pyre.await/1) == [{:ok, "r4"}, {:ok, "r5"}, {:ok, "r6"}]
    end

    test "of an interpreter that dies are none any more", %{pyre: pyre, ids: ids, folder: folder} do
      requests = for id <- ids, do: pass_on(pyre, id, folder, [], id)
      eventually(fn -> Enum.count(ids, &(gate(folder, &1) != [])) == 3 end)
      for id <- ids, do: open_gate(folder, id)
      kill_interpreter(pyre)
      for request <- requests, do: Pyre.await(request)
      for id <- ids, do: assert({:ok, _count} = Pyre.call(pyre, id, :add, %{}, timeout: 20_000))
    end
  end

  describe "a budget" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Spender", id: "s", max_restarts: 10)}
    end

    test "is spent with the commits, and stops what comes after", %{pyre: pyre, id: id} do
      :ok = Pyre.set_budget(pyre, {:agent, id}, usd: 1.0)
      {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 0.75, tokens: 100})
      {:error, _failed} = Pyre.call(pyre, id, :buy, %{usd: 5.0, fail: true})

      assert %{"usd" => %{spent: 0.75, limit: 1, per: :total}, "tokens" => %{spent: 100}} =
               Pyre.budget(pyre, {:agent, id})

      {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 0.5})

      assert {:error, %Error{kind: :budget_exhausted, message: message}} =
               Pyre.call(pyre, id, :buy, %{usd: 0.1})

      assert message =~ ~s(the budget of the agent "s" is used up: 1.25 of 1 usd)
      :ok = Pyre.cast(pyre, id, :buy, %{usd: 0.1})
      eventually(fn -> match?([%{error: %Error{kind: :budget_exhausted}}], Pyre.dead_letters(pyre)) end)
      assert {:ok, %{budget: %{"usd" => %{spent: 1.25}}}} = Pyre.info(pyre, id)

      :ok = Pyre.reset_budget(pyre, {:agent, id})
      assert {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 2.0})
      :ok = Pyre.set_budget(pyre, {:agent, id}, usd: nil)
      assert {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 2.0})
    end

    test "of a class, a tenant, the instance, for a while", %{pyre: pyre, id: id} do
      other = start_agent!(pyre, "Spender", id: "t", isolation: {:tenant, "acme"})
      {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 1.0})
      {:ok, nil} = Pyre.call(pyre, other, :buy, %{usd: 2.0}, timeout: 20_000)
      assert %{"usd" => %{spent: 3}} = Pyre.budget(pyre, {:class, "Spender"})
      assert %{"usd" => %{spent: 2}} = Pyre.budget(pyre, {:tenant, "acme"})
      assert %{budget: %{"usd" => %{spent: 3}}} = Pyre.info(pyre)

      # What was spent before counts for no window.
      :ok = Pyre.set_budget(pyre, {:tenant, "acme"}, [usd: 1.0], per: :day)
      {:ok, nil} = Pyre.call(pyre, other, :buy, %{usd: 1.5})

      assert {:error, %Error{kind: :budget_exhausted, details: %{retry_after_ms: ms}}} =
               Pyre.call(pyre, other, :buy, %{usd: 1.5})

      assert ms in 1..86_400_000
      assert {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 1.0})
      :ok = Pyre.set_budget(pyre, :instance, usd: 1.0)
      assert {:error, %Error{kind: :budget_exhausted}} = Pyre.call(pyre, id, :buy, %{usd: 1.0})
    end

    test "outlives interpreters and processes, and goes with the agent", %{pyre: pyre, id: id} do
      :ok = Pyre.set_budget(pyre, {:agent, id}, usd: 1.0)
      {:ok, nil} = Pyre.call(pyre, id, :buy, %{usd: 1.0})
      Process.exit(Pyre.whereis(pyre, id), :kill)
      kill_interpreter(pyre)

      assert {:error, %Error{kind: :budget_exhausted}} =
               Pyre.call(pyre, id, :buy, %{usd: 1.0}, timeout: 20_000)

      :ok = Pyre.stop_agent(pyre, id)
      assert Pyre.budget(pyre, {:agent, id}) == %{}
    end

    test "what is none is refused", %{pyre: pyre} do
      for {scope, amounts} <- [
            {:all, [usd: 1]},
            {{:agent, 1}, [usd: 1]},
            {:instance, []},
            {:instance, [usd: -1]}
          ],
          do: assert_raise(ArgumentError, fn -> Pyre.set_budget(pyre, scope, amounts) end)
    end
  end

  test "limits that are none are refused" do
    for limits <- [[{"Few", concurrency: 0}], [{"Few", speed: 1}], [{{:tenant, "a"}, rate: {1, 1}}], %{}],
        do: assert_raise(ArgumentError, ~r/limits/, fn -> Instance.config(limits: limits) end)
  end
end
