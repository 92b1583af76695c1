"""multiprocessing: all agents in one process behind a pipe, as it is written by hand; messages are pickled."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from peer import Counter, Peer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def _run(pipe: Connection) -> None:
    counters: dict[int, Counter] = {}
    while True:
        number, agent, method, argument = pipe.recv()
        counter = counters.get(agent) or counters.setdefault(agent, Counter())
        result = getattr(counter, method)(argument)
        if number is not None:
            pipe.send((number, result))


class Adapter(Peer):
    """The process, and a thread that reads its answers."""

    memory_agents = 20_000

    def start(self) -> None:
        """Start both."""
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_run, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.numbers = itertools.count()
        self.agents_made = itertools.count()
        self.waiting: dict[int, Future[Any]] = {}
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                number, result = self.pipe.recv()
            except (EOFError, OSError) as error:
                for reply in list(self.waiting.values()):
                    reply.set_exception(error)
                return
            self.waiting.pop(number).set_result(result)

    def spawn(self, count: int) -> list[int]:
        """Name agents; the process makes each with its first message."""
        return [next(self.agents_made) for _ in range(count)]

    def call(self, agent: int, method: str, argument: Any, patience: float) -> Any:
        """Send a number that the answer will carry."""
        number = next(self.numbers)
        reply = self.waiting[number] = Future()
        self._send((number, agent, method, argument))
        return reply.result(patience)

    def cast(self, agent: int, method: str, argument: Any) -> None:
        """Send no number."""
        self._send((None, agent, method, argument))

    def _send(self, message: tuple[Any, ...]) -> None:
        with self.lock:
            self.pipe.send(message)

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
