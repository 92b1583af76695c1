defmodule Pyre.Faults.GroupStrategiesTest do
  # Promise: a group restarts the agents that its strategy names, and nothing of them is lost by it.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp start_group!(pyre, name, opts) do
    agents = for id <- opts[:ids], do: {opts[:class] || "Journal", id: id}
    opts = opts |> Keyword.drop([:ids, :class]) |> Keyword.put(:agents, agents)
    assert Pyre.start_group(pyre, name, opts) == {:ok, name}
  end

  # A call that a sibling's crash hits while it runs is rightly told so.
  defp entries(pyre, id) do
    with {:error, %Error{kind: :restarted}} <- Pyre.call(pyre, id, :entries, %{}, timeout: 20_000),
         do: entries(pyre, id)
  end

  defp pids(pyre, ids), do: for(id <- ids, do: Pyre.whereis(pyre, id))

  # Which of the agents have another process than before.
  defp restarted(pyre, ids, before, expected) do
    eventually(fn ->
      now = pids(pyre, ids)
      changed = for {id, old, new} <- Enum.zip([ids, before, now]), old != new, do: id
      nil not in now and changed == expected
    end)
  end

  describe "the agents that are restarted with one that crashed:" do
    for {strategy, expected} <- [
          one_for_one: ["b"],
          one_for_all: ["a", "b", "c", "d"],
          rest_for_one: ["b", "c", "d"]
        ] do
      test "#{strategy}", %{pyre: pyre} do
        ids = ["a", "b", "c", "d"]
        start_group!(pyre, "g", strategy: unquote(strategy), ids: ["a", "b", "c"])
        {:ok, "d"} = Pyre.start_agent(pyre, "Journal", id: "d", group: "g")
        for id <- ids, do: assert(Pyre.call(pyre, id, :append, %{entry: 1}) == {:ok, 1})
        before = pids(pyre, ids)
        assert {:error, %PythonError{}} = Pyre.call(pyre, "b", :fail)
        restarted(pyre, ids, before, unquote(expected))
        for id <- ids, do: assert(Pyre.call(pyre, id, :append, %{entry: 2}) == {:ok, 2})
        # It is no fault of theirs.
        crashed = for id <- ids, match?({:ok, %{restarts: 1}}, Pyre.info(pyre, id)), do: id
        assert crashed == ["b"]
      end
    end

    test "with those that came later, at their places", %{pyre: pyre} do
      start_group!(pyre, "g", strategy: :rest_for_one, ids: ["a"])
      {:ok, "b"} = Pyre.start_agent(pyre, "Journal", id: "b", group: "g")
      {:ok, "inner"} = Pyre.start_group(pyre, "inner", group: "g", agents: [{"Journal", id: "c"}])
      {:ok, "d"} = Pyre.start_agent(pyre, "Journal", id: "d", group: "g")
      :ok = Pyre.stop_agent(pyre, "b")
      {:ok, "b"} = Pyre.start_agent(pyre, "Journal", id: "b", group: "g")
      ids = ["a", "c", "d", "b"]
      before = pids(pyre, ids)
      {:error, %PythonError{}} = Pyre.call(pyre, "d", :fail)
      restarted(pyre, ids, before, ["d", "b"])
      before = pids(pyre, ids)
      {:error, %PythonError{}} = Pyre.call(pyre, "a", :fail)
      restarted(pyre, ids, before, ids)
    end
  end

  describe "what a sibling was doing:" do
    setup %{pyre: pyre, folder: folder} do
      start_group!(pyre, "g", strategy: :one_for_all, class: "Gatekeeper", ids: ["s"])
      {:ok, "culprit"} = Pyre.start_agent(pyre, "Journal", id: "culprit", group: "g")
      {:ok, args: fn name -> %{folder: folder, name: name} end}
    end

    test "a call is answered restarted", %{pyre: pyre, folder: folder, args: args} do
      call = Task.async(fn -> Pyre.call(pyre, "s", :go_half, args.("x")) end)
      await_gate(folder, "x")
      {:error, %PythonError{}} = Pyre.call(pyre, "culprit", :fail)
      assert {:error, %Error{kind: :restarted, details: %{begun: true}} = error} = Task.await(call)
      refute Error.retryable?(error)
      assert Pyre.call(pyre, "s", :passed) == {:ok, []}
    end

    test "an idempotent call is run again", %{pyre: pyre, folder: folder, args: args} do
      call = Task.async(fn -> Pyre.call(pyre, "s", :go_again, args.("x"), timeout: 15_000) end)
      await_gate(folder, "x")
      {:error, %PythonError{}} = Pyre.call(pyre, "culprit", :fail)
      await_gate(folder, "x", 2)
      open_gate(folder, "x")
      assert Task.await(call, 15_000) == {:ok, 1}
    end

    test "a cast is at the head of the queue again, as the same attempt", ctx do
      %{pyre: pyre, folder: folder, args: args} = ctx
      for name <- ["x", "y", "z"], do: :ok = Pyre.cast(pyre, "s", :go, args.(name))
      await_gate(folder, "x")
      waiting = Task.async(fn -> Pyre.call(pyre, "s", :passed, %{}, timeout: 15_000) end)
      eventually(fn -> match?({:ok, %{mailbox: 4}}, Pyre.info(pyre, "s")) end)
      {:error, %PythonError{}} = Pyre.call(pyre, "culprit", :fail)
      assert await_gate(folder, "x", 2) == ["1", "1"]
      for name <- ["x", "y", "z"], do: open_gate(folder, name)
      assert Task.await(waiting, 15_000) == {:ok, [["x", 1], ["y", 1], ["z", 1]]}
      assert Pyre.dead_letters(pyre) == []
    end

    test "a thread is waited for, and nothing runs beside it", %{pyre: pyre, folder: folder, args: args} do
      :ok = Pyre.cast(pyre, "s", :go_in_thread, args.("x"))
      await_gate(folder, "x")
      before = Pyre.whereis(pyre, "s")
      {:error, %PythonError{}} = Pyre.call(pyre, "culprit", :fail)
      eventually(fn -> Pyre.whereis(pyre, "s") not in [before, nil] end)
      open_gate(folder, "x")
      assert {:ok, [["x", 1]]} = Pyre.call(pyre, "s", :passed, %{}, timeout: 15_000)
    end

    test "kill -9 of the interpreter meanwhile", %{pyre: pyre, folder: folder, args: args} do
      for name <- ["x", "y"], do: :ok = Pyre.cast(pyre, "s", :go, args.(name))
      await_gate(folder, "x")
      waiting = Task.async(fn -> Pyre.call(pyre, "s", :passed, %{}, timeout: 20_000) end)
      os_pid = os_pid(pyre)
      {:error, %PythonError{}} = Pyre.call(pyre, "culprit", :fail)
      signal(os_pid, "KILL")
      assert_os_pid_exited(os_pid)
      for name <- ["x", "y"], do: open_gate(folder, name)
      assert {:ok, [["x", _attempt], ["y", _again]]} = Task.await(waiting, 20_000)
    end
  end

  test "callers wait through, and each queue keeps its order", %{pyre: pyre} do
    ids = for n <- 1..5, do: "j#{n}"
    start_group!(pyre, "g", strategy: :one_for_all, max_restarts: 100, ids: ids)

    results =
      for id <- ids do
        Task.async(fn ->
          for entry <- 1..100, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry})
          entries(pyre, id)
        end)
      end

    for _time <- 1..3, id <- ["j1", "j3"] do
      # It may have been the other's failure that ended it.
      assert {:error, error} = Pyre.call(pyre, id, :fail, %{}, timeout: 20_000)
      assert match?(%PythonError{}, error) or error.kind == :restarted
    end

    for task <- results do
      assert {:ok, entries} = Task.await(task, 30_000)
      assert entries == Enum.to_list(1..100)
    end
  end

  test "a temporary agent goes with its siblings, and does not come back", %{pyre: pyre} do
    start_group!(pyre, "g", strategy: :one_for_all, ids: ["a"])
    {:ok, "t"} = Pyre.start_agent(pyre, "Journal", id: "t", group: "g", restart: :temporary)
    before = pids(pyre, ["a"])
    {:error, %PythonError{}} = Pyre.call(pyre, "a", :fail)
    restarted(pyre, ["a"], before, ["a"])
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "t")) end)
    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "t", :entries)
    assert Pyre.restart_agent(pyre, "t") == :ok
    assert Pyre.call(pyre, "t", :entries) == {:ok, []}
    # Its own crash concerns nobody else.
    before = pids(pyre, ["a"])
    {:error, %PythonError{}} = Pyre.call(pyre, "t", :fail)
    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "t", :entries)
    assert pids(pyre, ["a"]) == before
  end
end
