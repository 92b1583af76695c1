"""JSON Schema of type hints and of handlers: what it says, and that what it allows is what is taken."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyre import Agent, Context, _body, handler
from pyre._convert import NotPlainError, loader
from pyre._handlers import HandlerError, compile_agent
from pyre._schema import describe, schema_of


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    """A line of an order."""

    sku: str
    pieces: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Tree:
    """A tree, which contains itself."""

    name: str
    left: Tree | None = None
    others: dict[str, Tree] = dataclasses.field(default_factory=dict)


class Place(NamedTuple):
    """A place."""

    x: float
    y: float


class Note(TypedDict):
    """A note."""

    text: str
    stars: NotRequired[int]


class Struct(msgspec.Struct):
    """Something of msgspec's."""

    name: str
    size: int = 0


class Inner(pydantic.BaseModel):
    """A part of something of pydantic's."""

    deep: bool


class Model(pydantic.BaseModel):
    """Something of pydantic's."""

    name: str
    inner: Inner
    size: int = 0


Number = NewType("Number", int)

WRITTEN: list[tuple[Any, Any]] = [
    (Any, {}),
    (None, {"type": "null"}),
    (int, {"type": "integer"}),
    (Number, {"type": "integer"}),
    (float, {"type": "number"}),
    (bytes, {"type": "string"}),
    (int | None, {"type": ["integer", "null"]}),
    (int | list[str], {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]}),
    (int | Any, {}),
    (Literal["a", 1, True], {"enum": ["a", 1, True]}),
    (Colour, {"enum": ["red", "blue"]}),
    (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
    ),
    (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (dict[str, Any], {"type": "object", "additionalProperties": True}),
    (dt.datetime, {"type": "string", "format": "date-time"}),
    (pathlib.Path, {"type": "string"}),
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
    (
        Line,
        {
            "type": "object",
            "properties": {
                "sku": {"type": "string"},
                "pieces": {"type": "integer", "default": 1},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["sku"],
            "additionalProperties": False,
        },
    ),
    (
        Note,
        {
            "type": "object",
            "properties": {"text": {"type": "string"}, "stars": {"type": "integer"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    ),
]


@pytest.mark.parametrize(("hint", "schema"), WRITTEN, ids=str)
def test_a_hint_as_json_schema(hint: Any, schema: Any) -> None:
    assert schema_of(hint) == schema


def test_what_contains_itself_is_defined_once() -> None:
    schema = schema_of(list[Tree])
    assert schema["items"] == {"$ref": "#/$defs/Tree"}
    assert list(schema["$defs"]) == ["Tree"]
    properties = schema["$defs"]["Tree"]["properties"]
    assert properties["left"] == {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}], "default": None}


def _other_tree() -> Any:
    @dataclasses.dataclass
    class Tree:
        """Another tree."""

        root: Any = None

    Tree.__annotations__["root"] = Tree
    return Tree


def test_two_classes_of_one_name_are_two_definitions() -> None:
    schema = schema_of(tuple[Tree, _other_tree()])  # type: ignore[misc]
    assert list(schema["$defs"]) == ["Tree", "Tree1"]


def test_the_definitions_of_other_libraries_are_taken_over() -> None:
    assert schema_of(list[Model])["$defs"].keys() == {"Inner"}
    assert schema_of(dict[str, Struct])["$defs"].keys() == {"Struct"}


@pytest.mark.parametrize("hint", [dict[int, str], Literal[b"x"], dict[Colour, int], typing.Callable], ids=str)
def test_what_json_cannot_say_is_refused(hint: Any) -> None:
    with pytest.raises(NotPlainError):
        schema_of(hint)


def build(
    line: Line, colour: Colour = Colour.RED, *, n: int = 3, when: Annotated[dt.datetime | None, "an instant"] = None
) -> None:
    """Build something.

    It takes a while.

    Args:
        line: what to build,
            and of what
        colour (Colour): its colour: red, if you can
        n: how often
        when: when it is wanted

    Afterwards it is there.

    """


def test_a_function_is_described_by_its_docstring_hints_and_defaults() -> None:
    told = describe(build, {"line", "colour", "n", "when"})
    assert told["description"] == "Build something.\n\nIt takes a while.\n\nAfterwards it is there."
    properties = told["schema"]["properties"]
    assert properties["line"]["description"] == "what to build, and of what"
    assert properties["colour"] == {
        "description": "its colour: red, if you can",
        "enum": ["red", "blue"],
        "default": "red",
    }
    assert properties["n"] == {"description": "how often", "type": "integer", "default": 3}
    assert properties["when"]["description"] == "an instant"
    assert properties["when"]["default"] is None
    assert told["schema"]["required"] == ["line"]
    assert json.loads(json.dumps(told)) == told


def test_only_the_named_arguments_and_open_ones() -> None:
    def note(ctx: object, text, **more: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        pass

    assert describe(note, {"text"}) == {
        "description": "",
        "schema": {
            "type": "object",
            "properties": {"text": {}},
            "required": ["text"],
            "additionalProperties": {"type": "integer"},
        },
    }


def test_a_default_that_json_cannot_say_is_left_out() -> None:
    def wait(n: float = float("inf"), data: bytes = b"\xff") -> None:
        pass

    assert describe(wait, {"n", "data"})["schema"]["properties"] == {
        "n": {"type": "number"},
        "data": {"type": "string"},
    }


class Builder(Agent):
    """Has a handler that is a tool, and one that is none."""

    class State:
        """Nothing."""

    @handler(tool=True)
    async def build(self, ctx: Context, line: Line) -> None:
        """Build."""

    @handler
    async def other(self) -> None:
        """Do something else."""


def test_ready_describes_handlers_that_are_tools() -> None:
    outline = compile_agent(Builder, "", {}).outline()["handlers"]
    assert outline["build"]["tool"]["description"] == "Build."
    assert outline["build"]["tool"]["schema"]["properties"] == {"line": schema_of(Line)}
    assert "tool" not in outline["other"]
    assert _body.unpack(_body.pack(outline)) == outline


def test_a_tool_that_json_cannot_describe_is_found_at_discovery() -> None:
    class Wrong(Agent):
        @handler(tool=True)
        async def count(self, by: dict[int, int]) -> None:
            """Count."""

    with pytest.raises(HandlerError, match=r"Wrong\.count: parameter 'by' of a tool: .*keys of a map are texts"):
        compile_agent(Wrong, "", {})


# --- What a schema allows, the conversion takes ---

INTEGERS = st.integers(-(2**63), 2**64 - 1)
# A whole number written as a float is an integer to JSON Schema, and none to Python.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | INTEGERS
TEXTS = st.text(max_size=10)
ANYTHING = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
FORMATS: dict[str, st.SearchStrategy[str]] = {
    "date-time": st.datetimes(timezones=st.just(dt.UTC)).map(dt.datetime.isoformat),
    "date": st.dates().map(dt.date.isoformat),
    "time": st.times().map(dt.time.isoformat),
    "uuid": st.uuids().map(str),
}


def instances(schema: Any, definitions: dict[str, Any]) -> Any:
    """Make what a schema allows; only as much of JSON Schema as is written here."""
    if "$ref" in schema:
        # One strategy for each definition, or one that contains itself would be made without end.
        name = schema["$ref"].removeprefix("#/$defs/")
        made: dict[str, Any] = definitions.setdefault("made", {})
        if name not in made:
            made[name] = st.deferred(lambda: instances(definitions[name], definitions))
        return made[name]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([instances(option, definitions) for option in schema["anyOf"]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([instances({"type": one}, definitions) for one in kind])
    return ANYTHING if kind is None else KINDS[kind](schema, definitions)


def _strings(schema: Any, _definitions: Any) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return FORMATS[schema["format"]] if "format" in schema else TEXTS


def _numbers(schema: Any, _definitions: Any) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum"), schema.get("maximum")
    return NUMBERS if least is None else st.floats(least, most) | st.integers(least, most)


def _arrays(schema: Any, definitions: Any) -> st.SearchStrategy[Any]:
    if "prefixItems" in schema:
        return st.tuples(*[instances(item, definitions) for item in schema["prefixItems"]]).map(list)
    return st.lists(instances(schema.get("items", {}), definitions), max_size=3)


def _objects(schema: Any, definitions: Any) -> st.SearchStrategy[Any]:
    fields = {name: instances(field, definitions) for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    known = st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )
    rest = schema.get("additionalProperties", True)
    if rest is False:
        return known
    more = st.dictionaries(TEXTS, ANYTHING if rest is True else instances(rest, definitions), max_size=2)
    return st.tuples(more, known).map(lambda pair: {**pair[0], **pair[1]})


KINDS: dict[str, Any] = {
    "null": lambda *_: st.none(),
    "boolean": lambda *_: st.booleans(),
    "integer": lambda *_: INTEGERS,
    "number": _numbers,
    "string": _strings,
    "array": _arrays,
    "object": _objects,
}

LEAVES: list[Any] = [
    *[bool, int, float, str, bytes, type(None), Number, Any, Colour, Literal["a", 1, True]],
    *[dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, pathlib.Path],
    *[Line, Tree, Place, Note, Struct, list, dict, tuple, set],
]


def _union(hints: list[Any]) -> Any:
    # In one order: to typing, unions of the same types are one, and it gives the first that it saw.
    flat = [
        one for hint in hints for one in (typing.get_args(hint) if typing.get_origin(hint) is typing.Union else [hint])
    ]
    return typing.Union[tuple(sorted(flat, key=repr))]  # noqa: UP007


HINTS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),  # type: ignore[valid-type]
        inner.map(lambda hint: dict[str, hint]),  # type: ignore[valid-type]
        inner.map(lambda hint: tuple[hint, ...]),  # type: ignore[valid-type]
        st.lists(inner, min_size=1, max_size=3).map(lambda hints: tuple[tuple(hints)]),  # type: ignore[misc]
        st.lists(inner, min_size=2, max_size=3).map(_union),
        inner.map(lambda hint: Annotated[hint, "a text"]),
    ),
    max_leaves=4,
)


@given(st.data())
def test_what_a_schema_allows_is_taken(data: st.DataObject) -> None:
    hint = data.draw(HINTS, label="hint")
    schema = schema_of(hint)
    assert json.loads(json.dumps(schema)) == schema
    value = data.draw(instances(schema, dict(schema.get("$defs", {}))), label="value")
    loader(hint).load(_body.unpack(_body.pack(value)))
