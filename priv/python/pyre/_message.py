"""One message under way.

Its steps are run by a `Runner`, which tells the flight recorder what is on the loop: a worker that dies in the middle
of one leaves the number of the message behind.

The order inside the first step matters. First what can refuse the message without running any of the user's code, then
the recorder's *begun* word, then the activation, then the handler.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import math
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NoReturn

from pyre import _wire, errors
from pyre._activations import UNMADE, commit, materialise, snapshot
from pyre._body import unpack
from pyre._convert import pack
from pyre._failure import failure_body, own_body, rejection_body
from pyre._progress import checked
from pyre._stream import Outlet

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

    from pyre._activations import Activation
    from pyre._burst import Burst
    from pyre._dispatch import Dispatcher
    from pyre._handlers import HandlerSpec
    from pyre._progress import Reported, Reports
    from pyre._requests import Request
    from pyre.retry import Retry

__all__ = ["CURRENT", "FunctionRun", "Message"]

CURRENT: contextvars.ContextVar[Message] = contextvars.ContextVar("pyre_message")

NIL = b"\xc0"
NO_EFFECTS: list[tuple[Any, ...]] = []
BEGUN, SINCE = 1, 3
CANCEL_AGAIN_SECONDS = 1.0  # an honest `finally` may take its time
MOST_CANCELS = 10


class _Answered(Exception):  # noqa: N818  # ends a message early, with its answer
    """The message is answered without its handler."""

    def __init__(self, status: int, body: bytes) -> None:
        """Keep the answer."""
        super().__init__()
        self.status = status
        self.body = body


class _Side:
    """What few messages need, and so is made when the first of it is."""

    __slots__ = (
        "cancelling",
        "children",
        "effects",
        "insists",
        "outlet",
        "progress",
        "shields",
        "steps",
        "thread_waits",
    )

    def __init__(self) -> None:
        self.cancelling = False
        self.children: set[asyncio.Task[Any]] = set()
        self.effects: list[tuple[Any, ...]] = []
        self.insists = False
        self.outlet: Outlet | None = None
        self.progress: Reports | None = None
        self.shields = 0
        self.steps: set[str] = set()
        self.thread_waits: list[concurrent.futures.Future[Any]] = []


class Message:
    """A DELIVER from its arrival to its DONE."""

    __slots__ = (
        "_side",
        "activation",
        "args",
        "burst",
        "deadline_ns",
        "dispatcher",
        "extra",
        "handle",
        "number",
        "spec",
        "task",
    )

    def __init__(  # noqa: PLR0913, PLR0917  # the hot path; a struct between would cost more than it tells
        self,
        dispatcher: Dispatcher,
        number: int,
        handle: int,
        activation: Any,  # noqa: ANN401
        spec: Any,  # noqa: ANN401
        args: bytes,
        deadline_ns: int,
        extra: Any,  # noqa: ANN401
    ) -> None:
        """Keep what came; nothing runs before `begin`."""
        self.dispatcher = dispatcher
        self.number = number
        self.handle = handle
        self.activation: Activation = activation
        self.spec: HandlerSpec = spec
        self.args = args
        self.deadline_ns = deadline_ns
        self.extra = extra
        self.task: asyncio.Task[Any] | None = None
        # Until it parts from those that came with it.
        self.burst: Burst | None = None
        self._side: _Side | None = None

    # --- The first step ---

    def begin(self) -> Any:  # noqa: ANN401
        """Make the coroutine of the handler's call."""
        if self.deadline_ns:
            self._check_deadline()
        if self._side is not None and self._side.cancelling:
            raise asyncio.CancelledError
        spec = self.spec
        try:
            args = spec.bind(unpack(self.args) if self.args else {})
        except errors.PyreError as exc:
            self._refuse(exc)
        self.args = b""
        self.dispatcher.words[BEGUN] = self.number
        CURRENT.set(self)
        agent = self.activation
        if agent.state is UNMADE or spec.options.interleave:
            agent = self._agent()
        return spec.start(agent, self, args)

    def _check_deadline(self) -> None:
        late_ns = self.dispatcher.words[SINCE] - self.deadline_ns
        if late_ns > 0:
            self._refuse(errors.Deadline(f"expired {late_ns // 1_000_000} ms before it could begin"))

    def _refuse(self, error: errors.PyreError) -> NoReturn:
        raise _Answered(_wire.STATUS_REFUSED, own_body(error))

    def _agent(self) -> Any:  # noqa: ANN401
        activation = self.activation
        try:
            if self.spec.options.interleave:
                return snapshot(activation)
            materialise(activation)
        except errors.PyreError as exc:
            raise _Answered(_wire.STATUS_UNUSABLE, own_body(exc)) from None
        except BaseException as exc:  # noqa: BLE001  # validators and __init__ are the user's
            raise _Answered(_wire.STATUS_UNUSABLE, self._failure(exc)) from None
        return activation

    # --- The end ---

    def succeed(self, result: Any) -> None:  # noqa: ANN401
        """Answer with what the handler returned, and with the state that it left."""
        state: Any = []
        try:
            body = NIL if result is None else pack(result)
            write = self.spec.write_state
            if write is not None:
                activation = self.activation
                data = write(activation.state)
                if hash(data) != activation.__pyre_committed__:
                    state = data
                    if activation.__pyre_committed__ is None:
                        self._add_version(activation.__pyre_class__.version)
                    commit(activation, data)
        except errors.PyreError as exc:
            self._finish(_wire.STATUS_FAILED, own_body(exc))
        except BaseException as exc:  # noqa: BLE001  # a property or validator of the user's
            self._finish(_wire.STATUS_FAILED, self._failure(exc))
        else:
            if self._side is not None:
                self._finish(_wire.STATUS_DONE, body, state)
                return
            self.task = None
            self.dispatcher.done(self, 0, body, state, NO_EFFECTS)

    def _add_version(self, version: int) -> None:
        """Tell the version with the first state that this class writes: the BEAM keeps it until it is told another."""
        if version != 1:
            self._more().effects.append((_wire.EFFECT_VERSION, version))

    def fail(self, exc: BaseException) -> None:
        """Answer with what the handler raised."""
        if isinstance(exc, _Answered):
            self._finish(exc.status, exc.body)
        elif isinstance(exc, asyncio.CancelledError) and self.cancelling:
            self._finish(_wire.STATUS_CANCELLED, own_body(errors.Cancelled(f"{self.name} was cancelled")))
        elif (plan := self._next_attempt(exc)) is not None:
            self._finish(_wire.STATUS_RETRY, self._failure(exc), effects=[plan])
        elif isinstance(exc, (errors.Reject, *self.raises())):
            self._finish(_wire.STATUS_REJECTED, rejection_body(exc))
        else:
            self._finish(_wire.STATUS_FAILED, self._failure(exc))

    def _failure(self, exc: BaseException) -> bytes:
        if isinstance(exc, MemoryError):
            self.dispatcher.memory.exhausted(exc)
        return failure_body(exc)

    def raises(self) -> tuple[type[BaseException], ...]:
        """Tell which exceptions are expected refusals."""
        return self.spec.options.raises

    def retry(self) -> Retry | None:
        """Tell which failures are worth another attempt."""
        return self.spec.options.retry

    def _next_attempt(self, exc: BaseException) -> tuple[int, ...] | None:
        retry = self.retry()
        if retry is None:
            return None
        if not retry.wants(exc, self.attempt, self.raises()):
            return (_wire.EFFECT_FAILURE,) if retry.escalates(exc, self.attempt, self.raises()) else None
        return math.ceil(retry.delay(self.attempt) * 1000), int(retry.hold)

    def _finish(self, status: int, body: bytes, state: Any = (), effects: Any = ()) -> None:  # noqa: ANN401
        self.task = None
        side = self._side
        if side is None:
            self.dispatcher.done(self, status, body, state or [], effects or [])
            return
        if status == _wire.STATUS_DONE:
            effects = side.effects
        if side.progress is not None:
            side.progress.flush()
        self.dispatcher.done(self, status, body, state or [], effects or [])
        self._end_children(side.children)
        if side.outlet is not None:
            side.outlet.close()
        for wait in side.thread_waits:
            if not wait.done():
                wait.set_exception(errors.Cancelled(f"{self.name} has ended"))

    def _end_children(self, children: set[asyncio.Task[Any]]) -> None:
        left = [task for task in children if not task.done()]
        for task in left:
            task.cancel()
        if left:
            names = ", ".join(sorted(task.get_name() for task in left[:5]))
            self.dispatcher.note(self, f"cancelled {len(left)} tasks that the handler left running: {names}")

    def _more(self) -> _Side:
        if self._side is None:
            self._side = _Side()
        return self._side

    # --- What the handler asks for ---

    @property
    def ended(self) -> bool:
        """Whether it is answered."""
        return self.task is None

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to end."""
        return self._side is not None and self._side.cancelling

    @property
    def name(self) -> str:
        """Name it for an error text."""
        return f"message {self.message_id} ({self.handler_name} of {self.agent_id!r})"

    @property
    def agent_id(self) -> str:
        """The id of the agent that handles it."""
        return self.activation.id

    @property
    def class_name(self) -> str:
        """The name of the agent's class."""
        return self.activation.__pyre_class__.name

    @property
    def handler_name(self) -> str:
        """The handler's name."""
        return self.spec.name

    @property
    def message_id(self) -> int:
        """The sender's id of the message."""
        value: int = self.extra[0] if isinstance(self.extra, tuple) else self.extra or self.number
        return value

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        value: int = self.extra[1] if isinstance(self.extra, tuple) else 1
        return value

    def remaining(self) -> float | None:
        """Tell the seconds that are left until the deadline, None where there is none."""
        return max(0.0, (self.deadline_ns - monotonic_ns()) / 1e9) if self.deadline_ns else None

    def labels(self) -> dict[str, Any]:
        """Tell what log records are labelled with."""
        return {
            "agent": self.agent_id,
            "class": self.class_name,
            "handler": self.handler_name,
            "message": self.number,
        }

    def part(self) -> None:
        """Leave its burst, before the BEAM or anybody else hears of it: it goes on alone."""
        if self.burst is not None:
            self.burst.part(self)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take a task that the handler made: it ends with the message."""
        if self.ended:
            task.cancel()
            return
        children = self._more().children
        children.add(task)
        task.add_done_callback(children.discard)

    def cancel(self) -> None:
        """Ask the handler to end, and ask again while it doesn't."""
        side = self._more()
        side.cancelling = True
        if side.shields:
            return  # raised where the last of them is left
        if side.outlet is not None:
            side.outlet.close()
        if self.task is not None:
            self.task.cancel()
            if not side.insists:
                side.insists = True
                self._cancel_later(1)

    async def enter_shield(self, milliseconds: int) -> None:
        """Hold cancellations back from now on; raises the one that came first."""
        await self.request((_wire.VERB_SHIELD, b"", b"", b"", milliseconds), _ignore_answer)
        self._more().shields += 1

    async def leave_shield(self) -> None:
        """Hold them back no more: one that has come meanwhile is raised here."""
        side = self._more()
        side.shields -= 1
        if side.shields:
            return
        if not self.ended:
            self.request((_wire.VERB_SHIELD, b"", b"", b"", 0), _ignore_answer)
        if side.cancelling:
            self.cancel()
            await asyncio.sleep(0)

    def open_outlet(self) -> Outlet:
        """Begin to send chunks."""
        outlet = self._more().outlet = Outlet(self)
        return outlet

    def credit(self, count: int) -> None:
        """Take note that chunks were read."""
        if self._side is not None and self._side.outlet is not None:
            self._side.outlet.credit(count)

    def _cancel_later(self, times: int) -> None:
        self.dispatcher.loop.call_later(CANCEL_AGAIN_SECONDS, self._cancel_again, times)

    def _cancel_again(self, times: int) -> None:
        if self.task is None:
            return
        if times == 1:
            self.dispatcher.note(self, "was cancelled a second ago and still runs: it swallows its cancellation")
        self.task.cancel()
        if times < MOST_CANCELS:
            self._cancel_later(times + 1)

    def add_thread_wait(self, outcome: concurrent.futures.Future[Any]) -> None:
        """Remember that the handler's thread waits: it is told when the message ends."""
        self._more().thread_waits.append(outcome)

    def request(self, envelope: tuple[Any, ...], read: Callable[[bytes], Any]) -> Request[Any]:
        """Ask the BEAM."""
        return self.dispatcher.requests.make(self, envelope, read)

    def progress(self, fraction: float | None, text: str) -> Reported:
        """Report how far the handler is."""
        fraction, text = checked(self, fraction, text)
        self.part()
        side = self._more()
        if side.progress is None:
            side.progress = self.dispatcher.reporter(self)
        return side.progress.report(fraction, text)

    def add_timer(self, key: str | None, delay_ms: int, handler: str, args: bytes) -> None:
        """Set a timer with the commit."""
        self._must_be_writing("set a timer")
        effects = self._more().effects
        # Without a key: unique in the agent, and the same when the message runs again.
        name = key if key is not None else f"{self.message_id}:{len(effects)}"
        effects.append((_wire.EFFECT_TIMER, name.encode(), delay_ms, handler.encode(), args))

    def begin_step(self, name: str) -> None:
        """Take the name of a step, which is the only thing that its result is found by again."""
        steps = self._more().steps
        if name in steps:
            raise ValueError(f"step {name!r} was run in this attempt already: give each its own key=")
        steps.add(name)

    def take_name(self, name: str) -> bool:
        """Take a name that nothing else of this attempt has; False where something has it."""
        names = self._more().steps
        if name in names:
            return False
        names.add(name)
        return True

    def add_escalation(self, effect: tuple[Any, ...]) -> None:
        """Ask a person, with the commit."""
        self._must_be_writing("ask with then=")
        self._more().effects.append(effect)

    def leave_step(self, name: str) -> None:
        """Give the name of a step back that came to no result."""
        self._more().steps.discard(name)

    def add_schedule(self, key: str, schedule: tuple[Any, ...], handler: str, args: bytes) -> None:
        """Set a timer that follows a schedule with the commit."""
        self._must_be_writing("set a timer")
        effect = (_wire.EFFECT_SCHEDULE, key.encode(), schedule, handler.encode(), args)
        self._more().effects.append(effect)

    def cancel_timer(self, key: str) -> None:
        """Take a timer back with the commit."""
        self._must_be_writing("cancel a timer")
        self._more().effects.append((_wire.EFFECT_CANCEL_TIMER, key.encode()))

    def spend(self, unit: str, amount: int) -> None:
        """Count what was spent with the commit, in millionths."""
        self._must_be_writing("spend")
        self._more().effects.append((_wire.EFFECT_SPEND, unit.encode(), amount))

    def subscribe(self, pattern: str, handler: str) -> None:
        """Want events with the commit."""
        self._must_be_writing("subscribe")
        self._more().effects.append((_wire.EFFECT_SUBSCRIBE, pattern.encode(), handler.encode()))

    def unsubscribe(self, pattern: str) -> None:
        """Want them no more with the commit."""
        self._must_be_writing("unsubscribe")
        self._more().effects.append((_wire.EFFECT_UNSUBSCRIBE, pattern.encode()))

    def commit(self) -> Request[None]:
        """Commit the state in the middle of the handler."""
        if self.spec.write_state is None:
            raise errors.ReadOnly(f"{self.handler_name} is read-only: it can't commit")
        activation = self.activation
        data = self.spec.write_state(activation.state)
        if hash(data) == activation.__pyre_committed__:
            return self.dispatcher.requests.settled(None)

        def committed(_body: bytes) -> None:
            commit(activation, data)

        first = activation.__pyre_committed__ is None
        version = b"%d" % activation.__pyre_class__.version if first else b""
        return self.request((_wire.VERB_COMMIT, b"", version, data, 0), committed)

    def _must_be_writing(self, wish: str) -> None:
        if self.ended:
            raise errors.StaleActivation(f"{self.name} has ended: it can't {wish} any more")
        if self.spec.options.interleave:
            raise errors.ReadOnly(f"{self.handler_name} interleaves, and commits nothing: it can't {wish}")

    def open_resource(self, name: str) -> Request[Any]:
        """Open a resource of the worker, or give the open one."""
        return self.dispatcher.resources.request(name)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:  # noqa: ANN401
        """Run a plain function in a thread; its activation is not let go of before the thread is."""
        call = functools.partial(function, *args, **named)
        dispatcher = self.dispatcher
        dispatcher.hold(self)
        job = dispatcher.threads.run(self, call, lambda: dispatcher.release(self))
        try:
            result, error = await job.future
        except asyncio.CancelledError:
            dispatcher.threads.abandon(job)
            raise
        if error is not None:
            raise error
        return result


class FunctionRun(Message):
    """A RUN: a plain function of a module, which belongs to no agent."""

    __slots__ = ("path",)

    def __init__(
        self, dispatcher: Dispatcher, number: int, path: tuple[str, str], args: bytes, deadline_ns: int
    ) -> None:
        """Keep which function is meant; it is looked for in the first step."""
        super().__init__(dispatcher, number, 0, None, None, args, deadline_ns, number)
        self.path = path

    def begin(self) -> Any:  # noqa: ANN401
        """Find the function, and make the coroutine of its call."""
        if self.deadline_ns:
            self._check_deadline()
        if self._side is not None and self._side.cancelling:
            raise asyncio.CancelledError
        try:
            args: Any = unpack(self.args) if self.args else []
        except errors.PyreError as exc:
            self._refuse(exc)
        # Finding it may import its module, which is the user's code already.
        self.dispatcher.words[BEGUN] = self.number
        CURRENT.set(self)
        try:
            self.spec = self.dispatcher.find_function(*self.path)
        except errors.PyreError as exc:
            self._refuse(exc)
        return self.spec.start(None, self, args)

    def raises(self) -> tuple[type[BaseException], ...]:
        """Expect none; it may have failed before the function was found."""
        return ()

    def retry(self) -> Retry | None:
        """Run it once."""
        return None

    @property
    def agent_id(self) -> str:
        """The name that it is known by."""
        return f"run:{self.number}"

    @property
    def class_name(self) -> str:
        """Its module."""
        return self.path[0]

    @property
    def handler_name(self) -> str:
        """Its function."""
        return self.path[1]


def _ignore_answer(_body: bytes) -> None:
    """Take note of nothing."""
