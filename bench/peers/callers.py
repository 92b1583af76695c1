"""Those who call a peer's agents: threads, or tasks in one loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

Done = Callable[[int, Any], None]


class Threads:
    """Callers of a peer whose calls block."""

    def run(self, value: Any) -> Any:
        """Give what the peer gave."""
        return value

    def at_once(self, callers: int, body: Callable[[int], Any], go_on: Callable[[int], bool], done: Done) -> None:
        """Let each caller run its body as long as it may, and tell what came of it."""

        def loop(n: int) -> None:
            while go_on(n):
                done(n, body(n))

        threads = [threading.Thread(target=loop, args=(n,), daemon=True) for n in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one_by_one(self, body: Callable[[], Any], go_on: Callable[[], bool], done: Callable[[float], Any]) -> None:
        """Time each call of one caller."""
        while go_on():
            started = time.perf_counter()
            body()
            done(time.perf_counter() - started)


class Tasks:
    """Callers of a peer whose calls are coroutines."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the loop."""
        self.loop = loop

    def run(self, value: Any) -> Any:
        """Give what the peer gives in the end."""
        return self.loop.run_until_complete(value)

    def at_once(self, callers: int, body: Callable[[int], Any], go_on: Callable[[int], bool], done: Done) -> None:
        """Let each caller run its body as long as it may, and tell what came of it."""

        async def loop(n: int) -> None:
            while go_on(n):
                done(n, await body(n))

        async def everybody() -> None:
            await asyncio.gather(*(loop(n) for n in range(callers)))

        self.run(everybody())

    def one_by_one(self, body: Callable[[], Any], go_on: Callable[[], bool], done: Callable[[float], Any]) -> None:
        """Time each call of one caller."""

        async def loop() -> None:
            while go_on():
                started = time.perf_counter()
                await body()
                done(time.perf_counter() - started)

        self.run(loop())
