"""What a handler sees of the message it handles, and of the world outside its agent."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import structlog

from pyre import _body, _schedule, _wire, errors
from pyre._convert import pack
from pyre._escalations import Answer, Question, ask, carry
from pyre._schedule import Timer
from pyre._steps import RetriedCall, Step
from pyre._stream import Inlet
from pyre._tools import Tool, read_tools
from pyre._topics import check_pattern, check_topic
from pyre.agent import Address, Agent

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from pyre._message import Message
    from pyre._progress import Reported
    from pyre._requests import Request
    from pyre._schedule import Missed
    from pyre.retry import Retry

__all__ = ["Context"]

T = TypeVar("T")
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Priority = Literal["high", "normal", "low"]
PRIORITIES = {"normal": 0, "high": _wire.PRIORITY_HIGH, "low": _wire.PRIORITY_LOW}


class Context:
    """The context of one message; of no use once its handler has ended."""

    __slots__ = ("_message",)

    def __init__(self, message: Message) -> None:
        """Made by the runtime."""
        self._message = message

    @property
    def id(self) -> Address:
        """The agent's own address."""
        return Address(self._message.agent_id)

    @property
    def handler(self) -> str:
        """The name of the handler that runs."""
        return self._message.handler_name

    @property
    def message_id(self) -> int:
        """The message's id: unique in the agent, and the same when it is delivered again."""
        return self._message.message_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._message.attempt

    @property
    def deadline(self) -> float | None:
        """The instant on the clock of `time.monotonic()` after which nobody waits any more."""
        return self._message.deadline_ns / 1e9 if self._message.deadline_ns else None

    def remaining(self) -> float | None:
        """Tell the seconds that are left until the deadline, None where there is none."""
        return self._message.remaining()

    @property
    def log(self) -> Any:  # noqa: ANN401
        """A structlog logger that knows the agent, its class, the handler and the message."""
        return structlog.get_logger().bind(**self._message.labels())

    @overload
    def call(
        self,
        id: str,
        handler: str,
        /,
        *,
        timeout: float | None = None,
        priority: Priority = "normal",
        args: Mapping[str, Any] | None = None,
        retry: None = None,
        **named: Any,  # noqa: ANN401
    ) -> Request[Any]: ...

    @overload
    def call(
        self,
        id: str,
        handler: str,
        /,
        *,
        timeout: float | None = None,
        priority: Priority = "normal",
        args: Mapping[str, Any] | None = None,
        retry: Retry,
        **named: Any,  # noqa: ANN401
    ) -> RetriedCall: ...

    def call(  # noqa: PLR0913  # all but two are optional
        self,
        id: str,  # noqa: A002
        handler: str,
        /,
        *,
        timeout: float | None = None,
        priority: Priority = "normal",
        args: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        **named: Any,
    ) -> Request[Any] | RetriedCall:
        """Ask another agent, and await its answer. Names that collide with ours go into `args`.

        `priority` says which of the other agent's messages run first: "high", "normal" or "low".
        With `retry` it is made when it is awaited, and again after an error that is safe to retry
        (`PyreError.retryable`), within the deadline.
        """
        verb = _wire.VERB_CALL + _priority(priority)
        envelope = (verb, _id(id), handler.encode(), _packed(args, named), _milliseconds(timeout))
        if retry is not None:
            return RetriedCall(self._message, envelope, retry)
        return self._message.request(envelope, _body.unpack)

    def stream(
        self,
        id: str,  # noqa: A002
        handler: str,
        /,
        *,
        timeout: float | None = None,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Inlet:
        """Read what another agent's handler yields: `async for chunk in ctx.stream(...)`; `for` in a `def` handler.

        The other side runs at most 16 chunks, or 1 MiB, ahead. `timeout` is the longest wait for the next chunk. An
        error of the generator is raised after the chunks before it. To leave the loop early closes the generator.
        """
        envelope = (_wire.VERB_STREAM, _id(id), handler.encode(), _packed(args, named), 0)
        _milliseconds(timeout)
        return Inlet(self._message, envelope, timeout)

    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,  # noqa: ANN401
        key: str | None = None,
    ) -> Step[T]: ...

    @overload
    def step(self, name: str, function: Callable[..., T], /, *args: Any, key: str | None = None) -> Step[T]: ...  # noqa: ANN401

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, key: str | None = None) -> Step[Any]:
        """Do something once for this message, however often the message is run.

        `await` it, or `.wait()` for it in a `def` handler.
        The result is recorded, and given instead when the message is run again, by a retry or after the death of its
        interpreter. It must be able to travel, like a reply. A step that raises is not recorded. `key` tells several
        uses of one name apart.
        """
        return Step(self._message, name if key is None else f"{name}:{key}", function, args)

    def cast(
        self,
        id: str,  # noqa: A002
        handler: str,
        /,
        *,
        priority: Priority = "normal",
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Request[None]:
        """Send another agent a message. It is sent at once; awaiting it tells that it was accepted."""
        verb = _wire.VERB_CAST + _priority(priority)
        envelope = (verb, _id(id), handler.encode(), _packed(args, named), 0)
        return self._message.request(envelope, _nothing)

    def spawn(
        self,
        cls: type[Agent] | str,
        id: str | None = None,  # noqa: A002
        /,
        *,
        args: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        group: str | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Request[Address]:
        """Start an agent from its class (or the class's name) and its start arguments; gives its address.

        `group` puts it into a group, at its end. Options are those of Elixir's `Pyre.start_agent/3`.
        """
        name = cls if isinstance(cls, str) else cls.__name__
        body = pack({**(options or {}), "group": group, "args": {**(args or {}), **named}})
        envelope = (_wire.VERB_SPAWN, b"" if id is None else _id(id), name.encode(), body, 0)
        return self._message.request(envelope, _address)

    def group(  # noqa: PLR0913  # as many as a supervisor has
        self,
        name: str,
        /,
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int | None = None,
        max_seconds: int | None = None,
        agents: Iterable[tuple[type[Agent] | str, Mapping[str, Any]]] = (),
        group: str | None = None,
    ) -> Request[str]:
        """Start a group: a supervisor that restarts, with an agent that crashed, the others that its strategy names.

        `agents` are classes with their options (`{"id": ..., "args": {...}}`), started in this order; `group` is the
        group that this one becomes a part of. Awaiting it waits for `on_start` of all; gives the name.
        """
        pairs = [[cls if isinstance(cls, str) else cls.__name__, dict(options)] for cls, options in agents]
        body = pack(
            {
                "strategy": strategy,
                "max_restarts": max_restarts,
                "max_seconds": max_seconds,
                "agents": pairs,
                "group": group,
            }
        )
        return self._message.request((_wire.VERB_GROUP, _id(name), b"", body, 0), _text)

    def stop(self, id: str | None = None, /) -> Request[None]:  # noqa: A002
        """Stop another agent, or, without an id, this one as soon as the handler has ended."""
        own = id is None or id == self._message.agent_id
        target = _id(self._message.agent_id if id is None else id)
        request = self._message.request((_wire.VERB_STOP, target, b"", b"", 0), _nothing)
        # Its own stop is answered after this handler, so waiting for it would never end.
        return self._message.dispatcher.requests.settled(None) if own else request

    def monitor(self, id: str, /) -> Request[None]:  # noqa: A002
        """Watch another agent: when it is terminated or stopped, `on_down(self, ctx, id, reason)` is run, once.

        It is told at once where nobody has the id. A restart is no end. The watch outlives this agent's restarts.
        """
        if self._message.activation.__pyre_class__.on_down is None:
            raise errors.UnknownHandler(f"{self._message.class_name} has no on_down to be told by")
        return self._message.request((_wire.VERB_MONITOR, _id(id), b"", b"", 0), _nothing)

    def demonitor(self, id: str, /) -> Request[None]:  # noqa: A002
        """Watch another agent no more; an `on_down` that waits in the mailbox already is still run."""
        return self._message.request((_wire.VERB_DEMONITOR, _id(id), b"", b"", 0), _nothing)

    def after(
        self,
        delay: float,
        handler: str,
        /,
        *,
        key: str | None = None,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> None:
        """Send this agent a message in `delay` seconds. It rides with the commit; a second one with a key replaces."""
        self._message.add_timer(key, _schedule.milliseconds(delay, "delay"), handler, _packed(args, named))

    def every(  # noqa: PLR0913  # as many as a schedule has
        self,
        period: float,
        handler: str,
        /,
        *,
        key: str | None = None,
        missed: Missed = "run_once",
        jitter: float = 0,
        overlap: bool = False,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> None:
        """Send this agent a message each `period` seconds, counted from the schedule; it rides with the commit.

        Without a key it has the handler's name as its key. Setting the same again leaves it as it is, so `on_start`
        may. While its last run has not ended the next is held, and runs right after; `overlap=True` queues it. Of runs
        that were missed, `missed` runs one, none, or all. `jitter` adds up to that many seconds, at random.
        """
        schedule = _schedule.every(period, missed, jitter, overlap=overlap)
        self._message.add_schedule(_key(key, handler), schedule, handler, _packed(args, named))

    def at(
        self,
        when: dt.datetime,
        handler: str,
        /,
        *,
        key: str | None = None,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> None:
        """Send this agent a message at an instant: an aware datetime. One that is past fires at once.

        It follows the machine's clock, also where that is set. Without a key it has the handler's name as its key.
        """
        self._message.add_schedule(_key(key, handler), _schedule.at(when), handler, _packed(args, named))

    def cron(  # noqa: PLR0913  # as many as a schedule has
        self,
        expression: str,
        handler: str,
        /,
        *,
        tz: str = "UTC",
        key: str | None = None,
        missed: Missed = "run_once",
        jitter: float = 0,
        overlap: bool = False,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> None:
        """Send this agent a message whenever a cron expression says so, on the clocks of a time zone; else as `every`.

        A time of day that the clocks skip in spring runs right after the gap; one that they repeat in autumn runs once.
        """
        schedule = _schedule.cron(expression, tz, missed, jitter, overlap=overlap)
        self._message.add_schedule(_key(key, handler), schedule, handler, _packed(args, named))

    def cancel_timer(self, key: str, /) -> None:
        """Take the timer with this key back, if there is one. It rides with the commit; what has fired is still run."""
        self._message.cancel_timer(_key(key, ""))

    def timers(self) -> Request[list[Timer]]:
        """Tell this agent's timers, the next first: those that are committed, without what this handler sets."""
        return self._message.request((_wire.VERB_TIMERS, b"", b"", b"", 0), _timers)

    def progress(self, fraction: float | None = None, text: str = "") -> Reported:
        """Tell how far the handler is: a fraction from 0 to 1, or None, and a text.

        It takes effect at once, from `def` handlers too; awaiting it lets others run now and then. Call it as often as
        you like: the BEAM is sent the latest report about twenty times a second, and the last one before the answer.
        Of a text 1,000 characters are kept.
        """
        return self._message.progress(fraction, text)

    @overload
    def escalate(
        self,
        question: str,
        /,
        *,
        options: Iterable[str] | None = None,
        data: Any = None,  # noqa: ANN401
        assignee: str | None = None,
        timeout: float | None = None,
        default: str | None = None,
        then: None = None,
        key: str | None = None,
    ) -> Request[Answer]: ...

    @overload
    def escalate(
        self,
        question: str,
        /,
        *,
        options: Iterable[str] | None = None,
        data: Any = None,  # noqa: ANN401
        assignee: str | None = None,
        timeout: float | None = None,
        default: str | None = None,
        then: str,
        key: str | None = None,
    ) -> Request[None]: ...

    def escalate(  # noqa: PLR0913  # as many as a question has
        self,
        question: str,
        /,
        *,
        options: Iterable[str] | None = None,
        data: Any = None,
        assignee: str | None = None,
        timeout: float | None = None,
        default: str | None = None,
        then: str | None = None,
        key: str | None = None,
    ) -> Request[Answer] | Request[None]:
        """Ask a person: one of `options`, or a text. After `timeout` seconds it expires, with `default` as its answer.

        With `then` it rides with the commit, the agent works on, and the answer arrives as a message to that handler,
        whatever dies meanwhile: with as many of `answer`, `data`, `outcome`, `by`, `at`, `question` and `escalation`
        (its number) as the handler names. `answer` is None where it expired without a default or was dismissed.

        Without `then`, awaiting it gives the answer (a `str` with `by` and `at`), or raises `errors.Unanswered`. The
        agent runs nothing else meanwhile. If its interpreter dies, the message is run again from its beginning, calls
        too, and is given the same answer: code outside of `ctx.step` is then run twice. A caller's deadline still
        holds; the time that a person takes does not count against `max_runtime`.

        A message that is run again finds what it has asked by the question's text, or by `key` where the text changes.
        """
        asked = Question.checked(question, options, data, assignee, timeout, default, key)
        return ask(self._message, asked) if then is None else carry(self._message, asked, then)

    def publish(self, topic: str, event: Any = None, /) -> Request[None]:  # noqa: ANN401
        """Tell all who want it of an event: agents, and processes of the BEAM. At once; nobody is waited for."""
        envelope = (_wire.VERB_PUBLISH, b"", check_topic(topic).encode(), pack(event), 0)
        return self._message.request(envelope, _body.unpack)

    def subscribe(self, pattern: str, handler: str, /) -> None:
        """Have a handler run with each event whose topic matches, as `@on` does. It rides with the commit."""
        self._message.subscribe(check_pattern(pattern), handler)

    def unsubscribe(self, pattern: str, /) -> None:
        """Have no handler run with the events of this pattern any more. It rides with the commit."""
        self._message.unsubscribe(check_pattern(pattern))

    def tool(
        self,
        name: str,
        /,
        *,
        timeout: float | None = None,
        args: Mapping[str, Any] | None = None,
        **named: Any,  # noqa: ANN401
    ) -> Request[Any]:
        """Use a tool of the BEAM's, by its name. Names of arguments that collide with ours go into `args`.

        It is ended with this message, at the latest. What it answers with as an error, raises or exits with is
        `errors.ToolError`.
        """
        envelope = (_wire.VERB_TOOL, b"", name.encode(), _packed(args, named), _milliseconds(timeout))
        return self._message.request(envelope, _body.unpack)

    def tools(self) -> Request[list[Tool]]:
        """Tell the tools that the BEAM offers: of each its name, what it does, and its arguments as JSON Schema."""
        return self._message.request((_wire.VERB_TOOLS, b"", b"", b"", 0), read_tools)

    @contextlib.asynccontextmanager
    async def shield(self, seconds: float = 5.0) -> AsyncIterator[None]:
        """Hold the handler's cancellation back while the block runs: `async with ctx.shield(): ...`.

        For what must not be left half done. Whoever cancelled is answered at once, and what the handler does to its
        state is rolled back all the same: the block is for what it does to others. The cancellation is raised where the
        block is left. The block has so many seconds, at most 60; after that the interpreter is replaced.
        """
        await self._message.enter_shield(_milliseconds(seconds))
        try:
            yield
        finally:
            await self._message.leave_shield()

    def commit(self) -> Request[None]:
        """Commit the state as it is now, in the middle of a long handler."""
        return self._message.commit()

    def resource(self, name: str, /) -> Request[Any]:
        """Give what the `@resource` function of this name yields; it is opened once per worker."""
        return self._message.open_resource(name)


def _id(id: str) -> bytes:  # noqa: A002
    if not isinstance(id, str):
        raise errors.InvalidId(f"expected an id of 1 to {_wire.MAX_ID_BYTES} bytes, got {id!r:.100}")
    encoded = id.encode("utf-8", "surrogatepass")
    if not 1 <= len(encoded) <= _wire.MAX_ID_BYTES:
        raise errors.InvalidId(f"expected an id of 1 to {_wire.MAX_ID_BYTES} bytes, got {len(encoded)} bytes")
    return encoded


def _packed(args: Mapping[str, Any] | None, named: dict[str, Any]) -> bytes:
    return pack({**args, **named} if args else named)


def _priority(priority: str) -> int:
    if priority not in PRIORITIES:
        raise ValueError(f"expected the priority to be high, normal or low, got {priority!r}")
    return PRIORITIES[priority]


def _milliseconds(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"expected a timeout of more than 0 seconds, got {timeout!r}")
    return math.ceil(timeout * 1000)


def _key(key: str | None, handler: str) -> str:
    chosen = handler if key is None else key
    if not chosen:
        raise ValueError(f"expected a timer's key to be a text that is not empty, got {chosen!r}")
    return chosen


def _timers(body: bytes) -> list[Timer]:
    return [Timer(**timer) for timer in _body.unpack(body)]


def _nothing(_body: bytes) -> None:
    return None


def _text(body: bytes) -> str:
    return str(_body.unpack(body))


def _address(body: bytes) -> Address:
    return Address(_body.unpack(body))
