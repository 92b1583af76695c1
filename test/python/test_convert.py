"""Type hints and plain data, both ways."""

# ruff: noqa: D101  # the types of the tables below

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from pyre import Address, _body, errors
from pyre._convert import Mismatch, NotPlainError, dump, loader, pack


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Rank(enum.IntEnum):
    LOW = 1


@dataclass
class Tree:
    name: str
    size: float = 1.0
    children: list[Tree] = field(default_factory=list)


class Options(TypedDict):
    depth: int
    colour: NotRequired[Colour]


class Place(NamedTuple):
    x: int
    y: int = 0


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    x: int


UserId = NewType("UserId", int)
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")

SAME: list[tuple[Any, Any]] = [
    (int, 1),
    (float, 1.5),
    (str, "a"),
    (bytes, b"a"),
    (bool, True),
    (None, None),
    (Any, {"a": [1]}),
    (list, [1, "a"]),
    (dict, {1: 2}),
    (list[int], [1, 2]),
    (dict[str, list[int]], {"a": [1]}),
    (int | None, None),
    (str | int, 1),
    (Literal["a", 1], 1),
    (UserId, 7),
    (Annotated[int, "counted"], 7),
    (Options, {"depth": 1}),
    (dt.datetime, NOW),
]
MADE: list[tuple[Any, Any, Any]] = [
    (float, 1, 1.0),
    (bytes, "ä", "ä".encode()),
    (Address, "root", Address("root")),
    (Colour, "red", Colour.RED),
    (Rank, 1, Rank.LOW),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[()], [], ()),
    (set[int], [1, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset("a")),
    (pathlib.Path, "/a", pathlib.Path("/a")),
    (uuid.UUID, str(UUID), UUID),
    (Decimal, "1.10", Decimal("1.10")),
    (dt.date, "2026-01-02", dt.date(2026, 1, 2)),
    (dt.time, "03:04:05", dt.time(3, 4, 5)),
    (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
    (Tree, {"name": "a", "size": 2, "children": [{"name": "b"}]}, Tree("a", 2.0, [Tree("b")])),
    (Options, {"depth": 1, "colour": "blue"}, {"depth": 1, "colour": Colour.BLUE}),
    (Place, [1, 2], Place(1, 2)),
    (Point, {"x": 1}, Point(1)),
    (Model, {"x": 1}, Model(x=1)),
    (list[Colour | None], ["red", None], [Colour.RED, None]),
]
REFUSED: list[tuple[Any, Any, str]] = [
    (int, "x", "argument 'n': expected int, got str ('x')"),
    (int, True, "argument 'n': expected int, got bool (True)"),
    (int, 1.0, "argument 'n': expected int, got float (1.0)"),
    (int, None, "argument 'n': expected int, got None"),
    (float, True, "argument 'n': expected float, got bool (True)"),
    (str, b"a", "argument 'n': expected str, got bytes (b'a')"),
    (list[int], [1, "a"], "argument 'n[1]': expected int, got str ('a')"),
    (dict[str, list[int]], {"a": [1, None]}, "argument \"n['a'][1]\": expected int, got None"),
    (Tree, {"name": "a", "children": [{"name": 1}]}, "argument 'n.children[0].name': expected str, got int (1)"),
    (Tree, {}, "argument 'n': expected Tree with the field 'name', got dict ({})"),
    (Tree, {"name": "a", "x": 1}, "argument 'n': expected Tree without the field 'x'"),
    (Colour, "green", "argument 'n': expected one of 'red', 'blue', got str ('green')"),
    (Literal["a", 1], True, "argument 'n': expected one of 'a', 1, got bool (True)"),
    (int | bytes, 1.5, "argument 'n': expected int or bytes, got float (1.5)"),
    (tuple[int, str], [1], "argument 'n': expected list of 2, got list ([1])"),
    (dt.date, "soon", "argument 'n': expected date, got str ('soon')"),
    (uuid.UUID, "no", "argument 'n': expected UUID, got str ('no')"),
    (set[Any], [[]], "argument 'n': expected set of anything, got list ([[]])"),
    (Point, {"x": "1"}, "argument 'n': expected Point"),
    (Model, {"x": "one"}, "argument 'n': expected Model (x: "),
]


@pytest.mark.parametrize(("hint", "value"), SAME)
def test_plain_data_stays_as_it_is(hint: Any, value: Any) -> None:
    loaded = loader(hint).load(value)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(("hint", "value", "made"), MADE)
def test_hints_make_values_of_plain_data(hint: Any, value: Any, made: Any) -> None:
    loaded = loader(hint).load(value)
    assert loaded == made
    assert type(loaded) is type(made)


@pytest.mark.parametrize(("hint", "value", "made"), MADE)
def test_what_was_made_is_dumped_and_made_again(hint: Any, value: Any, made: Any) -> None:
    del value
    assert loader(hint).load(_body.unpack(pack(made))) == made


@pytest.mark.parametrize(("hint", "value", "words"), REFUSED)
def test_what_doesnt_fit_is_named_with_its_place(hint: Any, value: Any, words: str) -> None:
    with pytest.raises(Mismatch) as caught:
        loader(hint).load(value)
    assert caught.value.words("argument", "n").startswith(words)


@pytest.mark.parametrize("hint", [pathlib, object(), type("Client", (), {}), list[type], complex])
def test_a_hint_that_cant_travel_is_an_error_at_discovery(hint: Any) -> None:
    with pytest.raises(NotPlainError):
        loader(hint)


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(Mismatch) as caught:
        loader(int).load("x" * 10_000)
    assert len(caught.value.words("argument", "n")) < 200


def test_sets_are_dumped_in_one_order() -> None:
    assert dump({3, 1, 2}) == [1, 2, 3]
    assert len(dump({1, "a"})) == 2


def test_only_what_the_beam_can_judge_is_a_scalar() -> None:
    scalars = [loader(hint).scalar for hint in (str, int, float, bool, bytes, int | None, list[int], Colour, None)]
    assert scalars == ["str", "int", "float", "bool", "bytes", None, None, None, None]


def test_a_value_that_contains_itself_is_an_error_of_ours() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for attempt in (dump, pack):
        with pytest.raises(errors.EncodeError, match="64 levels"):
            attempt({"value": endless, "path": pathlib.PurePosixPath("/")})
