defmodule Pyre.Tool.Chain do
  @moduledoc false

  # For whom the calling process works. The task of a tool carries it in its process dictionary, so that a call it makes counts as one that
  # its agent waits for: a circle of calls through a tool is refused like any other.

  alias Pyre.Agent.Waits
  alias Pyre.{Address, Classes, Error, Instance}

  @key :"$pyre_tool"

  @doc "From now on this process works for an agent."
  @spec carry(Instance.t(), Address.id(), pos_integer()) :: term()
  def carry(instance, agent, token), do: Process.put(@key, {instance.name, agent, {:tool, token}})

  @doc "Makes a call. Where this process works for an agent, that one waits for the callee meanwhile."
  @spec guard(Instance.t(), Address.id(), binary(), (() -> result)) :: result | {:error, Error.t()}
        when result: {:ok, term()} | {:error, Pyre.error()}
  def guard(%{name: name} = instance, callee, handler, call) do
    case Process.get(@key) do
      {^name, agent, token} -> guarded(instance, {agent, callee, token}, handler, call)
      _works_for_nobody -> call.()
    end
  end

  defp guarded(instance, {agent, callee, token}, handler, call) do
    case add_edge(instance, agent, callee, handler, token) do
      :ok ->
        try do
          call.()
        after
          Waits.remove(instance, agent, callee, token)
        end

      {:deadlock, circle} ->
        {:error, deadlock(agent, circle)}
    end
  end

  # A handler that runs beside others is answered whatever its agent does.
  defp add_edge(instance, agent, callee, handler, token) do
    with {:ok, %{class: class}} <- Address.fetch(instance, callee),
         false <- Classes.interleave?(instance, class, handler) do
      Waits.add(instance, agent, callee, token)
    else
      _unknown_or_beside -> :ok
    end
  end

  defp deadlock(agent, circle) do
    Error.new(
      :deadlock,
      "this call would never be answered, since #{inspect(agent)} waits for the tool that makes it: " <>
        Enum.map_join(circle, " -> ", &inspect/1),
      %{chain: circle}
    )
  end

  @doc "A task was ended: what it still waited for concerns nobody any more."
  @spec forget(Instance.t(), Address.id(), pos_integer()) :: true
  def forget(instance, agent, token), do: Waits.forget(instance, agent, {:tool, token})
end
