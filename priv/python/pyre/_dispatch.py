"""From envelopes to handlers, and back: applies what the BEAM sent, and answers.

Everything here runs on the loop's thread, except where a docstring says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import threading
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any, Protocol

from pyre import _wire, errors
from pyre._activations import Activation, Activations, activate
from pyre._body import unpack_own
from pyre._burst import Burst
from pyre._excuses import Excuses
from pyre._failure import own_body
from pyre._handlers import AgentClass, HandlerSpec, compile_function
from pyre._memory import Memory
from pyre._message import CURRENT, FunctionRun, Message
from pyre._progress import Reporter
from pyre._requests import Requests
from pyre._resources import Resources
from pyre._runner import Runners
from pyre._threads import MAX_THREADS, Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pyre._progress import Reports

__all__ = ["GONE", "Catalogue", "Dispatcher"]

DONE = _wire.OP_DONE
ON_START = _wire.KIND_ON_START
STREAM = _wire.KIND_STREAM
GONE = {
    _wire.STATUS_FAILED,
    _wire.STATUS_REJECTED,
    _wire.STATUS_CANCELLED,
    _wire.STATUS_UNUSABLE,
    _wire.STATUS_RETRY,
}
MAX_ACTIVATIONS = 50_000
NS_PER_MS = 1_000_000


class Catalogue(Protocol):
    """What discovery found."""

    @property
    def classes(self) -> Mapping[bytes, AgentClass]:
        """The agent classes by name."""

    @property
    def resources(self) -> Mapping[str, Callable[..., Any]]:
        """The resource functions by name."""


class Dispatcher:
    """Owns the activations, the messages under way, the threads and the resources of one interpreter."""

    turn_began_ns = 0  # when the messages of this turn of the loop began

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[tuple[Any, ...]], None],
        words: memoryview,
        catalogue: Catalogue,
        config: Mapping[str, Any],
    ) -> None:
        """Begin with nothing under way; `config` is HELLO's."""
        self.loop = loop
        self.emit = emit
        # What is answered in a message's first step waits for the last message that came with it.
        self.queue = emit
        self.flush: Callable[[], None] = _nothing
        self.words = words
        self.activations = Activations(config.get("max_activations", MAX_ACTIVATIONS))
        self.running: dict[int, Message] = {}
        self._runners = Runners(loop, words)
        self.requests = Requests(loop, emit)
        self.reporter: Callable[[Message], Reports] = functools.partial(Reporter, thread=threading.get_ident())
        self.excuses = Excuses(words)
        self.memory = Memory(words)
        self.resources = Resources(loop, catalogue.resources, self.excuses)
        self.threads = Threads(loop, words, config.get("max_threads", MAX_THREADS))
        self.on_stop: Callable[[int], None] = _ignore_stop
        self.watched: Callable[[Message], None] | None = None
        self.note: Callable[..., None] = _ignore
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        self.sleep: Callable[[float], None] = sleep
        self._classes = catalogue.classes
        self._unusable: dict[int, tuple[int, bytes]] = {}
        self._offset_ns = 0
        self._operations: dict[int, Callable[[tuple[Any, ...]], None]] = {
            _wire.OP_ACTIVATE: self._activate,
            _wire.OP_DELIVER: self._deliver,
            _wire.OP_CANCEL: self._cancel,
            _wire.OP_DROP: self._drop,
            _wire.OP_RESULT: self._result,
            _wire.OP_RUN: self._run,
            _wire.OP_CLOCK: self._clock,
            _wire.OP_STOP: self._stop,
            _wire.OP_CREDIT: self._credit,
            _wire.OP_ITEM: self._item,
            _wire.OP_BURST: self._burst,
        }
        loop.set_task_factory(_owned_task)

    def apply(self, envelopes: Sequence[tuple[Any, ...]]) -> None:
        """Apply one frame, and leave the first steps to the loop; for whoever isn't called by it."""
        self.take(envelopes)
        if self._runners.unbegun:
            self.loop.call_soon(self.begin)

    def take(self, envelopes: Sequence[tuple[Any, ...]]) -> None:
        """Apply one frame, whose messages then wait for `begin`; raises ProtocolError for an envelope that is none."""
        self.activations.turn += 1
        operations = self._operations
        envelope: tuple[Any, ...] = ()
        try:
            for envelope in envelopes:
                operations[envelope[0]](envelope)
        except (KeyError, ValueError, TypeError, AttributeError) as exc:
            raise errors.ProtocolError(f"can't apply {envelope!r:.200}: {exc!r}") from exc

    def begin(self) -> None:
        """Run the first steps of the messages that have come, and write what they answer together."""
        if self._runners.unbegun:
            self.turn_began_ns = monotonic_ns()
            try:
                self._runners.begin()
            finally:
                self.flush()

    def set_clock(self, now_ms: int) -> None:
        """Learn what the BEAM's clock shows now."""
        self._offset_ns = monotonic_ns() - now_ms * NS_PER_MS

    # --- What the BEAM says ---

    def _activate(self, envelope: tuple[Any, ...]) -> None:
        _, handle, epoch, name, id_, state, args, version = envelope
        kind = self._classes.get(name)
        if kind is None:
            error = errors.UnknownClass(f"no agent class is named {name.decode()!r} in this worker")
            self.activations.remove(handle)
            self._unusable[handle] = (epoch, own_body(error))
            return
        if self._unusable:
            self._unusable.pop(handle, None)
        self.activations.put(handle, activate(kind, epoch, id_.decode(), state, args, version))

    def _deliver(self, envelope: tuple[Any, ...]) -> None:
        _, number, handle, epoch, kind, name, args, deadline_ms, extra = envelope
        activation = self.activations.get(handle)
        if activation is None or activation.__pyre_epoch__ != epoch:
            self._answer_unheld(number, handle, epoch)
            return
        spec = activation.__pyre_class__.handlers.get(name) if kind < ON_START else _rare(activation, kind, name)
        if spec is None:
            self._answer(number, _wire.STATUS_REFUSED, _unknown_handler(activation, name, kind))
            return
        if len(self.activations.held) > self.activations.crowd:
            self.activations.use(handle, activation)
        activation.__pyre_running__ += 1
        deadline_ns = deadline_ms * NS_PER_MS + self._offset_ns if deadline_ms else 0
        message = Message(self, number, handle, activation, spec, args, deadline_ns, extra)
        self.running[number] = message
        self._runners.unbegun.append(message)

    def _burst(self, envelope: tuple[Any, ...]) -> None:
        _, number, handle, epoch, deliveries = envelope
        activation = self.activations.get(handle)
        if activation is not None and activation.__pyre_epoch__ == epoch:
            if len(self.activations.held) > self.activations.crowd:
                self.activations.use(handle, activation)
            first = Burst(self, number, handle, activation, deliveries).next()
            if first is not None:
                self._runners.unbegun.append(first)
                return
        # Whatever the reason is, it is the first one's answer; the others may come again.
        (name, args, *extra), *others = unpack_own(deliveries)
        self.emit((_wire.OP_BURST_DONE, number, 0, 0, [], len(others)))
        self._deliver((_wire.OP_DELIVER, number, handle, epoch, _wire.KIND_CAST, name, args, 0, tuple(extra)))

    def _answer_unheld(self, number: int, handle: int, epoch: int) -> None:
        unusable = self._unusable.get(handle)
        if unusable is not None and unusable[0] == epoch:
            self._answer(number, _wire.STATUS_UNUSABLE, unusable[1])
        else:
            self._answer(number, _wire.STATUS_EVICTED, b"")

    def _run(self, envelope: tuple[Any, ...]) -> None:
        _, number, module, function, args, deadline_ms = envelope
        deadline_ns = deadline_ms * NS_PER_MS + self._offset_ns if deadline_ms else 0
        message = FunctionRun(self, number, (module.decode(), function.decode()), args, deadline_ns)
        self.running[number] = message
        self._runners.unbegun.append(message)

    def _cancel(self, envelope: tuple[Any, ...]) -> None:
        _, number = envelope
        message = self.running.get(number)
        if message is not None:
            message.cancel()

    def _drop(self, envelope: tuple[Any, ...]) -> None:
        _, handle, epoch = envelope
        self._unusable.pop(handle, None)
        held = self.activations.get(handle)
        if held is not None and held.__pyre_epoch__ == epoch:
            self.activations.remove(handle)
        leaving = self.activations.leaving.get((handle, epoch))
        if leaving is None:
            self.emit((_wire.OP_DROPPED, handle, epoch))
            return
        self.activations.dropped.add((handle, epoch))
        for message in [m for m in self.running.values() if m.activation is leaving]:
            message.cancel()

    def _result(self, envelope: tuple[Any, ...]) -> None:
        _, ref, status, body = envelope
        self.requests.answer(ref, status, body)

    def _credit(self, envelope: tuple[Any, ...]) -> None:
        _, number, count = envelope
        message = self.running.get(number)
        if message is not None:
            message.credit(count)

    def _item(self, envelope: tuple[Any, ...]) -> None:
        _, ref, body = envelope
        self.requests.item(ref, body)

    def _clock(self, envelope: tuple[Any, ...]) -> None:
        _, now_ms = envelope
        self.set_clock(now_ms)

    def _stop(self, envelope: tuple[Any, ...]) -> None:
        _, grace_ms = envelope
        self.on_stop(grace_ms)

    # --- What messages tell ---

    def done(self, message: Message, status: int, body: bytes, state: Any, effects: Any) -> None:  # noqa: ANN401
        """Answer a message whose handler has ended."""
        number = message.number
        self.running.pop(number, None)
        burst = message.burst
        if burst is not None and not status and not effects:
            following = burst.ended(message, state)
            if following is not None:
                self._runners.unbegun.appendleft(following)
        else:
            if burst is not None:
                burst.part(message)
            send = self.queue if self._runners.beginning else self.emit
            send((DONE, number, status, body, state, effects))
        activation = message.activation
        if activation is not None:
            if status:
                self._let_go(message, status)
            activation.__pyre_running__ -= 1
            if self.activations.leaving:
                self._left(message.handle, activation)

    def hold(self, message: Message) -> None:
        """Take note that a thread works for the message's activation."""
        if message.activation is not None:
            message.activation.__pyre_running__ += 1

    def release(self, message: Message) -> None:
        """Take note that a thread let go of the message's activation."""
        activation = message.activation
        if activation is not None:
            activation.__pyre_running__ -= 1
            if self.activations.leaving:
                self._left(message.handle, activation)

    def _left(self, handle: int, activation: Activation) -> None:
        if self.activations.left(handle, activation):
            self.emit((_wire.OP_DROPPED, handle, activation.__pyre_epoch__))

    def _let_go(self, message: Message, status: int) -> None:
        # A handler that ran on a snapshot spoiled nothing, unless the whole agent restarts.
        spoiled = status in {_wire.STATUS_FAILED, _wire.STATUS_UNUSABLE} or not message.spec.options.interleave
        if status in GONE and spoiled and self.activations.get(message.handle) is message.activation:
            self.activations.remove(message.handle)

    def find_function(self, module: str, function: str) -> HandlerSpec:
        """Find what RUN names; imports its module where nobody did before."""
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as exc:
            if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
                raise
            raise errors.UnknownHandler(f"no module is named {module!r}") from None
        for part in function.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise errors.UnknownHandler(f"module {module!r} has no function {function!r}")
        return compile_function(found)

    async def close(self, grace_seconds: float) -> None:
        """Let what runs end within the grace, cancel the rest, close the resources."""
        tasks = [message.task for message in self.running.values() if message.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for message in list(self.running.values()):
                message.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
        await self._runners.close()
        self.threads.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.resources.close(), timeout=1.0)

    def _answer(self, number: int, status: int, body: bytes) -> None:
        self.emit((_wire.OP_DONE, number, status, body, [], []))


def _rare(activation: Activation, kind: int, name: bytes) -> HandlerSpec | None:
    agent_class = activation.__pyre_class__
    if kind == STREAM:
        return agent_class.streams.get(name)
    if kind == _wire.KIND_ON_DOWN:
        return agent_class.on_down
    hook = agent_class.on_start if kind == _wire.KIND_ON_START else agent_class.on_stop
    return hook or agent_class.no_hook


def _unknown_handler(activation: Activation, name: bytes, kind: int) -> bytes:
    agent_class = activation.__pyre_class__
    wanted, others = agent_class.handlers, agent_class.streams
    if kind == STREAM:
        wanted, others = others, wanted
    text = name.decode(errors="backslashreplace")
    if name in others:
        what, remedy = ("no stream", "call it") if kind == STREAM else ("a stream", "read it with stream")
        return own_body(errors.UnknownHandler(f"{agent_class.name}.{text} is {what}: {remedy}"))
    known = ", ".join(sorted(spec.name for spec in wanted.values())) or "none"
    if kind == STREAM:
        return own_body(errors.UnknownHandler(f"{agent_class.name} has no stream {text!r} (it has: {known})"))
    return own_body(errors.UnknownHandler(f"{agent_class.name} has no handler {text!r} (it has: {known})"))


def _owned_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
    message = CURRENT.get(None)
    if message is not None:
        message.adopt(task)
    return task


def _ignore(_message: Message, _event: str, _error: BaseException | None = None) -> None:
    """Log nothing: the place that the runtime puts its logger in."""


def _nothing() -> None:
    """Flush nothing: what is emitted is sent at once."""


def _ignore_stop(_grace_ms: int) -> None:
    """Do nothing: the worker puts its own in."""
