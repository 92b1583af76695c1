"""Pykka: an actor is a thread."""

from __future__ import annotations

from typing import Any

import pykka
from peer import Counter, Peer


class CounterActor(pykka.ThreadingActor):
    """A Counter behind Pykka's messages."""

    # A thread that blocks for ever would keep the program alive.
    use_daemon_thread = True

    def __init__(self) -> None:
        """Make the counter."""
        super().__init__()
        self.counter = Counter()

    def on_receive(self, message: Any) -> Any:
        """Run what the message names."""
        method, argument = message
        return getattr(self.counter, method)(argument)


class Adapter(Peer):
    """Messages, not proxies: those are slower."""

    memory_agents = 1_000

    def start(self) -> None:
        """Nothing to start."""

    def spawn(self, count: int) -> list[pykka.ActorRef[CounterActor]]:
        """Start actors."""
        return [CounterActor.start() for _ in range(count)]

    def call(self, agent: pykka.ActorRef[CounterActor], method: str, argument: Any, patience: float) -> Any:
        """Ask."""
        return agent.ask((method, argument), timeout=patience)

    def cast(self, agent: pykka.ActorRef[CounterActor], method: str, argument: Any) -> None:
        """Tell."""
        agent.tell((method, argument))

    def stop(self) -> None:
        """Leave them: they end with the process."""
