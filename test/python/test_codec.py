"""The codec in C against the one in Python, which says what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from golden import goldens
from pyre import _codec, _etf, _wire
from pyre._etf import WireError
from test_etf import batches, depth, terms

if TYPE_CHECKING:
    from types import ModuleType

in_c: ModuleType = pytest.importorskip(
    "pyre._codec_c", reason="`mix compile` has found no C compiler, or no headers of Python", exc_type=ImportError
)

# What no envelope may hold.
foreign: st.SearchStrategy[Any] = st.floats() | st.text() | st.sampled_from([True, None, {}, bytearray(b"1")])
HUGE = b"\x83l\xff\xff\xff\xff"


def by_python(data: bytes) -> object:
    """Give what the codec in Python makes of it, None where that refuses it."""
    try:
        return _etf.decode(data)
    except WireError:
        return None


def written_by_python(envelopes: Any) -> bytes | None:
    try:
        return _etf.encode(envelopes)
    except WireError:
        return None


def fits(term: object) -> bool:
    """Tell whether C writes its integers: it leaves those below -2**63 to Python."""
    if isinstance(term, list | tuple):
        return all(map(fits, term))
    return not isinstance(term, int) or term >= -(2**63)


def same(ours: object, theirs: object) -> bool:
    return repr(ours) == repr(theirs)  # 1 and True are equal, and so are 1 and 1.0


def test_it_is_used_where_it_is_there() -> None:
    assert _codec.NAME == "c"


def test_both_have_the_limits_of_the_wire() -> None:
    assert in_c.MAX_ENVELOPE_NESTING == _wire.MAX_ENVELOPE_NESTING
    assert in_c.MAX_TUPLE_SIZE == _wire.MAX_TUPLE_SIZE


@pytest.mark.parametrize("golden", goldens("frame"), ids=str)
def test_golden_frames(golden: Any) -> None:
    assert same(in_c.decode(golden.data[4:]), golden.term)
    assert _codec.encode(golden.term) == golden.data[4:]
    assert in_c.encode(golden.term) == (golden.data[4:] if fits(golden.term) else None)


@pytest.mark.parametrize("golden", goldens("bad_frame"), ids=str)
def test_golden_bad_frames_are_read_alike(golden: Any) -> None:
    payload = golden.data[4:]
    assert same(in_c.decode(payload), by_python(payload))


@settings(max_examples=300, deadline=None)
@given(batches)
def test_both_write_the_same(batch: list[tuple[Any, ...]]) -> None:
    data = written_by_python(batch)
    assert in_c.encode(batch) == (data if fits(batch) else None)
    assert (data is not None) == (depth(batch) <= _wire.MAX_ENVELOPE_NESTING)
    if data is not None:
        assert same(in_c.decode(data), batch)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(terms | foreign) | terms))
def test_what_one_refuses_to_write_the_other_does_not_write(batch: list[Any]) -> None:
    assert in_c.encode(batch) == (written_by_python(batch) if fits(batch) else None)


@settings(max_examples=300, deadline=None)
@given(batches, st.data())
def test_damaged_bytes_are_read_alike(batch: list[tuple[Any, ...]], data: st.DataObject) -> None:
    sound = written_by_python(batch) or HUGE
    at = data.draw(st.integers(0, len(sound) - 1))
    damaged = sound[:at] + data.draw(st.binary(max_size=6)) + sound[at + data.draw(st.integers(0, 6)) :]
    assert same(in_c.decode(damaged), by_python(damaged))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
@example(HUGE * 3)
@example(b"\x83l\0\0\0\1h\xff")
@example(b"\x83l\0\0\0\1m\xff\xff\xff\xff")
@example(b"\x83n\x08\0" + b"\xff" * 8)
@example(b"\x83n\x09\0" + b"\xff" * 9)
@example(b"\x83n\0\1")
def test_any_bytes_are_read_alike(data: bytes) -> None:
    assert same(in_c.decode(data), by_python(data))
    assert same(in_c.decode(b"\x83l" + data), by_python(b"\x83l" + data))


def test_every_cut_is_declined() -> None:
    batch = [(3, 70_000, 1, 1, 0, b"add", b"\x81\xa1n\x01", 2**40, (1, 2)), (65, 1, 0, b"\x01", [], [(1, b"k", -5)])]
    data = _etf.encode(batch)
    assert same(in_c.decode(data), batch)
    for size in range(len(data)):
        assert in_c.decode(data[:size]) is None
    assert in_c.decode(data + b"j") is None


def test_lists_that_promise_more_than_there_is_cost_nothing() -> None:
    # Eight lists in each other, each of which promises as many items as bytes are left.
    promises = b"".join(b"l" + (16_000_000 - 5 * level - 200).to_bytes(4, "big") for level in range(7))
    data = b"\x83" + promises + b"\x6a" * (16_000_000 - len(promises))
    assert in_c.decode(data) is None


@pytest.mark.parametrize("given", [None, "text", (), b"", 5, [1], [(1.5,)], [()] * 3, bytearray(b"\x83j")])
def test_what_is_no_batch_or_no_bytes_is_left_to_python(given: Any) -> None:
    assert in_c.decode(given) is None
    assert in_c.encode(given) is None or isinstance(given, list)


def test_a_message_of_the_largest_size_is_written_at_once() -> None:
    body = bytes(range(256)) * 65_536
    assert in_c.encode([(65, 1, 0, body, [], [])]) == _etf.encode([(65, 1, 0, body, [], [])])
