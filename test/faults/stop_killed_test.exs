defmodule Pyre.Faults.StopKilledTest do
  # Promise: a stop that has begun is carried out, whoever is killed over it; the id is free afterwards, and what waited is a dead letter.
  use Pyre.Case, async: true

  @moduletag :fault

  setup do
    pyre = start_pyre!(drain_timeout: 10_000)
    folder = workspace()
    {:ok, "l"} = Pyre.start_agent(pyre, "Lingerer", id: "l", args: %{folder: folder})
    {:ok, nil} = Pyre.call(pyre, "l", :work)
    {:ok, ref} = Pyre.monitor(pyre, "l")
    :ok = Pyre.pause(pyre, {:agent, "l"})
    :ok = Pyre.cast(pyre, "l", :work)
    stopping = Task.async(fn -> Pyre.stop_agent(pyre, "l", timeout: 20_000) end)
    await_gate(folder, "stop")
    {:ok, pyre: pyre, folder: folder, ref: ref, stopping: stopping}
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  # Symptom: the agent stayed "stopping" for ever, with its id, its mailbox and whoever waited for the stop.
  test "the agent's process", %{pyre: pyre} = context do
    kill(Pyre.whereis(pyre, "l"))
    assert_stopped(context)
  end

  test "its supervisor", %{pyre: pyre} = context do
    for n <- 0..(System.schedulers_online() - 1), do: kill(process(pyre, {:partition, n}))
    assert_stopped(context)
  end

  defp assert_stopped(%{pyre: pyre, folder: folder, ref: ref, stopping: stopping}) do
    refute_received {:DOWN, ^ref, :agent, _id, _reason}
    # The first on_stop was cancelled; it runs again in the next incarnation.
    await_gate(folder, "stop", 2)
    open_gate(folder, "stop")
    assert :ok = Task.await(stopping, 20_000)
    assert_receive {:DOWN, ^ref, :agent, "l", :stopped}, 5_000
    assert [%{handler: "work", reason: :stopped}] = Pyre.dead_letters(pyre)
    assert {:ok, "l"} = Pyre.start_agent(pyre, "Lingerer", id: "l", args: %{folder: folder})
  end
end
