"""JSON Schema of what type hints ask for, and of handlers that are offered as tools.

What a schema allows, the conversion of `_convert` takes (but for integers beyond 64 bits, and for a whole number that
is written as `1.0`). A hint that JSON can't say, such as a map with numbers as keys, is refused at discovery.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import importlib
import inspect
import math
import pathlib
import re
import types
import typing
import uuid
from typing import TYPE_CHECKING, Any

from pyre._convert import LISTS, MAPS, SETS, NotPlainError, dump, is_key_required, is_struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["describe", "schema_of"]

SECTION = re.compile(r"^(?:Args|Arguments|Parameters):$")
ENTRY = re.compile(r"^(?P<name>\w+)(?:\s*\([^)]*\))?:\s*(?P<text>.*)$")
LONGEST_SECONDS = 1_000_000_000

Json = dict[str, Any]


def schema_of(hint: Any) -> Json:  # noqa: ANN401
    """Make the schema of one type hint; raises NotPlainError for one that JSON can't say."""
    maker = _Maker()
    return maker.whole(maker.make(hint))


# --- Handlers ---


def describe(function: Callable[..., Any], names: Iterable[str]) -> Json:
    """Describe a function that is offered as a tool: what it does, and a schema of the arguments of these names.

    An argument is described by `Annotated[int, "its text"]`, or in the section `Args:` of the docstring.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    description, texts = _read_doc(inspect.getdoc(function) or "")
    maker = _Maker()
    properties: Json = {}
    required: list[str] = []
    rest: Json | bool = False
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = _argument(name, hint, maker) or True
        elif name in names:
            about = {"description": texts[name]} if name in texts else {}
            properties[name] = _completed(_argument(name, hint, maker), about, parameter.default)
            if parameter.default is parameter.empty:
                required.append(name)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": rest}
    return {"description": description, "schema": maker.whole(schema)}


def _argument(name: str, hint: Any, maker: _Maker) -> Json:  # noqa: ANN401
    try:
        return maker.make(hint)
    except TypeError as exc:
        raise TypeError(f"parameter {name!r} of a tool: {exc}") from exc


def _completed(schema: Json, about: Json, default: Any) -> Json:  # noqa: ANN401
    if default is not inspect.Parameter.empty:
        plain = _plain_default(default)
        if plain is not None:
            schema = {**schema, "default": plain[0]}
    return {**about, **schema}


def _plain_default(default: Any) -> tuple[Any] | None:  # noqa: ANN401
    plain = dump(default)
    return (plain,) if _is_json(plain) else None


def _is_json(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | str)


def _read_doc(doc: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into what it says of the function, and what it says of each argument."""
    told: list[str] = []
    texts: dict[str, str] = {}
    inside, indent, name = False, 0, ""
    for line in doc.splitlines():
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if SECTION.match(line):
            inside, indent, name = True, 0, ""
        elif not inside or (text and not depth):
            inside = False
            told.append(line)
        elif text:
            indent = indent or depth
            entry = ENTRY.match(text) if depth == indent else None
            if entry is not None:
                name = entry["name"]
                texts[name] = entry["text"]
            elif name:
                texts[name] = f"{texts[name]} {text}".strip()
    return "\n".join(told).strip(), texts


# --- Hints ---


class _Maker:
    """Makes schemas that may refer to one another; what contains itself is defined once, and referred to."""

    def __init__(self) -> None:
        """Begin with no definitions."""
        self._definitions: Json = {}
        self._open: dict[Any, str] = {}
        self._referred: set[str] = set()

    def whole(self, schema: Json) -> Json:
        """Add the definitions that it refers to."""
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def make(self, hint: Any) -> Json:  # noqa: ANN401
        """Make the schema of a hint."""
        while isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        if isinstance(hint, typing.TypeVar):
            hint = hint.__bound__ or Any
        if hint is Any or hint is object:
            return {}
        origin = typing.get_origin(hint)
        return self._generic(hint, origin, typing.get_args(hint)) if origin is not None else self._named(hint)

    def _named(self, hint: Any) -> Json:  # noqa: ANN401
        if hint is None:
            return {"type": "null"}
        if hint in SIMPLE:
            return dict(SIMPLE[hint])
        if typing.is_typeddict(hint):
            return self._record(hint, _typed_dict_fields)
        if not isinstance(hint, type):
            raise NotPlainError(f"{hint!r} has no JSON Schema")
        for fits, make in _BY_KIND:
            if fits(hint):
                return make(self, hint)
        raise NotPlainError(f"{hint.__module__}.{hint.__qualname__} has no JSON Schema")

    def _generic(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Json:  # noqa: ANN401, PLR0911  # one line a form
        if origin is typing.Annotated:
            texts = [text for text in args[1:] if isinstance(text, str)]
            return {"description": texts[0], **self.make(args[0])} if texts else self.make(args[0])
        if origin in {typing.Required, typing.NotRequired, typing.Final}:
            return self.make(args[0])
        if origin in {typing.Union, types.UnionType}:
            return _any_of([self.make(arg) for arg in args])
        if origin is typing.Literal:
            return _enum_of(hint, args)
        if origin is tuple:
            return self._tuple(args)
        if origin in MAPS:
            return self._map(hint, *args)
        if origin in SETS or origin in LISTS:
            return {"type": "array", "items": self.make(args[0])}
        raise NotPlainError(f"{hint!r} has no JSON Schema")

    def _map(self, hint: Any, key: Any, item: Any) -> Json:  # noqa: ANN401
        if self.make(key) not in ({}, {"type": "string"}):
            raise NotPlainError(f"{hint!r} has no JSON Schema: there, the keys of a map are texts")
        return {"type": "object", "additionalProperties": self.make(item) or True}

    def _tuple(self, args: tuple[Any, ...]) -> Json:
        if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004
            return {"type": "array", "items": self.make(args[0])}
        items = [self.make(arg) for arg in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _record(self, hint: Any, fields_of: Callable[[Any], list[tuple[str, Any, bool, Any]]]) -> Json:  # noqa: ANN401
        """Describe what has named fields; what contains itself becomes a definition."""
        if hint in self._open:
            self._referred.add(self._open[hint])
            return {"$ref": f"#/$defs/{self._open[hint]}"}
        name = self._open[hint] = self._free_name(hint.__name__)
        properties: Json = {}
        required: list[str] = []
        for field, kind, is_required, default in fields_of(hint):
            properties[field] = _completed(self.make(kind), {}, default)
            if is_required:
                required.append(field)
        del self._open[hint]
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        if name not in self._referred:
            return schema
        self._definitions[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def _free_name(self, name: str) -> str:
        taken = {*self._definitions, *self._open.values()}
        return next(free for n in range(len(taken) + 1) if (free := f"{name}{n or ''}") not in taken)

    def dataclass(self, hint: Any) -> Json:  # noqa: ANN401
        """Describe a dataclass."""
        return self._record(hint, _dataclass_fields)

    def named_tuple(self, hint: Any) -> Json:  # noqa: ANN401
        """Describe a NamedTuple, which travels as a list."""
        hints = typing.get_type_hints(hint, include_extras=True)
        return self._tuple(tuple(hints.get(name, Any) for name in hint._fields))

    def pydantic(self, hint: Any) -> Json:  # noqa: ANN401
        """Take the schema that a model has of itself."""
        schema: Json = hint.model_json_schema()
        self._definitions.update(schema.pop("$defs", {}))
        return schema

    def msgspec(self, hint: Any) -> Json:  # noqa: ANN401
        """Take the schema that msgspec makes."""
        msgspec_json: Any = importlib.import_module("msgspec.json")
        (schema,), definitions = msgspec_json.schema_components((hint,), ref_template="#/$defs/{name}")
        self._definitions.update(definitions)
        made: Json = schema
        return made

    def enum(self, hint: type[enum.Enum]) -> Json:
        """List the values of an enum."""
        return _enum_of(hint, [member.value for member in hint])


def _dataclass_fields(hint: Any) -> list[tuple[str, Any, bool, Any]]:  # noqa: ANN401
    hints = typing.get_type_hints(hint, include_extras=True)
    empty = inspect.Parameter.empty
    return [
        (
            field.name,
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            empty if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(hint)
        if field.init
    ]


def _typed_dict_fields(hint: Any) -> list[tuple[str, Any, bool, Any]]:  # noqa: ANN401
    hints = typing.get_type_hints(hint, include_extras=True)
    return [(key, kind, is_key_required(hint, key, kind), inspect.Parameter.empty) for key, kind in hints.items()]


def _enum_of(hint: Any, values: Iterable[Any]) -> Json:  # noqa: ANN401
    values = [value.value if isinstance(value, enum.Enum) else value for value in values]
    if not all(value is None or isinstance(value, bool | int | str) for value in values):
        raise NotPlainError(f"{hint!r} has no JSON Schema: not all of its values are plain")
    return {"enum": values}


def _any_of(options: list[Json]) -> Json:
    if {} in options:
        return {}
    # As models know it best: `int | None` as one list of types.
    if all(set(option) == {"type"} and isinstance(option["type"], str) for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


def _text(hint: Any) -> Callable[[_Maker, Any], Json]:  # noqa: ANN401
    return lambda _maker, _hint: dict(hint)


SIMPLE: dict[Any, Json] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    float: {"type": "number"},
    bytes: {"type": "string"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {
        "type": "number",
        "description": "seconds",
        "minimum": -LONGEST_SECONDS,
        "maximum": LONGEST_SECONDS,
    },
    decimal.Decimal: {"type": "string", "pattern": r"^-?[0-9]{1,30}(\.[0-9]{1,30})?$"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    set: {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
    frozenset: {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
}

_BY_KIND: list[tuple[Callable[[type], bool], Callable[[_Maker, Any], Json]]] = [
    (lambda kind: is_struct(kind, "msgspec", "Struct"), _Maker.msgspec),
    (lambda kind: is_struct(kind, "pydantic", "BaseModel"), _Maker.pydantic),
    (dataclasses.is_dataclass, _Maker.dataclass),
    (lambda kind: issubclass(kind, enum.Enum), _Maker.enum),
    (lambda kind: issubclass(kind, tuple) and hasattr(kind, "_fields"), _Maker.named_tuple),
    (lambda kind: issubclass(kind, pathlib.PurePath | str), _text({"type": "string"})),
]
