"""Conversion between plain MessagePack data and what type hints ask for.

`loader(hint)` is compiled once, at discovery; a message pays only for the values it brings. A loader says by `exact`
which type needs no look at all, so that the common case (`n: int`) costs one comparison and no call.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import importlib
import pathlib
import sys
import types
import typing
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from pyre import _body, _wire, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "LISTS",
    "MAPS",
    "SETS",
    "Loader",
    "Mismatch",
    "NotPlainError",
    "dump",
    "field_loaders",
    "is_key_required",
    "is_struct",
    "loader",
    "pack",
]

PLAIN = (type(None), bool, int, float, str, bytes)
SHOWN_CHARACTERS = 80
SCALARS = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes"}


class Mismatch(Exception):  # noqa: N818  # a step inside a value, not an error that users see
    """A value that doesn't fit its hint; each container that it passes adds its part of the path."""

    def __init__(self, expected: str, value: object) -> None:
        """Keep what was expected and what came."""
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.path = ""

    def inside(self, part: str) -> Mismatch:
        """Say where inside a container it was found."""
        self.path = part + self.path
        return self

    def words(self, what: str, name: str) -> str:
        """Word it, as in "argument 'n': expected int, got str ('x')"."""
        return f"{what} {name + self.path!r}: expected {self.expected}, got {_shown(self.value)}"


class NotPlainError(TypeError):
    """A type hint that no message can carry; found at discovery."""


class Loader(NamedTuple):
    """How a value of one hint is made from plain data."""

    name: str
    exact: type | None
    load: Callable[[Any], Any]
    plain: bool = True
    anything: bool = False

    @property
    def scalar(self) -> str | None:
        """The name of the scalar type that the BEAM can judge too."""
        return SCALARS.get(self.exact) if self.exact is not None and self.name in SCALARS.values() else None


def _shown(value: object) -> str:
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} ({text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + '...'})"


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


def loader(hint: Any) -> Loader:  # noqa: ANN401
    """Compile the loader of a type hint; raises NotPlainError for one that can't travel."""
    try:
        return _cached(hint)
    except TypeError as exc:
        if isinstance(exc, NotPlainError):
            raise
        return _compile(hint)  # a hint that isn't hashable, such as Literal of a list


@functools.cache
def _cached(hint: Any) -> Loader:  # noqa: ANN401
    return _compile(hint)


def _compile(hint: Any) -> Loader:  # noqa: ANN401
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if isinstance(hint, typing.TypeVar):
        hint = hint.__bound__ or Any
    if hint is Any or hint is object:
        return Loader("anything", None, _same, anything=True)
    origin = typing.get_origin(hint)
    if origin is not None:
        return _generic(hint, origin, typing.get_args(hint))
    return _named(hint)


def _named(hint: Any) -> Loader:  # noqa: ANN401
    if hint is None:
        hint = type(None)
    simple = _SIMPLE.get(hint)
    if simple is not None:
        return simple
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    if not isinstance(hint, type):
        raise NotPlainError(f"{hint!r} can't travel in a message")
    for fits, compiler in _BY_KIND:
        if fits(hint):
            return compiler(hint)
    raise NotPlainError(f"{hint.__module__}.{hint.__qualname__} can't travel in a message")


# --- Scalars ---


def _strict(kind: type) -> Callable[[Any], Any]:
    def load(value: Any) -> Any:  # noqa: ANN401
        if type(value) is kind:
            return value
        raise Mismatch(kind.__name__ if kind is not type(None) else "None", value)

    return load


def _load_float(value: Any) -> float:  # noqa: ANN401
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise Mismatch("float", value)


def _load_bytes(value: Any) -> bytes:  # noqa: ANN401
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    raise Mismatch("bytes", value)


def _from_text(name: str, kind: type, parse: Callable[[Any], Any], accepted: tuple[type, ...] = (str,)) -> Loader:
    def load(value: Any) -> Any:  # noqa: ANN401
        if type(value) is kind:
            return value
        if type(value) not in accepted:
            raise Mismatch(name, value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            raise Mismatch(name, value) from None

    return Loader(name, kind, load, plain=False)


def _seconds(value: float) -> dt.timedelta:
    return dt.timedelta(seconds=value)


_SIMPLE: dict[Any, Loader] = {
    type(None): Loader("None", type(None), _strict(type(None))),
    bool: Loader("bool", bool, _strict(bool)),
    int: Loader("int", int, _strict(int)),
    str: Loader("str", str, _strict(str)),
    float: Loader("float", float, _load_float),
    bytes: Loader("bytes", bytes, _load_bytes),
    list: Loader("list", list, _strict(list)),
    dict: Loader("dict", dict, _strict(dict)),
    dt.datetime: _from_text("datetime", dt.datetime, dt.datetime.fromisoformat),
    dt.date: _from_text("date", dt.date, dt.date.fromisoformat),
    dt.time: _from_text("time", dt.time, dt.time.fromisoformat),
    dt.timedelta: _from_text("seconds", dt.timedelta, _seconds, (int, float)),
    decimal.Decimal: _from_text("decimal", decimal.Decimal, decimal.Decimal, (str, int)),
    uuid.UUID: _from_text("UUID", uuid.UUID, uuid.UUID),
}


def _path(hint: type) -> Loader:
    made = pathlib.Path if hint in {pathlib.Path, pathlib.PosixPath} else hint
    return _from_text(hint.__name__, type(made("")), made)


def _text(hint: type) -> Loader:
    return _from_text(hint.__name__, hint, hint)


def _enum(hint: type[enum.Enum]) -> Loader:
    members = {(type(member.value), member.value): member for member in hint}
    name = "one of " + ", ".join(repr(member.value) for member in hint)

    def load(value: Any) -> Any:  # noqa: ANN401
        if type(value) is hint:
            return value
        try:
            return members[type(value), value]
        except (KeyError, TypeError):
            raise Mismatch(name, value) from None

    return Loader(name, hint, load, plain=False)


# --- Containers ---


def _generic(hint: Any, origin: Any, args: tuple[Any, ...]) -> Loader:  # noqa: ANN401  # one line a form
    if origin in {typing.Annotated, typing.Required, typing.NotRequired, typing.Final}:
        return loader(args[0])
    if origin in {typing.Union, types.UnionType}:
        return _union(args)
    if origin is typing.Literal:
        return _literal(args)
    if origin is tuple:
        return _tuple(args)
    if origin in MAPS:
        return _mapping(loader(args[0]), loader(args[1]))
    kind = SETS.get(origin) or LISTS.get(origin)
    if kind is None:
        raise NotPlainError(f"{hint!r} can't travel in a message")
    return _many(loader(args[0]), kind, "list" if kind is list else "set")


SETS: dict[Any, type] = {set: set, frozenset: frozenset, collections.abc.Set: set, collections.abc.MutableSet: set}
LISTS: dict[Any, type] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
}
MAPS = {dict, collections.abc.Mapping, collections.abc.MutableMapping}


def _union(args: tuple[Any, ...]) -> Loader:
    options = [loader(arg) for arg in args]
    exact = {option.exact: option for option in options if option.exact is not None}
    name = " or ".join(option.name for option in options)

    def load(value: Any) -> Any:  # noqa: ANN401
        first = exact.get(type(value))
        for option in [first, *options] if first else options:
            try:
                return option.load(value)
            except Mismatch:
                continue
        raise Mismatch(name, value)

    anything = any(option.anything for option in options)
    return Loader(name, None, _same if anything else load, all(option.plain for option in options), anything)


def _literal(args: tuple[Any, ...]) -> Loader:
    name = "one of " + ", ".join(map(repr, args))

    def load(value: Any) -> Any:  # noqa: ANN401
        for arg in args:
            if type(arg) is type(value) and arg == value:
                return arg
        raise Mismatch(name, value)

    return Loader(name, None, load)


def _items(item: Loader, values: Iterable[Any]) -> list[Any]:
    loaded: list[Any] = []
    for value in values:
        if type(value) is item.exact and item.plain:
            loaded.append(value)
            continue
        try:
            loaded.append(item.load(value))
        except Mismatch as exc:
            raise exc.inside(f"[{len(loaded)}]") from None
    return loaded


def _many(item: Loader, kind: type, name: str) -> Loader:
    name = f"{name} of {item.name}"

    def load(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, list | tuple | set | frozenset):
            raise Mismatch(name, value)
        loaded = value if item.anything else _items(item, value)
        try:
            return loaded if type(loaded) is kind else kind(loaded)
        except TypeError:
            raise Mismatch(name, value) from None

    return Loader(name, None, load, item.plain and kind is list)


def _tuple(args: tuple[Any, ...]) -> Loader:
    if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004
        return _many(loader(args[0]), tuple, "list")
    items = [loader(arg) for arg in args]
    name = f"list of {len(items)}"

    def load(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise Mismatch(name, value)
        return tuple(_at(f"[{index}]", item, value[index]) for index, item in enumerate(items))

    return Loader(name, None, load, plain=False)


def _at(part: str, item: Loader, value: Any) -> Any:  # noqa: ANN401
    try:
        return item.load(value)
    except Mismatch as exc:
        raise exc.inside(part) from None


def _mapping(key: Loader, item: Loader) -> Loader:
    name = f"map from {key.name} to {item.name}"

    def load(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not dict:
            raise Mismatch(name, value)
        if key.anything and item.anything:
            return value
        return {_at(f"[{k!r}]", key, k): _at(f"[{k!r}]", item, v) for k, v in value.items()}

    return Loader(name, None, load, key.plain and item.plain)


# --- Records: what has named fields ---


class _Field(NamedTuple):
    loader: Loader
    required: bool


def field_loaders(kind: type) -> dict[str, _Field]:
    """Compile the fields of a dataclass that its constructor takes."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: _Field(loader(hints[field.name]), _is_required(field))
        for field in dataclasses.fields(kind)
        if field.init
    }


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _load_fields(name: str, fields: dict[str, _Field], value: Any) -> dict[str, Any]:  # noqa: ANN401
    if type(value) is not dict:
        raise Mismatch(name, value)
    for key in value:
        if key not in fields:
            raise Mismatch(f"{name} without the field {key!r}", value)
    loaded = {}
    for key, field in fields.items():
        if key in value:
            loaded[key] = _at(f".{key}", field.loader, value[key])
        elif field.required:
            raise Mismatch(f"{name} with the field {key!r}", value)
    return loaded


def _dataclass(hint: type) -> Loader:
    # Compiled at first use: a dataclass may hold a list of its own kind.
    fields = functools.cache(lambda: field_loaders(hint))

    def load(value: Any) -> Any:  # noqa: ANN401
        return value if type(value) is hint else hint(**_load_fields(hint.__name__, fields(), value))

    return Loader(hint.__name__, hint, load, plain=False)


def _typed_dict(hint: Any) -> Loader:  # noqa: ANN401
    def compiled() -> dict[str, _Field]:
        hints = typing.get_type_hints(hint, include_extras=True)
        return {key: _Field(loader(value), is_key_required(hint, key, value)) for key, value in hints.items()}

    fields = functools.cache(compiled)

    def load(value: Any) -> Any:  # noqa: ANN401
        return _load_fields(hint.__name__, fields(), value)

    return Loader(hint.__name__, None, load, plain=False)


def is_key_required(hint: Any, key: str, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a TypedDict must have a key."""
    # With annotations as text, Python 3.11 doesn't see a NotRequired when it makes the class.
    origin = typing.get_origin(value)
    return origin is typing.Required or (key in hint.__required_keys__ and origin is not typing.NotRequired)


def _named_tuple(hint: Any) -> Loader:  # noqa: ANN401
    hints = typing.get_type_hints(hint)
    items = _tuple(tuple(hints.get(name, Any) for name in hint._fields))

    def load(value: Any) -> Any:  # noqa: ANN401
        return hint(*items.load(value))

    return Loader(hint.__name__, None, load, plain=False)


def is_struct(kind: type, module: str, base: str) -> bool:
    """Tell a subclass of a third-party base without importing what nobody else imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and issubclass(kind, getattr(loaded, base))


def _msgspec(hint: type) -> Loader:
    msgspec = importlib.import_module("msgspec")

    def load(value: Any) -> Any:  # noqa: ANN401
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as exc:
            raise Mismatch(f"{hint.__name__} ({exc})", value) from None

    return Loader(hint.__name__, hint, load, plain=False)


def _pydantic(hint: Any) -> Loader:  # noqa: ANN401
    pydantic = importlib.import_module("pydantic")

    def load(value: Any) -> Any:  # noqa: ANN401
        try:
            return hint.model_validate(value)
        except pydantic.ValidationError as exc:
            first = exc.errors()[0]
            path = ".".join(map(str, first["loc"]))
            raise Mismatch(f"{hint.__name__} ({path}: {first['msg']})", value) from None

    return Loader(hint.__name__, hint, load, plain=False)


_BY_KIND: list[tuple[Callable[[type], bool], Callable[[Any], Loader]]] = [
    (lambda kind: is_struct(kind, "msgspec", "Struct"), _msgspec),
    (lambda kind: is_struct(kind, "pydantic", "BaseModel"), _pydantic),
    (dataclasses.is_dataclass, _dataclass),
    (lambda kind: issubclass(kind, enum.Enum), _enum),
    (lambda kind: issubclass(kind, tuple) and hasattr(kind, "_fields"), _named_tuple),
    (lambda kind: issubclass(kind, pathlib.PurePath), _path),
    (lambda kind: issubclass(kind, str), _text),
    (lambda kind: kind is tuple, lambda _kind: _many(loader(Any), tuple, "list")),
    (lambda kind: kind in {set, frozenset}, lambda kind: _many(loader(Any), kind, "set")),
]


# --- The way back ---


def pack(value: Any) -> bytes:  # noqa: ANN401
    """Encode a value; what isn't plain is converted only when it has to be."""
    try:
        return _body.pack(value)
    except errors.EncodeError:
        return _body.pack(dump(value))


def dump(value: Any) -> Any:  # noqa: ANN401
    """Turn what has a plain form into it, all the way down; what has none stays, for the encoder to name."""
    kind = type(value)
    if kind in PLAIN:
        return value
    try:
        return _dumper(kind)(value)  # type: ignore[arg-type]  # a class is hashable
    except RecursionError:  # it contains itself, perhaps
        raise errors.EncodeError(
            f"cannot encode the value: nested more than {_wire.MAX_BODY_NESTING} levels deep"
        ) from None


@functools.cache
def _dumper(kind: type) -> Callable[[Any], Any]:
    for fits, dumper in _DUMPERS:
        if fits(kind):
            return dumper
    return _same


def _dump_map(value: Any) -> dict[Any, Any]:  # noqa: ANN401
    return {dump(key): dump(item) for key, item in value.items()}


def _dump_items(value: Any) -> list[Any]:  # noqa: ANN401
    return [dump(item) for item in value]


def _dump_set(value: Any) -> list[Any]:  # noqa: ANN401
    # Sorted where that is possible: equal states then are equal bytes.
    items = _dump_items(value)
    try:
        return sorted(items)
    except TypeError:
        return items


def _dump_dataclass(value: Any) -> dict[str, Any]:  # noqa: ANN401
    return {field.name: dump(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}


def _dump_struct(value: Any) -> dict[str, Any]:  # noqa: ANN401
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    return {encoded: dump(getattr(value, name)) for encoded, name in names}


_DUMPERS: list[tuple[Callable[[type], bool], Callable[[Any], Any]]] = [
    (lambda kind: is_struct(kind, "msgspec", "Struct"), _dump_struct),
    (lambda kind: is_struct(kind, "pydantic", "BaseModel"), lambda value: dump(value.model_dump())),
    (dataclasses.is_dataclass, _dump_dataclass),
    (lambda kind: issubclass(kind, enum.Enum), lambda value: dump(value.value)),
    (lambda kind: issubclass(kind, collections.abc.Mapping), _dump_map),
    (lambda kind: issubclass(kind, list | tuple), _dump_items),
    (lambda kind: issubclass(kind, collections.abc.Set), _dump_set),
    (lambda kind: kind is dt.timedelta, lambda value: value.total_seconds()),
    (lambda kind: kind in {dt.date, dt.time}, lambda value: value.isoformat()),
    (lambda kind: kind in {decimal.Decimal, uuid.UUID} or issubclass(kind, pathlib.PurePath), str),
]
