"""The flight recorder: a small mapped file that outlives this process, whatever ends it.

A store is a plain assignment to a word. The BEAM reads the file when the interpreter has died or does not answer.
"""

from __future__ import annotations

import mmap
import pathlib

__all__ = ["FILE_BYTES", "VARIABLE", "WORDS", "blank", "map_file"]

VARIABLE = "PYRE_RECORDER"
FILE_BYTES = 4096
MAGIC = 0x0000000145525950


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


def map_file(path: str) -> memoryview:
    """Map the file that the BEAM made, as words; the magic goes in last."""
    file = pathlib.Path(path)
    with file.open("r+b") as opened:
        if file.stat().st_size < FILE_BYTES:
            opened.truncate(FILE_BYTES)
        words = memoryview(mmap.mmap(opened.fileno(), FILE_BYTES)).cast("Q")
    for index in range(1, len(words)):
        words[index] = 0
    words[WORDS.MAGIC] = MAGIC
    return words


def blank() -> memoryview:
    """Make words that nobody else reads (pyre.testing)."""
    return memoryview(bytearray(FILE_BYTES)).cast("Q")
