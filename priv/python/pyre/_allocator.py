"""What becomes of the memory that a large message leaves: kept while they come, given back when the worker is idle.

By itself glibc maps a large block for itself alone and unmaps it when it is freed. A message of a megabyte is copied
five times between the pipes, each time into pages that the kernel must find and clear first: half of what it took.
Only glibc is asked; with another C library, or where the environment tells its allocator what to do, nothing changes.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["LARGE_BYTES", "Allocator"]

# From here on a frame is large; glibc maps blocks from 128 KiB on.
LARGE_BYTES = 128 * 1024

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The largest that glibc takes on 64 bits; no body is larger.
_MMAP_BYTES = 32 * 1024 * 1024
# How much may lie free at the heap's top: the copies of one message of the largest size.
_KEPT_BYTES = 64 * 1024 * 1024
_OPERATORS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


class Allocator:
    """The process's one; its loop's thread alone uses it."""

    def __init__(self) -> None:
        """Change nothing before the first large frame: most workers never see one, and ctypes takes 2 ms to import."""
        self._ready = False
        self._keeps = False
        self._used = False

    def keep(self) -> None:
        """From now on keep what large blocks leave; called for each large frame."""
        if not self._ready:
            self._ready = True
            self._keeps = _configure()
        self._used = True

    def give_back(self) -> None:
        """Return to the system what has been kept since the last time; for when nobody waits."""
        if self._used and self._keeps:
            _libc().malloc_trim(0)
        self._used = False


def _configure() -> bool:
    if any(name in os.environ for name in _OPERATORS):
        return False
    try:
        libc = _libc()
        # Looked up here, so that a library without it is found out now.
        return bool(
            libc.malloc_trim
            and libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
            and libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        )
    except (AttributeError, ImportError, OSError):
        return False


def _libc() -> Any:  # noqa: ANN401  # ctypes.CDLL, whose attributes are whatever the library has
    import ctypes  # noqa: PLC0415  # see `__init__`

    return ctypes.CDLL(None)
