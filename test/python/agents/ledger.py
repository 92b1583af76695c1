"""One agent class with a handler for each way to behave and to misbehave."""

# ruff: noqa: ARG002, ASYNC221, ASYNC251, RUF012, T201, TRY301  # misbehaving is its purpose; defaults are copied

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pyre import Agent, Context, Reject, errors, handler, resource


class Till:
    """What `till` yields."""

    opened = 0
    closed = 0


@resource
async def till() -> AsyncIterator[Till]:
    """Open once per worker."""
    Till.opened += 1
    yield Till()
    Till.closed += 1
    print("till closed")


@resource
async def broken_till() -> AsyncIterator[int]:
    """Never open."""
    raise OSError("no till")
    yield 0


class UnspeakableError(Exception):
    """Its words raise."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError("no words")

    __repr__ = __str__


@dataclass
class Entry:
    """One line of the ledger."""

    amount: int
    note: str = ""


class Ledger(Agent):
    """Adds up.

    A second paragraph.
    """

    class State:
        """What is kept."""

        total: int = 0
        entries: list[Entry] = []
        anything: Any = None

    @handler
    async def add(self, ctx: Context, n: int) -> int:
        """Add, and give the sum."""
        self.state.total += n
        total: int = self.state.total
        return total

    @handler
    async def enter(self, entry: Entry) -> Entry:
        """Keep a record."""
        self.state.entries.append(entry)
        return entry

    @handler
    def add_in_thread(self, ctx: Context, n: int) -> str:
        """Add, in a thread."""
        self.state.total += n
        return threading.current_thread().name

    @handler
    async def fail(self) -> None:
        """Change the state, then raise."""
        self.state.total = 999
        raise ValueError("negative size")

    @handler
    async def leave(self) -> None:
        """Try to end the interpreter."""
        sys.exit(3)

    @handler
    def leave_thread(self) -> None:
        """Try to end the interpreter from a thread."""
        raise KeyboardInterrupt

    @handler
    async def speak_not(self) -> None:
        """Raise what can't be worded."""
        raise UnspeakableError

    @handler
    async def recurse(self) -> None:
        """Never come to an end."""
        await self.recurse()

    @handler
    async def refuse(self) -> None:
        """Refuse on purpose."""
        self.state.total = 999
        raise Reject("no such order", {"order": 7})

    @handler(raises=LookupError)
    async def look_up(self) -> None:
        """Raise an expected error."""
        raise KeyError("order")

    @handler
    async def reply_badly(self) -> object:
        """Reply what can't travel."""
        return {"orders": [1, {"price": object()}]}

    @handler
    async def keep_badly(self) -> None:
        """Keep what can't be kept."""
        self.state.anything = {"a": [object()]}

    @handler
    async def say(self) -> None:
        """Write everywhere but into the protocol."""
        print("printed")
        print("complained", file=sys.stderr)
        os.write(1, b"raw\n")
        subprocess.run(["/bin/sh", "-c", "echo child; echo child-error >&2"], check=True)

    @handler
    async def hog(self, seconds: float) -> None:
        """Hold the loop."""
        time.sleep(seconds)

    @handler
    async def wait(self, ctx: Context) -> str:
        """Wait for someone else."""
        answer: str = await ctx.call("somebody", "answer", n=1, timeout=2.5)
        return answer

    @handler
    def wait_in_thread(self, ctx: Context) -> Any:
        """Wait for someone else, in a thread."""
        return ctx.call("somebody", "answer").wait()

    @handler
    async def begin_and_wait(self, ctx: Context) -> None:
        """Say that it began, and wait for ever."""
        ctx.cast("somebody", "began")
        await asyncio.Event().wait()

    @handler
    def begin_and_block(self, ctx: Context) -> None:
        """Say that it began, and block the thread until asked to go on."""
        try:
            ctx.call("somebody", "began").wait()
        except errors.Cancelled:
            ctx.log.info("let go")

    @handler
    async def commit_and_fail(self, ctx: Context) -> None:
        """Commit half of it."""
        self.state.total += 1
        await ctx.commit()
        self.state.total += 1
        raise ValueError("second half")

    @handler(interleave=True)
    async def peek(self, ctx: Context) -> int:
        """Read what was committed."""
        total: int = self.state.total
        return total

    @handler(interleave=True)
    async def meddle(self) -> None:
        """Write to the snapshot."""
        self.state.total = 1

    @handler(readonly=True)
    async def forget(self) -> int:
        """Change what is not kept."""
        self.state.total += 1
        total: int = self.state.total
        return total

    @handler
    async def later(self, ctx: Context) -> None:
        """Set two timers, and one that replaces."""
        ctx.after(0.5, "add", n=1)
        ctx.after(1.5, "add", key="k", n=2)

    @handler
    async def use_till(self, till: Till) -> int:
        """Use a resource by its type."""
        return till.opened

    @handler
    async def use_by_name(self, ctx: Context, name: str) -> bool:
        """Use a resource by its name."""
        return bool(await ctx.resource(name))

    @handler
    async def leave_task(self) -> None:
        """Start what outlives it."""
        self.background = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)

    @handler
    async def leave_from_task(self) -> None:
        """Try to end the interpreter from a task of its own."""
        await asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        sys.exit(4)

    @handler
    async def reply_much(self, size: int) -> bytes:
        """Reply with more than a pipe holds."""
        return bytes(size)

    @handler
    async def cast_into_nothing(self, ctx: Context) -> None:
        """Send, and don't wait."""
        ctx.cast("nobody", "hear")

    @handler
    async def keep_context(self, ctx: Context) -> None:
        """Keep what is of no use later."""
        self.kept = ctx

    @handler
    async def use_kept_context(self) -> None:
        """Use it."""
        await self.kept.call("somebody", "answer")

    @handler
    async def background_cancelled(self) -> bool:
        """Tell what became of it."""
        return bool(self.background.cancelled())

    @handler
    async def in_a_task(self) -> bool:
        """Use what only works in a task."""
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return asyncio.current_task() is not None

    @handler
    async def log(self, ctx: Context) -> None:
        """Log in both ways."""
        ctx.log.info("structured", n=1)
        try:
            raise ValueError("why")
        except ValueError:
            import logging  # noqa: PLC0415

            logging.getLogger("lib").warning("plain %d", 7, exc_info=True)


class Hooked(Agent):
    """Has every hook."""

    autostart = {"first": {"n": 1}, "second": {}}

    class State:
        """What is kept."""

        n: int = 0
        log: list[str] = []

    async def on_start(self, ctx: Context) -> None:
        """Begin."""
        self.state.log.append(f"start {ctx.id}")
        ctx.after(1.0, "tick")

    async def on_stop(self, ctx: Context) -> None:
        """End."""
        print(f"stopped {ctx.id}")

    async def on_error(self, ctx: Context, error: Exception) -> None:
        """Clean up."""
        print(f"cleaned up after {error}")
        raise RuntimeError("cleaning failed too")

    @handler
    async def tick(self) -> int:
        """Count."""
        self.state.n += 1
        n: int = self.state.n
        return n

    @handler
    async def fail(self) -> None:
        """Raise."""
        raise ValueError("tick")
