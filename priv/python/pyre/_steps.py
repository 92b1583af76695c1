"""What is waited for in several parts: a step that may have been done before, and a call that may be made again.

Both are begun when they are awaited, or, in a plain `def` handler's thread, waited for.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pyre import _body, _wire, errors
from pyre._convert import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pyre._message import Message
    from pyre._requests import Request
    from pyre.retry import Retry

__all__ = ["RetriedCall", "Step"]

T = TypeVar("T")


class Step(Generic[T]):
    """Something that is done once for a message, however often the message is run: `await` it, or `.wait()` for it."""

    __slots__ = ("_args", "_function", "_message", "_name")

    def __init__(self, message: Message, name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Keep what is to be done."""
        self._message = message
        self._name = name
        self._function = function
        self._args = args

    def __await__(self) -> Generator[Any, None, T]:
        """Give the recorded result, or do it and have its result recorded."""
        return self._run().__await__()

    async def _run(self) -> T:
        message = self._message
        message.begin_step(self._name)
        try:
            found = await self._ask(b"")
            if found:
                return found[0]  # type: ignore[no-any-return]
            result = await self._do()
            data = pack(result)
            await self._ask(data)
        except BaseException:
            message.leave_step(self._name)
            raise
        # As it will be given when the message is run again, and not as it is this once.
        return _body.unpack(data)  # type: ignore[no-any-return]

    async def _do(self) -> Any:  # noqa: ANN401
        if not inspect.iscoroutinefunction(self._function):
            result = await self._message.in_thread(self._function, *self._args)
        else:
            result = self._function(*self._args)
        return await result if inspect.isawaitable(result) else result

    def wait(self) -> T:
        """Do the same in the thread of a plain `def` handler."""
        message = self._message
        message.begin_step(self._name)
        try:
            found = self._ask(b"").wait()
            if found:
                return found[0]  # type: ignore[no-any-return]
            data = pack(self._function(*self._args))
            self._ask(data).wait()
        except BaseException:
            message.leave_step(self._name)
            raise
        return _body.unpack(data)  # type: ignore[no-any-return]

    def _ask(self, data: bytes) -> Request[Any]:
        return self._message.request((_wire.VERB_STEP, b"", self._name.encode(), data, 0), _body.unpack)


class RetriedCall:
    """A call that is made again where that is safe: `await` it, or `.wait()` for it."""

    __slots__ = ("_envelope", "_message", "_retry")

    def __init__(self, message: Message, envelope: tuple[Any, ...], retry: Retry) -> None:
        """Keep what is to be asked."""
        self._message = message
        self._envelope = envelope
        self._retry = retry

    def __await__(self) -> Generator[Any, None, Any]:
        """Ask until it is answered."""
        return self._run().__await__()

    async def _run(self) -> Any:  # noqa: ANN401
        attempt = 1
        while True:
            try:
                return await self._ask()
            except errors.PyreError as exc:
                seconds = self._pause(exc, attempt)
                if seconds is None:
                    raise
            await self._message.dispatcher.pause(seconds)
            attempt += 1

    def wait(self) -> Any:  # noqa: ANN401
        """Do the same in the thread of a plain `def` handler."""
        attempt = 1
        while True:
            try:
                return self._ask().wait()
            except errors.PyreError as exc:
                seconds = self._pause(exc, attempt)
                if seconds is None:
                    raise
            self._message.dispatcher.sleep(seconds)
            attempt += 1

    def _ask(self) -> Request[Any]:
        return self._message.request(self._envelope, _body.unpack)

    # Only where the work had certainly not begun, or may be done twice; and in time.
    def _pause(self, exc: errors.PyreError, attempt: int) -> float | None:
        if not exc.retryable or not self._retry.wants(exc, attempt):
            return None
        seconds = self._retry.delay(attempt)
        hint = exc.details.get("retry_after_ms")
        if isinstance(hint, int) and hint > 0:
            seconds = max(seconds, hint / 1000)
        left = self._message.remaining()
        return None if left is not None and seconds >= left else seconds
