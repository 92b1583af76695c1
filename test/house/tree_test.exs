defmodule Pyre.House.TreeTest do
  # The drawing in ARCHITECTURE.md is the tree that really runs.
  use ExUnit.Case, async: true

  @drawing ~r/^(?<lead>[│├└─ ]*)(?<name>Pyre[.\w]*)(?<many> × N)?/u

  test "ARCHITECTURE.md draws the supervision tree that runs" do
    {:ok, supervisor} = start_supervised({Pyre, name: __MODULE__, workers: 2, agents: "test/fixtures/agents"})
    :ok = Pyre.await_ready(__MODULE__, 30_000)
    {:ok, _id} = Pyre.start_agent(__MODULE__, agent_class())

    assert drawn() == running("Pyre.Supervisor", supervisor, 0) |> Enum.uniq()
  end

  # Any class will do: the fixtures belong to other tests.
  defp agent_class, do: __MODULE__ |> Pyre.info() |> Map.fetch!(:classes) |> hd()

  defp drawn do
    "ARCHITECTURE.md"
    |> File.read!()
    |> String.split("```")
    |> Enum.at(1)
    |> String.split("\n", trim: true)
    |> Enum.map(fn line ->
      %{"lead" => lead, "name" => name} = Regex.named_captures(@drawing, line)
      {div(String.length(lead), 4), name}
    end)
  end

  # which_children lists the newest first.
  defp running(name, pid, depth) do
    children = pid |> Supervisor.which_children() |> Enum.reverse()

    [{depth, name} | Enum.flat_map(children, &child(&1, depth + 1))]
  end

  defp child({_id, pid, :supervisor, [module]}, depth), do: running(inspect(module), pid, depth)
  defp child({_id, _pid, :worker, [module]}, depth), do: [{depth, inspect(module)}]
end
