"""Follows a log file from a place that is kept elsewhere: through rotation, truncation, garbage and endless lines."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Gain", "Place", "begin", "follow", "is_trouble", "read_lines"]

CHUNK_BYTES = 64 * 1024
MAX_BYTES = 1024 * 1024  # what one look reads at most; the rest is skipped, and said
FIRST_LOOK_BYTES = 64 * 1024
FRESH_SECONDS = 600  # a file written to so recently is read back a little at the first look

COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
TROUBLE = re.compile(
    rb"(?<![\w/.-])"
    rb"(errors?|fatal|panic|critical|emerg|segfault|traceback|exception|out of memory|oom-killer)(?![\w/-])",
    re.IGNORECASE,
)
# "0 errors", "without error", "errors: 0", and lines that call themselves harmless.
HARMLESS = re.compile(
    rb"\b(no|0|zero|without|any)\s+(errors?|exceptions?)\b|\berrors?\s*[=:]\s*0\b"
    rb"|^.{0,80}?((?-i:\b(DEBUG|INFO|NOTICE)\b)|((level|severity)=\"?|[\[<])(debug|info|notice)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading goes on: which file, from which byte, and whether the rest of that line is to be skipped."""

    inode: int
    offset: int
    skipping: bool = False


@dataclass(frozen=True, slots=True)
class Gain:
    """What one look brought: the place after it, and what the new lines held."""

    place: Place
    read_bytes: int = 0
    lines: int = 0
    troubles: int = 0
    skipped_bytes: int = 0
    sample: str = ""


def is_trouble(line: bytes) -> bool:
    """Judge whether a line looks like an error."""
    return bool(TROUBLE.search(line)) and not HARMLESS.search(line)


def begin(path: Path, now: float) -> Place:
    """Begin at the end, or a little before it where the file is being written to. `now` is the wall clock's."""
    found = path.stat()
    back = FIRST_LOOK_BYTES if now - found.st_mtime <= FRESH_SECONDS else 0
    offset = max(found.st_size - back, 0)
    # Not at the start means amid a line.
    return Place(inode=found.st_ino, offset=offset, skipping=0 < offset < found.st_size)


def follow(path: Path, place: Place) -> Gain:
    """Read what was added since, first the rest of the file that was rotated away. Raises OSError where it can't."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a regular file")
        if found.st_ino == place.inode:
            return _added(file, place, found.st_size)
        rest = _rotated(path, place)
        return _sum(rest, _added(file, Place(inode=found.st_ino, offset=0), found.st_size))


def read_lines(path: Path, place: Place) -> tuple[Place, list[str]]:
    """Read the whole lines after a place, as many as one chunk holds. A new file is read from its start."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        goes_on = found.st_ino == place.inode and found.st_size >= place.offset
        offset = place.offset if goes_on else 0
        file.seek(offset)
        data = file.read(CHUNK_BYTES)
    cut = data.rfind(b"\n") + 1
    if cut == 0 and len(data) == CHUNK_BYTES:
        cut = CHUNK_BYTES  # one endless line comes in pieces
    return Place(found.st_ino, offset + cut), data[:cut].decode(errors="replace").splitlines()


def _rotated(path: Path, place: Place) -> Gain:
    """Find the file under its new name and read its end; where it is gone or compressed, its last lines are lost."""
    for other in path.parent.glob(f"{path.name}*"):
        try:
            with other.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino == place.inode:
                    return _added(file, place, found.st_size)
        except OSError:
            continue
    return Gain(place=place)


def _added(file: BinaryIO, place: Place, end: int) -> Gain:
    if end < place.offset:
        place = Place(inode=place.inode, offset=0)  # truncated
    total = Gain(place=place)
    if end - place.offset > MAX_BYTES:
        skipped = end - place.offset - MAX_BYTES
        total = Gain(place=Place(place.inode, place.offset + skipped, skipping=True), skipped_bytes=skipped)
    while gain := _chunk(file, total.place, end):
        total = _sum(total, gain)
    return total


def _chunk(file: BinaryIO, place: Place, end: int) -> Gain | None:
    """Read whole lines; what stands after the last line end stays unread, unless it is longer than a line should be."""
    file.seek(place.offset)
    data = file.read(min(CHUNK_BYTES, end - place.offset))
    cut = data.rfind(b"\n") + 1
    if cut == 0:
        if len(data) < CHUNK_BYTES:
            return None
        return Gain(place=Place(place.inode, place.offset + len(data), skipping=True), read_bytes=len(data))
    lines = COLOUR.sub(b"", data[:cut]).split(b"\n")[:-1]
    if place.skipping:
        lines = lines[1:]
    troubles = [line for line in lines if is_trouble(line)]
    return Gain(
        place=Place(place.inode, place.offset + cut),
        read_bytes=cut,
        lines=len(lines),
        troubles=len(troubles),
        sample=troubles[-1][:400].decode(errors="replace") if troubles else "",
    )


def _sum(first: Gain, then: Gain) -> Gain:
    return Gain(
        place=then.place,
        read_bytes=first.read_bytes + then.read_bytes,
        lines=first.lines + then.lines,
        troubles=first.troubles + then.troubles,
        skipped_bytes=first.skipped_bytes + then.skipped_bytes,
        sample=then.sample or first.sample,
    )
