defmodule Pyre.Faults.StepsTest do
  # Promise: what a `ctx.step` has done for a message is done once, however often that message is run.
  use Pyre.Case, async: true

  alias Pyre.{Instance, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace(), id: start_agent!(pyre, "Trier", id: "t")}
  end

  defp recorded(pyre), do: :ets.info(Instance.get(pyre).steps, :size)
  defp args(context, more \\ %{}), do: Map.put(more, :folder, context.folder)

  test "the attempts after the first are given what was recorded", %{pyre: pyre, id: id} = context do
    assert {:ok, paid} = Pyre.call(pyre, id, :pay, args(context, %{failures: 2}))
    assert paid == ["charged 9 in attempt 1", "mailed in attempt 1"]
    assert gate(context.folder, "charge") == ["1"]
    assert gate(context.folder, "mail") == ["1"]
  end

  test "nothing of it is left once the message has ended, and the next message does it again", context do
    %{pyre: pyre, id: id} = context
    for _n <- 1..2, do: {:ok, _paid} = Pyre.call(pyre, id, :pay, args(context))
    assert gate(context.folder, "charge") == ["1", "1"]
    assert recorded(pyre) == 0
    {:error, %PythonError{}} = Pyre.call(pyre, id, :pay, args(context, %{failures: 9}))
    assert recorded(pyre) == 0
    assert Instance.steps(Instance.get(pyre)) == 0
  end

  test "a step that raises is not recorded", %{pyre: pyre, id: id} = context do
    assert Pyre.call(pyre, id, :pay_in_thread, args(context, %{failures: 2})) == {:ok, 2}
    assert gate(context.folder, "charge") == ["1", "2"]
  end

  test "a hook has no message whose steps could be kept", %{pyre: pyre} do
    assert {:error, %{message: message}} = Pyre.start_agent(pyre, "HastyTrier", max_restarts: 0)
    assert message =~ "on_start is run anew each time"
  end

  test "an interpreter killed between two steps: the first is not done again",
       %{pyre: pyre, id: id} = context do
    :ok = Pyre.cast(pyre, id, :pay, args(context, %{gate: "between"}))
    await_gate(context.folder, "between")
    pyre |> os_pid() |> signal("KILL")
    assert await_gate(context.folder, "between", 2) == ["1", "2"]
    open_gate(context.folder, "between")
    assert await_gate(context.folder, "mail") == ["2"]
    assert gate(context.folder, "charge") == ["1"]
    assert eventually(fn -> recorded(pyre) == 0 end)
  end

  test "an agent's process killed between two steps: the first is not done again", context do
    %{pyre: pyre, id: id} = context
    :ok = Pyre.cast(pyre, id, :pay, args(context, %{gate: "between"}))
    await_gate(context.folder, "between")
    pyre |> Pyre.whereis(id) |> Process.exit(:kill)
    assert await_gate(context.folder, "between", 2) == ["1", "2"]
    open_gate(context.folder, "between")
    assert await_gate(context.folder, "mail") == ["2"]
    assert gate(context.folder, "charge") == ["1"]
  end
end
