"""Cron expressions, time zones, and the next run, held against the zone database itself."""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest

from pyre import _cron

YEAR = dt.datetime.now(dt.UTC).year + 1


def following(expression: str, zone: str, after: dt.datetime, count: int = 1) -> list[dt.datetime]:
    """Give the next runs, on the zone's clocks."""
    fields, changes = _cron.parse(expression), _cron.changes(zone)
    instant: float = after.timestamp()
    runs = []
    for _ in range(count):
        found = _cron.next_run(fields, changes, instant)
        assert found is not None
        instant = found
        runs.append(dt.datetime.fromtimestamp(instant, ZoneInfo(zone)))
    return runs


def turn(zone: str, month: int) -> dt.datetime:
    """Give the instant at which the clocks change in a month of next year."""
    tz = ZoneInfo(zone)
    hour = dt.datetime(YEAR, month, 1, tzinfo=dt.UTC)
    while hour.astimezone(tz).utcoffset() == (hour + dt.timedelta(hours=1)).astimezone(tz).utcoffset():
        hour += dt.timedelta(hours=1)
    return hour + dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * *", "expected five fields"),
        ("", "expected five fields"),
        ("60 * * * *", "minute 60 is not in 0 to 59"),
        ("* 24 * * *", "hour 24 is not in 0 to 23"),
        ("* * 0 * *", "day of the month 0 is not in 1 to 31"),
        ("* * * foo *", "month: 'foo' is not a value"),
        ("* * * * funday", "weekday: 'funday' is not a value"),
        ("*/0 * * * *", "a step must be at least 1"),
        ("*/x * * * *", "'x' is not a step"),
        ("5-1 * * * *", "the range '5-1' runs backwards"),
        ("0 0 31 2,4 *", "no month that it names has such a day"),
        ("1,, * * * *", "minute: '' is not a value"),
        (5, "expected a cron expression"),
    ],
)
def test_a_bad_expression_says_what_is_wrong(expression: str, words: str) -> None:
    with pytest.raises(ValueError, match="cron expression") as caught:
        _cron.parse(expression)
    assert words in str(caught.value)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone 'Europe/Berlyn'"):
        _cron.changes("Europe/Berlyn")


def test_names_steps_lists_and_macros() -> None:
    assert _cron.parse("0 9 * * mon") == _cron.parse("0 9 * * 1")
    assert _cron.parse("0 0 * * 7") == _cron.parse("@weekly")
    assert _cron.parse("0-30/10,45 * * JAN,feb *").minutes == sum(1 << n for n in (0, 10, 20, 30, 45))
    assert _cron.parse("5/20 * * * *").minutes == sum(1 << n for n in (5, 25, 45))


def test_a_working_week() -> None:
    start = dt.datetime(YEAR, 6, 1, tzinfo=dt.UTC)
    runs = following("0 9 * * mon-fri", "Europe/Berlin", start, 10)
    assert {run.hour for run in runs} == {9}
    assert {run.isoweekday() for run in runs} == {1, 2, 3, 4, 5}
    assert runs[-1] - runs[0] < dt.timedelta(days=14)


def test_of_a_day_and_a_weekday_one_is_enough() -> None:
    runs = following("0 0 13 * fri", "UTC", dt.datetime(YEAR, 1, 1, tzinfo=dt.UTC), 60)
    assert all(run.day == 13 or run.isoweekday() == 5 for run in runs)
    assert {run.day == 13 for run in runs} == {True, False}


def test_a_leap_day_is_waited_for() -> None:
    (run,) = following("0 0 29 2 *", "UTC", dt.datetime(2096, 3, 1, tzinfo=dt.UTC))
    assert run == dt.datetime(2104, 2, 29, tzinfo=dt.UTC)


def test_in_spring_a_time_that_is_skipped_runs_once_right_after_the_gap() -> None:
    gap = turn("Europe/Berlin", 3)
    runs = following("0,30 2 * * *", "Europe/Berlin", gap - dt.timedelta(hours=1), 2)
    assert runs[0] == gap
    assert (runs[1].date() - runs[0].date(), runs[1].hour, runs[1].minute) == (dt.timedelta(days=1), 2, 0)


def test_in_autumn_a_time_that_is_repeated_runs_once() -> None:
    change = turn("Europe/Berlin", 10)
    runs = following("30 2 * * *", "Europe/Berlin", change - dt.timedelta(hours=1), 2)
    assert runs[0].timestamp() == (change - dt.timedelta(minutes=30)).timestamp()
    assert (runs[0].hour, runs[0].minute) == (2, 30)
    assert runs[1].date() == runs[0].date() + dt.timedelta(days=1)


@pytest.mark.parametrize("month", [3, 10])
def test_each_quarter_of_an_hour_is_that_whatever_the_clocks_do(month: int) -> None:
    change = turn("Europe/Berlin", month)
    runs = following("*/15 * * * *", "Europe/Berlin", change - dt.timedelta(hours=3), 30)
    instants = [run.timestamp() for run in runs]
    assert {later - earlier for earlier, later in itertools.pairwise(instants)} == {900.0}


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"])
def test_a_year_of_mornings_is_a_year_of_mornings(zone: str) -> None:
    runs = following("45 6 * * *", zone, dt.datetime(YEAR, 1, 2, tzinfo=ZoneInfo(zone)), 364)
    assert {(run.hour, run.minute) for run in runs} == {(6, 45)}
    assert len({run.date() for run in runs}) == len(runs)
