"""One agent per mount point: how full it is, and how fast it fills."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from _machine import Space, space
from _reading import Reading, stagger, tell

from pyre import Agent, Context, handler

if TYPE_CHECKING:
    from collections.abc import Sequence

PERIOD = 10.0
ANSWER_WITHIN = 3.0  # a filesystem that takes longer is one whose server is away
WINDOW = 30  # samples kept: five minutes


class MountWatcher(Agent):
    """Watches one mount point."""

    class State:
        """Where it is mounted, and what was seen: pairs of a time and the bytes that were free then."""

        path: str
        samples: list[list[float]] = []  # noqa: RUF012  # copied for each agent

    async def on_start(self, ctx: Context) -> None:
        """Begin to look from time to time."""
        ctx.after(stagger(ctx.id, 2.0), "check", key="check")

    @handler
    async def check(self, ctx: Context) -> None:
        """Look, tell the desk, and look again later."""
        now = time.monotonic()
        found = await look_at(self.state.path)
        reading = reading_of(self.state.path, found, self.state.samples, now)
        if found:
            self.state.samples = [*self.state.samples, [now, float(found.free_bytes)]][-WINDOW:]
        await tell(ctx, reading)
        ctx.after(PERIOD if found else PERIOD * 6, "check", key="check")

    @handler(interleave=True)
    async def look(self) -> Reading:
        """Look once more, for whoever doubts; keeps nothing."""
        found = await look_at(self.state.path)
        return reading_of(self.state.path, found, self.state.samples, time.monotonic())


async def look_at(path: str) -> Space | None:
    """Ask the filesystem in a thread, since one that hangs would hang the loop; None where there is no answer."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(space, path), ANSWER_WITHIN)
    except (OSError, TimeoutError):
        return None


def reading_of(path: str, found: Space | None, samples: Sequence[Sequence[float]], now: float) -> Reading:
    """Put figures to what was seen; `full_in_seconds` is left out where the free space doesn't shrink."""
    if found is None:
        return Reading("mount", path, {"silent": 1.0})
    figures = {
        "used_share": found.used_share,
        "free_bytes": float(found.free_bytes),
        "total_bytes": float(found.total_bytes),
        "inode_share": found.inode_share,
    }
    if samples:
        then, free_then = samples[0]
        lost = free_then - found.free_bytes
        figures["observed_seconds"] = now - then
        if lost > 0 and now > then:
            figures["lost_per_second"] = lost / (now - then)
            figures["full_in_seconds"] = found.free_bytes * (now - then) / lost
    return Reading("mount", path, figures)
