defmodule Pyre.StartMany do
  @moduledoc false

  # Many agents started for one process: by several at once, since each start waits for a supervisor. Those of one group, and those
  # with one id, are started in the order of the list.

  alias Pyre.Agent.Starter
  alias Pyre.Instance

  @type agent :: {Pyre.class(), keyword()}

  # A start waits for the agent's process, which one scheduler runs while others go on.
  @per_scheduler 4
  # Fewer are not worth a process.
  @least 8

  @doc "Starts the agents; the results are in the order of the list."
  @spec run(Instance.t(), [agent()]) :: [{:ok, Pyre.id()} | {:error, Pyre.error()}]
  def run(instance, agents) do
    parts = min(@per_scheduler * System.schedulers_online(), div(length(agents), @least))

    if parts < 2,
      do: Enum.map(agents, &start(instance, &1)),
      else: agents |> Enum.with_index() |> Enum.group_by(&part(&1, parts)) |> together(instance)
  end

  defp part({{_class, opts}, at}, parts) when is_list(opts),
    do: :erlang.phash2(opts[:group] || opts[:id] || at, parts)

  defp part({_wrong, _at}, _parts), do: 0

  defp together(parts, instance) do
    parts
    |> Enum.map(fn {_part, agents} ->
      Task.async(fn -> for {agent, at} <- agents, do: {at, attempt(instance, agent)} end)
    end)
    |> Task.await_many(:infinity)
    |> Enum.concat()
    |> Enum.sort_by(&elem(&1, 0))
    |> Enum.map(&told/1)
  end

  # The caller's own mistake is raised where the caller is.
  defp attempt(instance, agent) do
    start(instance, agent)
  rescue
    error in ArgumentError -> error
  end

  defp told({_at, %ArgumentError{} = error}), do: raise(error)
  defp told({_at, result}), do: result

  defp start(instance, {class, opts}), do: Starter.start(instance, class, opts)

  defp start(_instance, other),
    do: raise(ArgumentError, "expected a list of {class, options}, got in it: #{inspect(other, limit: 5)}")
end
