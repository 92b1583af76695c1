"""The envelopes' codec, against golden frames and at random."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import goldens
from pyre import _frames
from pyre._etf import WireError, decode, encode
from pyre._wire import MAX_TUPLE_SIZE

integers = st.integers(min_value=1 - 2**64, max_value=2**64 - 1)
terms = st.recursive(
    st.integers(0, 300) | integers | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)
envelopes = st.lists(terms, max_size=8).map(lambda rest: (65, *rest))
# The two that have a way of their own, in and out of its bounds.
edges = st.sampled_from([0, 255, 256, 2**31 - 1, 2**31, -1]) | integers
delivers = st.tuples(st.just(3), edges, edges, edges, edges, st.binary(), st.binary(), edges, terms)
dones = st.tuples(
    st.just(65),
    edges,
    st.integers(0, 300),
    st.binary(),
    st.just([]) | st.binary(),
    st.just([]) | st.just([(1, b"key", 5, b"tick", b"\x80")]),
)
batches = st.lists(delivers | dones | envelopes, min_size=1, max_size=4)


def depth(term: object) -> int:
    if isinstance(term, tuple) or (isinstance(term, list) and term):
        return 1 + max((depth(item) for item in term), default=0)
    return 0


@settings(max_examples=200, deadline=None)
@given(batches.filter(lambda batch: depth(batch) <= 8))
def test_what_was_encoded_is_decoded(batch: list[tuple[Any, ...]]) -> None:
    assert decode(encode(batch)) == batch
    assert decode(memoryview(encode(batch))) == batch


@settings(max_examples=60, deadline=None)
@given(batches.filter(lambda batch: depth(batch) <= 8))
def test_every_cut_is_reported(batch: list[tuple[Any, ...]]) -> None:
    data = encode(batch)
    for size in range(len(data)):
        with pytest.raises(WireError):
            decode(data[:size])


@settings(max_examples=200, deadline=None)
@given(batches.filter(lambda batch: depth(batch) <= 8), st.data())
def test_a_changed_byte_is_an_error_or_another_term(batch: list[tuple[Any, ...]], data: st.DataObject) -> None:
    changed = bytearray(encode(batch))
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255))
    try:
        _frames.unpack(bytes(changed))
    except WireError as error:
        assert str(error)  # noqa: PT017  another term is as good an end


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_an_error_or_a_term(garbage: bytes) -> None:
    for data in (garbage, b"\x83" + garbage, b"\x83l\0\0\0\1h" + garbage):
        try:
            decode(data)
        except WireError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize("golden", goldens("frame"), ids=str)
def test_golden_frame(golden: Any) -> None:
    (payload,) = _frames.Framer().feed(golden.data)
    assert _frames.unpack(payload) == golden.term
    assert b"".join(_frames.pack(golden.term)) == golden.data


@pytest.mark.parametrize("golden", goldens("bad_frame"), ids=str)
def test_golden_bad_frame(golden: Any) -> None:
    (payload,) = _frames.Framer().feed(golden.data)
    with pytest.raises(WireError):
        _frames.unpack(payload)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected version byte 131 at byte 0, got b''"),
        (b"\x83d\0\1a", "tag 100 at byte 1 is not allowed"),
        (b"\x83jj", "1 bytes follow the term at byte 2"),
        (b"\x83n\1\2\0", "got 1 bytes with sign 2"),
        (b"\x83l\0\0\0\1a\1a\1", "to end with tag 106 at byte 8, got 97"),
        (b"\x83" + b"h\1" * 9, "byte 17 is nested more than 8 levels deep"),
        (b"\x83l\xff\xff\xff\xffa\1", "cut short at byte 8"),
    ],
)
def test_an_error_says_what_and_where(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message.replace("(", r"\(")):
        decode(data)


@pytest.mark.parametrize(
    "item",
    [None, True, 1.5, "text", {}, bytearray(b"x"), 2**64, -(2**64)],
)
def test_what_may_not_be_in_an_envelope_is_refused(item: object) -> None:
    envelopes: list[tuple[Any, ...]] = [
        (4, item),
        (4, (item,)),
        (65, 300, 0, b"", item, []),
    ]
    for envelope in envelopes:
        with pytest.raises(WireError):
            encode([envelope])
    with pytest.raises(WireError):
        encode([(65, 300, 0, b"", [], [item])])


def test_a_batch_of_other_things_is_refused() -> None:
    with pytest.raises(WireError, match="no envelope may hold list"):
        encode([[65]])  # type: ignore[list-item]
    with pytest.raises(WireError, match="at most 255 elements"):
        encode([tuple(range(MAX_TUPLE_SIZE + 1))])


def test_a_term_nested_too_deep_is_not_sent() -> None:
    term: object = ()
    for _ in range(8):
        term = (term,)
    with pytest.raises(WireError, match="nested more than 8 levels"):
        encode([(4, term)])


def test_a_done_whose_status_is_no_byte_goes_the_long_way() -> None:
    batch: list[tuple[Any, ...]] = [(65, 300, 256, b"", [], [])]
    assert decode(encode(batch)) == batch


def test_a_hostile_length_in_a_deliver_is_cut_short() -> None:
    data = encode([(3, 300, 1, 1, 0, b"check", b"\x80", 0, 1)])
    hostile = data.replace(struct.pack(">I", 5) + b"check", b"\xff\xff\xff\xffcheck")
    assert hostile != data
    with pytest.raises(WireError, match="cut short"):
        decode(hostile)
