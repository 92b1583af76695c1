defmodule Pyre.Faults.GroupChurnTest do
  # Promise: groups can be started, filled, broken, killed and stopped beside each other; each stop ends, and leaves nothing.
  use Pyre.Case, async: true

  alias Pyre.{Group, Instance}

  @moduletag :fault

  @tables [:agents, :mailbox, :commits, :restarts, :timers, :waits, :monitors]
  @strategies {:one_for_all, :rest_for_one, :one_for_one}

  test "many groups, in one parent and alone" do
    pyre = start_pyre!()
    instance = Instance.get(pyre)
    {:ok, "root"} = Pyre.start_group(pyre, "root", strategy: :one_for_all, max_restarts: 100_000)

    1..6
    |> Enum.map(fn n -> Task.async(fn -> for round <- 1..21, do: live(pyre, instance, n, round) end) end)
    |> Task.await_many(25_000)

    # A supervisor is told a moment later that an agent was forgotten.
    {:ok, %{pid: root}} = Group.Table.fetch(instance, "root")
    eventually(fn -> Supervisor.which_children(root) == [] end)
    assert [%{name: "root", status: :running, restarts: 0, children: []}] = Pyre.tree(pyre).children

    assert for(table <- @tables, do: :ets.info(Map.fetch!(instance, table), :size)) ==
             Enum.map(@tables, fn _ -> 0 end)

    assert Pyre.stop_group(pyre, "root") == :ok
    assert :ets.tab2list(instance.groups) == []
  end

  defp live(pyre, instance, n, round) do
    group = "g#{n}"
    ids = for i <- 1..3, do: "#{n}-#{round}-#{i}"

    assert {:ok, ^group} =
             Pyre.start_group(pyre, group,
               group: if(rem(n, 2) == 0, do: "root"),
               strategy: elem(@strategies, rem(round, 3)),
               max_restarts: rem(round, 5),
               agents: for(id <- ids, do: {"Journal", id: id})
             )

    _may_be_terminated = Pyre.start_agent(pyre, "Journal", id: "#{n}-#{round}-late", group: group)
    for _time <- 1..2, do: Pyre.cast(pyre, Enum.at(ids, rem(round, 3)), :fail)
    if rem(round, 5) == 0, do: kill(Pyre.whereis(pyre, hd(ids)))
    if rem(round, 7) == 0, do: instance |> Group.Table.fetch(group) |> elem(1) |> Map.fetch!(:pid) |> kill()
    assert Pyre.stop_group(pyre, group) == :ok
  end

  defp kill(nil), do: true
  defp kill(pid), do: Process.exit(pid, :kill)
end
