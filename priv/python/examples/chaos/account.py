"""The agents of `mix pyre.chaos`: they write down what reached them, to be held against the senders' ledger."""

from __future__ import annotations

import os
import time

from pyre import Agent, Context, handler

TIMER_EVERY = 20
NOISE_BYTES = 256 * 1024


class Account(Agent):
    """Counts, and remembers the last number of each sender."""

    class State:
        """What is committed."""

        total: int = 0
        last: dict[str, int] = {}  # noqa: RUF012  # copied for each agent
        repeated: int = 0
        gaps: list[str] = []  # noqa: RUF012
        timers_set: int = 0
        timers_fired: int = 0

    state: State

    @handler
    async def note(self, ctx: Context, sender: str, number: int) -> None:
        """Take a cast; each sender counts from 1."""
        last = self.state.last.get(sender, 0)
        if number <= last:
            self.state.repeated += 1
            return
        if number > last + 1:
            self.state.gaps.append(f"{sender}: {number} after {last}")
        self.state.last[sender] = number
        if number % TIMER_EVERY == 0:
            self.state.timers_set += 1
            ctx.after(0.05, "fired", key=f"{sender}-{number}")

    @handler
    async def fired(self) -> None:
        """Count a timer that fired."""
        self.state.timers_fired += 1

    @handler
    async def add(self) -> int:
        """Add one, and tell the sum: no two callers may hear the same."""
        self.state.total += 1
        return self.state.total

    @handler
    def add_in_thread(self) -> int:
        """Do it in a thread."""
        self.state.total += 1
        return self.state.total

    @handler
    async def add_elsewhere(self, ctx: Context, target: str) -> int:
        """Have another account add."""
        total: int = await ctx.call(target, "add")
        return total

    @handler(readonly=True, idempotent=True)
    async def total(self) -> int:
        """Tell the sum."""
        return self.state.total

    @handler
    async def fail(self) -> None:
        """Spoil the state, and fail."""
        self.state.total = -1_000_000
        self.state.last = {}
        raise RuntimeError("as it was asked to")


class Vandal(Agent):
    """Does what hurts its worker."""

    @handler
    async def freeze(self) -> None:
        """Block the loop."""
        time.sleep(3600)  # noqa: ASYNC251

    @handler
    def freeze_in_thread(self) -> None:
        """Block a thread."""
        time.sleep(3600)

    @handler
    async def crash(self) -> None:
        """End the interpreter."""
        os._exit(3)

    @handler
    async def shout(self) -> None:
        """Write much to where nobody expects it."""
        os.write(1, b"noise " * (NOISE_BYTES // 6))
        os.write(2, b"\x00\x00\x00\x10\x83h\xff" * (NOISE_BYTES // 7))
