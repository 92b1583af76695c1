"""Bodies: MessagePack by the `msgpack` package, with the limits of docs/wire.md.

`pack` and `unpack` are called once per message each, on the loop's thread and
on those of `def` handlers. They are plain C but for the depth; where in a value
the trouble lies is searched only after a failure.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]

from pyre._wire import MAX_BODY_BYTES, MAX_BODY_NESTING
from pyre.errors import DecodeError, EncodeError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ext", "pack", "unpack", "unpack_own"]

_MAX_INTEGER: Final = 2**64 - 1
_MIN_INTEGER: Final = -(2**63)
_EXT_TYPES: Final = range(-128, 128)
_TIMESTAMP: Final = -1
# A packer keeps the largest buffer it ever needed.
_LARGE_BYTES: Final = 1024 * 1024
_SHOWN: Final = 40

_LEAVES: Final = frozenset((str, int, float, bool, type(None), bytes))
_ARRAYS: Final = (list, tuple)
_CONTAINERS: Final = (dict, list, tuple)
_PLAIN: Final = (
    type(None),
    bool,
    int,
    float,
    bytes,
    bytearray,
    memoryview,
    msgpack.Timestamp,
    msgpack.ExtType,
)


@dataclass(frozen=True, slots=True)
class Ext:
    """A value of a MessagePack extension type; `Pyre.Ext` in Elixir.

    Types from 0 to 127 are for applications. -1 is the timestamp, which is an
    aware `datetime` instead.
    """

    type: int
    data: bytes


def pack(value: object) -> bytes:
    """Encode a value, or raise an EncodeError that names the place of the trouble."""
    try:
        data = _local.pack(value)
    except Exception as error:
        raise _encode_error(value, error) from error
    if len(data) > MAX_BODY_NESTING:  # each level takes a byte at least
        if _is_deep(value):
            raise _encode_error(value, None)
        if len(data) > _LARGE_BYTES:
            _local.pack = _new_pack()
            _check_size(data)
    return data


def unpack(data: bytes | memoryview) -> Any:  # noqa: ANN401  whatever was packed
    """Decode a body, or raise a DecodeError."""
    if len(data) > _LARGE_BYTES:
        _check_size(data)
    try:
        value = msgpack.unpackb(data, timestamp=3, strict_map_key=False, ext_hook=Ext)
    except Exception as error:
        message = f"not a MessagePack body: {_reason(error)}"
        raise DecodeError(message) from error
    if len(data) > MAX_BODY_NESTING and _is_deep(value):
        message = f"not a MessagePack body of ours: {_TOO_DEEP}"
        raise DecodeError(message, {"limit": MAX_BODY_NESTING})
    return value


def unpack_own(data: bytes) -> Any:  # noqa: ANN401  whatever was packed
    """Decode what the BEAM has packed itself: it has the form that it must have, and no body's limits."""
    return msgpack.unpackb(data)


# Packing

_TOO_DEEP: Final = f"nested more than {MAX_BODY_NESTING} levels deep"


def _default(value: object) -> msgpack.ExtType:
    if isinstance(value, Ext) and _ext_trouble(value) is None:
        # ExtType(...) itself refuses the types below 0.
        return tuple.__new__(msgpack.ExtType, (value.type, value.data))
    message = f"no counterpart for {type(value).__name__}"
    raise TypeError(message)


def _new_pack() -> Callable[[object], bytes]:
    pack: Callable[[object], bytes] = msgpack.Packer(datetime=True, default=_default).pack
    return pack


class _Local(threading.local):
    """One packer per thread: another thread may come in while `_default` runs."""

    def __init__(self) -> None:
        self.pack = _new_pack()


_local = _Local()


def _check_size(data: bytes | memoryview) -> None:
    if len(data) > MAX_BODY_BYTES:
        message = f"a body holds at most {MAX_BODY_BYTES} bytes, got {len(data)}"
        raise TooLarge(message, details={"size": len(data), "limit": MAX_BODY_BYTES})


def _is_deep(value: object) -> bool:
    """Go down level by level; cheaper than to look at each value by itself."""
    level: list[object] = [value]
    for _ in range(MAX_BODY_NESTING):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, _ARRAYS):
                inner += item
        level = [item for item in inner if type(item) not in _LEAVES]
        if not level:
            return False
    return any(isinstance(item, _CONTAINERS) for item in level)


# The search for the trouble


def _encode_error(value: object, cause: Exception | None) -> EncodeError:
    trouble = _search(value, [])
    if trouble is None:
        return EncodeError(f"cannot encode {type(value).__name__}: {_reason(cause)}")
    path, reason = trouble
    place = f" at {path}" if path else ""
    return EncodeError(f"cannot encode the value{place}: {reason}", path)


def _search(value: object, path: list[object]) -> tuple[str, str] | None:
    if isinstance(value, dict | list | tuple):
        if len(path) >= MAX_BODY_NESTING:
            return _format_path(path), _TOO_DEEP
        return _search_inside(value, path)
    reason = _leaf_trouble(value)
    return None if reason is None else (_format_path(path), reason)


def _search_inside(value: Any, path: list[object]) -> tuple[str, str] | None:  # noqa: ANN401
    is_map = isinstance(value, dict)
    for key, item in value.items() if is_map else enumerate(value):
        if is_map and (trouble := _search(key, [])) is not None:
            return _format_path(path), f"the key {key!r:.{_SHOWN}}: {trouble[1]}"
        if (trouble := _search(item, [*path, key])) is not None:
            return trouble
    return None


def _leaf_trouble(value: object) -> str | None:
    if isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        return f"integers go from -2^63 to 2^64 - 1, got one of {value.bit_length()} bits"
    if isinstance(value, str):
        return _text_trouble(value)
    if isinstance(value, dt.datetime):
        return _datetime_trouble(value)
    if isinstance(value, Ext):
        return _ext_trouble(value)
    return None if isinstance(value, _PLAIN) else _unknown(value)


def _text_trouble(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"a lone surrogate at character {error.start} is no UTF-8; send bytes"
    return None


def _datetime_trouble(value: dt.datetime) -> str | None:
    if value.utcoffset() is None:
        return "a datetime without time zone is no instant; give it one, such as UTC"
    return None


def _ext_trouble(value: Ext) -> str | None:
    if type(value.type) is not int or value.type not in _EXT_TYPES or value.type == _TIMESTAMP:
        return f"an Ext's type is -128 to 127 and not -1, got {value.type!r}"
    if type(value.data) is not bytes:
        return f"the data of an Ext is bytes, got {type(value.data).__name__}"
    return None


def _unknown(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, set | frozenset):
        return f"a {name} has no counterpart; make it a list, such as sorted(...)"
    return f"{name} has no counterpart; convert it, such as to a dict, list or str"


def _format_path(path: list[object]) -> str:
    return "".join(map(_format_segment, path))


def _format_segment(key: object) -> str:
    if key is None or isinstance(key, bool):
        return {None: "[nil]", True: "[true]", False: "[false]"}[key]
    if isinstance(key, bytes):
        key = key.decode(errors="replace")
    if isinstance(key, str):
        shown = key if len(key) <= _SHOWN else key[:_SHOWN] + "..."
        return f"[{json.dumps(shown, ensure_ascii=False)}]"
    if isinstance(key, int | float):
        return f"[{key!r:.{_SHOWN}}]"
    return "[?]"


def _reason(error: Exception | None) -> str:
    if isinstance(error, msgpack.exceptions.ExtraData):
        return f"{len(error.extra)} bytes follow the value"
    if isinstance(error, msgpack.exceptions.StackError):
        return _TOO_DEEP
    if isinstance(error, msgpack.exceptions.FormatError):
        return "it holds the reserved byte 0xc1"
    return str(error) or type(error).__name__
