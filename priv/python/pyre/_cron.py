"""Cron expressions and time zones, read once and turned into numbers that the BEAM computes with.

The five fields become bit masks, a zone the list of its changes in the next years. So the BEAM needs neither a parser
nor a zone database, and plans on while no interpreter runs. `next_run` is the same arithmetic for `pyre.testing`; a
test holds the two together.
"""

from __future__ import annotations

import calendar
import datetime as dt
import functools
import struct
import zoneinfo
from typing import NamedTuple

__all__ = ["Fields", "changes", "next_run", "parse"]

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
ALL_HOURS = (1 << 24) - 1
MOST_DAYS = 366 * 48  # a 29th of February on a given weekday may be this far away

YEARS_AHEAD = 20
WEEK_SECONDS = 7 * 86_400
CHANGE = struct.Struct(">qi")
BEGINNING = -(1 << 62)


class Fields(NamedTuple):
    """One bit for each value that is meant; Sunday is weekday 0. `either`: the day or the weekday is enough."""

    minutes: int
    hours: int
    days: int
    months: int
    weekdays: int
    either: int


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]


FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field("month", 1, 12, MONTHS),
    _Field("weekday", 0, 7, WEEKDAYS),
)


def parse(expression: str) -> Fields:
    """Read `minute hour day month weekday`; raises ValueError that says what is wrong with which part."""
    if not isinstance(expression, str):
        raise ValueError(f"expected a cron expression, got {expression!r}")  # noqa: TRY004  # one kind for all of them
    texts = MACROS.get(expression.strip().lower(), expression).lower().split()
    if len(texts) != len(FIELDS):
        raise ValueError(
            f"cron expression {expression!r}: expected five fields (minute hour day month weekday) "
            f"or one of {', '.join(MACROS)}, got {len(texts)} fields"
        )
    try:
        minutes, hours, days, months, weekdays = (_mask(text, field) for text, field in zip(texts, FIELDS, strict=True))
    except ValueError as exc:
        raise ValueError(f"cron expression {expression!r}: {exc}") from None
    weekdays = (weekdays | weekdays >> 7) & 0x7F
    # As every cron does it: where both are restricted, one of them is enough.
    either = not texts[2].startswith("*") and not texts[4].startswith("*")
    fields = Fields(minutes, hours, days, months, weekdays, int(either))
    if not either and not any(_has_day(months, days, month) for month in range(1, 13)):
        raise ValueError(f"cron expression {expression!r}: no month that it names has such a day")
    return fields


def _has_day(months: int, days: int, month: int) -> bool:
    longest = calendar.monthrange(2024, month)[1]  # a leap year
    return bool(months >> month & 1 and days & ((1 << longest + 1) - 1))


def _mask(text: str, field: _Field) -> int:
    mask = 0
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        low, high = _span(span, field, stepped=bool(slash))
        step = _number(step_text, field, "a step") if slash else 1
        if step < 1:
            raise ValueError(f"{field.name}: a step must be at least 1, got {part!r}")
        for value in range(low, high + 1, step):
            mask |= 1 << value
    return mask


def _span(span: str, field: _Field, *, stepped: bool) -> tuple[int, int]:
    if span == "*":
        return field.low, 6 if field.high == 7 else field.high  # noqa: PLR2004  # 7 is Sunday again
    first, dash, last = span.partition("-")
    low = _value(first, field)
    high = _value(last, field) if dash else field.high if stepped else low
    if low > high:
        raise ValueError(f"{field.name}: the range {span!r} runs backwards")
    return low, high


def _value(text: str, field: _Field) -> int:
    value = field.names[text] if text in field.names else _number(text, field, "a value")
    if not field.low <= value <= field.high:
        raise ValueError(f"{field.name} {value} is not in {field.low} to {field.high}")
    return value


def _number(text: str, field: _Field, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        names = f" ({', '.join(field.names)})" if field.names and what == "a value" else ""
        raise ValueError(f"{field.name}: {text!r} is not {what}{names}")
    return int(text)


def changes(zone: str) -> bytes:
    """Tell a zone's offsets for the next years: pairs of the instant from which one holds, and its seconds."""
    if not isinstance(zone, str):
        raise ValueError(f"expected the name of a time zone, such as 'Europe/Berlin', got {zone!r}")  # noqa: TRY004
    return _changes(zone, dt.datetime.now(dt.UTC).year)


@functools.lru_cache(maxsize=64)
def _changes(name: str, year: int) -> bytes:
    try:
        zone = zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"this machine knows no time zone {name!r}; names look like 'Europe/Berlin', the package tzdata has them"
        ) from None

    def offset(instant: int) -> int:
        delta = dt.datetime.fromtimestamp(instant, zone).utcoffset() or dt.timedelta()
        return round(delta.total_seconds())

    instant = int(dt.datetime(year - 1, 1, 1, tzinfo=dt.UTC).timestamp())
    end = int(dt.datetime(year + YEARS_AHEAD, 1, 1, tzinfo=dt.UTC).timestamp())
    current = offset(instant)
    packed = [CHANGE.pack(BEGINNING, current)]
    while instant < end:
        later = instant + WEEK_SECONDS
        if offset(later) != current:
            before, after = instant, later
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset(middle) == current else (before, middle)
            current = offset(after)
            packed.append(CHANGE.pack(after, current))
            later = after
        instant = later
    return b"".join(packed)


# --- The next run ---


def next_run(fields: Fields, zone: bytes, after: float) -> int | None:
    """Give the first run after an instant, in Unix seconds.

    A time of day that the clocks skip runs right after the gap, one that they repeat runs the first time. With `*`
    for the hour it is no time of day: it runs by the hours that pass.
    """
    segments = list(CHANGE.iter_unpack(zone))
    return _by_hours(fields, segments, after) if fields.hours == ALL_HOURS else _by_day(fields, segments, after)


def _by_day(fields: Fields, segments: list[tuple[int, ...]], after: float) -> int | None:
    local = _next_local(fields, _minute_after(after + _segment(segments, after)[0]))
    while local is not None:
        instant = _instant(segments, local)
        if instant > after:
            return instant
        local = _next_local(fields, local + 60)
    return None


def _by_hours(fields: Fields, segments: list[tuple[int, ...]], after: float) -> int | None:
    offset, end = _segment(segments, after)
    local = _next_local(fields, _minute_after(after + offset))
    while local is not None and end is not None and local - offset >= end:
        offset, later = _segment(segments, end)
        local = _next_local(fields, _minute_after(end + offset - 1))
        end = later
    return None if local is None else local - offset


def _minute_after(local: float) -> int:
    return int(local // 60) * 60 + 60


def _segment(segments: list[tuple[int, ...]], instant: float) -> tuple[int, int | None]:
    later = [start for start, _offset in segments if start > instant]
    return segments[len(segments) - len(later) - 1][1], later[0] if later else None


def _instant(segments: list[tuple[int, ...]], local: int) -> int:
    for index, (start, offset) in enumerate(segments):
        instant = max(start, local - offset)  # in a gap: right after it
        if index + 1 == len(segments) or instant < segments[index + 1][0]:
            return instant
    raise AssertionError("the last segment has no end")


def _next_local(fields: Fields, local: int) -> int | None:
    day, second = divmod(local, 86_400)
    minute = second // 60
    for number in range(day, day + MOST_DAYS):
        if _matches(fields, number):
            for candidate in range(minute, 1_440):
                if fields.hours >> candidate // 60 & 1 and fields.minutes >> candidate % 60 & 1:
                    return number * 86_400 + candidate * 60
        minute = 0
    return None


def _matches(fields: Fields, number: int) -> bool:
    date = dt.date.fromordinal(number + dt.date(1970, 1, 1).toordinal())
    if not fields.months >> date.month & 1:
        return False
    day, weekday = fields.days >> date.day & 1, fields.weekdays >> date.isoweekday() % 7 & 1
    return bool(day | weekday if fields.either else day & weekday)
