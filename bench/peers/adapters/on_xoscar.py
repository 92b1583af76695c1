"""xoscar: actors in a sub-process of a pool, which its main process watches."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import xoscar
from peer import Counter, Peer


class CounterActor(xoscar.Actor):
    """A Counter behind xoscar's calls."""

    def __init__(self) -> None:
        """Make the counter."""
        super().__init__()
        self.counter = Counter()

    def run(self, method: str, argument: Any) -> Any:
        """Run what the message names."""
        return getattr(self.counter, method)(argument)


class Adapter(Peer):
    """One sub-process, which is made anew with its actors when it dies."""

    asynchronous = True

    async def start(self) -> None:
        """Start the pool; its addresses are on loopback."""
        self.pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1, auto_recover="actor")
        self.address = next(address for address in self.pool.sub_processes)
        self.made = itertools.count()

    async def spawn(self, count: int) -> list[Any]:
        """Start actors."""
        return [
            await xoscar.create_actor(CounterActor, address=self.address, uid=f"counter-{next(self.made)}")
            for _ in range(count)
        ]

    async def call(self, agent: Any, method: str, argument: Any, _patience: float) -> Any:
        """Call; the harness bounds the time."""
        return await agent.run(method, argument)

    async def cast(self, agent: Any, method: str, argument: Any) -> None:
        """Send without a wait for the reply."""
        await agent.run.tell(method, argument)

    async def stop(self) -> None:
        """End the pool."""
        await asyncio.wait_for(self.pool.stop(), 5)
