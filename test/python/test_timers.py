"""Timers without the BEAM: what handlers ask for, and the clock of `pyre.testing`."""

# ruff: noqa: RUF012  # defaults are copied

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import pyre.testing
from pyre import Agent, Context, _etf, cron, errors, every, handler
from pyre._handlers import HandlerError, compile_agent

BERLIN = ZoneInfo("Europe/Berlin")


class Clock(Agent):
    """Follows schedules."""

    class State:
        """What happened."""

        ticks: list[str] = []

    @handler
    async def tick(self, what: str = "tick") -> None:
        """Tick."""
        self.state.ticks.append(what)

    @every(60)
    async def minute(self) -> None:
        """Tick by itself."""
        self.state.ticks.append("minute")

    @cron("0 9 * * mon-fri", tz="Europe/Berlin")
    @handler
    async def morning(self) -> None:
        """Tick in the morning."""
        self.state.ticks.append("morning")

    @handler
    async def set(self, ctx: Context, method: str, first: float | str, options: dict[str, Any]) -> None:
        """Set a timer."""
        getattr(ctx, method)(first, "tick", **options)

    @handler
    async def set_at(self, ctx: Context, when: dt.datetime) -> None:
        """Set an instant."""
        ctx.at(when, "tick", what="at")

    @handler
    async def set_naive(self, ctx: Context) -> None:
        """Set what is no instant."""
        ctx.at(dt.datetime(2026, 3, 2, 9), "tick")  # noqa: DTZ001

    @handler
    async def cancel(self, ctx: Context, key: str) -> None:
        """Take one back."""
        ctx.cancel_timer(key)

    @handler
    async def timers(self, ctx: Context) -> list[tuple[str, str, float]]:
        """Tell what is set."""
        return [(timer.key, timer.kind, timer.seconds) for timer in await ctx.timers()]


def started() -> pyre.testing.RunningAgent:
    """Start at a Monday, 8:59:30 in Berlin."""
    return pyre.testing.run(Clock, now=dt.datetime(2026, 3, 2, 8, 59, 30, tzinfo=BERLIN))


def test_decorators_arm_a_timer_each() -> None:
    with started() as clock:
        assert clock.call("timers") == [["morning", "cron", 30.0], ["minute", "every", 60.0]]
        clock.advance(120)
        assert clock.state.ticks == ["morning", "minute", "minute"]


def test_a_week_has_five_mornings() -> None:
    with started() as clock:
        clock.call("cancel", key="minute")
        clock.advance(7 * 86_400 + 60)
        assert clock.state.ticks == ["morning"] * 6  # two Mondays


def test_what_was_cancelled_stays_so_over_a_restart() -> None:
    with started() as clock:
        clock.call("cancel", key="minute")
        clock.restart()
        assert [timer[0] for timer in clock.call("timers")] == ["morning"]


def test_setting_the_same_again_leaves_it_as_it_is() -> None:
    with started() as clock:
        clock.call("set", method="every", first=100, options={"key": "k"})
        clock.advance(40)
        clock.call("set", method="every", first=100, options={"key": "k"})
        assert ["k", "every", 60.0] in clock.call("timers")
        clock.call("set", method="every", first=50, options={"key": "k"})
        assert ["k", "every", 50.0] in clock.call("timers")


def test_an_instant() -> None:
    with started() as clock:
        clock.call("set_at", when=dt.datetime(2026, 3, 2, 9, 0, 10, tzinfo=BERLIN))
        clock.advance(39)
        assert clock.state.ticks == ["morning"]
        clock.advance(1)
        assert clock.state.ticks == ["morning", "at"]


def test_a_naive_datetime_is_no_instant() -> None:
    with started() as clock, pytest.raises(errors.PyreError, match="aware datetime"):
        clock.call("set_naive")


@pytest.mark.parametrize(
    ("method", "first", "options", "words"),
    [
        ("every", 0.009, {}, "at least 0.01"),
        ("every", float("nan"), {}, "at least 0.01"),
        ("every", 1, {"missed": "all"}, "run_once, skip, run_all"),
        ("every", 1, {"jitter": 1}, "less than the period"),
        ("every", 1, {"key": ""}, "not empty"),
        ("after", 0, {}, "at least 0.01"),
        ("cron", "0 25 * * *", {}, "hour 25 is not in 0 to 23"),
        ("cron", "0 5 * * *", {"tz": "Mars/Olympus"}, "no time zone"),
        ("cron", "0 5 * * *", {"jitter": 60}, "less than 60 seconds"),
    ],
)
def test_a_bad_timer_is_refused_where_it_is_set(
    method: str, first: float | str, options: dict[str, Any], words: str
) -> None:
    with started() as clock, pytest.raises(errors.PyreError, match=words):
        clock.call("set", method=method, first=first, options=options)


def test_a_bad_decorator_is_refused_at_the_import() -> None:
    with pytest.raises(ValueError, match=r"at least 0\.01"):
        every(0.001)
    with pytest.raises(ValueError, match="five fields"):
        cron("0 9 * *")


def test_two_declared_timers_need_two_keys() -> None:
    class Twice(Agent):
        @every(1)
        @every(2)
        async def tick(self) -> None: ...

    with pytest.raises(HandlerError, match="another timer has the key 'tick'"):
        compile_agent(Twice, __file__, {})


def test_a_declared_timer_can_give_no_arguments() -> None:
    class Needy(Agent):
        @every(1)
        async def tick(self, what: str) -> None: ...

    with pytest.raises(HandlerError, match="'what' is required"):
        compile_agent(Needy, __file__, {})


def test_an_override_without_the_decorator_keeps_no_timer() -> None:
    class Quiet(Clock):
        async def minute(self) -> None: ...

    compiled = compile_agent(Quiet, str(pathlib.Path(__file__)), {})
    assert [timer[0] for timer in compiled.timers] == ["morning"]
    assert b"minute" in compiled.handlers


def test_a_schedule_travels() -> None:
    (timer,) = [timer for timer in compile_agent(Clock, __file__, {}).timers if timer[0] == "morning"]
    every_minute = (3, (1 << 60) - 1, *timer[2][2:])
    envelope: tuple[Any, ...] = (65, 1, 0, b"", [], [(3, b"k", every_minute, b"h", b"")])
    assert _etf.decode(_etf.encode([envelope])) == [envelope]
