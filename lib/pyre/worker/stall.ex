defmodule Pyre.Worker.Stall do
  @moduledoc false

  # Decides whether an interpreter is stuck, from what its flight recorder shows at one look after the other. Pure.
  #
  # It is stuck when it makes no progress for `:stall_timeout` although it could run. Three things are progress that is missing:
  # the same step of the same handler is on the loop; the watchdog thread beats, but the loop does not get to its
  # tick; the watchdog itself is silent (a C call that holds the interpreter's lock, a stopped process). Not counted is the
  # time for which the main thread waited for a processor, up to once the timeout: on a crowded machine everything is
  # slow; nor what the interpreter says is no stall: an import, a full garbage collection, a resource that opens.

  alias Pyre.Worker.Recorder

  defstruct [:step, :step_at, :beat, :beat_at, :lag_us, :waited_ms, :waited_at]

  @typep look :: %{seen: Recorder.t(), now_ms: integer(), waited_ms: non_neg_integer()}
  @type t :: %__MODULE__{}
  @type stuck ::
          {:handler, number :: pos_integer(), ms :: pos_integer(), :beating | :silent}
          | {:loop, ms :: pos_integer()}

  @doc "Takes a look. Nil as the watch before begins anew, as after a suspension of the machine."
  @spec look(t() | nil, look(), pos_integer()) :: {:moving | {:stuck, stuck()}, t()}
  def look(nil, %{seen: seen, now_ms: now, waited_ms: waited}, _timeout) do
    watch = %__MODULE__{
      step: {seen.on_loop, seen.on_loop_since},
      step_at: {now, waited},
      beat: seen.beat,
      beat_at: {now, waited},
      lag_us: seen.lag_us
    }

    {:moving, watch}
  end

  def look(_watch, %{seen: %{excused_since: since}} = look, timeout) when since > 0,
    do: look(nil, look, timeout)

  def look(watch, %{seen: seen, now_ms: now, waited_ms: waited}, timeout) do
    step = {seen.on_loop, seen.on_loop_since}

    next = %__MODULE__{
      step: step,
      step_at: if(step == watch.step, do: watch.step_at, else: {now, waited}),
      beat: seen.beat,
      beat_at: if(seen.beat == watch.beat, do: watch.beat_at, else: {now, waited}),
      lag_us: seen.lag_us
    }

    step_ms = held_ms(next.step_at, now, waited, timeout)
    silent_ms = held_ms(next.beat_at, now, waited, timeout)
    lag_ms = if seen.lag_us > watch.lag_us, do: div(seen.lag_us, 1_000), else: 0

    cond do
      seen.on_loop > 0 and step_ms >= timeout ->
        {{:stuck, {:handler, seen.on_loop, step_ms, watchdog(silent_ms, timeout)}}, next}

      silent_ms >= timeout ->
        {{:stuck, {:loop, silent_ms}}, next}

      lag_ms >= timeout ->
        {{:stuck, {:loop, lag_ms}}, next}

      true ->
        {:moving, next}
    end
  end

  defp watchdog(silent_ms, timeout), do: if(silent_ms > div(timeout, 2), do: :silent, else: :beating)

  defp held_ms({since, waited_then}, now, waited, timeout),
    do: now - since - min(waited - waited_then, timeout)
end
