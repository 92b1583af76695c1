"""Timers that follow a schedule: what people write, checked and turned into what the BEAM plans with.

A schedule travels as a tuple whose first item says which it is; docs/wire.md lists them. A bad one is refused where it
is written: at the import for a decorator, in the handler for `ctx.every` and its kin.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pyre import _cron

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Declared",
    "Missed",
    "Schedule",
    "Timer",
    "at",
    "cron",
    "declare",
    "every",
    "first_run",
    "kind_of",
    "milliseconds",
    "next_run",
    "policy",
]

MIN_SECONDS = 0.01
MINUTE_SECONDS = 60
EVERY, AT, CRON = 1, 2, 3
MISSED = ("run_once", "skip", "run_all")

Missed = Literal["run_once", "skip", "run_all"]
Schedule = tuple[Any, ...]


class Timer(NamedTuple):
    """A timer that is set: its key, its handler, what it is ("after", "every", "at", "cron"), seconds from now."""

    key: str
    handler: str
    kind: str
    seconds: float


class Declared(NamedTuple):
    """A schedule that a decorator put on a handler."""

    key: str | None
    schedule: Schedule


def milliseconds(seconds: float, what: str) -> int:
    """Turn a delay or period into whole milliseconds."""
    if not (math.isfinite(seconds) and seconds >= MIN_SECONDS):
        raise ValueError(f"expected a {what} of at least {MIN_SECONDS} seconds, got {seconds!r}")
    return math.ceil(seconds * 1000)


def every(period: float, missed: Missed, jitter: float, *, overlap: bool) -> Schedule:
    """Plan a run each `period` seconds."""
    period_ms = milliseconds(period, "period")
    if not (math.isfinite(jitter) and 0 <= jitter < period):
        raise ValueError(f"expected a jitter of 0 seconds to less than the period of {period} seconds, got {jitter!r}")
    return (EVERY, period_ms, min(round(jitter * 1000), period_ms - 1), policy(missed), int(overlap))


def policy(missed: Missed) -> int:
    """Give the number of a policy for missed runs."""
    if missed not in MISSED:
        raise ValueError(f"expected missed to be one of {', '.join(MISSED)}, got {missed!r}")
    return MISSED.index(missed)


def at(when: dt.datetime) -> Schedule:
    """Plan one run at an instant."""
    if not isinstance(when, dt.datetime):
        raise ValueError(f"expected a datetime, got {when!r}")  # noqa: TRY004  # one kind for all of them
    if when.utcoffset() is None:
        raise ValueError(f"expected an aware datetime (with a tzinfo), since others tell no instant, got {when!r}")
    return (AT, math.ceil(when.timestamp() * 1000))


def cron(expression: str, tz: str, missed: Missed, jitter: float, *, overlap: bool) -> Schedule:
    """Plan runs by a cron expression, on the clocks of a time zone."""
    if not (math.isfinite(jitter) and 0 <= jitter < MINUTE_SECONDS):
        raise ValueError(f"expected a jitter of 0 seconds to less than {MINUTE_SECONDS} seconds, got {jitter!r}")
    fields, zone = _cron.parse(expression), _cron.changes(tz)
    jitter_ms = min(round(jitter * 1000), MINUTE_SECONDS * 1000 - 1)
    return (CRON, *fields, zone, jitter_ms, policy(missed), int(overlap))


def kind_of(schedule: Schedule | None) -> str:
    """Name what a timer is."""
    return {EVERY: "every", AT: "at", CRON: "cron"}[schedule[0]] if schedule else "after"


# --- For `pyre.testing`, whose clock starts at 0 where the wall's says `epoch` ---


def first_run(schedule: Schedule, now: float, epoch: float) -> float | None:
    """Give the first run of a schedule that is set now."""
    if schedule[0] == AT:
        return max(float(schedule[1]) / 1000 - epoch, now)
    return next_run(schedule, now, epoch)


def next_run(schedule: Schedule, last: float, epoch: float) -> float | None:
    """Give the run after one."""
    if schedule[0] == EVERY:
        return last + float(schedule[1]) / 1000
    if schedule[0] == AT:
        return None
    # Seconds that were added and taken away again are a little off.
    found = _cron.next_run(_cron.Fields(*schedule[1:7]), schedule[7], round(last + epoch, 3))
    return None if found is None else found - epoch


def declare(function: Callable[..., Any], key: str | None, schedule: Schedule) -> None:
    """Put a schedule on a handler."""
    declared: list[Declared] = function.__dict__.setdefault("__pyre_timers__", [])
    declared.append(Declared(key, schedule))
