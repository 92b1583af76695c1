defmodule Pyre.Worker.Stall do
  @moduledoc false

  # Decides whether an interpreter is stuck, from what its flight recorder shows at one look after the other. Pure.
  #
  # It is stuck when for `:stall_timeout` no message was begun and no step of one began or ended, although it had something to
  # do: a handler's step is on the loop; or the watchdog beats, but the loop does not get to its tick; or the
  # watchdog is silent too (a C call that holds the interpreter's lock, a stopped process). A loop that is merely overrun
  # makes progress, and is left alone. Not counted is the time for which the main thread waited for a processor, up to
  # once the timeout, since on a crowded machine everything is slow; nor, up to a limit, what the interpreter itself says is
  # no stall: an import, a full garbage collection, a resource that opens.

  alias Pyre.Worker.Recorder

  defstruct [:progress, :progress_at, :beat, :beat_at, :lag_us, :excused]

  @typep look :: %{seen: Recorder.t(), now_ms: integer(), waited_ms: non_neg_integer()}
  @type t :: %__MODULE__{}
  @type stuck ::
          {:handler, number :: pos_integer(), ms :: pos_integer(), :beating | :silent}
          | {:loop, ms :: pos_integer()}

  @doc "Takes a look. Nil as the earlier watch begins anew, as after a suspension of the machine."
  @spec look(t() | nil, look(), pos_integer(), pos_integer()) :: {:moving | {:stuck, stuck()}, t()}
  def look(nil, %{seen: seen, now_ms: now, waited_ms: waited}, _timeout, _excuse_limit) do
    {:moving,
     %__MODULE__{
       progress: progress(seen),
       progress_at: {now, waited},
       beat: seen.beat,
       beat_at: {now, waited},
       lag_us: seen.lag_us
     }}
  end

  def look(watch, %{seen: seen, now_ms: now} = look, timeout, excuse_limit) do
    case excuse(watch, seen.excused_since, now) do
      {_since, at} = excused when now - at <= excuse_limit ->
        {:moving, anew} = look(nil, look, timeout, excuse_limit)
        {:moving, %{anew | excused: excused}}

      excused ->
        judge(%{watch | excused: excused}, look, timeout)
    end
  end

  defp excuse(_watch, 0, _now), do: nil
  defp excuse(%{excused: {since, _at} = same}, since, _now), do: same
  defp excuse(_watch, since, now), do: {since, now}

  defp judge(watch, %{seen: seen, now_ms: now, waited_ms: waited}, timeout) do
    progress = progress(seen)

    next = %__MODULE__{
      progress: progress,
      progress_at: if(progress == watch.progress, do: watch.progress_at, else: {now, waited}),
      beat: seen.beat,
      beat_at: if(seen.beat == watch.beat, do: watch.beat_at, else: {now, waited}),
      lag_us: seen.lag_us,
      excused: watch.excused
    }

    still_ms = held_ms(next.progress_at, now, waited, timeout)
    silent_ms = held_ms(next.beat_at, now, waited, timeout)
    # A lag that doesn't grow is that of an earlier tick.
    lag_ms = if seen.lag_us > watch.lag_us, do: div(seen.lag_us, 1_000), else: 0

    cond do
      still_ms < timeout -> {:moving, next}
      seen.on_loop > 0 -> {{:stuck, {:handler, seen.on_loop, still_ms, watchdog(silent_ms, timeout)}}, next}
      silent_ms >= timeout -> {{:stuck, {:loop, silent_ms}}, next}
      lag_ms >= timeout -> {{:stuck, {:loop, lag_ms}}, next}
      true -> {:moving, next}
    end
  end

  defp progress(seen), do: {seen.begun, seen.on_loop, seen.on_loop_since}

  defp watchdog(silent_ms, timeout), do: if(silent_ms > div(timeout, 2), do: :silent, else: :beating)

  defp held_ms({since, waited_then}, now, waited, timeout),
    do: now - since - min(waited - waited_then, timeout)
end
