"""The event loop, and the pipe to the BEAM: one read, one batch and one write per turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from pyre import _frames, _wire
from pyre._allocator import LARGE_BYTES, Allocator
from pyre._etf import WireError
from pyre._frames import Framer
from pyre.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Envelopes = list[tuple[Any, ...]]
    Frame = tuple[bytes, bytes]

__all__ = ["Link", "new_loop"]

READ_BYTES = 1024 * 1024
# A long turn writes in between, so that the BEAM works on the first answers while we make the others.
FLUSH_AT = 32
# How many pieces of what the pipe had no room for are written at once.
PIECES = 64


def new_loop() -> tuple[asyncio.AbstractEventLoop, str]:
    """Make uvloop's loop where it is installed, else asyncio's; and tell which."""
    try:
        import uvloop  # noqa: PLC0415  # optional, and slow to import for those who don't get here
    except ImportError:
        return asyncio.new_event_loop(), "asyncio"
    return uvloop.new_event_loop(), "uvloop"


class Link:
    """Both directions of the protocol. Only the loop's thread uses it, so only it writes frames."""

    def __init__(self, input: int, output: int, ended: Callable[[int, str], None]) -> None:  # noqa: A002
        """Take the descriptors; `ended(exit_status, reason)` is called when the protocol is over."""
        self._input = input
        self._output = output
        self._ended = ended
        self._framer = Framer()
        self.allocator = Allocator()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._apply: Callable[[Envelopes], None] = lambda _envelopes: None
        self._begin: Callable[[], None] = lambda: None
        self._outgoing: Envelopes = []
        self._unwritten: list[memoryview] = []
        # Read into, again and again: an `os.read` of this size would ask the system for a megabyte each time.
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)

    def first(self) -> Envelopes | None:
        """Wait for the first frame, before there is a loop; None at the end of the input."""
        while data := os.read(self._input, READ_BYTES):
            frames = self._framer.feed(data)
            if frames:
                return [envelope for frame in frames for envelope in _frames.unpack(frame)]
        return None

    def start(
        self, loop: asyncio.AbstractEventLoop, apply: Callable[[Envelopes], None], begin: Callable[[], None]
    ) -> None:
        """Begin to read in the loop: each frame is applied, and after the last one that was there, what came begins."""
        self._loop = loop
        self._apply = apply
        self._begin = begin
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        loop.add_reader(self._input, self._read)
        if self._outgoing:
            loop.call_soon(self.flush)

    def stop_reading(self) -> None:
        """Take nothing new."""
        if self._loop is not None:
            self._loop.remove_reader(self._input)

    def emit(self, envelope: tuple[Any, ...]) -> None:
        """Send an envelope with the frame of this turn."""
        self.queue(envelope)
        if len(self._outgoing) == 1 and self._loop is not None:
            self._loop.call_soon(self.flush)

    def queue(self, envelope: tuple[Any, ...]) -> None:
        """Send an envelope with the next `flush`, which the caller will see to."""
        outgoing = self._outgoing
        outgoing.append(envelope)
        if len(outgoing) >= FLUSH_AT and self._loop is not None:
            self.flush()

    def finish(self) -> None:
        """Write what is left, waiting for the pipe where it is full; called after the loop's end."""
        with contextlib.suppress(OSError, WireError):
            os.set_blocking(self._output, True)
            for frame in self._frames_of(self._outgoing):
                self._unwritten += map(memoryview, frame)
            while self._unwritten:
                _drop(self._unwritten, os.writev(self._output, self._unwritten[:PIECES]))
        self._unwritten, self._outgoing = [], []

    def _read(self) -> None:
        try:
            chunk = self._next_chunk()
        except BlockingIOError:
            return
        except OSError as exc:
            self._ended(_wire.EXIT_CLOSED, f"the protocol's input can't be read: {exc}")
            return
        if not chunk:
            self._ended(_wire.EXIT_CLOSED, "")
            return
        try:
            for payload in self._framer.feed(chunk):
                self._apply(_frames.unpack(payload))
            self._begin()
        except (WireError, ProtocolError) as exc:
            self._ended(_wire.EXIT_PROTOCOL, f"protocol error: {exc}")
        except MemoryError:
            self._ended(_wire.EXIT_BUG, "no memory is left to read the protocol with")

    def _next_chunk(self) -> bytes:
        missing = self._framer.missing
        if missing >= LARGE_BYTES:
            # Straight into an object of its own, which is not copied once more.
            self.allocator.keep()
            return os.read(self._input, min(missing, READ_BYTES))
        return bytes(self._view[: os.readv(self._input, [self._buffer])])

    def flush(self) -> None:
        """Write what waits, as one frame."""
        envelopes, self._outgoing = self._outgoing, []
        try:
            frames = self._frames_of(envelopes)
        except MemoryError:
            # These answers are lost, so the BEAM must learn that the interpreter is.
            self._ended(_wire.EXIT_BUG, "no memory is left to write the protocol with")
            return
        for frame in frames:
            self._write(frame)

    def _frames_of(self, envelopes: Envelopes) -> list[Frame]:
        if not envelopes:
            return []
        try:
            return [_frames.pack(envelopes)]
        except WireError:
            # Together beyond a frame's limit: each half for itself.
            if len(envelopes) == 1:
                raise
            half = len(envelopes) // 2
            return [*self._frames_of(envelopes[:half]), *self._frames_of(envelopes[half:])]

    def _write(self, frame: Frame) -> None:
        prefix, payload = frame
        if len(payload) >= LARGE_BYTES:
            self.allocator.keep()
        if self._unwritten:
            self._unwritten += map(memoryview, frame)
            return
        written = self._written(frame)
        if written < len(prefix) + len(payload):
            self._unwritten += map(memoryview, frame)
            _drop(self._unwritten, written)
            if self._loop is not None:
                self._loop.add_writer(self._output, self._write_on)

    def _written(self, pieces: Sequence[bytes | memoryview]) -> int:
        try:
            return os.writev(self._output, pieces)
        except BlockingIOError:
            return 0
        except OSError as exc:
            self._ended(_wire.EXIT_CLOSED, f"the protocol's output can't be written: {exc}")
            return sum(map(len, pieces))

    def _write_on(self) -> None:
        _drop(self._unwritten, self._written(self._unwritten[:PIECES]))
        if not self._unwritten and self._loop is not None:
            self._loop.remove_writer(self._output)


def _drop(pieces: list[memoryview], count: int) -> None:
    """Take so many bytes away from the front."""
    whole = 0
    for piece in pieces:
        if count < len(piece):
            break
        count -= len(piece)
        whole += 1
    del pieces[:whole]
    if count:
        pieces[0] = pieces[0][count:]
