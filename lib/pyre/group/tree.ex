defmodule Pyre.Group.Tree do
  @moduledoc false

  # The tree of groups and agents as data, read from the tables.

  alias Pyre.{Address, Instance}
  alias Pyre.Group.Table

  @doc "The whole tree of an instance."
  @spec read(Instance.t()) :: map()
  def read(instance) do
    agents = Map.new(Address.all(instance), &{&1.id, &1})
    groups = for %{name: name} <- Table.top(instance), do: {:group, name}
    alone = for {id, _row} <- agents, Table.parent(instance, {:agent, id}) == nil, do: {:agent, id}
    children = nodes(instance, Enum.sort(groups) ++ Enum.sort(alone), agents)

    %{
      kind: :instance,
      name: instance.name,
      strategy: :one_for_one,
      status: if(Instance.closed?(instance), do: :stopping, else: :running),
      restarts: 0,
      children: children
    }
  end

  # What ended while the tree was read is left out.
  defp nodes(instance, children, agents),
    do: for(child <- children, node = node(instance, child, agents), do: node)

  defp node(_instance, {:agent, id}, agents) do
    with %{class: class, status: status, incarnation: incarnation} <- agents[id],
         do: %{
           kind: :agent,
           name: id,
           class: class,
           status: status,
           restarts: max(incarnation - 1, 0),
           children: []
         }
  end

  defp node(instance, {:group, name}, agents) do
    with {:ok, row} <- Table.fetch(instance, name) do
      %{
        kind: :group,
        name: name,
        strategy: row.strategy,
        max_restarts: row.max_restarts,
        max_seconds: row.max_seconds,
        status: status(row),
        restarts: max(row.incarnation - 1, 0),
        children: nodes(instance, Table.children(instance, name), agents)
      }
    else
      :error -> nil
    end
  end

  defp status(%{status: :running, pid: pid}), do: if(Process.alive?(pid), do: :running, else: :restarting)
  defp status(%{status: :failing}), do: :stopping
  defp status(%{status: status}), do: status
end
