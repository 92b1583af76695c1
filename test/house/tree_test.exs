defmodule Pyre.House.TreeTest do
  # The drawing in ARCHITECTURE.md is the tree that really runs.
  use ExUnit.Case, async: true

  @drawing ~r/^(?<lead>[│├└─ ]*)(?<name>(?:Pyre|:pg)[.\w]*)(?<many> × N)?/u

  test "ARCHITECTURE.md draws the supervision tree that runs" do
    {:ok, supervisor} = start_supervised({Pyre, name: __MODULE__, workers: 2, agents: "test/fixtures/agents"})
    :ok = Pyre.await_ready(__MODULE__, 30_000)
    {:ok, _id} = Pyre.start_agent(__MODULE__, agent_class())
    {:ok, _name} = Pyre.start_group(__MODULE__, "group", agents: [{agent_class(), []}])

    assert drawn() == running(["Pyre.Supervisor"], supervisor) |> Enum.uniq()
  end

  # Any class will do: the fixtures belong to other tests.
  defp agent_class, do: __MODULE__ |> Pyre.info() |> Map.fetch!(:classes) |> hd()

  defp drawn do
    "ARCHITECTURE.md"
    |> File.read!()
    |> String.split("```")
    |> Enum.at(1)
    |> String.split("\n", trim: true)
    |> Enum.map_reduce([], fn line, path ->
      %{"lead" => lead, "name" => name} = Regex.named_captures(@drawing, line)
      path = [name | Enum.take(path, -div(String.length(lead), 4))]
      {path, path}
    end)
    |> elem(0)
  end

  # Each process as its path, the root last. which_children lists the newest first.
  defp running(path, pid) do
    children = pid |> Supervisor.which_children() |> Enum.reverse()

    [path | Enum.flat_map(children, &child(&1, path))]
  end

  defp child({_id, pid, :supervisor, [module]}, path), do: running([inspect(module) | path], pid)
  defp child({_id, _pid, :worker, [module]}, path), do: [[inspect(module) | path]]
end
