"""What the interpreter pays for a message beside the codec: from its envelope to its answer."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from pyre import _body, _recorder, _wire
from pyre._discovery import discover
from pyre._dispatch import Dispatcher
from pyre._loop import new_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

AGENTS = str(pathlib.Path(__file__).parent.parent / "agents")
ARGS = _body.pack({"n": 1})
HANDLES = range(1, 101)


class Interpreter:
    """A dispatcher with a real loop, and a list where the pipe would be."""

    def __init__(self) -> None:
        """Hold the agents of bench/agents, activated."""
        self.loop: asyncio.AbstractEventLoop = new_loop()[0]
        self.answers: list[tuple[Any, ...]] = []
        self.number = 0
        self.expected = 0
        catalogue = discover([AGENTS])
        self.dispatcher = Dispatcher(self.loop, self._take, _recorder.blank(), catalogue, {})
        self.dispatcher.apply(
            [(_wire.OP_ACTIVATE, handle, 1, b"Counter", b"counter-%d" % handle, b"", b"\x80", 0) for handle in HANDLES]
        )

    def _take(self, envelope: tuple[Any, ...]) -> None:
        self.answers.append(envelope)
        if len(self.answers) == self.expected:
            self.loop.stop()

    def handle(self, count: int) -> list[tuple[Any, ...]]:
        """Apply a batch of calls and run the loop until all are answered."""
        first = self.number + 1
        self.number += count
        self.answers, self.expected = [], count
        self.dispatcher.apply(
            [
                (_wire.OP_DELIVER, number, number % 100 + 1, 1, _wire.KIND_CALL, b"add", ARGS, 0, number)
                for number in range(first, first + count)
            ]
        )
        self.loop.run_forever()
        return self.answers


@pytest.fixture
def interpreter() -> Iterator[Interpreter]:
    made = Interpreter()
    yield made
    made.loop.run_until_complete(made.dispatcher.close(1.0))
    made.loop.close()


@pytest.mark.parametrize("count", [1, 64])
def test_handle_a_batch_of_calls(benchmark: BenchmarkFixture, interpreter: Interpreter, count: int) -> None:
    answers = benchmark(interpreter.handle, count)
    assert [envelope[2] for envelope in answers] == [_wire.STATUS_DONE] * count
    assert all(envelope[4] for envelope in answers), "each call changes the state"
