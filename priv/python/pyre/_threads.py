"""The threads that run plain `def` handlers: made when needed, kept, at most one per recorder slot.

Not asyncio's default executor: that one has six threads on two cores, and six blocked handlers would stop all others.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["MAX_THREADS", "Threads"]

MAX_THREADS = 64
STACK_BYTES = 512 * 1024
FIRST_SLOT = 8


class _Job(NamedTuple):
    number: int
    call: Callable[[], Any]
    context: contextvars.Context
    future: asyncio.Future[Any]
    ended: Callable[[], None]


class Threads:
    """A growing pool; jobs are handed in on the loop's thread, and answered there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, words: memoryview, max_threads: int = MAX_THREADS) -> None:
        """Start no thread yet."""
        self._loop = loop
        self._words = words
        self._max = max(1, min(max_threads, MAX_THREADS))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count = 0
        self._busy = 0

    def run(self, number: int, call: Callable[[], Any], ended: Callable[[], None]) -> asyncio.Future[Any]:
        """Run a call for message `number`; `ended` is called on the loop once the thread has let go of it."""
        future = self._loop.create_future()
        self._busy += 1
        self._jobs.put(_Job(number, call, contextvars.copy_context(), future, ended))
        if self._busy > self._count and self._count < self._max:
            self._grow()
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones are daemons, and don't hold up the process."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _grow(self) -> None:
        before = threading.stack_size(STACK_BYTES)
        try:
            name = f"pyre-handler-{self._count}"
            threading.Thread(target=self._work, args=(FIRST_SLOT + self._count,), name=name, daemon=True).start()
            self._count += 1
        finally:
            threading.stack_size(before)

    def _work(self, slot: int) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                outcome: tuple[Any, BaseException | None] = (None, None)
            else:
                self._words[slot] = job.number
                outcome = _outcome(job)
                self._words[slot] = 0
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, job, *outcome)
            del job, outcome

    def _answer(self, job: _Job, result: Any, error: BaseException | None) -> None:  # noqa: ANN401
        self._busy -= 1
        if not job.future.done():
            job.future.set_result((result, error))
        job.ended()


def _outcome(job: _Job) -> tuple[Any, BaseException | None]:
    try:
        return job.context.run(job.call), None
    except BaseException as exc:  # noqa: BLE001  # SystemExit in a handler is the handler's failure
        return None, exc
