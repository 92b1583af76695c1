defmodule Pyre.Timers.Schedule do
  @moduledoc false

  # When a timer that is more than a delay fires, and what becomes of the runs that it missed. Pure: it is told both clocks, the
  # instance's and the wall's, in milliseconds.
  #
  #   {:every, period, jitter, missed, overlap?}   counted from its schedule, on the instance's clock
  #   {:at, unix_ms}                               once, on the wall's clock
  #   {:cron, fields, zone, jitter, missed, overlap?}   on the wall's clock
  #
  # `planned` is an instant on the schedule's own clock.

  alias Pyre.Timers.Cron

  @min_period_ms 10
  # What is as late as this was not missed: the machine was busy.
  @late_ms 1_000

  # A cron's grain; and how far the wall's clock may be set back without that a run is repeated.
  @minute_ms 60_000
  @set_back_ms 10_800_000

  @every 1
  @at 2
  @cron 3

  @type missed :: :run_once | :skip | :run_all
  @type t ::
          {:every, pos_integer(), non_neg_integer(), missed(), overlap? :: boolean()}
          | {:at, integer()}
          | {:cron, Cron.fields(), Cron.zone(), non_neg_integer(), missed(), overlap? :: boolean()}
  @type clocks :: {now_ms :: integer(), wall_ms :: integer()}
  @type planned :: integer()

  @doc "Reads a schedule of the wire, a tuple in an effect and a list in READY."
  @spec parse(term()) :: {:ok, t()} | :error
  def parse(schedule) when is_tuple(schedule), do: schedule |> Tuple.to_list() |> parse()

  def parse([@every, period, jitter, missed, overlap])
      when is_integer(period) and period >= @min_period_ms and is_integer(jitter) and
             jitter in 0..(period - 1)//1 and
             missed in 0..2 and overlap in 0..1,
      do: {:ok, {:every, period, jitter, missed(missed), overlap == 1}}

  def parse([@at, unix_ms]) when is_integer(unix_ms), do: {:ok, {:at, unix_ms}}

  def parse([@cron, minutes, hours, days, months, weekdays, either, zone, jitter, missed, overlap])
      when is_integer(minutes) and is_integer(hours) and is_integer(days) and is_integer(months) and
             is_integer(weekdays) and either in 0..1 and is_integer(jitter) and
             jitter in 0..(@minute_ms - 1)//1 and
             missed in 0..2 and overlap in 0..1 do
    fields = {minutes, hours, days, months, weekdays, either == 1}

    with zone when is_binary(zone) and zone != <<>> and rem(byte_size(zone), 12) == 0 <- bytes(zone),
         do: {:ok, {:cron, fields, :binary.copy(zone), jitter, missed(missed), overlap == 1}},
         else: (_other -> :error)
  end

  def parse(_schedule), do: :error

  defp bytes(%Pyre.Bin{data: data}), do: data
  defp bytes(data), do: data

  defp missed(0), do: :run_once
  defp missed(1), do: :skip
  defp missed(2), do: :run_all

  @doc "The first run."
  @spec first(t(), clocks()) :: planned()
  def first({:every, period, _jitter, _missed, _overlap?}, {now, _wall}), do: now + period
  def first({:at, unix_ms}, _clocks), do: unix_ms

  def first({:cron, fields, zone, _jitter, _missed, _overlap?}, {_now, wall}),
    do: Cron.next(fields, zone, wall)

  @doc "When, on the instance's clock, a planned run is due."
  @spec due(t(), planned(), clocks()) :: integer()
  def due({:every, _period, 0, _missed, _overlap?}, planned, _clocks), do: planned

  def due({:every, _period, jitter, _missed, _overlap?}, planned, _clocks),
    do: planned + :rand.uniform(jitter + 1) - 1

  def due({:at, _unix_ms}, planned, {now, wall}), do: now + planned - wall

  def due({:cron, _fields, _zone, jitter, _missed, _overlap?}, planned, {now, wall}),
    do: now + planned - wall + :rand.uniform(jitter + 1) - 1

  @doc "The planned run, now that the wall's clock has been set: it stays, unless it was planned by a clock that was far ahead."
  @spec replan(t(), planned(), clocks(), ahead_ms :: integer()) :: planned() | nil
  def replan({:cron, fields, zone, _jitter, _missed, _overlap?}, _planned, {_now, wall}, ahead)
      when ahead > @set_back_ms,
      do: Cron.next(fields, zone, wall)

  def replan(_schedule, planned, _clocks, _ahead), do: planned

  @doc "Does it follow the wall's clock, which may be set?"
  @spec wall?(t()) :: boolean()
  def wall?(schedule), do: elem(schedule, 0) != :every

  @doc "A run is due: whether it is run, and the next one, or nil."
  @spec fire(t(), planned(), clocks()) :: {run? :: boolean(), planned() | nil}
  def fire({:every, period, _jitter, :run_all, _overlap?}, planned, _clocks), do: {true, planned + period}

  def fire({:every, period, jitter, missed, _overlap?}, planned, {now, _wall}) do
    late = now - planned

    {missed == :run_once or late - jitter <= max(period, @late_ms),
     planned + period * (div(late, period) + 1)}
  end

  def fire({:at, _unix_ms}, _planned, _clocks), do: {true, nil}

  def fire({:cron, fields, zone, _jitter, :run_all, _overlap?}, planned, _clocks),
    do: {true, Cron.next(fields, zone, planned)}

  def fire({:cron, fields, zone, jitter, missed, _overlap?}, planned, {_now, wall}),
    do:
      {missed == :run_once or wall - planned - jitter <= @minute_ms,
       Cron.next(fields, zone, max(planned, wall))}

  @doc "What becomes of a run that is due while the previous one has not ended."
  @spec on_overlap(t()) :: :run | :hold | :skip
  def on_overlap({:at, _unix_ms}), do: :run
  def on_overlap({:every, _period, _jitter, missed, overlap?}), do: on_overlap(missed, overlap?)
  def on_overlap({:cron, _fields, _zone, _jitter, missed, overlap?}), do: on_overlap(missed, overlap?)

  defp on_overlap(_missed, true), do: :run
  defp on_overlap(:skip, false), do: :skip
  defp on_overlap(_missed, false), do: :hold

  @doc "Its name for people."
  @spec kind(t()) :: String.t()
  def kind(schedule), do: schedule |> elem(0) |> Atom.to_string()
end
