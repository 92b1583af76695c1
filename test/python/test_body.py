"""MessagePack bodies, against golden ones and at random."""

from __future__ import annotations

import datetime as dt
import math
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import EPOCH, goldens
from pyre._body import Ext, pack, unpack
from pyre._wire import MAX_BODY_BYTES
from pyre.errors import DecodeError, EncodeError, TooLarge

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.builds(Ext, st.integers(-128, 127).filter((-1).__ne__), st.binary(max_size=20))
)
keys = st.text(max_size=10) | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_was_packed_is_unpacked(value: object) -> None:
    assert unpack(pack(value)) == value
    assert unpack(memoryview(pack(value))) == value


@settings(max_examples=60, deadline=None)
@given(values)
def test_every_cut_is_reported(value: object) -> None:
    data = pack(value)
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            unpack(data[:size])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_an_error_or_a_value(garbage: bytes) -> None:
    try:
        unpack(garbage)
    except DecodeError as error:
        assert error.message.startswith("not a MessagePack body")  # noqa: PT017


@pytest.mark.parametrize("golden", goldens("body"), ids=str)
def test_golden_body(golden: Any) -> None:
    value = unpack(golden.data)
    assert value == golden.term
    assert type(value) is type(golden.term)
    if golden.canonical:
        assert pack(value) == golden.data


@pytest.mark.parametrize("golden", goldens("bad_body"), ids=str)
def test_golden_bad_body(golden: Any) -> None:
    with pytest.raises(DecodeError, match="not a MessagePack body"):
        unpack(golden.data)


NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001  the trouble under test


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"orders": [1, {"price": 2**64}]}, '["orders"][1]["price"]', "-2^63 to 2^64 - 1"),
        ([-(2**63) - 1], "[0]", "-2^63 to 2^64 - 1"),
        ({"at": NAIVE}, '["at"]', "without time zone"),
        (["x", "a\ud800"], "[1]", "lone surrogate at character 1"),
        ({1: {None: {True: {2}}}}, "[1][nil][true]", "a set has no counterpart"),
        ({"f": frozenset()}, '["f"]', "a frozenset has no counterpart"),
        ((object(),), "[0]", "object has no counterpart"),
        ({"k" * 50: [object()]}, f'["{"k" * 40}..."][0]', "object has no counterpart"),
        ([{(1, dt.date(2020, 1, 1)): 1}], "[0]", "the key (1, datetime.date(2020, 1, 1)): date"),
        ({1.5: {b"\xff": object()}}, '[1.5]["\ufffd"]', "object has no counterpart"),
        ([Ext(128, b"")], "[0]", "type is -128 to 127 and not -1"),
        ([Ext(-1, b"")], "[0]", "type is -128 to 127 and not -1"),
        ([Ext(1, "text")], "[0]", "the data of an Ext is bytes"),  # type: ignore[arg-type]
        (print, "", "builtin_function_or_method has no counterpart"),
    ],
)
def test_what_cannot_travel_is_named_with_its_place(value: object, path: str, reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        pack(value)
    assert caught.value.path == path
    assert reason in caught.value.message
    assert caught.value.kind == "encode"
    assert not path or f" at {path}: " in caught.value.message


def test_after_a_failure_the_packer_is_as_good_as_new() -> None:
    with pytest.raises(EncodeError):
        pack([1, 2, object()])
    assert pack([1]) == b"\x91\x01"


@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"k": items[0]}])
def test_64_levels_travel_and_65_do_not(wrap: Any) -> None:
    value: Any = wrap([1])
    for _ in range(63):
        value = wrap([value])
    pack(value)
    with pytest.raises(EncodeError, match="nested more than 64 levels"):
        pack(wrap([value]))


def test_what_the_64th_level_holds_is_no_level() -> None:
    value: Any = [EPOCH, Ext(1, b"")]
    for _ in range(63):
        value = [value]
    assert unpack(pack(value)) == value


def test_nesting_is_seen_through_subclasses_and_beyond_the_c_limit() -> None:
    value: Any = OrderedDict(k=nested(64))
    with pytest.raises(EncodeError, match="nested more than 64 levels"):
        pack(value)
    with pytest.raises(EncodeError, match="nested more than 64 levels"):
        pack(nested(100_000))
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(EncodeError, match="nested more than 64 levels"):
        pack(ring)


def test_what_counts_as_something_else() -> None:
    point = namedtuple("point", "x y")  # noqa: PYI024  an untyped one counts as well
    colour = IntEnum("colour", "RED")
    value = [point(1, 2), OrderedDict(a=1), (1,), bytearray(b"b"), memoryview(b"m"), colour(1)]
    assert unpack(pack(value)) == [[1, 2], {"a": 1}, [1], b"b", b"m", 1]


def test_any_time_zone_travels_as_the_instant() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    packed = unpack(pack(dt.datetime(2020, 1, 1, 14, 0, 0, 250_000, tzinfo=zone)))
    assert packed == dt.datetime(2020, 1, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    assert packed.tzinfo is dt.UTC


def test_a_nan_travels_between_pythons() -> None:
    assert math.isnan(unpack(pack(math.nan)))


def test_a_value_above_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge) as caught:
        pack(bytes(MAX_BODY_BYTES))
    assert caught.value.details == {"size": MAX_BODY_BYTES + 5, "limit": MAX_BODY_BYTES}
    assert caught.value.kind == "too_large"
    assert isinstance(caught.value, EncodeError)
    assert len(pack(bytes(MAX_BODY_BYTES - 5))) == MAX_BODY_BYTES
    with pytest.raises(TooLarge):
        unpack(bytes(MAX_BODY_BYTES + 1))


def test_threads_do_not_mix_their_bytes() -> None:
    # Each Ext runs Python code in the middle of a pack, where another thread may come in.
    def run(number: int) -> bool:
        value = [Ext(number, bytes([number]) * 20)] * 50
        return all(unpack(pack(value)) == value for _ in range(40))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(8)))
