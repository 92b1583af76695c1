defmodule Pyre.Agent.Quarantine do
  @moduledoc false

  # Who hurt a worker, and what follows: rows of a table that Pyre.State owns.
  #
  # A *strike* is certain: this agent's handler was on the loop, or alone in the worker, when the worker died or had to be
  # killed. The first one puts the agent on probation: it runs in the probation worker, alone. A *suspect* was one of several
  # that had begun; it runs one message there before it returns. At the second strike on probation the agent is
  # parked: its mailbox is kept, nothing runs, until a person has looked (`Pyre.unpark/2`).

  alias Pyre.{Address, Instance}
  alias Pyre.Worker.Pool

  @strikes_on_probation 2
  @kept 3

  @typedoc "An agent's handle, or a function that ran without an agent."
  @type who :: pos_integer() | {module :: String.t(), function :: String.t()}
  @type evidence :: %{
          at: DateTime.t(),
          reason: String.t(),
          class: String.t(),
          handler: String.t() | nil,
          message_id: pos_integer() | nil,
          worker: non_neg_integer(),
          os_pid: pos_integer() | nil,
          rss_bytes: non_neg_integer() | nil,
          stack: String.t()
        }

  @doc "Writes a strike down; what follows from it."
  @spec strike(Instance.t(), who(), evidence()) :: :probation | :park
  def strike(instance, handle, evidence) do
    Instance.count(instance, :strikes)
    now = Instance.now_ms()
    {recent, _suspect?, on_probation, kept} = read(instance, handle, now)
    # The first strike is what leads there; those after it count.
    on_probation = if recent == [], do: 0, else: on_probation + 1
    kept = Enum.take([evidence | kept], @kept)
    :ets.insert(instance.quarantine, {handle, [now | recent], false, on_probation, kept})
    if on_probation >= @strikes_on_probation, do: :park, else: :probation
  end

  @doc "Takes note that the agent may have been the one."
  @spec suspect(Instance.t(), pos_integer()) :: true
  def suspect(instance, handle) do
    {recent, _suspect?, on_probation, kept} = read(instance, handle, Instance.now_ms())
    :ets.insert(instance.quarantine, {handle, recent, true, on_probation, kept})
  end

  @doc "Keeps why an operator parked it: no strike."
  @spec note(Instance.t(), pos_integer(), evidence()) :: true
  def note(instance, handle, evidence) do
    {recent, suspect?, on_probation, kept} = read(instance, handle, Instance.now_ms())

    :ets.insert(
      instance.quarantine,
      {handle, recent, suspect?, on_probation, Enum.take([evidence | kept], @kept)}
    )
  end

  @doc "All agents that something is known against."
  @spec list(Instance.t()) :: [map()]
  def list(instance) do
    for %{id: id, handle: handle, class: class, status: status} <- Address.all(instance),
        :ets.member(instance.quarantine, handle) do
      Map.merge(%{id: id, class: class, status: status}, fetch(instance, handle))
    end
    |> Enum.sort_by(& &1.id)
  end

  @doc "A message ended well on probation: a mere suspect is one no more."
  @spec cleared(Instance.t(), pos_integer()) :: true
  def cleared(instance, handle) do
    case read(instance, handle, Instance.now_ms()) do
      {[], _suspect?, _on_probation, []} ->
        :ets.delete(instance.quarantine, handle)

      {recent, true, on_probation, kept} ->
        :ets.insert(instance.quarantine, {handle, recent, false, on_probation, kept})

      _strikes ->
        true
    end
  end

  @doc "Which workers an agent may run in."
  @spec role(Instance.t(), pos_integer(), keyword()) :: Pool.role()
  def role(instance, handle, opts) do
    case read(instance, handle, Instance.now_ms()) do
      {[], false, _on_probation, _kept} -> wanted(opts[:isolation], handle)
      _strikes_or_suspect -> :probation
    end
  end

  defp wanted(nil, _handle), do: :shared
  defp wanted(:dedicated, handle), do: {:dedicated, handle}
  defp wanted({:tenant, key}, _handle), do: {:tenant, key}

  @doc "What is known against an agent: strikes that still count, suspicion, the evidence, newest first."
  @spec fetch(Instance.t(), who()) :: %{
          strikes: non_neg_integer(),
          suspect: boolean(),
          evidence: [evidence()]
        }
  def fetch(instance, handle) do
    {recent, suspect?, _on_probation, kept} = read(instance, handle, Instance.now_ms())
    %{strikes: length(recent), suspect: suspect?, evidence: kept}
  end

  @doc "Forgets it all: a person has looked, or the agent is gone."
  @spec forget(Instance.t(), pos_integer()) :: true
  def forget(instance, handle), do: :ets.delete(instance.quarantine, handle)

  @doc false
  @spec carry(tuple()) :: tuple()
  def carry(row), do: row

  @doc "Moves a row's instants."
  @spec shift(tuple(), integer()) :: tuple()
  def shift({who, recent, suspect?, on_probation, kept}, ms),
    do: {who, Enum.map(recent, &(&1 + ms)), suspect?, on_probation, kept}

  # Strikes decay: without another for a while, none of them counts.
  defp read(instance, handle, now) do
    case :ets.lookup(instance.quarantine, handle) do
      [{_handle, [last | _earlier] = recent, suspect?, on_probation, kept}] ->
        if now - last > instance.config.strike_decay,
          do: {[], suspect?, 0, kept},
          else: {recent, suspect?, on_probation, kept}

      [{_handle, [], suspect?, on_probation, kept}] ->
        {[], suspect?, on_probation, kept}

      [] ->
        {[], false, 0, []}
    end
  end
end
