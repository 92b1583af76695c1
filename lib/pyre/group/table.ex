defmodule Pyre.Group.Table do
  @moduledoc false

  # The rows of the groups' table, which Pyre.State owns: which groups there are, and who is in which, in the order in which they were
  # put there. A group's supervisor reads its children from here, so that the loss of any supervisor loses none.
  #
  #   {{:group, name}, parent, strategy, max_restarts, max_seconds, pid, status, incarnation, seq, blame}
  #   {{:child, group, seq}, child}       what a group has, in order
  #   {{:member, child}, group, seq}      the reverse: in which group an agent or a group is
  #   {{:left, id}, parent}               an agent's process was ended by this supervisor, and did not crash

  alias Pyre.Instance

  @pid 6
  @status 7
  @incarnation 8
  @seq 9
  @blame 10

  @type name :: String.t()
  @type child :: {:agent, String.t()} | {:group, name()}
  @type status :: :starting | :running | :stopping | :failing | :terminated

  @doc "Takes a name. False where it is taken."
  @spec reserve(Instance.t(), name(), name() | nil, keyword()) :: boolean()
  def reserve(instance, name, parent, opts) do
    :ets.insert_new(
      instance.groups,
      {{:group, name}, parent, opts[:strategy], opts[:max_restarts], opts[:max_seconds], nil, :starting, 0, 0,
       nil}
    )
  end

  @doc "The row of a group as a map."
  @spec fetch(Instance.t(), name()) :: {:ok, map()} | :error
  def fetch(instance, name) do
    case :ets.lookup(instance.groups, {:group, name}) do
      [row] -> {:ok, to_map(row)}
      [] -> :error
    end
  end

  @doc "The groups that are in no other."
  @spec top(Instance.t()) :: [map()]
  def top(instance) do
    instance.groups
    |> :ets.match_object({{:group, :_}, nil, :_, :_, :_, :_, :_, :_, :_, :_})
    |> Enum.map(&to_map/1)
  end

  @doc "A group's supervisor begins. An error where the group should have none."
  @spec enter(Instance.t(), name(), pid()) :: {:ok, map()} | :error
  def enter(instance, name, pid) do
    case fetch(instance, name) do
      # While a group is being stopped, who is still in it needs a process to be stopped politely.
      {:ok, %{status: status} = row} when status in [:starting, :running, :stopping] ->
        :ets.update_element(instance.groups, {:group, name}, {@pid, pid})
        :ets.update_counter(instance.groups, {:group, name}, {@incarnation, 1})
        change_status(instance, name, :starting, :running)
        {:ok, row}

      _closed_or_gone ->
        :error
    end
  end

  @doc "Sets the status."
  @spec put_status(Instance.t(), name(), status()) :: boolean()
  def put_status(instance, name, status),
    do: :ets.update_element(instance.groups, {:group, name}, {@status, status})

  @doc "Sets the status of a group that has another one; false where it has not. One of many who try succeeds."
  @spec change_status(Instance.t(), name(), status(), status()) :: boolean()
  def change_status(instance, name, from, to), do: change_status(instance, name, :"$5", from, to)

  @doc "The supervisor of a group has failed; false where the group has another one by now, or is not running."
  @spec fail(Instance.t(), name(), pid()) :: boolean()
  def fail(instance, name, pid), do: change_status(instance, name, pid, :running, :failing)

  defp change_status(instance, name, pid, from, to) do
    row = {{:group, name}, :"$1", :"$2", :"$3", :"$4", pid, from, :"$6", :"$7", :"$8"}
    key = {{:const, :group}, {:const, name}}
    changed = {{{key}, :"$1", :"$2", :"$3", :"$4", kept(pid), {:const, to}, :"$6", :"$7", :"$8"}}
    :ets.select_replace(instance.groups, [{row, [], [changed]}]) == 1
  end

  defp kept(pid) when is_pid(pid), do: {:const, pid}
  defp kept(variable), do: variable

  @doc "A terminated group that is started again: as if it were new."
  @spec reset(Instance.t(), name()) :: boolean()
  def reset(instance, name),
    do: :ets.update_element(instance.groups, {:group, name}, [{@pid, nil}, {@blame, nil}])

  @doc "Puts a child at the end of a group. False where it takes none."
  @spec add(Instance.t(), name(), child()) :: boolean()
  def add(instance, group, child) do
    seq = :ets.update_counter(instance.groups, {:group, group}, {@seq, 1})

    if status(instance, group) in [:starting, :running] do
      # The reverse first: what is in a group's list has one.
      :ets.insert(instance.groups, {{:member, child}, group, seq})
      :ets.insert(instance.groups, {{:child, group, seq}, child})
    else
      false
    end
  rescue
    ArgumentError -> false
  end

  @doc "The status of a group, or nil."
  @spec status(Instance.t(), name()) :: status() | nil
  def status(instance, group) do
    :ets.lookup_element(instance.groups, {:group, group}, @status)
  rescue
    ArgumentError -> nil
  end

  @doc "Takes a child out of its group; tells which that was."
  @spec remove(Instance.t(), child()) :: name() | nil
  def remove(instance, child) do
    case :ets.take(instance.groups, {:member, child}) do
      [{_key, group, seq}] ->
        :ets.delete(instance.groups, {:child, group, seq})
        group

      [] ->
        nil
    end
  end

  @doc "Forgets a group that has no children any more."
  @spec delete(Instance.t(), name()) :: true
  def delete(instance, name), do: :ets.delete(instance.groups, {:group, name})

  @doc "The group of an agent, or of a group; nil where it is in none."
  @spec parent(Instance.t(), child()) :: name() | nil
  def parent(instance, child) do
    case :ets.lookup(instance.groups, {:member, child}) do
      [{_key, group, _seq}] -> group
      [] -> nil
    end
  end

  @doc "The children of a group, first to last."
  @spec children(Instance.t(), name()) :: [child()]
  def children(instance, group),
    do: :ets.select(instance.groups, [{{{:child, group, :_}, :"$1"}, [], [:"$1"]}])

  @doc "Writes down what a group, and the groups around it, may fail for."
  @spec blame(Instance.t(), name() | nil, String.t(), Pyre.error()) :: :ok
  def blame(_instance, nil, _id, _error), do: :ok

  def blame(instance, group, id, error) do
    :ets.update_element(instance.groups, {:group, group}, {@blame, {id, error}})
    blame(instance, parent(instance, {:group, group}), id, error)
  end

  @doc "An agent's process is ended by its supervisor; its successor is to know."
  @spec leave(Instance.t(), String.t(), pid()) :: true
  def leave(instance, id, supervisor), do: :ets.insert(instance.groups, {{:left, id}, supervisor})

  @doc "Which supervisor ended the last process of an agent; nil where it ended otherwise. Told once."
  @spec left(Instance.t(), String.t()) :: pid() | nil
  def left(instance, id) do
    case :ets.take(instance.groups, {:left, id}) do
      [{_key, supervisor}] -> supervisor
      [] -> nil
    end
  end

  @doc "What a snapshot carries over: no process, and no note about one."
  @spec carry(tuple()) :: tuple() | nil
  def carry({{:left, _id}, _parent}), do: nil
  def carry({{:group, _name}, _, _, _, _, _, status, _, _, _}) when status == :stopping, do: nil

  def carry({{:group, _name}, _, _, _, _, _, status, _, _, _} = row) do
    status = if status == :terminated, do: :terminated, else: :running
    row |> put_elem(@pid - 1, nil) |> put_elem(@status - 1, status) |> put_elem(@incarnation - 1, 0)
  end

  def carry(row), do: row

  @doc "A row out of a snapshot, with a process that has ended: it is to have one again."
  @spec put_gone(tuple(), pid()) :: tuple()
  def put_gone({{:group, _name}, _, _, _, _, nil, _, _, _, _} = row, gone), do: put_elem(row, @pid - 1, gone)
  def put_gone(row, _gone), do: row

  defp to_map(
         {{:group, name}, parent, strategy, max_restarts, max_seconds, pid, status, incarnation, _seq, blame}
       ) do
    %{
      name: name,
      parent: parent,
      strategy: strategy,
      max_restarts: max_restarts,
      max_seconds: max_seconds,
      pid: pid,
      status: status,
      incarnation: incarnation,
      blame: blame
    }
  end
end
