"""Thespian: an actor is a process; the base that its documentation names first for several processes."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from typing import Any

from peer import Counter, Peer
from thespian.actors import ActorAddress, ActorSystem, ActorTypeDispatcher

BASE = "multiprocTCPBase"


class CounterActor(ActorTypeDispatcher):
    """A Counter behind Thespian's messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the counter."""
        super().__init__(*args, **kwargs)
        self.counter = Counter()

    def receiveMsg_tuple(self, message: tuple[bool, str, Any], sender: ActorAddress) -> None:  # noqa: N802
        """Run what the message names."""
        wants_reply, method, argument = message
        result = getattr(self.counter, method)(argument)
        if wants_reply:
            self.send(sender, ("reply", result))


class Adapter(Peer):
    """Each thread has a private context of the system: one of them answers one question at a time."""

    agents = 20
    memory_agents = 20

    def start(self) -> None:
        """Start the system, on a port of its own."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.system = ActorSystem(BASE, {"Admin Port": port, "Convention Address.IPv4": f"127.0.0.1:{port}"})
        self.contexts = threading.local()

    def _context(self) -> Any:
        if not hasattr(self.contexts, "context"):
            self.contexts.context = self.system.private().__enter__()
        return self.contexts.context

    def spawn(self, count: int) -> list[ActorAddress]:
        """Start processes."""
        return [self.system.createActor(CounterActor) for _ in range(count)]

    def call(self, agent: ActorAddress, method: str, argument: Any, patience: float) -> Any:
        """Ask."""
        answer = self._context().ask(agent, (True, method, argument), timedelta(seconds=patience))
        if not isinstance(answer, tuple):
            raise TimeoutError(f"no reply but {answer!r}")
        return answer[1]

    def cast(self, agent: ActorAddress, method: str, argument: Any) -> None:
        """Tell."""
        self._context().tell(agent, (False, method, argument))

    def stop(self) -> None:
        """End all processes."""
        self.system.shutdown()
