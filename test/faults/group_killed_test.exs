defmodule Pyre.Faults.GroupKilledTest do
  # Promise: the loss of a group's supervisor, or of the process of an agent in it, costs no state, no accepted message and no member.
  use Pyre.Case, async: true

  alias Pyre.{Error, Group, Instance}

  @moduletag :fault

  @ids ["a", "b", "c", "late"]

  setup do
    pyre = start_pyre!(drain_timeout: 200)
    {:ok, "top"} = Pyre.start_group(pyre, "top", strategy: :one_for_all, agents: [{"Gatekeeper", id: "a"}])

    {:ok, "inner"} =
      Pyre.start_group(pyre, "inner", group: "top", agents: for(id <- ["b", "c"], do: {"Gatekeeper", id: id}))

    {:ok, "late"} = Pyre.start_agent(pyre, "Gatekeeper", id: "late", group: "inner")
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp supervisor(pyre, group) do
    {:ok, %{pid: pid}} = pyre |> Instance.get() |> Group.Table.fetch(group)
    pid
  end

  # Kills the process that `find` finds, and waits until another one has taken its place.
  defp kill(find) do
    pid = find.()
    Process.exit(pid, :kill)

    eventually(fn ->
      new = find.()
      is_pid(new) and new != pid and Process.alive?(new)
    end)
  end

  defp shape(%{name: name, children: []}), do: name
  defp shape(%{name: name, children: children}), do: {name, Enum.map(children, &shape/1)}

  defp assert_whole(pyre) do
    eventually(fn -> Enum.all?(@ids, &Pyre.whereis(pyre, &1)) end)

    assert [{"top", ["a", {"inner", ["b", "c", "late"]}]}] ==
             pyre |> Pyre.tree() |> Map.fetch!(:children) |> Enum.map(&shape/1)

    # Each is where the tree says.
    children = fn group ->
      for {id, pid, _type, _modules} <- Supervisor.which_children(supervisor(pyre, group)), do: {id, pid}
    end

    expected = for id <- Enum.reverse(tl(@ids)), do: {{:agent, id}, Pyre.whereis(pyre, id)}
    assert children.("inner") == expected

    assert children.("top") == [
             {{:group, "inner"}, supervisor(pyre, "inner")},
             {{:agent, "a"}, Pyre.whereis(pyre, "a")}
           ]
  end

  defp found(pyre, role) when is_atom(role), do: process(pyre, role)
  defp found(pyre, group), do: supervisor(pyre, group)

  for {what, killed} <- [
        {"the supervisor of a group", "top"},
        {"the supervisor of a nested group", "inner"},
        {"the supervisor of all groups", :group_supervisor},
        {"the keeper of the groups", :groups}
      ] do
    test "#{what} comes back, and everything below it", %{pyre: pyre, folder: folder} do
      for id <- @ids, do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: id})
      for id <- @ids, do: await_gate(folder, id)
      for id <- @ids, n <- 1..3, do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: "#{id}#{n}"})
      for id <- @ids, n <- 1..3, do: open_gate(folder, "#{id}#{n}")

      kill(fn -> found(pyre, unquote(killed)) end)

      for id <- @ids, do: open_gate(folder, id)

      for id <- @ids do
        expected = for n <- ["", 1, 2, 3], do: ["#{id}#{n}", 1]
        # A call may begin before the end of its supervisor has reached the agent; it is told so.
        eventually(fn -> Pyre.call(pyre, id, :passed, %{}, timeout: 15_000) == {:ok, expected} end)
        # Nobody crashed.
        assert {:ok, %{restarts: 0}} = Pyre.info(pyre, id)
      end

      assert_whole(pyre)
    end
  end

  test "the process of an agent: a crash like any other, for which its siblings go too", ctx do
    %{pyre: pyre, folder: folder} = ctx
    :ok = Pyre.cast(pyre, "a", :go, %{folder: folder, name: "a"})
    :ok = Pyre.cast(pyre, "b", :go, %{folder: folder, name: "b"})
    for id <- ["a", "b"], do: await_gate(folder, id)

    waiting =
      for id <- ["a", "b"], do: Task.async(fn -> Pyre.call(pyre, id, :passed, %{}, timeout: 15_000) end)

    eventually(fn -> for(id <- ["a", "b"], {:ok, %{mailbox: n}} = Pyre.info(pyre, id), do: n) == [2, 2] end)
    Process.exit(Pyre.whereis(pyre, "a"), :kill)
    for id <- ["a", "b"], do: await_gate(folder, id, 2)
    for id <- ["a", "b"], do: open_gate(folder, id)

    # What ran in the killed process was begun there, so this is its second attempt; the sibling was merely asked to go.
    assert Enum.map(waiting, &Task.await(&1, 15_000)) == [{:ok, [["a", 2]]}, {:ok, [["b", 1]]}]
    assert {:ok, %{restarts: 1, last_error: %Error{kind: :agent_down}}} = Pyre.info(pyre, "a")
    assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "b")
    assert_whole(pyre)
  end

  test "everything again and again under load: every accepted cast is run, in order", %{pyre: pyre} do
    {:ok, "log"} =
      Pyre.start_group(pyre, "log",
        strategy: :rest_for_one,
        max_restarts: 1_000,
        agents: [{"Journal", id: "x"}, {"Journal", id: "y"}]
      )

    senders =
      for id <- ["x", "y"],
          do:
            Task.async(fn -> for entry <- 1..500, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry}) end)

    for _round <- 1..3 do
      kill(fn -> supervisor(pyre, "log") end)
      kill(fn -> process(pyre, :groups) end)
      kill(fn -> Pyre.whereis(pyre, "x") end)
      kill(fn -> process(pyre, :group_supervisor) end)
    end

    Task.await_many(senders)

    for id <- ["x", "y"] do
      {:ok, entries} = Pyre.call(pyre, id, :entries, %{}, timeout: 20_000)
      assert Enum.uniq(entries) == Enum.to_list(1..500)
      assert entries == Enum.sort(entries)
    end

    assert Pyre.stop_group(pyre, "log") == :ok
  end
end
