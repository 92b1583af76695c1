defmodule Pyre.Chaos.Ledger do
  @moduledoc false

  # What was promised to the senders of the soak, and whether the agents' states keep it. The table is written by the senders.

  @type t :: :ets.tid()

  @doc "A new ledger; it lives as long as the calling process."
  @spec start_link() :: {:ok, t()}
  def start_link, do: {:ok, :ets.new(:pyre_chaos_ledger, [:set, :public, write_concurrency: true])}

  @doc "A cast with this number was accepted."
  @spec accepted(t(), String.t(), String.t(), pos_integer()) :: true
  def accepted(ledger, id, sender, number), do: :ets.insert(ledger, {{:last, id, sender}, number})

  @doc "An addition was answered with this sum."
  @spec added(t(), String.t(), integer()) :: :ok
  def added(ledger, id, sum) do
    unless :ets.insert_new(ledger, {{:sum, id, sum}}),
      do: violation(ledger, "#{id}: two callers were told the sum #{sum}")

    _count = :ets.update_counter(ledger, {:answered, id}, 1, {{:answered, id}, 0})
    _most = raise_to(ledger, {:most, id}, sum)
    :ok
  end

  @doc "An addition may or may not have happened: its caller was told of a loss."
  @spec in_doubt(t(), String.t()) :: integer()
  def in_doubt(ledger, id), do: :ets.update_counter(ledger, {:doubt, id}, 1, {{:doubt, id}, 0})

  @doc "Something happened that must not."
  @spec violation(t(), String.t()) :: true
  def violation(ledger, text), do: :ets.insert(ledger, {{:violation, make_ref()}, text})

  # Two that raise it at once: the larger one stays.
  defp raise_to(ledger, key, value) do
    case :ets.lookup(ledger, key) do
      [{_key, most}] when most >= value -> most
      [{_key, most}] -> :ets.select_replace(ledger, [{{key, most}, [], [{{{:const, key}, value}}]}])
      [] -> :ets.insert_new(ledger, {key, value}) || raise_to(ledger, key, value)
    end
  end

  @doc "Where the agents' states and the ledger contradict each other."
  @spec violations(t(), %{String.t() => map()}) :: [String.t()]
  def violations(ledger, states) do
    told = for {{:violation, _ref}, text} <- :ets.tab2list(ledger), do: text
    told ++ Enum.flat_map(states, fn {id, state} -> sums(ledger, id, state) ++ casts(ledger, id, state) end)
  end

  defp sums(ledger, id, %{"total" => total}) do
    answered = counter(ledger, {:answered, id})
    doubt = counter(ledger, {:doubt, id})
    most = counter(ledger, {:most, id})

    for {true, text} <- [
          {total < most, "#{id}: a caller was told the sum #{most}, but #{total} is committed"},
          {total < answered, "#{id}: #{answered} additions were answered, but the sum is #{total}"},
          {total > answered + doubt,
           "#{id}: the sum is #{total}, but only #{answered} additions were answered and #{doubt} are in doubt"}
        ],
        do: text
  end

  defp casts(ledger, id, %{"last" => last, "gaps" => gaps, "repeated" => repeated} = state) do
    lost =
      for {{:last, ^id, sender}, number} <- :ets.tab2list(ledger),
          Map.get(last, sender, 0) < number,
          do:
            "#{id}: cast #{number} of #{sender} was accepted, the last that arrived is #{Map.get(last, sender, 0)}"

    timers =
      if state["timers_set"] == state["timers_fired"],
        do: [],
        else: ["#{id}: #{state["timers_set"]} timers were set, #{state["timers_fired"]} fired"]

    again =
      if repeated == 0, do: [], else: ["#{id}: #{repeated} casts were run again after they had committed"]

    lost ++ timers ++ again ++ for(gap <- gaps, do: "#{id}: lost or reordered, #{gap}")
  end

  defp counter(ledger, key) do
    case :ets.lookup(ledger, key) do
      [{_key, count}] -> count
      [] -> 0
    end
  end
end
