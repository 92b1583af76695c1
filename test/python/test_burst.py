"""Casts that come together: they run in order, and are answered together until one does anything else."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

import pytest

from pyre import Agent, Context, Reject, _body, _burst, _recorder, _wire, handler
from pyre._dispatch import Dispatcher
from pyre._handlers import compile_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHERS: list[int] = []


class Subject(Agent):
    """Writes down what ran."""

    class State:
        """The entries."""

        entries: list[int] = []  # noqa: RUF012

    @handler
    async def add(self, entry: int) -> None:
        """Run through."""
        self.state.entries.append(entry)

    @handler(readonly=True)
    async def look(self, entry: int) -> int:
        """Run through, and change nothing."""
        OTHERS.append(entry)
        return entry

    @handler
    async def wait(self, entry: int) -> None:
        """Wait once."""
        await asyncio.sleep(0)
        self.state.entries.append(entry)

    @handler
    async def fail(self, entry: int) -> None:
        """Fail."""
        raise ValueError(entry)

    @handler
    async def refuse(self, entry: int) -> None:
        """Refuse."""
        raise Reject(str(entry))

    @handler
    async def later(self, ctx: Context, entry: int) -> None:
        """Have an effect."""
        ctx.after(1.0, "add", entry=entry)

    @handler
    async def tell(self, ctx: Context, entry: int) -> None:
        """Report, which the BEAM hears at once."""
        ctx.progress(0.5, str(entry))


class Interpreter:
    """A dispatcher with a real loop, and a list where the pipe would be."""

    def __init__(self) -> None:
        """Hold one activation."""
        self.loop = asyncio.new_event_loop()
        self.words = _recorder.blank()
        catalogue: Any = types.SimpleNamespace(classes={b"Subject": compile_agent(Subject, __file__, {})}, resources={})
        self.told: list[tuple[Any, ...]] = []
        self.dispatcher = Dispatcher(self.loop, self.told.append, self.words, catalogue, {})
        self.activate(b"")

    def activate(self, state: bytes) -> None:
        """Activate the agent, or again."""
        self.dispatcher.apply([(_wire.OP_ACTIVATE, 1, 1, b"Subject", b"one", state, b"", 1 if state else 0)])

    def burst(self, *names: str, first: int = 1, behind: list[tuple[Any, ...]] | None = None) -> list[tuple[Any, ...]]:
        """Hand a burst over; gives what is told until nothing of it runs any more."""
        self.told.clear()
        deliveries = _body.pack(
            [[name.encode(), _body.pack({"entry": n}), first + n, 1] for n, name in enumerate(names)]
        )
        self.dispatcher.apply([(_wire.OP_BURST, first, 1, 1, deliveries), *(behind or [])])

        async def settle() -> None:
            for _turn in range(50):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settle())
        assert self.dispatcher.running == {}
        return self.told


def burst_done(ended: int, changes: int, entries: list[int] | None, back: int, first: int = 1) -> tuple[Any, ...]:
    """Make what is told of a burst."""
    state = _body.pack({"entries": entries}) if entries is not None else []
    return (_wire.OP_BURST_DONE, first, ended, changes, state, back)


@pytest.fixture
def interpreter() -> Iterator[Interpreter]:
    OTHERS.clear()
    made = Interpreter()
    yield made
    made.loop.run_until_complete(made.dispatcher.close(1.0))
    made.loop.close()


def test_those_that_run_through_are_answered_together(interpreter: Interpreter) -> None:
    assert interpreter.burst("add", "add", "add") == [burst_done(3, 3, [0, 1, 2], 0)]
    assert interpreter.words[_recorder.WORDS.BEGUN] == 3  # the last one's number
    assert interpreter.words[_recorder.WORDS.RUNNING] == 0


def test_those_that_change_nothing_are_no_changes(interpreter: Interpreter) -> None:
    interpreter.burst("add")
    assert interpreter.burst("look", "look", first=2) == [burst_done(2, 0, None, 0, first=2)]
    assert interpreter.burst("look", "add", "look", first=4) == [burst_done(3, 1, [0, 1], 0, first=4)]


def test_one_that_waits_goes_on_alone(interpreter: Interpreter) -> None:
    told = interpreter.burst("add", "wait", "add", "add")
    assert told[0] == burst_done(1, 1, [0], 2)
    assert told[1:] == [(_wire.OP_DONE, 2, 0, b"\xc0", _body.pack({"entries": [0, 1]}), [])]


def test_the_first_one_waits(interpreter: Interpreter) -> None:
    told = interpreter.burst("wait", "add")
    assert [envelope[:3] for envelope in told] == [(_wire.OP_BURST_DONE, 1, 0), (_wire.OP_DONE, 1, 0)]


@pytest.mark.parametrize(
    ("name", "status"),
    [("fail", _wire.STATUS_FAILED), ("refuse", _wire.STATUS_REJECTED), ("nothing", _wire.STATUS_REFUSED)],
)
def test_one_that_does_not_end_well(interpreter: Interpreter, name: str, status: int) -> None:
    told = interpreter.burst("add", "add", name, "add")
    if name == "nothing":  # comes back with those behind it, and is answered where it comes alone
        assert told == [burst_done(2, 2, [0, 1], 2)]
        told = interpreter.burst(name, "add", first=5)
        assert [envelope[:3] for envelope in told] == [(_wire.OP_BURST_DONE, 5, 0), (_wire.OP_DONE, 5, status)]
        assert told[0][5] == 1
    else:
        assert told[0] == burst_done(2, 2, [0, 1], 1)
        assert [envelope[:3] for envelope in told[1:]] == [(_wire.OP_DONE, 3, status)]


def test_one_with_an_effect_is_answered_alone(interpreter: Interpreter) -> None:
    told = interpreter.burst("add", "later", "add")
    assert told[0] == burst_done(1, 1, [0], 1)
    assert [envelope[:3] for envelope in told[1:]] == [(_wire.OP_DONE, 2, 0)]
    assert len(told[1][5]) == 1


def test_the_burst_is_told_before_what_one_of_it_says(interpreter: Interpreter) -> None:
    told = interpreter.burst("look", "tell", "add")
    assert [envelope[0] for envelope in told] == [_wire.OP_BURST_DONE, _wire.OP_PROGRESS, _wire.OP_DONE]
    assert told[0][2:] == (1, 0, [], 1)


def test_where_there_is_no_such_activation_the_first_is_told_so(interpreter: Interpreter) -> None:
    interpreter.dispatcher.apply([(_wire.OP_DROP, 1, 1)])
    assert interpreter.burst("add", "add", "add") == [
        burst_done(0, 0, None, 2),
        (_wire.OP_DONE, 1, _wire.STATUS_EVICTED, b"", [], []),
    ]


def test_others_have_their_turn_after_some_time(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_burst, "MOST_NS", -1)
    assert interpreter.burst("add", "add", "add") == [burst_done(1, 1, [0], 2)]


def test_messages_behind_a_burst_wait_for_it(interpreter: Interpreter) -> None:
    interpreter.dispatcher.apply([(_wire.OP_ACTIVATE, 2, 1, b"Subject", b"two", b"", b"", 0)])
    call = (_wire.OP_DELIVER, 4, 2, 1, _wire.KIND_CALL, b"look", _body.pack({"entry": 9}), 0, 4)
    told = interpreter.burst("look", "look", "look", behind=[call])
    assert OTHERS == [0, 1, 2, 9]
    assert [envelope[:2] for envelope in told] == [(_wire.OP_BURST_DONE, 1), (_wire.OP_DONE, 4)]
