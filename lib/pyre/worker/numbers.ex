defmodule Pyre.Worker.Numbers do
  @moduledoc false

  # Which worker has which number: unique in the instance, and known before any is started. First the shared workers, a pool after the other;
  # then a spare and a probation worker for each pool, whether or not there ever is one; then those with `:isolation`, of whichever pool; then
  # those that try new code. Pure.

  @doc "The workers that are there from the start: number, role, pool."
  @spec initial(map()) :: [{pos_integer(), :shared | :spare, Pyre.Pools.name()}]
  def initial(%{pools: pools}) do
    names = for %{name: name, workers: count} <- pools, _one <- 1..count, do: name
    shared = for {name, no} <- Enum.with_index(names, 1), do: {no, :shared, name}

    spares =
      for {%{spare: true} = pool, no} <- Enum.with_index(pools, length(names) + 1),
          do: {no, :spare, pool.name}

    shared ++ spares
  end

  @doc "How many shared workers there are."
  @spec shared(map()) :: pos_integer()
  def shared(%{pools: pools}),
    do: Enum.reduce(pools, 0, fn %{workers: count}, sum when is_integer(count) -> sum + count end)

  @doc "The number of a pool's probation worker."
  @spec probation(map(), Pyre.Pools.name()) :: pos_integer()
  def probation(%{pools: pools} = config, pool),
    do: shared(config) + length(pools) + Enum.find_index(pools, &(&1.name == pool)) + 1

  @doc "The numbers of workers for agents with `:isolation`."
  @spec isolated(map()) :: Range.t()
  def isolated(%{max_isolated: max} = config) do
    before = before_isolated(config)
    Range.new(before + 1, before + max, 1)
  end

  defp before_isolated(%{pools: pools} = config), do: shared(config) + 2 * length(pools)

  @doc "The numbers of workers that try a new generation of code, one in each pool at a time, or keep one that was tried."
  @spec canaries(map()) :: Range.t()
  def canaries(%{max_isolated: max, pools: pools} = config) do
    before = before_isolated(config) + max
    (before + 1)..(before + 2 * length(pools))
  end

  @doc "Is it one of these?"
  @spec canary?(map(), pos_integer()) :: boolean()
  def canary?(config, no), do: no in canaries(config)

  @doc "The highest number that there may be."
  @spec last(map()) :: pos_integer()
  def last(config) do
    %Range{last: last} = canaries(config)
    last
  end
end
