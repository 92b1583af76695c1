"""The thread that feels the loop's pulse: it beats, names a handler that holds the loop, and ends an orphan.

It needs the GIL. Where even this thread is silent (a C call that holds the GIL, a stopped process), the BEAM sees the
missing beats in the flight recorder.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
import threading
import time
import traceback
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from pyre._failure import PACKAGE, clean, cut
from pyre._hogs import Hogs
from pyre._recorder import WORDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from pyre._dispatch import Dispatcher
    from pyre._excuses import Excuses
    from pyre._log import Log
    from pyre._message import Message

__all__ = ["Watchdog"]

BEAT_SECONDS = 0.05
TICK_NS = 250_000_000
ORPHANED_NS = 1_000_000_000
CLOSING_NS = 4_000_000_000
NS_PER_MS = 1_000_000
MAX_STACK_CHARACTERS = 16 * 1024
MAX_FRAMES = 40
STALE_COLLECTIONS = 10


class _Step(NamedTuple):
    """One step of a handler that has been on the loop for a while."""

    number: int
    since_ns: int
    stack: str


class Watchdog:
    """Beats from before HELLO until the process ends."""

    def __init__(self, words: memoryview, log: Log, input: int, excuses: Excuses) -> None:  # noqa: A002
        """Watch the main thread and the protocol's input."""
        self._words = words
        self._log = log
        self._excuses = excuses
        self._hogs = Hogs()
        self._main = threading.main_thread().ident or 0
        self._poll = select.poll()
        self._poll.register(input, 0)  # POLLHUP is always told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._warning_ns = 0
        self._hung_up_ns = 0
        self._tick_ns = 0
        self._ticking = False
        self._lag_ns = 0
        self._turn = 0
        self._seen: _Step | None = None
        self._told = (0, 0)
        self._tidy = False
        self.idle: Callable[[], None] = _nothing
        self.closing = False

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._beat_on, name="pyre-watchdog", daemon=True).start()

    def watch(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, warning_ms: int) -> None:
        """Begin to watch the handlers too; called on the loop's thread."""
        self._warning_ns = warning_ms * NS_PER_MS
        self._loop = loop
        self._dispatcher = dispatcher

    def _beat_on(self) -> None:
        while True:
            # Where a handler has taken all memory, the next beat may find some again.
            with contextlib.suppress(MemoryError):
                self.beat(monotonic_ns())
            time.sleep(BEAT_SECONDS)

    def beat(self, now_ns: int) -> None:
        """Do what is due; called in the watchdog's thread."""
        self._words[WORDS.BEAT] = now_ns
        self._end_orphan(now_ns)
        self._excuses.look()
        dispatcher, loop = self._dispatcher, self._loop
        if dispatcher is not None and loop is not None:
            self._words[WORDS.HELD] = len(dispatcher.activations)
            self._words[WORDS.UNDER_WAY] = len(dispatcher.running)
            self._feel(loop, now_ns)
            self._look(dispatcher, now_ns)
            self._look_for_hogs(dispatcher, now_ns)
            dispatcher.memory.hold_back()
        self._log.flush()

    # --- The BEAM's end ---

    def _end_orphan(self, now_ns: int) -> None:
        if not any(events & select.POLLHUP for _, events in self._poll.poll(0)):
            return
        self._hung_up_ns = self._hung_up_ns or now_ns
        if now_ns - self._hung_up_ns > (CLOSING_NS if self.closing else ORPHANED_NS):
            # The loop had its chance. No flush: the main thread may hold the streams' locks for ever.
            os._exit(0)

    # --- The loop's lag ---

    def _feel(self, loop: asyncio.AbstractEventLoop, now_ns: int) -> None:
        if self._ticking:
            self._words[WORDS.LAG] = max(0, now_ns - self._tick_ns) // 1000
            return
        self._words[WORDS.LAG] = self._lag_ns // 1000
        if now_ns - self._tick_ns >= TICK_NS:
            self._tick_ns = now_ns
            self._ticking = True
            try:
                loop.call_soon_threadsafe(self._tick)
            except RuntimeError:  # the loop is closed
                self._loop = None

    def _tick(self) -> None:
        self._lag_ns = monotonic_ns() - self._tick_ns
        self._ticking = False
        dispatcher = self._dispatcher
        if dispatcher is not None:
            turn, self._turn = self._turn, dispatcher.activations.turn
            if turn == self._turn and not dispatcher.running:
                self._collect(dispatcher)
                self.idle()

    def _collect(self, dispatcher: Dispatcher) -> None:
        # The oldest generation holds all activations: it is collected only here, where nobody waits.
        if not self._tidy and not dispatcher.activations.held:
            # What was frozen at the start in haste, with the garbage that imports leave. Agents' objects must not be: a
            # circle of frozen objects is never collected.
            self._tidy = True
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        elif gc.get_count()[2] >= STALE_COLLECTIONS:
            gc.collect()

    # --- Handlers that hold the loop ---

    def _look(self, dispatcher: Dispatcher, now_ns: int) -> None:
        number, since_ns = self._words[WORDS.RUNNING], self._words[WORDS.SINCE]
        # From half of the limit on: a step may end between two beats, and its stack would be lost.
        if not self._warning_ns or not number or now_ns - since_ns < self._warning_ns // 2:
            return
        if self._told == (number, since_ns) or self._words[WORDS.EXCUSED]:
            return
        self._seen = _Step(number, since_ns, _stack_of(self._main))
        if now_ns - since_ns >= self._warning_ns:
            self._tell(dispatcher.running.get(number), self._seen, now_ns)
        else:
            dispatcher.watched = self._step_ended

    def _step_ended(self, message: Message) -> None:
        """Take note of the end of a step that was seen to take long; called on the loop's thread."""
        dispatcher, seen = self._dispatcher, self._seen
        if dispatcher is None or seen is None:
            return
        dispatcher.watched = None
        now_ns = monotonic_ns()
        if seen.number == message.number and now_ns - seen.since_ns >= self._warning_ns:
            self._tell(message, seen, now_ns)

    def _tell(self, message: Message | None, step: _Step, now_ns: int) -> None:
        key = (step.number, step.since_ns)
        if message is None or self._told == key:
            return
        self._told = key
        labels = message.labels()
        self._log.send(
            {
                "type": "stall",
                "number": step.number,
                "agent": labels["agent"],
                "class": labels["class"],
                "handler": labels["handler"],
                "ran_ms": (now_ns - step.since_ns) // NS_PER_MS,
                "stack": step.stack,
            }
        )

    # --- Handlers that take the CPU from the loop ---

    def _look_for_hogs(self, dispatcher: Dispatcher, now_ns: int) -> None:
        for message, share in self._hogs.look(dispatcher.threads, now_ns, time.process_time_ns()):
            used = f"its thread used {share:.0%} of a CPU for a second"
            dispatcher.note(message, f"{used}: while it computes in Python, all others wait for it")


def _nothing() -> None:
    """Have nothing to do when the worker is idle."""


def _stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # its documented use: debugging deadlocks
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < MAX_FRAMES and not _is_ours(frame):
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    summary = traceback.StackSummary.extract(iter(reversed(frames)))
    return cut(clean("".join(summary.format())), MAX_STACK_CHARACTERS)


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename == f"{PACKAGE}/_message.py"
