"""Plain asyncio: an agent is a task with a queue, all in the caller's own loop."""

from __future__ import annotations

import asyncio
from typing import Any

from peer import Counter, Peer

Mailbox = asyncio.Queue[tuple[str, Any, "asyncio.Future[Any] | None"]]


async def _run(mailbox: Mailbox) -> None:
    counter = Counter()
    while True:
        method, argument, reply = await mailbox.get()
        result = getattr(counter, method)(argument)
        if reply is not None and not reply.done():
            reply.set_result(result)


class Adapter(Peer):
    """The tasks."""

    asynchronous = True
    memory_agents = 20_000

    async def start(self) -> None:
        """Hold the tasks, or they would be collected."""
        self.tasks: list[asyncio.Task[None]] = []

    async def spawn(self, count: int) -> list[Mailbox]:
        """Start tasks."""
        mailboxes: list[Mailbox] = [asyncio.Queue() for _ in range(count)]
        self.tasks += [asyncio.create_task(_run(mailbox)) for mailbox in mailboxes]
        return mailboxes

    async def call(self, agent: Mailbox, method: str, argument: Any, _patience: float) -> Any:
        """Put a future into the queue; the harness bounds the time."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        agent.put_nowait((method, argument, reply))
        return await reply

    async def cast(self, agent: Mailbox, method: str, argument: Any) -> None:
        """Put nothing to wait for into the queue."""
        agent.put_nowait((method, argument, None))

    async def stop(self) -> None:
        """End the tasks."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
