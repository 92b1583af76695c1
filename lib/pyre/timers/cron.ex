defmodule Pyre.Timers.Cron do
  @moduledoc false

  # The next run of a cron expression. Pure arithmetic: the interpreter has turned the expression into bit masks, and the time zone into
  # the list of its changes, so that nothing here needs a parser, a zone database or an interpreter that lives.
  #
  # A time of day that the clocks skip runs right after the gap, one that they repeat runs the first time. With all hours
  # wanted it is no time of day: it runs by the hours that pass.

  import Bitwise

  @all_hours (1 <<< 24) - 1
  @epoch_days :calendar.date_to_gregorian_days(1970, 1, 1)
  # A 29th of February on a given weekday may be this far away.
  @most_days 366 * 48

  @type fields ::
          {minutes :: non_neg_integer(), hours :: non_neg_integer(), days :: non_neg_integer(),
           months :: non_neg_integer(), weekdays :: non_neg_integer(), either? :: boolean()}
  @typedoc "Since when, in Unix seconds, and how many seconds the zone is ahead: `<<since::signed-64, ahead::signed-32>>` each."
  @type zone :: binary()

  @doc "The first run after an instant, both in Unix milliseconds; nil where there is none."
  @spec next(fields(), zone(), integer()) :: integer() | nil
  def next(fields, zone, after_ms) do
    segments = for <<since::signed-64, ahead::signed-32 <- zone>>, do: {since, ahead}
    instant = Integer.floor_div(after_ms, 1_000)

    next =
      if elem(fields, 1) == @all_hours,
        do: by_hours(fields, segments, instant),
        else: by_day(fields, segments, instant)

    next && next * 1_000
  end

  defp by_day(fields, segments, instant) do
    {ahead, _end} = segment(segments, instant)
    later(fields, segments, next_local(fields, minute_after(instant + ahead)), instant)
  end

  defp later(_fields, _segments, nil, _instant), do: nil

  defp later(fields, segments, local, instant) do
    case instant(segments, local) do
      found when found > instant -> found
      _repeated -> later(fields, segments, next_local(fields, local + 60), instant)
    end
  end

  defp by_hours(fields, segments, instant) do
    {ahead, change} = segment(segments, instant)
    from(fields, segments, minute_after(instant + ahead), {ahead, change})
  end

  defp from(fields, segments, local, {ahead, change}) do
    case next_local(fields, local) do
      nil -> nil
      local when change == nil or local - ahead < change -> local - ahead
      _after_the_change -> from_change(fields, segments, change)
    end
  end

  # The change itself may be the instant.
  defp from_change(fields, segments, change) do
    {ahead, next_change} = segment(segments, change)
    from(fields, segments, minute_after(change + ahead - 1), {ahead, next_change})
  end

  defp minute_after(local), do: Integer.floor_div(local, 60) * 60 + 60

  defp segment([{_since, ahead}, {change, _ahead} | _later], instant) when instant < change,
    do: {ahead, change}

  defp segment([_past, next | later], instant), do: segment([next | later], instant)
  defp segment([{_since, ahead}], _instant), do: {ahead, nil}

  # In a gap: right after it.
  defp instant([{since, ahead} | later], local) do
    found = max(since, local - ahead)

    case later do
      [{change, _ahead} | _rest] when found >= change -> instant(later, local)
      _last_or_here -> found
    end
  end

  defp next_local(fields, local) do
    day = Integer.floor_div(local, 86_400)
    next_day(fields, day, div(local - day * 86_400, 60), day + @most_days)
  end

  defp next_day(_fields, last, _minute, last), do: nil

  defp next_day(fields, day, minute, last) do
    case matches?(fields, day) && minute_of_day(fields, minute) do
      found when is_integer(found) -> day * 86_400 + found * 60
      _none -> next_day(fields, day + 1, 0, last)
    end
  end

  defp minute_of_day({minutes, hours, _days, _months, _weekdays, _either?}, from),
    do: Enum.find(from..1_439, &(bit?(hours, div(&1, 60)) and bit?(minutes, rem(&1, 60))))

  defp matches?({_minutes, _hours, days, months, weekdays, either?}, number) do
    {_year, month, day} = :calendar.gregorian_days_to_date(number + @epoch_days)

    # The 1st of January 1970 was a Thursday; Sunday is 0.
    cond do
      not bit?(months, month) -> false
      either? -> bit?(days, day) or bit?(weekdays, Integer.mod(number + 4, 7))
      true -> bit?(days, day) and bit?(weekdays, Integer.mod(number + 4, 7))
    end
  end

  defp bit?(mask, number), do: (mask >>> number &&& 1) == 1
end
