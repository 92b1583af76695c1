"""What a handler asks of the BEAM, and waits for.

A request made on the loop is awaited; one made in a plain `def` handler's thread is waited for. It is sent when it is
made, whether anybody waits or not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import itertools
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pyre import _body, _wire, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pyre._message import Message
    from pyre._stream import Inlet

    Emit = Callable[[tuple[Any, ...]], None]
    Outcome = asyncio.Future[Any] | concurrent.futures.Future[Any]

__all__ = ["Request", "Requests"]

T_co = TypeVar("T_co", covariant=True)


# What can be taken back: the BEAM has something done for it that may take long.
REVOCABLE = {_wire.VERB_CALL, _wire.VERB_TOOL}


class _Outcome(asyncio.Future[Any]):
    """The answer to a request that is taken back when nobody wants it any more."""

    withdraw: Callable[[], None]

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ANN401  # asyncio's own
        if not super().cancel(msg):
            return False
        self.withdraw()
        return True


class Request(Generic[T_co]):
    """The answer to come: `await` it in an async handler, `.wait()` for it in a plain one."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Outcome) -> None:
        """Wrap the future of the loop, or of the thread."""
        self._outcome = outcome

    def __await__(self) -> Generator[Any, None, T_co]:
        """Wait on the loop."""
        if isinstance(self._outcome, concurrent.futures.Future):
            raise RuntimeError("a request made in a thread can't be awaited: use .wait()")  # noqa: TRY004
        return self._outcome.__await__()

    def wait(self) -> T_co:
        """Wait in the thread of a plain `def` handler."""
        if isinstance(self._outcome, asyncio.Future):
            raise RuntimeError("an async handler would block its worker: use await")  # noqa: TRY004
        answer: T_co = self._outcome.result()
        return answer


class Requests:
    """The requests that the BEAM hasn't answered yet; all but `make` is called on the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, emit: Emit) -> None:
        """Begin with none."""
        self._loop = loop
        self._emit = emit
        self._thread = threading.get_ident()
        self._refs = itertools.count(1)
        self._waiting: dict[int, tuple[Outcome, Callable[[bytes], Any]]] = {}
        self._inlets: dict[int, Inlet] = {}

    def on_loop(self) -> bool:
        """Tell whether the caller may await."""
        return threading.get_ident() == self._thread

    def make(self, message: Message, envelope: tuple[Any, ...], read: Callable[[bytes], Any]) -> Request[Any]:
        """Send a request `(verb, target, name, body, timeout_ms)` of a message; from the loop or from its thread."""
        if message.ended:
            raise errors.StaleActivation(f"{message.name} has ended: it can't ask for anything any more")
        if threading.get_ident() == self._thread:
            if envelope[0] % _wire.PRIORITY_HIGH in REVOCABLE:
                return Request(self._send_revocable(message, envelope, read))
            future = self._loop.create_future()
            self._send(message, envelope, read, future)
            return Request(future)
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(self._send_for_thread, message, envelope, read, outcome)
        return Request(outcome)

    def settled(self, value: Any) -> Request[Any]:  # noqa: ANN401
        """Make a request that needs nobody's answer."""
        outcome: Outcome = (
            self._loop.create_future() if threading.get_ident() == self._thread else concurrent.futures.Future()
        )
        outcome.set_result(value)
        return Request(outcome)

    def open(self, message: Message, envelope: tuple[Any, ...], inlet: Inlet) -> int:
        """Ask for a stream; what comes of it is the inlet's."""
        if message.ended:
            raise errors.StaleActivation(f"{message.name} has ended: it can't ask for anything any more")
        ref = next(self._refs)
        self._inlets[ref] = inlet
        message.part()
        self._emit((_wire.OP_REQUEST, message.number, ref, *envelope))
        return ref

    def item(self, ref: int, body: bytes) -> None:
        """Hand a chunk to whoever reads the stream; nobody, where it was withdrawn meanwhile."""
        inlet = self._inlets.get(ref)
        if inlet is not None:
            inlet.item(body)

    def withdraw(self, message: Message, ref: int) -> None:
        """Take a request back: its answer is of no use any more."""
        self._inlets.pop(ref, None)
        if not message.ended:
            self._emit((_wire.OP_WITHDRAW, message.number, ref))

    def _end_stream(self, inlet: Inlet, status: int, body: bytes) -> None:
        if status == _wire.RESULT_DONE:
            inlet.end(None)
            return
        try:
            inlet.end(errors.from_body(_body.unpack(body)))
        except errors.DecodeError as exc:
            inlet.end(exc)

    def answer(self, ref: int, status: int, body: bytes) -> None:
        """Hand a RESULT to whoever waits for it."""
        if self._inlets and (inlet := self._inlets.pop(ref, None)) is not None:
            self._end_stream(inlet, status, body)
            return
        outcome, read = self._waiting.pop(ref, (None, None))
        if outcome is None or read is None or outcome.done():
            return
        try:
            if status == _wire.RESULT_DONE:
                outcome.set_result(read(body))
            else:
                outcome.set_exception(errors.from_body(_body.unpack(body)))
        except (errors.DecodeError, errors.Unanswered) as exc:
            outcome.set_exception(exc)

    def _send(
        self, message: Message, envelope: tuple[Any, ...], read: Callable[[bytes], Any], outcome: Outcome
    ) -> None:
        ref = next(self._refs)
        self._waiting[ref] = (outcome, read)
        message.part()
        self._emit((_wire.OP_REQUEST, message.number, ref, *envelope))

    def _send_revocable(
        self, message: Message, envelope: tuple[Any, ...], read: Callable[[bytes], Any]
    ) -> asyncio.Future[Any]:
        ref = next(self._refs)
        outcome = _Outcome(loop=self._loop)
        outcome.withdraw = functools.partial(self._give_up, message, ref)
        self._waiting[ref] = (outcome, read)
        message.part()
        self._emit((_wire.OP_REQUEST, message.number, ref, *envelope))
        return outcome

    def _give_up(self, message: Message, ref: int) -> None:
        if self._waiting.pop(ref, None) is not None:
            self.withdraw(message, ref)

    def _send_for_thread(
        self,
        message: Message,
        envelope: tuple[Any, ...],
        read: Callable[[bytes], Any],
        outcome: concurrent.futures.Future[Any],
    ) -> None:
        if message.ended:
            outcome.set_exception(errors.StaleActivation(f"{message.name} has ended"))
            return
        message.add_thread_wait(outcome)
        self._send(message, envelope, read, outcome)
