"""What a watcher tells the desk, how it does, and how figures are worded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pyre import errors

if TYPE_CHECKING:
    from pyre import Context

__all__ = ["Reading", "changed", "plain", "size", "span", "stagger", "tell"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one thing: what sort of thing, its name, its figures, and a line of text where there is one."""

    kind: str
    subject: str
    figures: dict[str, float]
    sample: str = ""


def changed(kind: type[T], last: T, **changes: Any) -> T:  # noqa: ANN401  # each field has its own type
    """Copy a dataclass with changes. Unlike `dataclasses.replace` it makes one that isn't read-only of one that is."""
    kept = {each.name: getattr(last, each.name) for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**kept, **changes})


async def tell(ctx: Context, reading: Reading) -> None:
    """Tell the desk. Where it can't listen just now, the next reading will do."""
    try:
        await ctx.cast("desk", "tell", watcher=ctx.id, reading=reading)
    except (errors.NotFound, errors.Overloaded, errors.Stopped, errors.Stopping, errors.Terminated) as error:
        ctx.log.debug("not heard", error=str(error))


def stagger(agent_id: str, period: float) -> float:
    """Give each agent its own share of the period, so that a thousand checks don't fall on one instant."""
    return 0.1 + period * (zlib.crc32(agent_id.encode()) % 1000) / 1000


def size(count: float) -> str:
    """Word a number of bytes: 9.1 GB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit in {"bytes", "KB"} else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """Word a duration by its largest unit: 8 min."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def plain(text: str, width: int) -> str:
    """Make foreign text fit for a terminal: a log line may carry escape sequences, or be endless."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[: width * 4]).split())
    return clean if len(clean) <= width else clean[: width - 1] + "…"
