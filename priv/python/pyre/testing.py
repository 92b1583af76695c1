"""Runs one agent class in a test, without the BEAM: the same dispatch, validation, commits and rollbacks.

    desk = {"report": lambda **_args: None}
    with pyre.testing.run(Watcher, id="root", args={"path": "/"}, peers={"desk": desk}) as agent:
        assert agent.call("check") < 0.9
        assert agent.state.warned is False

Other agents are faked: a peer is a dict from handler names to functions, or any object with methods of these names.
Values go through bytes, as they do in a real instance, so nothing is shared with the agent.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import functools
import inspect
import itertools
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pyre import _body, _recorder, _wire, errors
from pyre._convert import dump
from pyre._discovery import find_resources
from pyre._dispatch import GONE, Dispatcher
from pyre._failure import failure_body, own_body, rejection_body
from pyre._fake_escalations import Escalation, Expiry, People, is_failure
from pyre._fake_history import History
from pyre._fake_progress import Progress, recorder
from pyre._fake_tools import FakeTools
from pyre._handlers import AgentClass, compile_agent
from pyre._resources import opens_type
from pyre._schedule import first_run, kind_of, next_run
from pyre._topics import check_topic, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from pyre._schedule import Schedule
    from pyre.agent import Agent

__all__ = ["Escalation", "Progress", "RunningAgent", "Sent", "run"]

CALL_SECONDS = 5.0
HOOKS = {_wire.KIND_ON_START, _wire.KIND_ON_STOP}
HANDLE = 1


class Sent(NamedTuple):
    """Something the agent asked for: a call, cast, spawn, group, stop, monitor, demonitor or tool."""

    kind: str
    target: str
    handler: str
    args: dict[str, Any]


class _Timer(NamedTuple):
    due: float
    order: int
    key: bytes
    handler: bytes
    args: bytes
    schedule: Schedule | None = None


def _order(timer: _Timer) -> tuple[float, int]:
    return timer.due, timer.order


class _Occupied(NamedTuple):
    """A message that waits for a person."""

    number: int
    done: asyncio.Future[tuple[Any, ...]]
    message: _Given


class _Given(NamedTuple):
    """A message, in one of its attempts."""

    kind: int
    handler: bytes
    args: bytes
    id: int
    attempt: int = 1


class _Attempt(NamedTuple):
    """A message that waits for its next attempt; `hold` keeps others waiting until then."""

    due: float
    order: int
    hold: bool
    message: _Given


@dataclass(slots=True)
class _Catalogue:
    classes: dict[bytes, AgentClass] = field(default_factory=dict)
    resources: dict[str, Callable[..., Any]] = field(default_factory=dict)


def run(  # noqa: PLR0913  # all that an agent can be given
    kind: type[Agent],
    *,
    id: str = "agent",  # noqa: A002
    args: Mapping[str, Any] | None = None,
    peers: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    tools: Mapping[str, Callable[..., Any]] | None = None,
    now: dt.datetime | None = None,
    state: Mapping[str, Any] | None = None,
    version: int = 1,
) -> RunningAgent:
    """Make a context manager that starts an agent on entry, and stops it on exit.

    `resources` gives values that stand in for what the `@resource` functions of these names would open, `tools` gives
    functions that stand in for the tools of these names. `now` is the
    aware datetime that it is at the start, for `ctx.at` and `ctx.cron`; from there on only `advance` lets time pass.
    `state` gives the fields of a state that `version` of the class has committed: what doesn't fit is migrated.
    """
    committed = (_body.pack(dump(dict(state))), version) if state is not None else (b"", 0)
    return RunningAgent(kind, id, args or {}, peers or {}, resources or {}, now, FakeTools(tools or {}), committed)


class RunningAgent:
    """One agent under test. Its methods block until the handler has ended; use it outside a running event loop."""

    def __init__(  # noqa: PLR0913, PLR0915, PLR0917  # made by `run` alone
        self,
        kind: type[Agent],
        id: str,  # noqa: A002
        args: Mapping[str, Any],
        peers: Mapping[str, Any],
        resources: Mapping[str, Any],
        started: dt.datetime | None = None,
        tools: FakeTools | None = None,
        committed: tuple[bytes, int] = (b"", 0),
    ) -> None:
        """Compile the class; nothing runs yet."""
        self.id = id
        self.sent: list[Sent] = []
        self.failures: list[errors.PyreError] = []
        self.chunks: list[Any] = []
        self.progress: list[Progress] = []
        self.now = 0.0
        self._peers = dict(peers)
        self._tools = tools or FakeTools({})
        self._known = {id, *peers}
        self._args = _body.pack(dump(dict(args)))
        self._kind, catalogue = _compiled(kind, resources)
        self._committed, self._version = committed
        self._epoch = 0
        self._holds = False
        self._failed = False
        self._to_cancel = 0
        self._held_back = 0
        self._shielded: set[int] = set()
        self._history = History(self)
        self._numbers = itertools.count(1)
        self._orders = itertools.count(1)
        self._timers: list[_Timer] = []
        self._attempts: list[_Attempt] = []
        self._ids: dict[int, int] = {}
        self._steps: dict[tuple[int, str], bytes] = {}
        self._people = People(self._today)
        self._given_up: dict[int, tuple[_Given, errors.PyreError]] = {}
        self._occupied: _Occupied | None = None
        self._asking: asyncio.Future[None] | None = None
        self._unwanted: set[bytes] = set()
        self._wanted: list[tuple[str, str]] = [(pattern, name) for pattern, name in self._kind.subscriptions]
        self.spent: dict[str, float] = {}
        self.published: list[tuple[str, Any]] = []
        self._epoch_seconds = (started or dt.datetime.now(dt.UTC)).timestamp()
        self._waiting: dict[int, asyncio.Future[tuple[Any, ...]]] = {}
        self._loop = asyncio.new_event_loop()
        self._dispatcher = Dispatcher(self._loop, self._receive, _recorder.blank(), catalogue, {})
        self._dispatcher.set_clock(0)
        self._dispatcher.pause = self._pause
        self._dispatcher.sleep = self._sleep
        self._dispatcher.reporter = recorder(self.progress)

    def __enter__(self) -> Self:
        """Start the agent; raises what its start arguments or `on_start` raise."""
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the agent, and close what it opened."""
        try:
            if self._holds and self._kind.on_stop is not None:
                self._hook(_wire.KIND_ON_STOP)
        finally:
            self._close()

    @property
    def state(self) -> Any:  # noqa: ANN401
        """A copy of what was committed last."""
        return self._kind.state.load(self._committed) if self._committed else None

    @property
    def history(self) -> list[dict[str, Any]]:
        """What the agent did, message by message: what came, what became of it, what it asked for."""
        return self._history.entries

    @property
    def timers(self) -> list[tuple[float, str]]:
        """What `ctx.after` and its kin have set and is still to come: seconds from now, and the handler."""
        return [(timer.due - self.now, timer.handler.decode()) for timer in sorted(self._timers, key=_order)]

    @property
    def escalations(self) -> list[Escalation]:
        """What the agent has asked people (`ctx.escalate`) and nobody has decided yet."""
        return [asked for asked in self._people.asked if asked.is_open]

    def answer(self, escalation: Escalation | int, answer: str, /, *, by: str = "tester") -> None:
        """Answer one; what follows from it has been handled when this returns."""
        self._decide(escalation, "answered", answer, by)

    def dismiss(self, escalation: Escalation | int, /, *, by: str = "tester") -> None:
        """Take one out of the inbox without an answer."""
        self._decide(escalation, "dismissed", None, by)

    def decide_with(self, decide: Callable[[Escalation], str | None]) -> None:
        """Have a function answer what is asked from now on, at once; where it gives None, it stays open."""
        self._people.decide_with = decide

    def call(self, handler: str, /, *, args: Mapping[str, Any] | None = None, **named: Any) -> Any:  # noqa: ANN401
        """Call a handler as another agent would; gives its reply, or raises what the caller would see.

        Where it is tried again, time passes by itself.
        """
        message = self._new(_wire.KIND_CALL, handler.encode(), _body.pack(dump({**(args or {}), **named})))
        while (done := self._answered(self._run(message)))[0] == _wire.STATUS_RETRY:
            self._holds = False
            self._note(message, done)
            if is_failure(done[3]):
                raise self._give_up(message, done)
            delay_ms, hold = done[3][0]
            if hold:
                self.now += delay_ms / 1000
            else:
                self.advance(delay_ms / 1000)
            message = message._replace(attempt=message.attempt + 1)
        return self._answer_of(done, message)

    def cancel(self, handler: str, /, *, args: Mapping[str, Any] | None = None, **named: Any) -> Any:  # noqa: ANN401
        """Call a handler, and cancel it as soon as it waits for anything: raises `Cancelled`.

        Nothing of it is committed, whatever it makes of its cancellation. Where it ended without waiting, the
        cancellation came too late: gives its reply.
        """
        message = self._new(_wire.KIND_CALL, handler.encode(), _body.pack(dump({**(args or {}), **named})))
        self._to_cancel = message.id
        done = self._answered(self._run(message))
        if self._to_cancel:
            error = errors.Cancelled(f"{handler} was cancelled, its changes were rolled back", {"committed": False})
            done = (_wire.STATUS_CANCELLED, own_body(error), b"", [])
            self._to_cancel = 0
        return self._answer_of(done, message)

    def cast(self, handler: str, /, *, args: Mapping[str, Any] | None = None, **named: Any) -> None:  # noqa: ANN401
        """Send a message that nobody waits for; what goes wrong in its last attempt is added to `failures`."""
        self._send(_wire.KIND_CAST, handler.encode(), _body.pack(dump({**(args or {}), **named})))

    def stream(self, handler: str, /, *, args: Mapping[str, Any] | None = None, **named: Any) -> list[Any]:  # noqa: ANN401
        """Read a stream to its end; gives its chunks. Those before an error are in `chunks`."""
        self.chunks.clear()
        message = self._new(_wire.KIND_STREAM, handler.encode(), _body.pack(dump({**(args or {}), **named})))
        self._answer_of(self._answered(self._run(message)), message)
        return list(self.chunks)

    def publish(self, topic: str, event: Any = None, /) -> None:  # noqa: ANN401
        """Tell the agent of an event: each handler that wants it is run, as a cast."""
        for pattern, handler in [*self._wanted]:
            if matches(pattern, check_topic(topic)):
                spec = self._kind.handlers.get(handler.encode())
                named = {"topic": topic, "event": event}
                taken = {name: named[name] for name in named if spec is None or spec.takes(name)}
                self._send(_wire.KIND_CAST, handler.encode(), _body.pack(dump(taken)))

    def down(self, id: str, reason: errors.PyreError | None = None) -> None:  # noqa: A002
        """Tell the agent that one it watches has ended; without a reason it was stopped."""
        body = errors.to_body(reason or errors.Stopped(f"the agent {id!r} was stopped"))
        self._send(_wire.KIND_ON_DOWN, b"on_down", _body.pack({"id": id, "reason": body}))

    def advance(self, seconds: float) -> None:
        """Let time pass for timers and for what is to be tried again: what is due by then is handled, in order.

        There is no jitter, and nothing is missed.
        """
        until = self.now + seconds
        while (event := self._next_event()) is not None and event.due <= until:
            self.now = max(self.now, event.due)
            if isinstance(event, Expiry):
                default = self._people.default_of(event.id)
                self._decide(event.id, "expired", default, None)
            elif isinstance(event, _Attempt):
                self._attempts.remove(event)
                self._try(event.message)
            else:
                self._timers.remove(event)
                self._plan_next(event)
                self._send(_wire.KIND_TIMER, event.handler, event.args)
        self.now = max(self.now, until)

    def restart(self) -> None:
        """Restart the agent: a new activation from the committed state, and `on_start` again."""
        self._start()

    # --- The BEAM's part ---

    def _next_event(self) -> Expiry | _Attempt | _Timer | None:
        expiries = self._people.expiries
        held = [attempt for attempt in self._attempts if attempt.hold]
        events: list[Expiry | _Attempt | _Timer] = [*expiries]
        if self._occupied is None:
            events += held or [*self._timers, *self._attempts]
        return min(events, key=lambda event: (event.due, event.order), default=None)

    def _today(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._epoch_seconds + self.now, dt.UTC)

    async def _pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _start(self) -> None:
        self._activate()
        for key, handler, schedule in self._kind.timers:
            if not any(timer.key == key.encode() for timer in self._timers) and key.encode() not in self._unwanted:
                self._schedule(key.encode(), tuple(schedule), handler.encode(), _body.pack({}))
        # Also without `on_start`: a start argument that doesn't fit shows here, and the state is committed.
        self._hook(_wire.KIND_ON_START)

    def _hook(self, kind: int) -> None:
        message = _Given(kind, b"", b"", next(self._numbers))
        self._answer_of(self._answered(self._deliver(message)), message)

    def _activate(self) -> None:
        self._failed = False
        self._epoch += 1
        name, id_ = self._kind.name.encode(), self.id.encode()
        self._apply(_wire.OP_ACTIVATE, HANDLE, self._epoch, name, id_, self._committed, self._args, self._version)
        self._holds = True

    def _apply(self, *envelope: Any) -> None:  # noqa: ANN401
        self._dispatcher.apply([envelope])

    def _send(self, kind: int, handler: bytes, args: bytes) -> None:
        self._try(self._new(kind, handler, args))

    def _new(self, kind: int, handler: bytes, args: bytes) -> _Given:
        self._check_free()
        # Whoever sends a message now waits until those that are held have ended.
        while any(attempt.hold for attempt in self._attempts):
            self.advance(max(0.0, min(attempt.due for attempt in self._attempts if attempt.hold) - self.now))
        return _Given(kind, handler, args, next(self._numbers))

    def _try(self, message: _Given) -> None:
        self._settle(message, functools.partial(self._run, message))

    def _settle(self, message: _Given, run: Callable[[], tuple[Any, ...] | None]) -> None:
        try:
            done = run()
            if done is None:
                return
            if done[0] != _wire.STATUS_RETRY:
                self._answer_of(done, message)
                return
        except errors.PyreError as exc:
            self.failures.append(exc)
            return
        self._holds = False
        self._note(message, done)
        if is_failure(done[3]):
            self._give_up(message, done)
            return
        delay_ms, hold = done[3][0]
        again = message._replace(attempt=message.attempt + 1)
        self._attempts.append(_Attempt(self.now + delay_ms / 1000, next(self._orders), bool(hold), again))

    # --- People's part ---

    def _check_free(self) -> None:
        if self._occupied is not None:
            asked = ", ".join(repr(one.question) for one in self._people.waiting(self._occupied.message.id))
            raise ValueError(f"the agent waits for an answer to {asked}: answer or dismiss it first")

    def _decide(self, escalation: Escalation | int, outcome: str, answer: str | None, by: str | None) -> None:
        number = escalation if isinstance(escalation, int) else escalation.id
        if not self._people.is_waited_for(number):
            self._check_free()
        asked = self._people.decide(number, outcome, answer, by)
        ref = self._people.ref_of(number)
        if ref is not None:
            self._apply(_wire.OP_RESULT, ref, _wire.RESULT_DONE, self._people.answer_body(asked))
            if self._occupied is not None:
                occupied, self._occupied = self._occupied, None
                self._settle(occupied.message, functools.partial(self._drive, *occupied))
        elif asked.kind == "failure":
            message, error = self._given_up.pop(number)
            if asked.answer == "retry":
                self._try(message._replace(attempt=1))
            else:
                self.failures.append(error)
        elif asked.then is not None:
            body = self._people.continuation(asked, self._kind)
            self._send(_wire.KIND_CAST, asked.then.encode(), body)

    def _offer(self, asked: Escalation) -> bool:
        decide = self._people.decide_with
        if decide is not None and asked.is_open and (answer := decide(asked)) is not None:
            self._decide(asked, "answered", answer, "tester")
            return True
        return False

    def _give_up(self, message: _Given, done: tuple[Any, ...]) -> errors.PyreError:
        error = errors.from_body(_body.unpack(done[1]))
        question = f"{self._kind.name}.{message.handler.decode()} failed {message.attempt} times: {error}"
        asked = self._people.failed(message.id, question)
        self._given_up[asked.id] = (message, error)
        self._offer(asked)
        return error

    def _ask_people(self, id_: int, ref: int, _target: bytes, place: bytes, body: bytes, timeout_ms: int) -> None:
        asked = self._people.open(id_, place, None, body, timeout_ms, self.now)
        if not asked.is_open:
            self._apply(_wire.OP_RESULT, ref, _wire.RESULT_DONE, self._people.answer_body(asked))
            return
        self._people.wait(asked.id, ref)
        if not self._offer(asked) and self._asking is not None and not self._asking.done():
            self._asking.set_result(None)

    def _answered(self, done: tuple[Any, ...] | None) -> tuple[Any, ...]:
        if done is not None:
            return done
        assert self._occupied is not None  # noqa: S101  # what None says
        occupied, self._occupied = self._occupied, None
        asked = ", ".join(repr(one.question) for one in self._people.waiting(occupied.message.id))
        raise self._abandon(*occupied, f"nobody answered {asked}: cast, and answer(), or decide_with() first")

    def _run(self, message: _Given) -> tuple[Any, ...] | None:
        if self._failed:
            self._start()
        elif not self._holds:
            self._activate()
        return self._deliver(message)

    def _deliver(self, message: _Given) -> tuple[Any, ...] | None:
        kind, handler, args, id_, attempt = message
        number = next(self._numbers)
        self._ids[number] = id_
        done = self._waiting[number] = self._loop.create_future()
        extra: Any = id_ if attempt == 1 else (id_, attempt, 0, [], 0, b"", b"")
        self._apply(_wire.OP_DELIVER, number, HANDLE, self._epoch, kind, handler, args, 0, extra)
        if id_ == self._to_cancel:
            # After its first step.
            self._loop.call_soon(self._cancel, number)
        return self._drive(number, done, message)

    def _cancel(self, number: int) -> None:
        if number in self._shielded:
            self._held_back = number
            return
        if number not in self._dispatcher.running:
            self._to_cancel = 0
        self._apply(_wire.OP_CANCEL, number)

    def _drive(self, number: int, done: asyncio.Future[tuple[Any, ...]], message: _Given) -> tuple[Any, ...] | None:
        """Run a message until it ends; gives None where it waits for a person."""
        asking = self._asking = self._loop.create_future()
        first = asyncio.wait({done, asking}, timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._loop.run_until_complete(first)
        if done.done():
            return done.result()
        if asking.done():
            self._occupied = _Occupied(number, done, message)
            return None
        text = f"{message.handler.decode() or 'a hook'} didn't end within {CALL_SECONDS:g} s"
        raise self._abandon(number, done, message, text)

    def _abandon(
        self, number: int, done: asyncio.Future[tuple[Any, ...]], message: _Given, text: str
    ) -> errors.CallTimeout:
        self._apply(_wire.OP_CANCEL, number)
        self._loop.run_until_complete(done)
        self._holds = False
        self._people.close(message.id)
        return errors.CallTimeout(text, {"committed": False})

    def _answer_of(self, done: tuple[Any, ...], message: _Given) -> Any:  # noqa: ANN401
        self._people.close(message.id)
        self._steps = {step: result for step, result in self._steps.items() if step[0] != message.id}
        status, body, state, effects = done
        if status != _wire.STATUS_DONE:
            self._holds = status not in GONE
            self._failed = status == _wire.STATUS_FAILED
            self._note(message, done)
            raise errors.from_body(_body.unpack(body))
        if state:
            self._committed, self._version = state, self._kind.version
        for effect in effects:
            if effect[0] == _wire.EFFECT_ESCALATE:
                _, place, then, body, timeout_ms = effect
                id_ = 0 if message.kind in HOOKS else message.id
                self._offer(self._people.open(id_, place, then, body, timeout_ms, self.now))
            elif effect[0] != _wire.EFFECT_VERSION:
                self._take_effect(*effect)
        self._note(message, done)
        return _body.unpack(body)

    def _note(self, message: _Given, done: tuple[Any, ...]) -> None:
        self._history.ended(message.kind, message.handler, message.args, message.attempt, done)

    def _take_effect(self, kind: int, key: bytes, *rest: Any) -> None:  # noqa: ANN401
        if kind == _wire.EFFECT_SPEND:
            self.spent[key.decode()] = self.spent.get(key.decode(), 0.0) + rest[0] / 1_000_000
        elif kind == _wire.EFFECT_SUBSCRIBE:
            wanted = (key.decode(), rest[0].decode())
            self._wanted = [*(each for each in self._wanted if each != wanted), wanted]
        elif kind == _wire.EFFECT_UNSUBSCRIBE:
            self._wanted = [each for each in self._wanted if each[0] != key.decode()]
        elif kind == _wire.EFFECT_TIMER:
            self._set_timer(key, *rest)
        elif kind == _wire.EFFECT_SCHEDULE:
            self._unwanted.discard(key)
            if not any(
                (timer.key, timer.schedule, timer.handler, timer.args) == (key, *rest) for timer in self._timers
            ):
                self._schedule(key, *rest)
        else:
            self._unwanted.add(key)
            self._forget_timer(key)

    def _forget_timer(self, key: bytes) -> None:
        self._timers = [timer for timer in self._timers if timer.key != key]

    def _set_timer(self, key: bytes, delay_ms: int, handler: bytes, args: bytes) -> None:
        self._forget_timer(key)
        self._timers.append(_Timer(self.now + delay_ms / 1000, next(self._orders), key, handler, args))

    def _schedule(self, key: bytes, schedule: Schedule, handler: bytes, args: bytes) -> None:
        self._forget_timer(key)
        due = first_run(schedule, self.now, self._epoch_seconds)
        if due is not None:
            self._timers.append(_Timer(due, next(self._orders), key, handler, args, schedule))

    def _plan_next(self, timer: _Timer) -> None:
        due = next_run(timer.schedule, timer.due, self._epoch_seconds) if timer.schedule else None
        if due is not None:
            self._timers.append(timer._replace(due=due, order=next(self._orders)))

    def _receive(self, envelope: tuple[Any, ...]) -> None:
        if envelope[0] == _wire.OP_DONE:
            _, number, *rest = envelope
            self._ids.pop(number)
            self._waiting.pop(number).set_result(tuple(rest))
        elif envelope[0] == _wire.OP_CHUNK:
            _, number, body = envelope
            self.chunks.append(_body.unpack(body))
            self._loop.call_soon(self._apply, _wire.OP_CREDIT, number, 1)
        elif envelope[0] == _wire.OP_REQUEST:
            # In a context of its own, or the peer's tasks would belong to the agent's message.
            _, number, ref, verb, *asked = envelope
            if verb == _wire.VERB_SHIELD:
                self._shield(number, ref, asked[-1])
            elif verb == _wire.VERB_STEP:
                self._loop.call_soon(self._answer_step, self._ids[number], ref, *asked, context=contextvars.Context())
            elif verb == _wire.VERB_ESCALATE:
                self._loop.call_soon(self._ask_people, self._ids[number], ref, *asked, context=contextvars.Context())
            else:
                self._loop.call_soon(self._begin_request, envelope, context=contextvars.Context())

    def _answer_step(self, id_: int, ref: int, _target: bytes, name: bytes, body: bytes, _timeout_ms: int) -> None:
        step = (id_, name.decode())
        if body:
            self._steps.setdefault(step, body)
            answer: Any = None
        else:
            answer = [_body.unpack(self._steps[step])] if step in self._steps else []
        self._apply(_wire.OP_RESULT, ref, _wire.RESULT_DONE, _body.pack(dump(answer)))

    def _shield(self, number: int, ref: int, milliseconds: int) -> None:
        # Held back from here on: the handler goes on a turn later.
        if milliseconds > 0:
            self._shielded.add(number)
        else:
            self._shielded.discard(number)
            if self._held_back == number:
                self._apply(_wire.OP_CANCEL, number)
        self._loop.call_soon(self._apply, _wire.OP_RESULT, ref, _wire.RESULT_DONE, _body.pack(None))

    def _begin_request(self, envelope: tuple[Any, ...]) -> None:
        self._loop.create_task(self._serve(*envelope[2:]))

    async def _serve(self, ref: int, verb: int, target: bytes, name: bytes, body: bytes, _timeout_ms: int) -> None:
        try:
            reply = await self._serving[verb % _wire.PRIORITY_HIGH](self, target.decode(), name.decode(), body)
            if verb == _wire.VERB_STREAM:
                for chunk in reply:
                    self._apply(_wire.OP_ITEM, ref, _body.pack(dump(chunk)))
                reply = None
            status, answer = _wire.RESULT_DONE, _body.pack(dump(reply))
        except errors.RemoteError as exc:
            status, answer = _wire.RESULT_ERROR, _body.pack(errors.to_body(exc))
        except errors.PyreError as exc:
            status, answer = _wire.RESULT_ERROR, own_body(exc)
        except errors.Reject as exc:
            status, answer = _wire.RESULT_ERROR, rejection_body(exc)
        except Exception as exc:  # noqa: BLE001  # a peer that raises is part of the test
            status, answer = _wire.RESULT_ERROR, failure_body(exc)
        self._apply(_wire.OP_RESULT, ref, status, answer)

    async def _serve_call(self, target: str, name: str, body: bytes) -> Any:  # noqa: ANN401
        self.sent.append(Sent("call", target, name, _body.unpack(body)))
        if target == self.id:
            raise errors.Deadlock(f"{target!r} called itself", {"chain": [target, target]})
        return await self._ask_peer(target, name, body)

    async def _serve_stream(self, target: str, name: str, body: bytes) -> list[Any]:
        self.sent.append(Sent("stream", target, name, _body.unpack(body)))
        reply = await self._ask_peer(target, name, body)
        return [chunk async for chunk in reply] if hasattr(reply, "__aiter__") else list(reply)

    async def _serve_cast(self, target: str, name: str, body: bytes) -> None:
        self.sent.append(Sent("cast", target, name, _body.unpack(body)))
        if target in self._peers:
            await self._ask_peer(target, name, body)
        elif target not in self._known:
            raise errors.NotFound(f"no agent has the id {target!r}: put it into peers")

    async def _serve_spawn(self, target: str, name: str, body: bytes) -> str:
        made = target or f"{name}-{len(self.sent) + 1}"
        self.sent.append(Sent("spawn", made, name, _body.unpack(body)["args"]))
        if made in self._known:
            raise errors.AlreadyStarted(f"an agent has the id {made!r} already")
        self._known.add(made)
        return made

    async def _serve_group(self, target: str, _name: str, body: bytes) -> str:
        asked = _body.unpack(body)
        self.sent.append(Sent("group", target, "", asked))
        for name, options in asked["agents"]:
            made = options.get("id") or f"{name}-{len(self._known) + 1}"
            if made in self._known:
                raise errors.AlreadyStarted(f"an agent has the id {made!r} already")
            self._known.add(made)
        return target

    async def _serve_stop(self, target: str, _name: str, _body: bytes) -> None:
        self.sent.append(Sent("stop", target, "", {}))
        if target not in self._known:
            raise errors.NotFound(f"no agent has the id {target!r}")
        self._known.discard(target)
        self._peers.pop(target, None)

    async def _serve_monitor(self, target: str, _name: str, _body: bytes) -> None:
        self.sent.append(Sent("monitor", target, "", {}))

    async def _serve_demonitor(self, target: str, _name: str, _body: bytes) -> None:
        self.sent.append(Sent("demonitor", target, "", {}))

    async def _serve_timers(self, _target: str, _name: str, _body: bytes) -> list[dict[str, Any]]:
        return [
            {
                "key": timer.key.decode(),
                "handler": timer.handler.decode(),
                "kind": kind_of(timer.schedule),
                "seconds": max(timer.due - self.now, 0.0),
            }
            for timer in sorted(self._timers, key=_order)
        ]

    async def _serve_tool(self, _target: str, name: str, body: bytes) -> Any:  # noqa: ANN401
        self.sent.append(Sent("tool", name, "", _body.unpack(body)))
        return await self._tools.use(name, _body.unpack(body))

    async def _serve_tools(self, _target: str, _name: str, _body: bytes) -> list[dict[str, Any]]:
        return await self._tools.listed()

    async def _serve_publish(self, _target: str, topic: str, body: bytes) -> None:
        self.published.append((topic, _body.unpack(body)))

    async def _serve_commit(self, _target: str, _version: str, body: bytes) -> None:
        self._committed, self._version = body, self._kind.version

    async def _ask_peer(self, target: str, name: str, body: bytes) -> Any:  # noqa: ANN401
        if target not in self._peers:
            raise errors.NotFound(f"no agent has the id {target!r}: put it into peers")
        peer = self._peers[target]
        function = peer.get(name) if isinstance(peer, dict) else getattr(peer, name, None)
        if function is None:
            raise errors.UnknownHandler(f"the peer {target!r} has no handler {name!r}")
        reply = function(**_body.unpack(body))
        return await reply if inspect.isawaitable(reply) else reply

    _serving = {  # noqa: RUF012  # a table of the methods above
        _wire.VERB_CALL: _serve_call,
        _wire.VERB_CAST: _serve_cast,
        _wire.VERB_STREAM: _serve_stream,
        _wire.VERB_SPAWN: _serve_spawn,
        _wire.VERB_GROUP: _serve_group,
        _wire.VERB_STOP: _serve_stop,
        _wire.VERB_COMMIT: _serve_commit,
        _wire.VERB_MONITOR: _serve_monitor,
        _wire.VERB_DEMONITOR: _serve_demonitor,
        _wire.VERB_TIMERS: _serve_timers,
        _wire.VERB_PUBLISH: _serve_publish,
        _wire.VERB_TOOL: _serve_tool,
        _wire.VERB_TOOLS: _serve_tools,
    }

    def _close(self) -> None:
        self._loop.run_until_complete(self._dispatcher.close(0.0))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def _compiled(kind: type[Agent], fakes: Mapping[str, Any]) -> tuple[AgentClass, _Catalogue]:
    module = sys.modules[kind.__module__]
    functions = dict(find_resources(module))
    types = {opens_type(function): name for name, function in functions.items()}
    types.pop(None, None)
    functions.update({name: (lambda value=value: value) for name, value in fakes.items()})
    compiled = compile_agent(kind, module.__file__ or "", types)
    return compiled, _Catalogue({compiled.name.encode(): compiled}, functions)
