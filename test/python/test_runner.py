"""Messages that take their first steps in one Task, and are told apart all the same."""

from __future__ import annotations

import asyncio
import contextvars
import types
from typing import TYPE_CHECKING, Any

import pytest

from pyre import Agent, _body, _recorder, _wire, handler
from pyre._dispatch import Dispatcher
from pyre._handlers import compile_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")
SEEN: dict[str, Any] = {}


def current_task() -> asyncio.Task[Any]:
    """Give the Task, which there is."""
    task = asyncio.current_task()
    assert task is not None
    return task


class Subject(Agent):
    """Looks at the Task that it runs in."""

    @handler
    async def number_of_task(self) -> int:
        """Tell which Task it is, and keep nothing of it."""
        return id(current_task())

    @handler
    async def keep_task(self) -> None:
        """Remember it."""
        SEEN["task"] = current_task()

    @handler
    async def cancel_task(self) -> None:
        """Cancel it, and end before it takes notice."""
        current_task().cancel()

    @handler
    async def is_kept(self) -> bool:
        """Tell whether it runs in the one that was kept."""
        return current_task() is SEEN["task"]

    @handler
    async def touch_variable(self) -> str:
        """Set a context variable; give what it was."""
        before = VARIABLE.get()
        VARIABLE.set("touched")
        return before

    @handler
    async def wait(self) -> list[Any]:
        """Wait in the ways there are; tell whether Task and variable stayed."""
        task = current_task()
        VARIABLE.set("mine")
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return [current_task() is task, VARIABLE.get()]

    @handler
    async def time_out(self) -> str:
        """Be interrupted by a timeout."""
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(5)
        except TimeoutError:
            return "timeout"
        return "none"

    @handler
    async def wait_for_a_child(self) -> None:
        """Wait for a task of its own."""
        SEEN["child"] = asyncio.create_task(asyncio.sleep(60))
        try:
            await SEEN["child"]
        finally:
            SEEN["finally"] = True

    @handler
    async def swallow(self) -> str:
        """Go on after a cancellation."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    @handler
    async def leave(self, how: str) -> None:
        """End with what ends more than a handler elsewhere."""
        raise {"SystemExit": SystemExit, "GeneratorExit": GeneratorExit, "ValueError": ValueError}[how]


class Interpreter:
    """A dispatcher with a real loop, and a list where the pipe would be."""

    def __init__(self) -> None:
        """Hold ten activations."""
        self.loop = asyncio.new_event_loop()
        self.words = _recorder.blank()
        catalogue: Any = types.SimpleNamespace(classes={b"Subject": compile_agent(Subject, __file__, {})}, resources={})
        self.answers: list[tuple[Any, ...]] = []
        self.expected = 0
        self.dispatcher = Dispatcher(self.loop, self._take, self.words, catalogue, {})
        self.activate()

    def activate(self) -> None:
        """Activate them, or again those that failed."""
        self.dispatcher.apply(
            [(_wire.OP_ACTIVATE, handle, 1, b"Subject", b"%d" % handle, b"", b"", 0) for handle in range(1, 11)]
        )

    def _take(self, envelope: tuple[Any, ...]) -> None:
        self.answers.append(envelope)
        if len(self.answers) == self.expected:
            self.loop.stop()

    def run(self, *names: str, then: list[list[tuple[Any, ...]]] | None = None, **args: Any) -> list[Any]:
        """Deliver a batch, apply more frames before or after its first steps; give bodies, or statuses of failures."""
        self.answers, self.expected = [], len(names)
        body = _body.pack(args)
        frame = [
            (_wire.OP_DELIVER, number, number, 1, 0, name.encode(), body, 0, number)
            for number, name in enumerate(names, 1)
        ]
        before, *after = then or [[]]
        self.dispatcher.apply(frame + before)
        for later in after:
            self.loop.call_soon(self.dispatcher.apply, later)
        guard = self.loop.call_later(10, self.loop.stop)
        self.loop.run_forever()
        guard.cancel()
        assert [answer[1] for answer in sorted(self.answers, key=lambda answer: answer[1])] == list(
            range(1, len(names) + 1)
        )
        return [
            _body.unpack(body) if status == _wire.STATUS_DONE else status
            for _op, _number, status, body, _state, _effects in sorted(self.answers, key=lambda answer: answer[1])
        ]


@pytest.fixture
def interpreter() -> Iterator[Interpreter]:
    SEEN.clear()
    made = Interpreter()
    yield made
    made.loop.run_until_complete(made.dispatcher.close(1.0))
    made.loop.close()


def test_messages_that_never_wait_share_a_task(interpreter: Interpreter) -> None:
    first, second = interpreter.run("number_of_task", "number_of_task")
    assert first == second
    assert [answer[1] for answer in interpreter.answers] == [1, 2]


def test_whoever_keeps_the_task_has_it_alone(interpreter: Interpreter) -> None:
    assert interpreter.run("keep_task", "is_kept", "is_kept") == [None, False, False]
    assert interpreter.run("is_kept") == [False]
    assert SEEN["task"].done()
    assert not SEEN["task"].cancelled()


def test_whoever_cancels_the_task_cancels_no_other_message(interpreter: Interpreter) -> None:
    assert interpreter.run("cancel_task", "wait", "time_out") == [None, [True, "mine"], "timeout"]
    assert interpreter.run("cancel_task") == [None]
    assert interpreter.run("wait") == [[True, "mine"]]


def test_somebody_who_cancels_all_tasks_cancels_no_later_message(interpreter: Interpreter) -> None:
    interpreter.run("number_of_task")
    for task in asyncio.all_tasks(interpreter.loop):
        task.cancel()
    assert interpreter.run("wait", "number_of_task")[0] == [True, "mine"]


def test_context_variables_are_each_messages_own(interpreter: Interpreter) -> None:
    assert interpreter.run("touch_variable", "touch_variable", "wait", "touch_variable") == [
        "untouched",
        "untouched",
        [True, "mine"],
        "untouched",
    ]


def test_each_that_waits_has_a_task_of_its_own(interpreter: Interpreter) -> None:
    assert interpreter.run("wait", "time_out", "wait") == [[True, "mine"], "timeout", [True, "mine"]]


@pytest.mark.parametrize("how", ["SystemExit", "GeneratorExit", "ValueError"])
def test_a_handler_that_fails_ends_only_itself(interpreter: Interpreter, how: str) -> None:
    assert interpreter.run("leave", "leave", how=how) == [_wire.STATUS_FAILED, _wire.STATUS_FAILED]
    interpreter.activate()
    assert interpreter.run("wait", "touch_variable") == [[True, "mine"], "untouched"]


def test_what_is_cancelled_in_the_frame_it_came_with_never_begins(interpreter: Interpreter) -> None:
    answers = interpreter.run("wait_for_a_child", "wait", then=[[(_wire.OP_CANCEL, 1)]])
    assert answers == [_wire.STATUS_CANCELLED, [True, "mine"]]
    assert SEEN == {}


def test_a_cancellation_right_after_the_first_step_reaches_what_is_waited_for(interpreter: Interpreter) -> None:
    answers = interpreter.run("wait_for_a_child", "swallow", then=[[], [(_wire.OP_CANCEL, 1), (_wire.OP_CANCEL, 2)]])
    assert answers == [_wire.STATUS_CANCELLED, "swallowed"]
    assert SEEN["child"].cancelled()
    assert SEEN["finally"]


def test_nothing_is_on_the_loop_after_a_step(interpreter: Interpreter) -> None:
    interpreter.run("wait", "number_of_task")
    assert interpreter.words[_recorder.WORDS.RUNNING] == 0
    assert interpreter.words[_recorder.WORDS.BEGUN] == 2  # the second message's number
