defmodule Pyre.Events.Subscriptions do
  @moduledoc false

  # Who wants which events: the rows of one ordered table, by pattern, so that those who match are found without looking at the
  # others. An agent's rows live as long as its address, whatever becomes of its process; a process' end with it (Pyre.Events).
  #
  #   {{:sub, pattern, {:agent, handle, handler}}, id, class}
  #   {{:sub, pattern, {:process, pid}}, nil, nil}
  #   {{:of, owner, pattern, handler}, state}    by the owner: a handle or a pid; :cancelled for one that the agent's class
  #                                              declares and that the agent does not want
  #   {{:wild, pattern}, words, count}           the patterns with stars that somebody has
  #   {{:behind, owner}, count}                  events that an owner has missed since it was too slow

  alias Pyre.{Address, Classes, Instance}
  alias Pyre.Events.Topic

  @type subscriber :: {:agent, pos_integer(), binary()} | {:process, pid()}

  @doc "An agent's handler wants events. Called by the agent's process, at commit."
  @spec add(Instance.t(), {Address.id(), pos_integer()}, String.t(), {String.t(), String.t()}) :: :ok
  def add(instance, {id, handle}, class, {pattern, handler}) do
    {pattern, handler} = {:binary.copy(pattern), :binary.copy(handler)}
    :ets.insert(instance.subscriptions, {{:of, handle, pattern, handler}, :wanted})
    put(instance, pattern, {:agent, handle, handler}, {id, class})
  end

  @doc "A process wants events. Called by that process."
  @spec add_process(Instance.t(), pid(), String.t()) :: :ok
  def add_process(instance, pid, pattern) do
    :ets.insert(instance.subscriptions, {{:of, pid, pattern, ""}, :wanted})
    put(instance, pattern, {:process, pid}, {nil, nil})
  end

  defp put(%{subscriptions: table} = instance, pattern, subscriber, {id, class}) do
    if :ets.insert_new(table, {{:sub, pattern, subscriber}, id, class}) do
      join(table, pattern)
      Instance.add_subscriptions(instance, 1)
    end

    :ok
  end

  @doc "Sets what the agent's class declares, and the agent has not given up."
  @spec declare(Instance.t(), {Address.id(), pos_integer()}, String.t()) :: :ok
  def declare(instance, {_id, handle} = agent, class) do
    for {pattern, handler} = wanted <- Classes.subscriptions(instance, class),
        not :ets.member(instance.subscriptions, {:of, handle, pattern, handler}),
        do: add(instance, agent, class, wanted)

    :ok
  end

  @doc "Takes back what a class has declared."
  @spec withdraw(Instance.t(), {Address.id(), pos_integer()}, [{String.t(), String.t()}]) :: :ok
  def withdraw(instance, {_id, handle}, declared) do
    for {pattern, handler} <- declared do
      remove(instance, pattern, {:agent, handle, handler})
      :ets.delete(instance.subscriptions, {:of, handle, pattern, handler})
    end

    :ok
  end

  @doc "An agent wants no more events of a pattern."
  @spec cancel(Instance.t(), {Address.id(), pos_integer()}, String.t(), String.t()) :: :ok
  def cancel(instance, {_id, handle}, class, pattern) do
    declared = for {^pattern, handler} <- Classes.subscriptions(instance, class), do: handler

    for handler <- handlers(instance, handle, pattern) do
      remove(instance, pattern, {:agent, handle, handler})

      if handler in declared,
        do: :ets.insert(instance.subscriptions, {{:of, handle, pattern, handler}, :cancelled}),
        else: :ets.delete(instance.subscriptions, {:of, handle, pattern, handler})
    end

    :ok
  end

  defp handlers(instance, owner, pattern),
    do: :ets.select(instance.subscriptions, [{{{:of, owner, pattern, :"$1"}, :wanted}, [], [:"$1"]}])

  @doc "A process wants no more events of a pattern."
  @spec cancel_process(Instance.t(), pid(), String.t()) :: :ok
  def cancel_process(instance, pid, pattern) do
    :ets.delete(instance.subscriptions, {:of, pid, pattern, ""})
    remove(instance, pattern, {:process, pid})
  end

  @doc "Forgets all that an agent or a process wants."
  @spec delete(Instance.t(), pos_integer() | pid()) :: :ok
  def delete(instance, owner) do
    if Instance.subscriptions(instance) > 0 do
      for {pattern, handler} <- of(instance, owner), do: remove(instance, pattern, subscriber(owner, handler))
      :ets.match_delete(instance.subscriptions, {{:of, owner, :_, :_}, :_})
      :ets.delete(instance.subscriptions, {:behind, owner})
    end

    :ok
  end

  defp subscriber(pid, _handler) when is_pid(pid), do: {:process, pid}
  defp subscriber(handle, handler), do: {:agent, handle, handler}

  defp remove(%{subscriptions: table} = instance, pattern, subscriber) do
    if :ets.take(table, {:sub, pattern, subscriber}) != [] do
      if :ets.member(table, {:wild, pattern}), do: leave(table, pattern)
      Instance.add_subscriptions(instance, -1)
    else
      :ok
    end
  end

  defp join(table, pattern) do
    {:ok, words} = Topic.parse_pattern(pattern)

    _count =
      Topic.wild?(words) && :ets.update_counter(table, {:wild, pattern}, {3, 1}, {{:wild, pattern}, words, 0})

    :ok
  end

  # Whoever subscribes in between counts up again before, or makes the row anew after.
  defp leave(table, pattern) do
    _deleted =
      :ets.update_counter(table, {:wild, pattern}, {3, -1}) == 0 &&
        :ets.select_delete(table, [{{{:wild, pattern}, :_, 0}, [], [true]}])

    :ok
  end

  @doc "What an agent or a process wants: patterns and handlers."
  @spec of(Instance.t(), pos_integer() | pid()) :: [{String.t(), String.t()}]
  def of(instance, owner),
    do: :ets.select(instance.subscriptions, [{{{:of, owner, :"$1", :"$2"}, :wanted}, [], [{{:"$1", :"$2"}}]}])

  @doc "The processes that want any."
  @spec processes(Instance.t()) :: [pid()]
  def processes(instance) do
    instance.subscriptions
    |> :ets.select([{{{:of, :"$1", :_, :_}, :_}, [{:is_pid, :"$1"}], [:"$1"]}])
    |> Enum.uniq()
  end

  @doc "Who wants events of a topic, each once for each of its patterns and handlers."
  @spec matching(Instance.t(), String.t(), Topic.words()) :: [
          {subscriber(), Address.id() | nil, String.t() | nil}
        ]
  def matching(%{subscriptions: table}, topic, words) do
    wild =
      for [pattern, pattern_words] <- :ets.match(table, {{:wild, :"$1"}, :"$2", :_}),
          Topic.match?(pattern_words, words),
          do: pattern

    Enum.flat_map([topic | wild], fn pattern ->
      :ets.select(table, [{{{:sub, pattern, :"$1"}, :"$2", :"$3"}, [], [{{:"$1", :"$2", :"$3"}}]}])
    end)
  end

  @doc "An owner misses an event; gives how many since it began to."
  @spec missed(Instance.t(), pos_integer() | pid()) :: pos_integer()
  def missed(instance, owner),
    do: :ets.update_counter(instance.subscriptions, {:behind, owner}, 1, {{:behind, owner}, 0})

  @doc "An owner keeps up again; gives how many it has missed."
  @spec caught_up(Instance.t(), pos_integer() | pid()) :: non_neg_integer()
  def caught_up(instance, owner) do
    case :ets.take(instance.subscriptions, {:behind, owner}) do
      [{_key, count}] -> count
      [] -> 0
    end
  end

  @doc "What a snapshot carries over: the agents'. Processes are gone, and with them who is behind."
  @spec carry(tuple()) :: tuple() | nil
  def carry({{:sub, _pattern, {:agent, _handle, _handler}}, _id, _class} = row), do: row
  def carry({{:of, handle, _pattern, _handler}, _state} = row) when is_integer(handle), do: row
  def carry(_row), do: nil

  @doc "Counts what came out of a snapshot."
  @spec count_in(Instance.t(), [tuple()]) :: :ok
  def count_in(%{subscriptions: table} = instance, rows) do
    for {{:sub, pattern, _agent}, _id, _class} <- rows do
      join(table, pattern)
      Instance.add_subscriptions(instance, 1)
    end

    :ok
  end
end
