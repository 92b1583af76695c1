"""The threads that run plain `def` handlers: made when needed, kept, each with a slot of the flight recorder.

Not asyncio's default executor: that one has six threads on two cores, and six blocked handlers would stop all others.

A handler that was cancelled is answered at once, but its thread runs on: it is *abandoned*. It no longer counts as one
of `max_threads`, and after a moment's grace an exception is raised in it. That reaches Python code only: a thread that
is blocked in C stays, until the BEAM replaces the interpreter.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from pyre._recorder import WORDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from pyre._message import Message

__all__ = ["MAX_THREADS", "STACK_BYTES", "Abandoned", "Job", "Threads"]

MAX_THREADS = 64
# What a recursion through C takes until Python's own limit ends it: `__getattr__` needs 1 MB, a sort 4 MB. With less,
# a RecursionError would be a segmentation fault. It is address space; what is never touched costs no memory.
STACK_BYTES = 4 * 1024 * 1024
GRACE_SECONDS = 0.2
PATIENCE_SECONDS = 1.0


class Abandoned(BaseException):
    """The message was cancelled, and its thread is told to end. No `Exception`, which handlers catch and survive."""


ABANDONED = ctypes.py_object(Abandoned)
NO_EXCEPTION = ctypes.py_object()
raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)
raise_in_thread.restype = ctypes.c_int


class Job:
    """A call that a thread makes for a message."""

    __slots__ = ("abandoned", "call", "context", "ended", "future", "member", "message", "over")

    def __init__(
        self, message: Message, call: Callable[[], Any], future: asyncio.Future[Any], ended: Callable[[], None]
    ) -> None:
        """Wait in the queue."""
        self.message = message
        self.call = call
        self.context = contextvars.copy_context()
        self.future = future
        self.ended = ended
        self.member: _Member | None = None  # the thread that took it
        self.abandoned = False
        self.over = False


class _Member:
    """One thread of the pool."""

    __slots__ = ("clock", "ident", "interrupted", "job", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.ident = 0
        self.clock = 0
        self.job: Job | None = None
        self.interrupted = False


class Threads:
    """A growing pool; jobs are handed in on the loop's thread, and answered there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, words: memoryview, max_threads: int = MAX_THREADS) -> None:
        """Start no thread yet."""
        self._loop = loop
        self._words = words
        self._max = max(1, min(max_threads, MAX_THREADS))
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._members: dict[int, _Member] = {}
        self._busy = 0  # jobs that are queued or run
        self._abandoned = 0  # those of them that were cancelled after a thread had taken them
        self._retiring = 0
        # Whoever holds it decides about `Job.member`, `Job.abandoned` and `_Member.job`.
        self._lock = threading.Lock()
        # Held while an exception is sent to a thread, so that it never lands between a write and the note of it.
        self.guard: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.note: Callable[[Message, str], None] = _ignore
        self.grows: Callable[[int], None] = _ignore_growth

    def run(self, message: Message, call: Callable[[], Any], ended: Callable[[], None]) -> Job:
        """Run a call for a message; `ended` is called on the loop once the thread has let go of it."""
        job = Job(message, call, self._loop.create_future(), ended)
        self._busy += 1
        self._jobs.put(job)
        self._grow()
        return job

    def abandon(self, job: Job) -> None:
        """Wait no longer for a job that was cancelled; where a thread runs it already, see to that thread's end."""
        with self._lock:
            if job.over:
                return
            job.abandoned = True
            if job.member is None:
                return
        self._abandoned += 1
        self._grow()
        self._loop.call_later(GRACE_SECONDS, self._interrupt, job)
        self._loop.call_later(PATIENCE_SECONDS, self._tell, job)

    def running(self) -> Iterator[tuple[Job, int]]:
        """Give the jobs that run, each with the CPU time of its thread in ns; called in the watchdog's thread."""
        for member in list(self._members.values()):
            job = member.job
            if job is not None:
                with contextlib.suppress(OSError):  # the thread has just ended
                    yield job, time.clock_gettime_ns(member.clock)

    def close(self) -> None:
        """Let idle threads end; busy ones are daemons, and don't hold up the process."""
        for _ in self._members:
            self._jobs.put(None)

    # --- The pool's size ---

    def _grow(self) -> None:
        count = len(self._members) - self._retiring
        if self._busy <= count or count >= self._max + self._abandoned:
            return
        slot = next((slot for slot in range(MAX_THREADS) if slot not in self._members), None)
        if slot is None:
            return
        member = self._members[slot] = _Member(slot)
        self.grows(len(self._members))
        before = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=self._work, args=(member,), name=f"pyre-handler-{slot}", daemon=True).start()
        except (RuntimeError, MemoryError):
            # No thread more can be had. The job waits for one of those that are there, and fails where there is none.
            del self._members[slot]
            if not self._members:
                self._fail_all()
                raise
        finally:
            threading.stack_size(before)

    def _shrink(self) -> None:
        # Those that were started in place of abandoned ones.
        if len(self._members) - self._retiring > self._max + self._abandoned:
            self._retiring += 1
            self._jobs.put(None)

    def _retired(self, member: _Member) -> None:
        self._members.pop(member.slot, None)
        self._retiring = max(0, self._retiring - 1)
        self._grow()

    def _fail_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    self._answer(job, None, MemoryError("can't start a thread"))

    # --- In the pool's threads ---

    def _work(self, member: _Member) -> None:
        member.ident = threading.get_ident()
        # Asked for by the thread itself: for one that has ended, the question is undefined.
        member.clock = time.pthread_getcpuclockid(member.ident)
        while (job := self._jobs.get()) is not None:
            outcome = self._outcome(member, job)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._answer, job, *outcome)
            del job, outcome
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._retired, member)

    def _outcome(self, member: _Member, job: Job) -> tuple[Any, BaseException | None]:
        outcome: tuple[Any, BaseException | None] | None = None
        while True:
            # The exception may land anywhere between `_take` and `_leave`, which takes it back; and only once.
            try:
                if outcome is None:
                    outcome = _call(job) if self._take(member, job) else (None, None)
                self._leave(member, job)
            except Abandoned as exc:
                outcome = outcome or (None, exc)
            else:
                return outcome

    def _take(self, member: _Member, job: Job) -> bool:
        with self._lock:
            if not job.abandoned:
                job.member, member.job = member, job
                self._words[WORDS.THREADS + member.slot] = job.message.number
            return not job.abandoned

    def _leave(self, member: _Member, job: Job) -> None:
        with self._lock:
            member.job = None
            job.over = True
            if member.interrupted:
                raise_in_thread(member.ident, NO_EXCEPTION)
                member.interrupted = False
            self._words[WORDS.THREADS + member.slot] = 0

    # --- On the loop's thread ---

    def _interrupt(self, job: Job) -> None:
        member = job.member
        with self.guard, self._lock:
            # Still in this very message: no other one is ever hit.
            if member is not None and member.job is job:
                member.interrupted = True
                raise_in_thread(member.ident, ABANDONED)

    def _tell(self, job: Job) -> None:
        if not job.over:
            text = "was cancelled a second ago, and its thread still runs: it blocks where no exception reaches it"
            self.note(job.message, text)

    def _answer(self, job: Job, result: Any, error: BaseException | None) -> None:  # noqa: ANN401
        self._busy -= 1
        if job.abandoned and job.member is not None:
            self._abandoned -= 1
        if not job.future.done():
            job.future.set_result((result, error))
        job.ended()
        self._shrink()


def _call(job: Job) -> tuple[Any, BaseException | None]:
    try:
        return job.context.run(job.call), None
    except BaseException as exc:  # noqa: BLE001  # SystemExit in a handler is the handler's failure
        return None, exc


def _ignore(_message: Message, _event: str) -> None:
    """Log nothing: the worker puts its logger in."""


def _ignore_growth(_threads: int) -> None:
    """Make no room: the worker puts its memory in."""
