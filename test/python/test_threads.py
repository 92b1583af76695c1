"""The pool of handlers' threads, and the exception that ends one of them but never hits another message."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyre import _recorder, _threads
from pyre._recorder import WORDS
from pyre._threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Message:
    """Stands in for a message."""

    def __init__(self, number: int) -> None:
        """Have a number."""
        self.number = number


class Pool:
    """A pool, and what went on in it."""

    def __init__(self, max_threads: int) -> None:
        """Make one with a loop of its own."""
        self.loop = asyncio.new_event_loop()
        self.words = _recorder.blank()
        self.threads = Threads(self.loop, self.words, max_threads)
        self.number = 0
        self.let_go = 0

    def start(self, call: Callable[[], Any]) -> _threads.Job:
        """Hand a job in."""
        self.number += 1
        message: Any = Message(self.number)
        return self.threads.run(message, call, self._ended)

    def abandon(self, job: _threads.Job) -> None:
        """Cancel a job as a message does."""
        job.future.cancel()
        self.threads.abandon(job)

    def numbers(self) -> list[int]:
        """Give what the recorder shows."""
        return [number for number in self.words[WORDS.THREADS : WORDS.EXCUSED] if number]

    async def idle(self) -> None:
        """Wait until all threads have let go."""
        await self.until(lambda: self.let_go == self.number)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop run until something is true of the threads."""
        while not holds():  # noqa: ASYNC110  # a thread sets no event of the loop's
            await asyncio.sleep(0.001)

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        """Run a test on the loop."""
        self.loop.run_until_complete(asyncio.wait_for(test, 30))

    def _ended(self) -> None:
        self.let_go += 1


@pytest.fixture
def pools() -> Iterator[Callable[[int], Pool]]:
    made = []

    def make(max_threads: int) -> Pool:
        made.append(Pool(max_threads))
        return made[-1]

    yield make
    for pool in made:
        pool.threads.close()
        pool.loop.close()


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns so often that they meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
def test_an_exception_never_hits_another_message(pools: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    # Each job ends about when the exception is sent: before it, while it is under way, or by it.
    monkeypatch.setattr(_threads, "GRACE_SECONDS", 0)
    pool = pools(1)
    dice = random.Random(7)  # noqa: S311
    landed = 0

    def compute(seconds: float) -> None:
        nonlocal landed
        until = time.perf_counter() + seconds
        try:
            while time.perf_counter() < until:
                pass
        except BaseException:
            landed += 1
            raise

    async def test() -> None:
        for _ in range(400):
            job = pool.start(lambda: compute(dice.random() * 0.002))
            await asyncio.sleep(dice.random() * 0.002)
            if not job.future.done():
                pool.abandon(job)
            assert await pool.start(lambda: "untouched").future == ("untouched", None)
        await pool.idle()

    pool.run(test())
    assert 0 < landed < 400
    assert pool.numbers() == []


def test_blocked_threads_take_no_place_and_their_successors_retire(pools: Callable[[int], Pool]) -> None:
    pool = pools(2)
    gate = threading.Event()
    before = set(threading.enumerate())

    async def test() -> None:
        blocked = [pool.start(gate.wait) for _ in range(5)]
        await pool.until(lambda: len(pool.numbers()) == 2)
        for job in reversed(blocked):  # the queued ones first, or they get the places of the others
            pool.abandon(job)
        assert await pool.start(lambda: 1).future == (1, None)
        assert pool.numbers() == [1, 2]
        gate.set()
        await pool.idle()
        await pool.until(lambda: len(set(threading.enumerate()) - before) == 2)
        assert await pool.start(lambda: 2).future == (2, None)

    pool.run(test())
    assert pool.numbers() == []


def test_all_slots_may_be_blocked_and_are_used_again(pools: Callable[[int], Pool]) -> None:
    pool = pools(_threads.MAX_THREADS)
    gate = threading.Event()

    async def test() -> None:
        blocked = [pool.start(gate.wait) for _ in range(_threads.MAX_THREADS)]
        await pool.until(lambda: len(pool.numbers()) == _threads.MAX_THREADS)
        for job in blocked:
            pool.abandon(job)
        late = pool.start(lambda: "late")
        gate.set()
        assert await late.future == ("late", None)
        await pool.idle()

    pool.run(test())
    assert pool.numbers() == []


def test_a_thread_that_cant_be_started_is_the_jobs_failure(
    pools: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pools(2)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool.start(lambda: 1)
            assert pool.let_go == 1
        assert await pool.start(lambda: 2).future == (2, None)
        await pool.idle()

    pool.run(test())
