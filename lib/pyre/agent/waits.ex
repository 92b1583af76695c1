defmodule Pyre.Agent.Waits do
  @moduledoc false

  # Who waits for whom: an edge from an agent to the one that it calls, put in *before* the call is sent. An agent runs
  # one message at a time, so a path from the callee back to the caller is a deadlock. Two who close one circle
  # in the same instant may both be refused; neither can be missed, since each looks after it has inserted.

  alias Pyre.Instance

  @type edge :: {from :: String.t(), to :: String.t(), token :: term()}

  @doc "Adds an edge; refuses it, with the circle of ids, where it would close one."
  @spec add(Instance.t(), String.t(), String.t(), term()) :: :ok | {:deadlock, [String.t()]}
  def add(instance, from, to, token) do
    edge = {from, to, token}
    :ets.insert(instance.waits, edge)

    case path(instance, [[to]], from, MapSet.new()) do
      nil ->
        :ok

      path ->
        remove(instance, from, to, token)
        {:deadlock, [from | path]}
    end
  end

  @doc "Takes an edge out."
  @spec remove(Instance.t(), String.t(), String.t(), term()) :: true
  def remove(instance, from, to, token), do: :ets.delete_object(instance.waits, {from, to, token})

  @doc "Takes out all edges of an agent with this token."
  @spec forget(Instance.t(), String.t(), term()) :: true
  def forget(instance, from, token), do: :ets.match_delete(instance.waits, {from, :_, token})

  @doc "Takes out what an agent that has ended waited for."
  @spec clear(Instance.t(), String.t()) :: true
  def clear(instance, from), do: :ets.delete(instance.waits, from)

  defp path(_instance, [], _goal, _seen), do: nil
  defp path(_instance, [[goal | _] = path | _rest], goal, _seen), do: Enum.reverse(path)

  defp path(instance, [[node | _] = path | rest], goal, seen) do
    if MapSet.member?(seen, node) do
      path(instance, rest, goal, seen)
    else
      next = for {_from, to, _token} <- :ets.lookup(instance.waits, node), do: [to | path]
      path(instance, next ++ rest, goal, MapSet.put(seen, node))
    end
  end
end
