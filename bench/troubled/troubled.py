"""Agents that fail, block and burn, and those beside them."""

from __future__ import annotations

import asyncio
import subprocess
import time

from pyre import Agent, handler


class Crasher(Agent):
    """Fails when it is asked to."""

    class State:
        """What must survive."""

        total: int = 0

    state: State

    @handler
    async def add(self, n: int = 1) -> int:
        """Add, and tell the sum."""
        self.state.total += n
        return self.state.total

    @handler
    async def fail(self) -> None:
        """Fail with the state half changed."""
        self.state.total = -1
        raise RuntimeError("as it was asked to")


class Holder(Agent):
    """Holds what a handler may hold."""

    @handler
    async def wait(self, seconds: float = 600.0) -> None:
        """Be busy, and block nobody."""
        await asyncio.sleep(seconds)

    @handler
    async def sleep_on_loop(self, seconds: float = 3600.0) -> None:
        """Block the loop."""
        time.sleep(seconds)  # noqa: ASYNC251  # that is what is measured

    @handler
    async def spin_on_loop(self) -> None:
        """Block the loop, and take the processor."""
        while True:
            pass

    @handler
    def spin_in_thread(self) -> None:
        """Take the processor beside the loop."""
        while True:
            pass

    @handler
    def sleep_in_thread(self, seconds: float = 3600.0) -> None:
        """Block a thread, where no exception reaches it."""
        time.sleep(seconds)

    @handler
    async def leave_child(self) -> int:
        """Start a child that holds copies of all pipes, and outlives everybody; gives its pid."""
        return subprocess.Popen(["/bin/sleep", "600"], close_fds=False).pid  # noqa: ASYNC220
