"""Where messages run: a Task in which one message after the other begins, until one of them has to wait.

Most handlers never wait. To make a Task for each costs as much as all else that is done for such a message, so a
message takes its first step at once, inside a Task that is there already; where it ends in that step, the next one may
begin in the same Task. One that waits keeps the Task until it has ended. To the handler it is the same:
`asyncio.current_task()` stays the same Task while it runs, so `asyncio.timeout` and cancellation work as anywhere, and
each message has context variables of its own. Whoever keeps a reference to the Task, or cancels it, has it alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import sys
import types
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pyre._message import Message

__all__ = ["Runners"]

RUNNING, SINCE = 2, 3
PARKED: Any = type("Parked", (), {"__slots__": ()})()  # what a message's last step gives

copy_context = contextvars.copy_context
enter_task = asyncio._enter_task  # noqa: SLF001  # documented: "Extending asyncio", task lifetime support
leave_task = asyncio._leave_task  # noqa: SLF001
references_to = sys.getrefcount


@types.coroutine
def _messages() -> Generator[Any, Any, None]:
    """Run one message after the other; a generator, since a coroutine that ends in one would cost an exception each."""
    while True:
        message: Message | None = yield PARKED
        assert message is not None  # noqa: S101  # for the type checker: PARKED is answered by a message
        message.succeed((yield from message.begin()))
        message = None


class Runners:
    """Takes the first steps of messages, in the order in which they came, which is that of their numbers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, words: memoryview) -> None:
        """Begin with none."""
        self._loop = loop
        self._words = words
        self._free: _Runner | None = None
        self.unbegun: collections.deque[Message] = collections.deque()
        self.beginning = False

    def begin(self) -> None:
        """Run the first steps of all that have come; called in the loop, by none of its tasks."""
        unbegun = self.unbegun
        self.beginning = True
        try:
            while unbegun:
                runner = self._free
                if runner is None or runner.task.cancelling():
                    runner = _Runner(self._loop, self._words)
                self._free = None
                if runner.begin(unbegun):
                    self._free = runner
        finally:
            self.beginning = False

    async def close(self) -> None:
        """End the Task that waits for a message."""
        runner, self._free = self._free, None
        if runner is not None and runner.task is not asyncio.current_task():
            runner.task.cancel()
            await asyncio.wait([runner.task], timeout=1.0)


class _Runner:
    """A Task, and the coroutine that it runs."""

    __slots__ = ("_context", "_first_wait", "_loop", "_message", "_parked", "_steps", "_words", "over", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, words: memoryview) -> None:
        """Make the Task; it waits for a message that needs it."""
        self._loop = loop
        self._words = words
        self._steps: Any = _messages()
        next(self._steps)
        self._message: Message | None = None
        self._context: contextvars.Context | None = None
        # What the first step waits for, until the Task has learnt of it.
        self._first_wait: Any = PARKED
        self._parked: asyncio.Future[None] | None = None
        self.over = False
        self.task: asyncio.Task[Any] = asyncio.Task(self, loop=loop, name="pyre-message")

    def begin(self, unbegun: collections.deque[Message]) -> bool:
        """Run first steps until one waits, or keeps the Task; tells whether others can begin here later."""
        loop, task = self._loop, self.task
        cancelling, send = task.cancelling, self._steps.send
        enter_task(loop, task)
        try:
            while unbegun:
                message = unbegun.popleft()
                message.task = task
                references = references_to(task)
                context = copy_context()
                waiting = self._step(message, context, send, message)
                if waiting is not PARKED:
                    self._message, self._context, self._first_wait = message, context, waiting
                    message.part()
                    break
                # The message let go of the Task when it ended: as many as before means that somebody else has it now.
                if self.over or references_to(task) >= references or cancelling():
                    self.over = True
                    break
            else:
                return True
        finally:
            leave_task(loop, task)
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)
        return False

    def _step(self, message: Message, context: contextvars.Context, step: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        words = self._words
        words[SINCE] = monotonic_ns()
        words[RUNNING] = message.number
        try:
            waiting = context.run(step, *args)
        except BaseException as exc:  # noqa: BLE001  # SystemExit in a handler is the handler's failure
            self.over = True
            context.run(message.fail, exc)
            waiting = PARKED
        words[RUNNING] = 0
        watched = message.dispatcher.watched
        if watched is not None:
            watched(message)
        return waiting

    # --- The coroutine protocol: the Task calls these, on the loop's thread ---

    def send(self, value: Any) -> Any:  # noqa: ANN401
        """Go on with the message that waited."""
        waiting = self._first_wait
        if waiting is not PARKED:
            self._first_wait = PARKED
            return waiting
        if self._message is None:
            return self._park()
        return self._next_step(self._steps.send, value)

    def throw(self, exc: Any, *rest: Any) -> Any:  # noqa: ANN401
        """Raise an exception, such as a cancellation, inside the handler."""
        waiting = self._first_wait
        self._first_wait = PARKED
        # As the Task does, once it knows what is waited for: the awaited is cancelled, and that raises in the handler.
        if asyncio.isfuture(waiting) and waiting.cancel():
            return waiting
        if self._message is None:
            self.over = True
            raise exc
        return self._next_step(self._steps.throw, exc, *rest)

    def _next_step(self, step: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        message, context = self._message, self._context
        assert message is not None and context is not None  # noqa: PT018, S101  # it waits, so it has begun
        waiting = self._step(message, context, step, *args)
        if waiting is PARKED:
            self.over = True
            raise StopIteration
        return waiting

    def _park(self) -> Any:  # noqa: ANN401
        if self.over:
            raise StopIteration
        parked = self._parked = self._loop.create_future()
        parked._asyncio_future_blocking = True  # noqa: SLF001  # what its __await__ does
        return parked

    def close(self) -> None:
        """End without an answer, when the loop goes down."""
        self._steps.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Only there because asyncio asks for it."""
        raise NotImplementedError
