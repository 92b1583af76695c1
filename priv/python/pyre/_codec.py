"""The envelopes' codec: in C where that was built for this machine, in Python otherwise, which is the same but slower.

The C one declines whatever is not well-formed or not allowed; the one in Python then says what is wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyre import _etf

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAME", "decode", "encode"]

try:
    from pyre import _codec_c
except ImportError:  # not built, or for another system
    decode: Callable[[bytes], object] = _etf.decode
    encode: Callable[[list[tuple[Any, ...]]], bytes] = _etf.encode
else:

    def decode(data: bytes) -> object:
        """Read one whole term; raises WireError."""
        term = _codec_c.decode(data)
        return _etf.decode(data) if term is None else term

    def encode(envelopes: list[tuple[Any, ...]]) -> bytes:
        """Write a batch of envelopes as one term; raises WireError."""
        payload = _codec_c.encode(envelopes)
        return _etf.encode(envelopes) if payload is None else payload


NAME = "python" if decode is _etf.decode else "c"
