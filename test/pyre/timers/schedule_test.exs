defmodule Pyre.Timers.ScheduleTest do
  use ExUnit.Case, async: true

  alias Pyre.Timers.Schedule

  defp every(missed), do: {:every, 2_000, 0, missed, false}
  defp fire(missed, now), do: Schedule.fire(every(missed), 10_000, {now, 0})

  test "the next run is counted from the schedule, not from when the last was handled" do
    for missed <- [:run_once, :skip, :run_all], do: assert(fire(missed, 10_900) == {true, 12_000})
  end

  test "runs that were missed: one, none, all" do
    assert fire(:run_once, 15_500) == {true, 16_000}
    assert fire(:skip, 15_500) == {false, 16_000}
    assert fire(:run_all, 15_500) == {true, 12_000}
    assert Schedule.fire(every(:run_all), 12_000, {15_500, 0}) == {true, 14_000}
  end

  test "a busy machine is not a missed run" do
    assert Schedule.fire({:every, 10, 0, :skip, false}, 1_000, {1_500, 0}) == {true, 1_510}
  end

  test "jitter moves a run, and not the schedule" do
    schedule = {:every, 2_000, 500, :run_once, false}
    dues = for _time <- 1..200, do: Schedule.due(schedule, 10_000, {0, 0})
    assert Enum.all?(dues, &(&1 in 10_000..10_500))
    assert length(Enum.uniq(dues)) > 1
    assert Schedule.fire(schedule, 10_000, {10_500, 0}) == {true, 12_000}
  end

  test "an instant is due when the wall's clock says so" do
    assert Schedule.due({:at, 1_000_500}, 1_000_500, {70, 1_000_000}) == 570
    assert Schedule.fire({:at, 1_000_500}, 1_000_500, {570, 1_000_500}) == {true, nil}
  end

  test "what the wire may say" do
    assert Schedule.parse({1, 10, 9, 2, 1}) == {:ok, {:every, 10, 9, :run_all, true}}
    assert Schedule.parse([2, -5]) == {:ok, {:at, -5}}

    for bad <- [
          {1, 9, 0, 0, 0},
          {1, 10, 10, 0, 0},
          {1, 10, 0, 3, 0},
          {1, 10, 0, 0, 2},
          {2, 1.5},
          {9},
          nil,
          []
        ],
        do: assert(Schedule.parse(bad) == :error)
  end
end
