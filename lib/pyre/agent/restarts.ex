defmodule Pyre.Agent.Restarts do
  @moduledoc false

  # The restart budget of each agent: when it crashed lately, how often in all, and what it failed with last.
  # Intensity is counted here, per agent, not by the supervisor: thousands of agents share one supervisor, and
  # four different ones may well crash within five seconds.

  alias Pyre.Instance

  @first_delay_ms 50
  @max_delay_ms 5_000

  @type verdict :: {:restart, delay_ms :: non_neg_integer()} | :exhausted

  @doc "Writes a crash down and says what follows."
  @spec record(Instance.t(), pos_integer(), keyword(), Pyre.error()) :: verdict()
  def record(instance, handle, opts, error) do
    now = Instance.now_ms()
    period = 1_000 * (opts[:max_seconds] || instance.config.max_seconds)
    {recent, total} = recent(instance, handle, now - period)
    recent = [now | recent]
    :ets.insert(instance.restarts, {handle, recent, total + 1, error, System.os_time(:millisecond)})
    decide(opts[:restart] || :permanent, length(recent), opts[:max_restarts] || instance.config.max_restarts)
  end

  defp recent(instance, handle, since) do
    case :ets.lookup(instance.restarts, handle) do
      [{_handle, recent, total, _error, _at}] -> {Enum.filter(recent, &(&1 > since)), total}
      [] -> {[], 0}
    end
  end

  @doc "Gives an agent a fresh budget. What it failed with, and how often, stays known."
  @spec forgive(Instance.t(), pos_integer()) :: boolean()
  def forgive(instance, handle), do: :ets.update_element(instance.restarts, handle, {2, []})

  @doc "Writes down what ended an agent that did not crash itself."
  @spec note(Instance.t(), pos_integer(), Pyre.error()) :: true
  def note(instance, handle, error) do
    {recent, total} = recent(instance, handle, 0)
    :ets.insert(instance.restarts, {handle, recent, total, error, System.os_time(:millisecond)})
  end

  @doc "The verdict after the `crashes`-th crash within the period."
  @spec decide(atom(), pos_integer(), non_neg_integer() | :infinity) :: verdict()
  def decide(:temporary, _crashes, _max), do: :exhausted
  def decide(_restart, crashes, :infinity), do: {:restart, delay_ms(crashes, :rand.uniform())}
  def decide(_restart, crashes, max) when crashes > max, do: :exhausted
  def decide(_restart, crashes, _max), do: {:restart, delay_ms(crashes, :rand.uniform())}

  @doc "How long the n-th restart in a row waits: the first not at all, then exponentially, with jitter."
  @spec delay_ms(pos_integer(), float()) :: non_neg_integer()
  def delay_ms(1, _random), do: 0

  def delay_ms(crashes, random) do
    ceiling = min(@first_delay_ms * Integer.pow(2, min(crashes - 2, 16)), @max_delay_ms)
    round(ceiling * (0.5 + random / 2))
  end

  @doc "The delay that the last crash asked for, for the incarnation that follows it."
  @spec pending_delay(Instance.t(), pos_integer()) :: non_neg_integer()
  def pending_delay(instance, handle) do
    case :ets.lookup(instance.restarts, handle) do
      [{_handle, recent, _total, _error, _at}] when recent != [] -> delay_ms(length(recent), :rand.uniform())
      _none -> 0
    end
  end

  @doc false
  @spec carry(tuple()) :: tuple()
  def carry(row), do: row

  @doc "Moves a row's instants."
  @spec shift(tuple(), integer()) :: tuple()
  def shift({handle, recent, total, error, at}, ms),
    do: {handle, Enum.map(recent, &(&1 + ms)), total, error, at}

  @doc "What the agent failed with last, or nil."
  @spec last_error(Instance.t(), pos_integer()) :: Pyre.error() | nil
  def last_error(instance, handle) do
    case :ets.lookup(instance.restarts, handle) do
      [{_handle, _recent, _total, error, _at}] -> error
      [] -> nil
    end
  end

  @doc "How often the agent crashed in all."
  @spec total(Instance.t(), pos_integer()) :: non_neg_integer()
  def total(instance, handle) do
    case :ets.lookup(instance.restarts, handle) do
      [{_handle, _recent, total, _error, _at}] -> total
      [] -> 0
    end
  end
end
