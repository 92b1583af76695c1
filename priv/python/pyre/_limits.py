"""What a class says of its limits, and what a handler has spent."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyre.agent import Agent

__all__ = ["concurrency", "idle_timeout", "millionths", "rate_limit"]

MILLION = 1_000_000
RATE = re.compile(r"(\d+)/(ms|s|m|min|h)")
MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000}


def rate_limit(kind: type[Agent]) -> list[int] | None:
    """Give a class's rate as count and milliseconds; raises TypeError for what is none."""
    given: object = kind.rate_limit
    if given is None:
        return None
    if isinstance(given, str) and (found := RATE.fullmatch(given)):
        count, period = int(found[1]), MILLISECONDS[found[2]]
    elif isinstance(given, tuple) and len(given) == 2 and _is_number(given[1]):  # noqa: PLR2004  # a count and a time
        count, period = given[0], round(given[1] * 1_000)
    else:
        raise TypeError(f'rate_limit must be such as "20/s", "100/min" or (count, seconds), got {given!r:.100}')
    if type(count) is not int or not 1 <= count <= 1_000 * period:
        raise TypeError(f"rate_limit must be from 1 message on to 1,000 a millisecond, got {given!r:.100}")
    return [count, period]


def concurrency(kind: type[Agent]) -> int | None:
    """Give how many of a class may run at once; raises TypeError for what is no number."""
    given = kind.concurrency
    if given is not None and (type(given) is not int or given < 1):
        raise TypeError(f"concurrency must be an integer from 1 on, got {given!r:.100}")
    return given


def idle_timeout(kind: type[Agent]) -> int | None:
    """Give after how many ms a class's agents fall asleep, 0 for never; raises TypeError for what is no time."""
    given = kind.idle_timeout
    if given is None:
        return None
    if not _is_number(given) or not given > 0:
        raise TypeError(f"idle_timeout must be a number of seconds above 0, or math.inf for never, got {given!r:.100}")
    return max(round(given * 1_000), 1) if math.isfinite(given) else 0


def millionths(unit: str, amount: float) -> int:
    """Give an amount as the wire has it; raises ValueError for what can't be spent."""
    if not _is_number(amount) or not math.isfinite(amount) or amount < 0:
        raise ValueError(f"expected {unit} to be a number from 0 on, got {amount!r:.100}")
    return round(amount * MILLION)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
