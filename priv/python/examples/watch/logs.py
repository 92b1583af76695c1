"""One agent per log file: follows it, and counts the lines that look like errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from _follow import Gain, Place, begin, follow, read_lines
from _reading import Reading, changed, plain, stagger, tell

from pyre import Agent, Context, handler

PERIOD = 2.0
FOLLOW_PERIOD = 0.5
FOLLOW_SECONDS = 3600.0
LINE_WIDTH = 2000
WINDOW = 60.0
SAMPLE_WIDTH = 120


@dataclass
class Followed:
    """How far the file was read (inode 0: not yet), and what came in the last minute: (time, bytes, troubles)."""

    path: str
    inode: int = 0
    offset: int = 0
    skipping: bool = False
    first: bool = True
    old_troubles: int = 0
    sample: str = ""
    recent: list[list[float]] = field(default_factory=list)


class LogWatcher(Agent):
    """Watches one log file."""

    State = Followed
    state: Followed

    async def on_start(self, ctx: Context) -> None:
        """Begin to look from time to time."""
        ctx.after(stagger(ctx.id, PERIOD), "check", key="check")

    @handler
    async def check(self, ctx: Context) -> None:
        """Read what is new, tell the desk when there is anything to tell, and look again later."""
        before = self.state
        self.state = await asyncio.to_thread(look_at, before)
        if self.state.recent or before.recent or self.state.first != before.first:
            await tell(ctx, reading_of(self.state, time.monotonic()))
        ctx.after(PERIOD, "check", key="check")

    @handler(interleave=True)
    def look(self) -> Reading:
        """Look once more, for whoever doubts; keeps nothing. Runs in a thread, since it reads a file."""
        return reading_of(look_at(self.state), time.monotonic())

    @handler(interleave=True)
    async def lines(self, seconds: float = FOLLOW_SECONDS) -> AsyncIterator[str]:
        """Stream the file's new lines as they come, for so long, beside what the watcher does."""
        path, until = Path(self.state.path), time.monotonic() + seconds
        found = await asyncio.to_thread(path.stat)
        place = Place(found.st_ino, found.st_size)
        while time.monotonic() < until:
            try:
                place, lines = await asyncio.to_thread(read_lines, path, place)
            except FileNotFoundError:
                lines = []  # being rotated
            for line in lines:
                yield plain(line, LINE_WIDTH)
            if not lines:
                await asyncio.sleep(FOLLOW_PERIOD)


def look_at(last: Followed) -> Followed:
    """Read on. A file that is away or closed to us is looked for again later: rotation leaves such gaps."""
    path = Path(last.path)
    try:
        place = Place(last.inode, last.offset, last.skipping) if last.inode else begin(path, time.time())
        gain = follow(path, place)
    except OSError:
        gain = Gain(place=Place(last.inode, last.offset, last.skipping))
    return counted(last, gain, time.monotonic())


def counted(last: Followed, gain: Gain, now: float) -> Followed:
    """Add what a look brought. Its first lines may be of any age, and don't count as being of the last minute."""
    place = gain.place
    recent = [row for row in last.recent if now - row[0] <= WINDOW]
    first = last.first and not place.inode
    if not last.first and (gain.read_bytes or gain.skipped_bytes):
        recent = [*recent, [now, float(gain.read_bytes + gain.skipped_bytes), float(gain.troubles)]]
    return changed(
        Followed,
        last,
        inode=place.inode,
        offset=place.offset,
        skipping=place.skipping,
        first=first,
        old_troubles=last.old_troubles + (gain.troubles if last.first else 0),
        sample=plain(gain.sample, SAMPLE_WIDTH) or last.sample,
        recent=recent,
    )


def reading_of(followed: Followed, now: float) -> Reading:
    """Put figures to what was read."""
    recent = [row for row in followed.recent if now - row[0] <= WINDOW]
    figures = {
        "troubles": sum(row[2] for row in recent),
        "bytes_per_second": sum(row[1] for row in recent) / WINDOW,
        "old_troubles": float(followed.old_troubles),
    }
    return Reading("log", followed.path, figures, followed.sample)
