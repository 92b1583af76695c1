defmodule Pyre.Faults.TablesLostTest do
  # Promise: with the tables everything begins anew, and whoever waited is told. States are gone then, as the documentation says.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  @moduletag :fault

  defp kill_tables(pyre) do
    {Pyre.InstanceSupervisor, supervisor, _type, _modules} =
      pyre |> Supervisor.which_children() |> List.keyfind(Pyre.InstanceSupervisor, 0)

    {Pyre.State, state, _type, _modules} =
      supervisor |> Supervisor.which_children() |> List.keyfind(Pyre.State, 0)

    Process.exit(state, :kill)
  end

  test "callers are told, no interpreter is left, and the agents with autostart run again" do
    folder = workspace()
    pyre = start_pyre!(agents: [fixture("agents"), fixture("autostart_agents")])
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")

    callers =
      for _n <- 1..3, do: Task.async(fn -> Pyre.call(pyre, "g", :go, %{folder: folder, name: "gate"}) end)

    await_gate(folder, "gate")
    before = os_pid(pyre)

    kill_tables(pyre)

    for answer <- Task.await_many(callers, 10_000) do
      assert {:error, %Error{kind: kind}} = answer
      assert kind in [:agent_down, :not_found, :timeout]
    end

    assert_os_pid_exited(before)
    eventually(fn -> Instance.get(pyre) != nil and Instance.there?(Instance.get(pyre)) end)
    eventually(fn -> match?({:ok, "pong"}, Pyre.call(pyre, "Porter", :ping)) end, 20_000)
    assert {:error, %Error{kind: :not_found}} = Pyre.state(pyre, "g")
  end
end
