"""Threads: an agent is a thread with a queue."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import Any

from peer import Counter, Peer

Mailbox = queue.SimpleQueue[tuple[str, Any, "Future[Any] | None"]]


def _run(mailbox: Mailbox) -> None:
    counter = Counter()
    while True:
        method, argument, reply = mailbox.get()
        result = getattr(counter, method)(argument)
        if reply is not None:
            reply.set_result(result)


class Adapter(Peer):
    """The threads; as daemons, since one that blocks can't be ended."""

    memory_agents = 1_000

    def start(self) -> None:
        """Nothing to start."""

    def spawn(self, count: int) -> list[Mailbox]:
        """Start threads."""
        mailboxes: list[Mailbox] = [queue.SimpleQueue() for _ in range(count)]
        for mailbox in mailboxes:
            threading.Thread(target=_run, args=(mailbox,), daemon=True).start()
        return mailboxes

    def call(self, agent: Mailbox, method: str, argument: Any, patience: float) -> Any:
        """Put a future into the queue."""
        reply: Future[Any] = Future()
        agent.put((method, argument, reply))
        return reply.result(patience)

    def cast(self, agent: Mailbox, method: str, argument: Any) -> None:
        """Put nothing to wait for into the queue."""
        agent.put((method, argument, None))

    def stop(self) -> None:
        """Leave them: they end with the process."""
