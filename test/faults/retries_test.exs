defmodule Pyre.Faults.RetriesTest do
  # Promise: a handler with `retry=` is run again by the BEAM, as the same message, from the committed state; nothing that dies
  # in between ends the wait, and whoever waits for the answer is told in time.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace(), id: start_agent!(pyre, "Trier", id: "t")}
  end

  defp kill(pyre), do: pyre |> os_pid() |> signal("KILL")
  defp args(context, more), do: Map.put(more, :folder, context.folder)

  defp running?(pyre, id) do
    match?({:ok, %{status: :running}}, Pyre.info(pyre, id))
  end

  test "a failure is followed by the next attempt, from the committed state and without a restart", context do
    %{pyre: pyre, id: id} = context
    pid = Pyre.whereis(pyre, id)
    assert Pyre.call(pyre, id, :attempt, args(context, %{entry: 1, failures: 2})) == {:ok, 3}
    assert Pyre.call(pyre, id, :done) == {:ok, [[1, 3]]}
    assert gate(context.folder, "try1") == ["1", "2", "3"]
    assert Pyre.whereis(pyre, id) == pid
    assert running?(pyre, id)
  end

  test "after the last attempt the caller gets the error, and the agent restarts as after any failure",
       context do
    %{pyre: pyre, id: id} = context
    pid = Pyre.whereis(pyre, id)

    assert {:error, %PythonError{type: "TimeoutError", message: "attempt 3 of" <> _}} =
             Pyre.call(pyre, id, :attempt, args(context, %{failures: 9}))

    assert Pyre.call(pyre, id, :done) == {:ok, []}
    assert Pyre.whereis(pyre, id) != pid
  end

  test "what a cast came to in the end is a dead letter", %{pyre: pyre, id: id} = context do
    :ok = Pyre.cast(pyre, id, :attempt, args(context, %{failures: 9}))
    [letter] = eventually(fn -> with [] <- Pyre.dead_letters(pyre), do: nil end)
    assert %{reason: :failed, attempts: 3, error: %PythonError{type: "TimeoutError"}} = letter
  end

  test "other messages run meanwhile, unless they are held", %{pyre: pyre, id: id} = context do
    :ok = Pyre.cast(pyre, id, :attempt_slowly, args(context, %{entry: 1, failures: 1}))
    await_gate(context.folder, "try1")
    assert Pyre.call(pyre, id, :attempt, %{entry: 2}) == {:ok, 1}
    assert await_gate(context.folder, "try1", 2) == ["1", "2"]
    assert Pyre.call(pyre, id, :done) == {:ok, [[2, 1], [1, 2]]}

    :ok = Pyre.cast(pyre, id, :attempt_in_order, args(context, %{entry: 3, failures: 1}))
    await_gate(context.folder, "try3")
    assert Pyre.call(pyre, id, :attempt, %{entry: 4}) == {:ok, 1}
    assert Pyre.call(pyre, id, :done) == {:ok, [[2, 1], [1, 2], [3, 2], [4, 1]]}
  end

  test "what is not worth it is not tried again; an announced refusal that is does not restart in the end",
       context do
    %{pyre: pyre, id: id, folder: folder} = context
    assert {:error, %PythonError{type: "KeyError"}} = Pyre.call(pyre, id, :miss, %{folder: folder})
    assert gate(folder, "miss") == ["1"]

    other = start_agent!(pyre, "Trier")
    pid = Pyre.whereis(pyre, other)

    assert {:error, %PythonError{type: "IndexError", expected: true}} =
             Pyre.call(pyre, other, :look, %{folder: folder})

    assert gate(folder, "look") == ["1", "2", "3"]
    assert Pyre.whereis(pyre, other) == pid
  end

  test "a handler that runs beside others is tried again too", %{pyre: pyre, id: id} do
    assert Pyre.call(pyre, id, :peek, %{failures: 2}) == {:ok, []}
  end

  test "a caller does not wait for an attempt that could not begin before its deadline", context do
    %{pyre: pyre, id: id} = context
    {micros, answer} = :timer.tc(fn -> Pyre.call(pyre, id, :attempt_slowly, %{failures: 9}, timeout: 900) end)
    assert {:error, %PythonError{type: "TimeoutError", message: "attempt 1 of" <> _}} = answer
    assert micros < 800_000
  end

  test "a caller whose message waits for its next attempt behind others is told that it had run", context do
    %{pyre: pyre, id: id} = context

    call =
      Task.async(fn -> Pyre.call(pyre, id, :attempt_slowly, args(context, %{failures: 9}), timeout: 1_500) end)

    await_gate(context.folder, "try0")
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).retries == 1 && :ok end)
    :ok = Pyre.pause(pyre, {:agent, id})
    assert {:error, %Error{kind: :timeout, details: %{committed: false, attempt: 1}}} = Task.await(call)
  end

  test "an interpreter killed in the middle of a back-off ends no wait", %{pyre: pyre, id: id} = context do
    call =
      Task.async(fn ->
        Pyre.call(pyre, id, :attempt_slowly, args(context, %{failures: 1}), timeout: 20_000)
      end)

    await_gate(context.folder, "try0")
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).retries == 1 && :ok end)
    kill(pyre)
    assert Task.await(call, 20_000) == {:ok, 2}
    assert gate(context.folder, "try0") == ["1", "2"]
  end

  test "an agent's process killed in the middle of a back-off ends no wait, and the order is kept", context do
    %{pyre: pyre, id: id} = context
    :ok = Pyre.cast(pyre, id, :attempt_in_order, args(context, %{entry: 1, failures: 1}))
    :ok = Pyre.cast(pyre, id, :attempt, args(context, %{entry: 2}))
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).retries == 1 && :ok end)
    pyre |> Pyre.whereis(id) |> Process.exit(:kill)
    await_gate(context.folder, "try2")
    assert gate(context.folder, "try1") == ["1", "2"]
    assert Pyre.call(pyre, id, :done) == {:ok, [[1, 2], [2, 1]]}
  end

  test "a call between agents is made again where that is safe", %{pyre: pyre, id: id} = context do
    {:ok, full} = Pyre.start_agent(pyre, "Gatekeeper", id: "full", max_mailbox: 1)
    :ok = Pyre.cast(pyre, full, :go, args(context, %{name: "a"}))
    await_gate(context.folder, "a")
    call = Task.async(fn -> Pyre.call(pyre, id, :ask, %{id: full, handler: "passed"}) end)
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).overloaded >= 2 && :ok end)
    open_gate(context.folder, "a")
    assert Task.await(call) == {:ok, [["a", 1]]}

    assert {:error, %Error{kind: :unknown_handler}} =
             Pyre.call(pyre, id, :ask, %{id: full, handler: "nothing"}) |> inner()
  end

  # What another agent was answered comes as the failure of its handler.
  defp inner({:error, %PythonError{type: "UnknownHandler"}}), do: {:error, Error.new(:unknown_handler, "")}
  defp inner(other), do: other

  test "a cast that waits for its next attempt is kept as a letter when its agent is terminated", context do
    %{pyre: pyre, folder: folder} = context
    id = start_agent!(pyre, "Trier", max_restarts: 0)
    :ok = Pyre.cast(pyre, id, :attempt_slowly, args(context, %{failures: 1}))
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).retries == 1 && :ok end)
    {:error, %PythonError{}} = Pyre.call(pyre, id, :miss, %{folder: folder})
    [letter] = eventually(fn -> with [] <- Pyre.dead_letters(pyre), do: nil end)
    assert %{reason: :terminated, handler: "attempt_slowly", attempts: 2} = letter
  end

  test "an agent that is stopped in the middle of a back-off answers who waits",
       %{pyre: pyre, id: id} = context do
    call = Task.async(fn -> Pyre.call(pyre, id, :attempt_slowly, args(context, %{failures: 1})) end)
    :ok = eventually(fn -> Instance.counters(Instance.get(pyre)).retries == 1 && :ok end)
    assert Pyre.stop_agent(pyre, id) == :ok
    assert {:error, %Error{kind: :stopped}} = Task.await(call)
  end
end
