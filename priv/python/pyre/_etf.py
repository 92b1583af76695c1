"""The envelopes' codec: the part of Erlang's term format that docs/wire.md allows.

Everything else is refused: atoms, floats, strings, compressed terms and so on.
Called once per frame in each direction, on the loop's thread.

Both directions have one flat loop for a batch of plain envelopes, since a
function call per element would double what a message costs here, and a
recursive function for whatever is nested deeper.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pyre._wire import MAX_ENVELOPE_NESTING, MAX_TUPLE_SIZE, OP_DELIVER, OP_DONE

__all__ = ["WireError", "decode", "encode"]

_VERSION: Final = 131
_SMALL_INTEGER: Final = 97
_INTEGER: Final = 98
_SMALL_TUPLE: Final = 104
_NIL: Final = 106
_LIST: Final = 108
_BINARY: Final = 109
_SMALL_BIG: Final = 110

_MAX_BIG_BYTES: Final = 8
_ALLOWED: Final = frozenset((_SMALL_INTEGER, _INTEGER, _SMALL_TUPLE, _NIL, _LIST, _BINARY, _SMALL_BIG))

# The head of the two messages that come and go by the thousand, up to the first
# binary: DELIVER with a small or a 32-bit handle, DONE. One unpack in C instead
# of five turns of the loop halves what they cost; any other form of the same
# envelope takes the loop.
_DELIVER: Final = struct.Struct(">IBiBBBBBBBI")
_DELIVER_WIDE: Final = struct.Struct(">IBiBiBBBBBI")
_DELIVER_HEAD: Final = 0x68096103  # a tuple of 9, and 3
_DELIVER_SIZE: Final = 9
_DONE_SIZE: Final = 6
_DONE: Final = struct.Struct(">IBIBBBI").pack
_DONE_HEAD: Final = 0x68066141  # a tuple of 6, and 65

_u32 = struct.Struct(">I").unpack_from
_i32 = struct.Struct(">i").unpack_from
_tag_u32 = struct.Struct(">BI").pack
_tag_i32 = struct.Struct(">Bi").pack

_SMALL_INTEGERS: Final = tuple(bytes((_SMALL_INTEGER, value)) for value in range(256))
_SMALL_TUPLES: Final = tuple(bytes((_SMALL_TUPLE, size)) for size in range(MAX_TUPLE_SIZE + 1))


class WireError(ValueError):
    """Bytes that are not of the protocol, or a term that may not be in it."""


def decode(data: bytes | memoryview) -> object:
    """Read one whole term: integers as int, binaries as bytes, lists as list."""
    data = bytes(data)  # no copy where it is bytes already; indexing them is fastest
    if data[:1] != b"\x83":
        message = f"expected version byte {_VERSION} at byte 0, got {data[:1]!r}"
        raise WireError(message)
    term: object
    try:
        # A slice past the end is cut silently, but leaves `at` behind the end.
        if data[1] == _LIST:
            term, at = _batch(data)
        else:
            term, at = _term(data, 1, 0)
    except (IndexError, struct.error):
        at, term = len(data) + 1, None
    if at > len(data):
        message = f"the term is cut short at byte {len(data)}"
        raise WireError(message)
    if at < len(data):
        message = f"{len(data) - at} bytes follow the term at byte {at}"
        raise WireError(message)
    return term


def encode(envelopes: list[tuple[Any, ...]]) -> bytes:
    """Write a batch of envelopes as one term."""
    if not envelopes:
        return b"\x83j"
    out = [b"\x83", _tag_u32(_LIST, len(envelopes))]
    for envelope in envelopes:
        if type(envelope) is not tuple:
            raise _refused(envelope)
        if len(envelope) != _DONE_SIZE or not _write_done(envelope, out):
            _write_envelope(envelope, out)
    out.append(b"j")
    return b"".join(out)


def _batch(data: bytes) -> tuple[list[object], int]:
    """Read a list at byte 1, with its envelopes unrolled."""
    count = _u32(data, 2)[0]
    at = 6
    batch: list[object] = []
    for _ in range(count):
        if data[at] != _SMALL_TUPLE:
            item, at = _term(data, at, 1)
            batch.append(item)
            continue
        size = data[at + 1]
        start = at
        items: list[object] = []
        at += 2
        if size == _DELIVER_SIZE and data[at + 1] == OP_DELIVER:
            items, at = _deliver(data, start)
            size -= len(items)
        at = _elements(data, at, size, items)
        batch.append(tuple(items))
    return batch, _tail(data, at)


def _deliver(data: bytes, at: int) -> tuple[list[object], int]:
    """Read a DELIVER up to its arguments, or nothing of it in another form."""
    wide = data[at + 9] == _INTEGER
    form = _DELIVER_WIDE if wide else _DELIVER
    if len(data) < at + form.size:
        return [], at + 2
    head, tag1, number, tag2, handle, tag3, epoch, tag4, kind, tag5, size = form.unpack_from(data, at)
    at_handler = at + form.size
    at_args = at_handler + size
    if (
        head != _DELIVER_HEAD
        or tag1 != _INTEGER
        or (not wide and tag2 != _SMALL_INTEGER)
        or tag3 != _SMALL_INTEGER
        or tag4 != _SMALL_INTEGER
        or tag5 != _BINARY
        or data[at_args] != _BINARY
    ):
        return [], at + 2
    start = at_args + 5
    end = start + _u32(data, at_args + 1)[0]
    handler = data[at_handler:at_args]
    items = [OP_DELIVER, number, handle, epoch, kind, handler, data[start:end]]
    return items, end


def _elements(data: bytes, at: int, count: int, items: list[object]) -> int:
    append = items.append
    for _ in range(count):
        tag = data[at]
        if tag == _SMALL_INTEGER:
            append(data[at + 1])
            at += 2
        elif tag == _INTEGER:
            append(_i32(data, at + 1)[0])
            at += 5
        elif tag == _BINARY:
            start = at + 5
            at = start + _u32(data, at + 1)[0]
            append(data[start:at])
        else:
            item, at = _term(data, at, 2)
            append(item)
    return at


def _term(data: bytes, at: int, depth: int) -> tuple[object, int]:
    """Read the term at byte `at`; give it, and where the next one begins."""
    tag = data[at]
    if tag == _SMALL_INTEGER:
        return data[at + 1], at + 2
    if tag == _INTEGER:
        return _i32(data, at + 1)[0], at + 5
    if tag == _BINARY:
        end = at + 5 + _u32(data, at + 1)[0]
        return data[at + 5 : end], end
    if tag == _NIL:
        return [], at + 1
    return _compound(data, at, depth)


def _compound(data: bytes, at: int, depth: int) -> tuple[object, int]:
    tag = data[at]
    if tag == _SMALL_BIG:
        return _small_big(data, at)
    if tag not in _ALLOWED:
        message = f"tag {tag} at byte {at} is not allowed"
        raise WireError(message)
    if depth >= MAX_ENVELOPE_NESTING:
        raise _too_deep(at)
    if tag == _SMALL_TUPLE:
        items, at = _items(data, at + 2, data[at + 1], depth + 1)
        return tuple(items), at
    items, at = _items(data, at + 5, _u32(data, at + 1)[0], depth + 1)
    return items, _tail(data, at)


def _items(data: bytes, at: int, count: int, depth: int) -> tuple[list[object], int]:
    items = []
    for _ in range(count):
        item, at = _term(data, at, depth)
        items.append(item)
    return items, at


def _tail(data: bytes, at: int) -> int:
    if data[at] != _NIL:
        message = f"expected a list to end with tag {_NIL} at byte {at}, got {data[at]}"
        raise WireError(message)
    return at + 1


def _small_big(data: bytes, at: int) -> tuple[int, int]:
    size, sign = data[at + 1], data[at + 2]
    if size > _MAX_BIG_BYTES or sign > 1:
        message = (
            f"expected an integer of at most {_MAX_BIG_BYTES} bytes at byte {at}, got {size} bytes with sign {sign}"
        )
        raise WireError(message)
    end = at + 3 + size
    value = int.from_bytes(data[at + 3 : end], "little")
    return (-value if sign else value), end


def _write_done(envelope: tuple[Any, ...], out: list[bytes]) -> bool:
    """Write a DONE without effects at once; leave any other form alone."""
    opcode, number, status, body, state, effects = envelope
    if (
        opcode != OP_DONE
        or effects != []
        or type(body) is not bytes
        or type(number) is not int
        or not 255 < number <= 0x7FFFFFFF  # noqa: PLR2004
        or type(status) is not int
        or not 0 <= status <= 255  # noqa: PLR2004
    ):
        return False
    head = _DONE(_DONE_HEAD, _INTEGER, number, _SMALL_INTEGER, status, _BINARY, len(body))
    if state == []:
        out += (head, body, b"jj")
    elif type(state) is bytes:
        out += (head, body, _tag_u32(_BINARY, len(state)), state, b"j")
    else:
        return False
    return True


def _write_envelope(envelope: tuple[Any, ...], out: list[bytes]) -> None:
    append = out.append
    append(_tuple_header(envelope))
    for item in envelope:
        kind = type(item)
        if kind is bytes:
            append(_tag_u32(_BINARY, len(item)))
            append(item)
        elif kind is int:
            append(_integer(item))
        else:
            _write(item, out, 2)


def _write(item: object, out: list[bytes], depth: int) -> None:
    kind = type(item)
    if kind is list and not item:
        out.append(b"j")
    elif kind is bytes:
        out += (_tag_u32(_BINARY, len(item)), item)  # type: ignore[arg-type]
    elif kind is int:
        out.append(_integer(item))  # type: ignore[arg-type]
    elif kind is not list and kind is not tuple:
        raise _refused(item)
    elif depth >= MAX_ENVELOPE_NESTING:
        raise _too_deep(sum(map(len, out)))
    else:
        _write_items(item, out, depth)  # type: ignore[arg-type]


def _write_items(items: list[object] | tuple[object, ...], out: list[bytes], depth: int) -> None:
    if type(items) is tuple:
        out.append(_tuple_header(items))
    else:
        out.append(_tag_u32(_LIST, len(items)))
    for item in items:
        _write(item, out, depth + 1)
    if type(items) is list:
        out.append(b"j")


def _tuple_header(items: tuple[object, ...]) -> bytes:
    if len(items) > MAX_TUPLE_SIZE:
        message = f"a tuple holds at most {MAX_TUPLE_SIZE} elements, got {len(items)}"
        raise WireError(message)
    return _SMALL_TUPLES[len(items)]


def _integer(value: int) -> bytes:
    if 0 <= value <= 255:  # noqa: PLR2004
        return _SMALL_INTEGERS[value]
    if -0x80000000 <= value <= 0x7FFFFFFF:  # noqa: PLR2004
        return _tag_i32(_INTEGER, value)
    return _big(value)


def _big(value: int) -> bytes:
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    if size > _MAX_BIG_BYTES:
        message = f"an integer has at most {_MAX_BIG_BYTES} bytes, got {size}"
        raise WireError(message)
    return bytes((_SMALL_BIG, size, value < 0)) + magnitude.to_bytes(size, "little")


def _refused(item: object) -> WireError:
    return WireError(f"no envelope may hold {type(item).__name__}: {item!r:.100}")


def _too_deep(at: int) -> WireError:
    return WireError(f"the term at byte {at} is nested more than {MAX_ENVELOPE_NESTING} levels deep")
