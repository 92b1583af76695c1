"""Cutting a stream into frames."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyre import _frames
from pyre._etf import WireError, encode
from pyre._frames import Framer, unpack
from pyre._wire import MAX_FRAME_BYTES


def pack(envelopes: list[tuple[Any, ...]]) -> bytes:
    return b"".join(_frames.pack(envelopes))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=30), min_size=1, max_size=6),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_frames_come_out_whole_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    batches = [[(6, 1, 0, body)] for body in bodies]
    stream = b"".join(map(pack, batches))
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    framer = Framer()
    payloads: list[bytes] = []
    for start, end in pairwise(bounds):
        payloads += framer.feed(stream[start:end])
    assert list(map(unpack, payloads)) == batches


def test_a_cut_frame_awaits_the_rest() -> None:
    frame = pack([(4, 1)])
    for size in range(len(frame)):
        framer = Framer()
        assert framer.feed(frame[:size]) == []
        assert framer.feed(frame[size:]) == [frame[4:]]


def test_a_large_frame_is_put_together_from_its_chunks() -> None:
    frame = pack([(6, 1, 0, bytes(range(256)) * 4096)])
    framer = Framer()
    chunks = [frame[at : at + 65536] for at in range(0, len(frame), 65536)]
    payloads = [payload for chunk in chunks for payload in framer.feed(chunk)]
    assert payloads == [frame[4:]]


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_a_hostile_length_is_refused_before_anything_is_kept(length: int) -> None:
    hostile = length.to_bytes(4, "big")
    with pytest.raises(WireError, match=f"announces {length} bytes; allowed are 1 to"):
        Framer().feed(hostile)
    with pytest.raises(WireError):
        Framer().feed(pack([(4, 1)]) + hostile + b"more")
    framer = Framer()
    assert framer.feed(hostile[:3]) == []
    with pytest.raises(WireError):
        framer.feed(hostile[3:])


def test_the_limit_is_the_framers() -> None:
    with pytest.raises(WireError, match="announces 11 bytes; allowed are 1 to 10"):
        Framer(10).feed(b"\0\0\0\x0b")


def test_a_batch_above_the_limit_is_not_sent() -> None:
    with pytest.raises(WireError, match=f"at most {MAX_FRAME_BYTES} bytes"):
        pack([(6, 1, 0, bytes(MAX_FRAME_BYTES))])


@pytest.mark.parametrize("batch", [[], [()], [(b"4",)]])
def test_a_payload_that_is_no_batch_is_refused(batch: list[tuple[object, ...]]) -> None:
    with pytest.raises(WireError, match="expected"):
        unpack(encode(batch))
