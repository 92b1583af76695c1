defmodule Pyre.Faults.GroupEscalationTest do
  # Promise: a group that fails too often fails as in OTP: its parent decides; one without a parent is terminated, and takes
  # nothing else with it.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :fault

  setup do
    {:ok, pyre: start_pyre!()}
  end

  defp group(pyre, path),
    do: Enum.reduce(path, Pyre.tree(pyre), fn name, node -> Enum.find(node.children, &(&1.name == name)) end)

  defp fail(pyre, id), do: {:error, %PythonError{}} = Pyre.call(pyre, id, :fail)

  # A call that a restart of siblings hits while it runs is rightly told so.
  defp entries(pyre, id) do
    with {:error, %Error{kind: :restarted}} <- Pyre.call(pyre, id, :entries, %{}, timeout: 10_000),
         do: entries(pyre, id)
  end

  defp await_status(pyre, path, status), do: eventually(fn -> group(pyre, path).status == status end)

  describe "a group without a parent" do
    setup %{pyre: pyre} do
      agents = for id <- ["a", "b"], do: {"Journal", id: id}
      {:ok, "g"} = Pyre.start_group(pyre, "g", strategy: :one_for_all, max_restarts: 1, agents: agents)
      {:ok, "other"} = Pyre.start_agent(pyre, "Journal", id: "other")
      for id <- ["a", "b", "other"], do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      :ok
    end

    test "is terminated, with its agents, and tells who waits", %{pyre: pyre} do
      bystander = Pyre.whereis(pyre, "other")
      fail(pyre, "a")
      assert entries(pyre, "b") == {:ok, [1]}
      :ok = Pyre.cast(pyre, "b", :append_slowly, %{entry: 2, seconds: 15})
      waiting = for _n <- 1..5, do: Task.async(fn -> Pyre.call(pyre, "b", :entries, %{}, timeout: 10_000) end)
      eventually(fn -> match?({:ok, %{mailbox: 6}}, Pyre.info(pyre, "b")) end)
      fail(pyre, "a")

      for task <- waiting do
        assert {:error, %Error{kind: :terminated, message: message}} = Task.await(task, 15_000)
        assert message =~ ~s(the group "g" is terminated: more than 1 restarts in 5 s)
        assert message =~ ~s(for the agent "a": ValueError: entry 0 is wrong)
      end

      await_status(pyre, ["g"], :terminated)
      assert [%{agent: "b", handler: "append_slowly", reason: :terminated}] = Pyre.dead_letters(pyre)
      for id <- ["a", "b"], do: assert({:error, %Error{kind: :terminated}} = Pyre.call(pyre, id, :entries))
      assert {:ok, %{last_error: %PythonError{}}} = Pyre.info(pyre, "a")
      for id <- ["a", "b"], do: assert(Pyre.state(pyre, id) == {:ok, %{"entries" => [1]}, 1})
      assert Pyre.whereis(pyre, "other") == bystander
      assert {:error, %Error{kind: :terminated}} = Pyre.start_agent(pyre, "Journal", group: "g")
      assert {:error, %Error{kind: :terminated}} = Pyre.restart_agent(pyre, "a")
    end

    test "runs again when it is restarted, with its states and a fresh budget", %{pyre: pyre} do
      for _time <- 1..2, do: fail(pyre, "a")
      await_status(pyre, ["g"], :terminated)
      eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "b")) end)
      assert Pyre.restart_group(pyre, "g") == :ok
      for id <- ["a", "b"], do: assert(entries(pyre, id) == {:ok, [1]})
      fail(pyre, "b")
      for id <- ["a", "b"], do: assert(entries(pyre, id) == {:ok, [1]})
      assert {:error, %Error{kind: :already_started}} = Pyre.restart_group(pyre, "g")
      for _time <- 1..1, do: fail(pyre, "b")
      await_status(pyre, ["g"], :terminated)
    end

    test "also where nobody saw it: the keeper's successor does", %{pyre: pyre} do
      keeper = process(pyre, :groups)
      :ok = :sys.suspend(keeper)
      for _time <- 1..2, do: fail(pyre, "a")
      waiting = Task.async(fn -> Pyre.call(pyre, "b", :entries, %{}, timeout: 10_000) end)
      await_status(pyre, ["g"], :restarting)
      Process.exit(keeper, :kill)
      await_status(pyre, ["g"], :terminated)
      assert {:error, %Error{kind: :terminated}} = Task.await(waiting, 15_000)
    end

    test "can be stopped afterwards", %{pyre: pyre} do
      for _time <- 1..2, do: fail(pyre, "a")
      await_status(pyre, ["g"], :terminated)
      assert Pyre.stop_group(pyre, "g") == :ok
      assert {:error, %Error{kind: :not_found}} = Pyre.stop_group(pyre, "g")
      assert [%{id: "other"}] = Pyre.agents(pyre)
      assert Pyre.start_group(pyre, "g", agents: [{"Journal", id: "a"}]) == {:ok, "g"}
      assert Pyre.call(pyre, "a", :entries) == {:ok, []}
    end
  end

  test "three levels: the parent restarts what failed, and fails in its turn", %{pyre: pyre} do
    {:ok, "top"} =
      Pyre.start_group(pyre, "top", strategy: :one_for_all, max_restarts: 1, agents: [{"Journal", id: "t"}])

    {:ok, "mid"} =
      Pyre.start_group(pyre, "mid", group: "top", max_restarts: 0, agents: [{"Journal", id: "m"}])

    {:ok, "low"} =
      Pyre.start_group(pyre, "low", group: "mid", max_restarts: 0, agents: [{"Journal", id: "l"}])

    for id <- ["t", "m", "l"], do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
    t = Pyre.whereis(pyre, "t")
    fail(pyre, "l")
    # low's failure is mid's, and mid's is a restart of everything in top.
    for id <- ["t", "m", "l"], do: assert(entries(pyre, id) == {:ok, [1]})
    eventually(fn -> Pyre.whereis(pyre, "t") not in [nil, t] end)
    assert %{status: :running, restarts: 1, children: [_m, %{name: "low"}]} = group(pyre, ["top", "mid"])
    assert %{restarts: 0} = group(pyre, ["top"])
    fail(pyre, "l")
    await_status(pyre, ["top"], :terminated)

    for id <- ["t", "m", "l"] do
      assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, id, :entries, %{}, timeout: 10_000)
    end

    await_status(pyre, ["top", "mid", "low"], :terminated)
    assert {:error, %Error{kind: :terminated}} = Pyre.restart_group(pyre, "mid")
    assert Pyre.restart_group(pyre, "top") == :ok
    for id <- ["t", "m", "l"], do: assert(entries(pyre, id) == {:ok, [1]})
  end

  test "an agent in a group has no budget of its own", %{pyre: pyre} do
    {:ok, "g"} = Pyre.start_group(pyre, "g", max_restarts: 6, agents: [{"Journal", id: "a"}])
    for _time <- 1..6, do: fail(pyre, "a")
    assert Pyre.call(pyre, "a", :entries) == {:ok, []}

    for option <- [:max_restarts, :max_seconds] do
      assert_raise ArgumentError, ~r/expected no :#{option} for an agent in a group/, fn ->
        Pyre.start_agent(pyre, "Journal", [{:group, "g"}, {option, 1}])
      end
    end
  end

  test "what a group fails with is told by its monitors", %{pyre: pyre} do
    agents = for id <- ["a", "b"], do: {"Journal", id: id}
    {:ok, "g"} = Pyre.start_group(pyre, "g", max_restarts: 0, agents: agents)
    {:ok, monitor} = Pyre.monitor(pyre, "b")
    fail(pyre, "a")
    assert_receive {:DOWN, ^monitor, :agent, "b", %Error{kind: :terminated}}, 5_000
  end
end
