"""The hard limit of the interpreter's memory, and what is held back so that a handler's MemoryError can be answered.

RLIMIT_DATA and not RLIMIT_AS: the latter counts libraries and whatever is only reserved.
"""

from __future__ import annotations

import contextlib
import resource
import traceback
from typing import TYPE_CHECKING

from pyre._recorder import WORDS

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
        self._limited = False
        self._reserve: bytes | None = None

    def limit(self, max_bytes: int) -> None:
        """Let allocations fail above so many bytes; for ever, as nothing should raise the limit again."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        self._limited = True
        self.hold_back()

    def hold_back(self) -> None:
        """Take the reserve where it is gone and there is room for it; the watchdog calls this at each beat."""
        if self._limited and self._reserve is None:
            with contextlib.suppress(MemoryError):
                self._reserve = bytes(RESERVE_BYTES)

    def exhausted(self, error: MemoryError) -> None:
        """Make room for the answer, and tell the BEAM; called on the loop's thread with what a handler raised."""
        self._reserve = None
        _let_go(error.__traceback__)
        self._words[WORDS.EXHAUSTED] += 1


def _let_go(trace: TracebackType | None) -> None:
    # The frames still hold what was taken so far. The running ones at the top are ours and can't be cleared.
    with contextlib.suppress(RuntimeError):
        traceback.clear_frames(trace)
