defmodule Pyre.Faults.StreamsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, OSProcess}

  setup do
    pyre = start_pyre!()
    {:ok, "s"} = Pyre.start_agent(pyre, "Streamer", id: "s")
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp read(pyre, args) do
    test = self()

    Task.async(fn ->
      try do
        pyre |> Pyre.stream("s", :stand_after, args) |> Enum.each(&send(test, {:got, &1}))
      rescue
        error -> error
      end
    end)
  end

  test "kill -9 in the middle: what came stays, then worker_down, and it is not run again", %{
    pyre: pyre,
    folder: folder
  } do
    {:ok, 0} = Pyre.call(pyre, "s", :plain)
    task = read(pyre, %{to: 5, folder: folder})
    assert ["1"] = await_gate(folder, "gate")
    OSProcess.signal(os_pid(pyre), "KILL")
    assert %Error{kind: :worker_down, details: %{begun: true}} = Task.await(task)
    for n <- 0..4, do: assert_received({:got, ^n})
    refute_received {:got, _more}
    assert {:ok, 0} = Pyre.call(pyre, "s", :plain, %{}, timeout: 20_000)
    assert gate(folder, "gate") == ["1"]
  end

  test "the agent's process is killed: agent_down", %{pyre: pyre, folder: folder} do
    task = read(pyre, %{to: 5, folder: folder})
    await_gate(folder, "gate")
    Process.exit(Pyre.whereis(pyre, "s"), :kill)
    assert %Error{kind: :agent_down} = Task.await(task)
    assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
  end

  test "a reading agent is killed: its generator is closed", %{pyre: pyre, folder: folder} do
    {:ok, "r"} = Pyre.start_agent(pyre, "Reader", id: "r")
    :ok = Pyre.cast(pyre, "r", :read, %{of: "s", name: "stand_after", args: %{to: 5, folder: folder}})
    await_gate(folder, "gate")
    :ok = Pyre.pause(pyre, {:agent, "r"})
    Process.exit(Pyre.whereis(pyre, "r"), :kill)
    assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
    assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "s")
  end
end
