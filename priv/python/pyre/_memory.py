"""The hard limit of the interpreter's memory, and what is held back so that a handler's MemoryError can be answered.

RLIMIT_DATA and not RLIMIT_AS: the latter counts libraries and whatever is only reserved. RLIMIT_DATA too counts the
stacks of threads as a whole, however little of them is used; so for each handler's thread the limit is raised by one.
"""

from __future__ import annotations

import contextlib
import resource
import traceback
from typing import TYPE_CHECKING

from pyre._recorder import WORDS
from pyre._threads import MAX_THREADS, STACK_BYTES

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Memory"]

# Two of CPython's own arenas and what an answer takes. It is mapped and never touched: it costs address space only.
RESERVE_BYTES = 4 * 1024 * 1024


class Memory:
    """Counts MemoryErrors; holds a reserve where a limit is set."""

    def __init__(self, words: memoryview) -> None:
        """Set no limit."""
        self._words = words
        self._max = 0
        self._reserve: bytes | None = None

    def limit(self, max_bytes: int) -> None:
        """Let allocations fail above so many bytes."""
        self._max = max_bytes
        _set_limit(max_bytes, max_bytes + MAX_THREADS * STACK_BYTES)
        self.hold_back()

    def make_room(self, threads: int) -> None:
        """Leave room for the stacks of so many threads."""
        if self._max:
            _set_limit(self._max + threads * STACK_BYTES)

    def hold_back(self) -> None:
        """Take the reserve where it is gone and there is room for it; the watchdog calls this at each beat."""
        if self._max and self._reserve is None:
            with contextlib.suppress(MemoryError):
                self._reserve = bytes(RESERVE_BYTES)

    def exhausted(self, error: MemoryError) -> None:
        """Make room for the answer, and tell the BEAM; called on the loop's thread with what a handler raised."""
        self._reserve = None
        _let_go(error.__traceback__)
        self._words[WORDS.EXHAUSTED] += 1


def _set_limit(soft: int, hard: int | None = None) -> None:
    _, before = resource.getrlimit(resource.RLIMIT_DATA)
    most = before if hard is None else hard
    if before != resource.RLIM_INFINITY:
        most = min(most, before)
    resource.setrlimit(resource.RLIMIT_DATA, (min(soft, most), most))


def _let_go(trace: TracebackType | None) -> None:
    # The frames still hold what was taken so far. The running ones at the top are ours and can't be cleared.
    with contextlib.suppress(RuntimeError):
        traceback.clear_frames(trace)
