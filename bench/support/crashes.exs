defmodule Bench.Crashes do
  @moduledoc false

  # Handlers that raise, under every strategy: how soon the same agent answers again, and with which state.

  @strategies [:none, :one_for_one, :one_for_all, :rest_for_one, :nested]
  @group_size 4
  @timeout_ms 60_000

  @doc "The strategies; `:none` is no group, `:nested` groups of `:one_for_one` in one of `:rest_for_one`."
  def strategies, do: @strategies

  @doc "How many agents are in a group."
  def group_size, do: @group_size

  # Each agent fails once, so that no back-off is measured; in groups the siblings are restarted with it.
  @doc "Lets so many agents fail: the ms until each answered again, and how many had kept their state."
  def run(strategy, crashes) do
    name = Bench.start_troubled(workers: 1)
    ids = agents(name, strategy, crashes)
    for id <- ids, do: {:ok, 1} = Pyre.call(name, id, :add)
    times = for id <- ids, do: crash_one(name, id)
    # Nobody lost what was committed: 1 before, and 1 after its own crash.
    recovered = Enum.count(ids, &(Pyre.call(name, &1, :add) == {:ok, 3}))
    Supervisor.stop(name)
    %{ms: times, recovered: recovered}
  end

  defp crash_one(name, id) do
    {:error, %Pyre.PythonError{}} = Pyre.call(name, id, :fail)
    {us, {:ok, 2}} = :timer.tc(fn -> Pyre.call(name, id, :add, %{}, timeout: @timeout_ms) end)
    us / 1_000
  end

  defp agents(name, :none, count) do
    for n <- 1..count, do: elem({:ok, _id} = Pyre.start_agent(name, "Crasher", id: "a#{n}"), 1)
  end

  defp agents(name, :nested, count) do
    {:ok, "top"} = group(name, "top", strategy: :rest_for_one)
    groups(name, count, strategy: :one_for_one, group: "top")
  end

  defp agents(name, strategy, count), do: groups(name, count, strategy: strategy)

  defp groups(name, count, opts) do
    for n <- 1..div(count, @group_size) do
      ids = for m <- 1..@group_size, do: "a#{n}-#{m}"
      {:ok, _group} = group(name, "g#{n}", opts ++ [agents: for(id <- ids, do: {"Crasher", id: id})])
      ids
    end
    |> List.flatten()
  end

  defp group(name, group, opts),
    do: Pyre.start_group(name, group, [max_restarts: 1_000_000, max_seconds: 1] ++ opts)
end
