"""The flight recorder: a small mapped file that outlives this process, whatever ends it.

A store is a plain assignment to a word. The BEAM reads the file when the interpreter has died or does not answer.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FILE_BYTES", "VARIABLE", "WORDS", "blank", "map_file"]

VARIABLE = "PYRE_RECORDER"
FILE_BYTES = 4096
MAGIC = 0x0000000145525950
MAP_FIXED = 0x10


class WORDS:
    """Where things stand, as in docs/wire.md."""

    MAGIC = 0
    BEGUN = 1
    RUNNING = 2
    SINCE = 3
    BEAT = 4
    LAG = 5
    HELD = 6
    UNDER_WAY = 7
    THREADS = 8
    EXCUSED = 72
    EXHAUSTED = 73


def map_file(path: str) -> memoryview:
    """Map the file that the BEAM made, as words; the magic goes in last."""
    file = pathlib.Path(path)
    with file.open("r+b") as opened:
        if file.stat().st_size < FILE_BYTES:
            opened.truncate(FILE_BYTES)
        mapped = mmap.mmap(opened.fileno(), FILE_BYTES)
    words = memoryview(mapped).cast("Q")
    for index in range(1, len(words)):
        words[index] = 0
    words[WORDS.MAGIC] = MAGIC
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    # Looked up now: after a fork in a process of many threads the dynamic linker's lock may be held for ever.
    replace = _mmap()
    os.register_at_fork(after_in_child=lambda: _unmap(replace, address))
    return words


def _mmap() -> Callable[..., Any]:
    function = ctypes.CDLL(None).mmap
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    function.restype = ctypes.c_void_p
    return function


def _unmap(replace: Callable[..., Any], address: int) -> None:
    """Put a page of its own in the file's place: a forked child must not write into its parent's recorder."""
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
    replace(address, FILE_BYTES, mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0)


def blank() -> memoryview:
    """Make words that nobody else reads (pyre.testing)."""
    return memoryview(bytearray(FILE_BYTES)).cast("Q")
