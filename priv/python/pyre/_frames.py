"""Frames: a 32-bit length, then one term, which is a batch of envelopes.

The reading side calls `Framer.feed` with whatever the pipe gave; a hostile
length is refused before anything is kept for it.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, cast

from pyre._codec import decode, encode
from pyre._etf import WireError
from pyre._wire import MAX_FRAME_BYTES

__all__ = ["Framer", "pack", "unpack"]

_PREFIX = Struct(">I")
_PREFIX_BYTES = _PREFIX.size
_size_at = _PREFIX.unpack_from


class Framer:
    """Cuts a stream of bytes into the payloads of its frames."""

    __slots__ = ("_buffered", "_head", "_max_bytes", "missing")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        """Refuse frames of more than `max_bytes`."""
        self._max_bytes = max_bytes
        # Of the frame that is not complete: its prefix while that is cut, else
        # the chunks of its payload and how many bytes are still to come.
        self._head = b""
        self._buffered: list[bytes] = []
        self.missing = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what came in next; give the payloads that it completes.

        After a WireError the stream is of no use any more.
        """
        missing = self.missing
        if not missing:
            return self._split(self._head + chunk if self._head else chunk, 0)
        size = len(chunk)
        self._buffered.append(chunk if size <= missing else chunk[:missing])
        if size < missing:
            self.missing -= size
            return []
        payload = b"".join(self._buffered)
        self._buffered.clear()
        self.missing = 0
        return [payload, *self._split(chunk, missing)] if size > missing else [payload]

    def _split(self, data: bytes, at: int) -> list[bytes]:
        self._head = b""
        payloads: list[bytes] = []
        size = len(data)
        while size - at >= _PREFIX_BYTES:
            length = _size_at(data, at)[0]
            if not 0 < length <= self._max_bytes:
                allowed = f"allowed are 1 to {self._max_bytes}"
                message = f"a frame announces {length} bytes; {allowed}"
                raise WireError(message)
            at += _PREFIX_BYTES
            end = at + length
            if end > size:
                self._buffered.append(data[at:])
                self.missing = end - size
                return payloads
            payloads.append(data[at:end])
            at = end
        self._head = data[at:]
        return payloads


def pack(envelopes: list[tuple[Any, ...]]) -> tuple[bytes, bytes]:
    """Make the frame of a batch of envelopes: its prefix and its payload, to be written together."""
    payload = encode(envelopes)
    if len(payload) > MAX_FRAME_BYTES:
        message = f"a frame holds at most {MAX_FRAME_BYTES} bytes, got {len(payload)}"
        raise WireError(message)
    return _PREFIX.pack(len(payload)), payload


def unpack(payload: bytes) -> list[tuple[Any, ...]]:
    """Read the batch of envelopes in a frame's payload."""
    batch = decode(payload)
    if type(batch) is not list or not batch:
        message = f"expected a list of envelopes, got {batch!r:.100}"
        raise WireError(message)
    for envelope in batch:
        if type(envelope) is not tuple or not envelope or type(envelope[0]) is not int:
            message = f"expected an envelope, got {envelope!r:.100}"
            raise WireError(message)
    return cast("list[tuple[Any, ...]]", batch)
