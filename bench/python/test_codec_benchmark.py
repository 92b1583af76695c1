"""What the interpreter pays to read and write frames and bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyre import _body, _frames, _wire
from pyre._frames import Framer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ARGS = _body.pack({"n": 1})
CHAT = {"messages": [{"role": "user" if n % 2 else "assistant", "text": "lorem ipsum " * 20} for n in range(20)]}
BODIES = [{"n": 1}, CHAT]


def deliveries(count: int) -> list[tuple[Any, ...]]:
    return [
        (_wire.OP_DELIVER, number, number % 100, 1, _wire.KIND_CALL, b"add", ARGS, 123_456, 1_000 + number)
        for number in range(1, count + 1)
    ]


def answers(count: int) -> list[tuple[Any, ...]]:
    state = _body.pack({"total": 300, "name": "counter-of-the-benchmarks"})
    return [(_wire.OP_DONE, number, 0, b"\xcd\x01\x2c", state, []) for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 64])
def test_read_a_frame_of_deliveries(benchmark: BenchmarkFixture, count: int) -> None:
    frame = b"".join(_frames.pack(deliveries(count)))

    def read() -> list[tuple[Any, ...]]:
        (payload,) = Framer().feed(frame)
        return _frames.unpack(payload)

    assert benchmark(read) == deliveries(count)


@pytest.mark.parametrize("count", [1, 64])
def test_write_a_frame_of_answers(benchmark: BenchmarkFixture, count: int) -> None:
    envelopes = answers(count)
    frame = benchmark(_frames.pack, envelopes)
    (payload,) = Framer().feed(b"".join(frame))
    assert _frames.unpack(payload) == envelopes


@pytest.mark.parametrize("value", BODIES, ids=["arguments", "chat of 5 KB"])
def test_pack_a_body(benchmark: BenchmarkFixture, value: Any) -> None:
    assert _body.unpack(benchmark(_body.pack, value)) == value


@pytest.mark.parametrize("value", BODIES, ids=["arguments", "chat of 5 KB"])
def test_unpack_a_body(benchmark: BenchmarkFixture, value: Any) -> None:
    assert benchmark(_body.unpack, _body.pack(value)) == value
