"""Streams: handlers that yield, and what others read of them.

The producer runs at most a window ahead of whoever reads: WINDOW chunks, and no new one once WINDOW_BYTES are under
way. An `Outlet` is one message's producing end, an `Inlet` the reading end of a `ctx.stream`. A message that is no
stream touches nothing here.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
from typing import TYPE_CHECKING, Any

from pyre import _body, _wire, errors
from pyre._convert import pack

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from typing import Self

    from pyre._message import Message

__all__ = ["Inlet", "Outlet"]

WINDOW = 16
WINDOW_BYTES = 1024 * 1024
# What was read is told in lots: of so many chunks, or of so many bytes. Both leave most of the window to the producer.
LOT = WINDOW // 2
LOT_BYTES = WINDOW_BYTES // 4


class Outlet:
    """Sends the chunks of one message, and waits for room."""

    __slots__ = ("_bytes", "_message", "_sizes", "_waiting")

    def __init__(self, message: Message) -> None:
        """Begin with an empty window."""
        self._message = message
        self._sizes: collections.deque[int] = collections.deque()
        self._bytes = 0
        self._waiting: asyncio.Future[None] | concurrent.futures.Future[None] | None = None

    @property
    def _full(self) -> bool:
        return len(self._sizes) >= WINDOW or self._bytes >= WINDOW_BYTES

    async def drain(self, chunks: AsyncGenerator[Any, Any]) -> None:
        """Send what an async generator yields; whatever happens, it is closed."""
        try:
            while True:
                if self._full:
                    await self._room()
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                self._send(pack(chunk))
        finally:
            await chunks.aclose()

    async def _room(self) -> None:
        waiting = self._waiting = self._message.dispatcher.loop.create_future()
        await waiting

    def pump(self, chunks: Generator[Any, Any, Any]) -> None:
        """Send what a generator yields; runs in a thread."""
        loop = self._message.dispatcher.loop
        with contextlib.closing(chunks):
            for chunk in chunks:
                sent: concurrent.futures.Future[None] = concurrent.futures.Future()
                loop.call_soon_threadsafe(self._send_for_thread, pack(chunk), sent)
                # Until there is room for the next.
                sent.result()

    def _send_for_thread(self, body: bytes, sent: concurrent.futures.Future[None]) -> None:
        if self._message.ended or self._message.cancelling:
            sent.set_exception(errors.Cancelled(f"{self._message.name} has ended"))
            return
        self._send(body)
        if self._full:
            self._waiting = sent
        else:
            sent.set_result(None)

    def _send(self, body: bytes) -> None:
        self._sizes.append(len(body))
        self._bytes += len(body)
        self._message.dispatcher.emit((_wire.OP_CHUNK, self._message.number, body))

    def credit(self, count: int) -> None:
        """Take note that the oldest chunks were read."""
        for _ in range(min(count, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
        if not self._full:
            self._wake(None)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._wake(errors.Cancelled(f"{self._message.name} has ended"))

    def _wake(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        elif isinstance(waiting, concurrent.futures.Future):
            waiting.set_exception(error)
        else:
            waiting.cancel()


class Inlet:
    """What `ctx.stream` gives: iterate it, with `async for`, or with `for` in the thread of a `def` handler.

    The call is made with the first chunk that is asked for. Left before its end, it closes the generator at the other
    side: at once where it is closed (`aclose`, `async with`), else as soon as nothing refers to it any more.
    """

    __slots__ = ("_chunks", "_envelope", "_error", "_message", "_over", "_ref", "_timeout", "_unread", "_waiting")

    def __init__(self, message: Message, envelope: tuple[Any, ...], timeout: float | None) -> None:
        """Keep what to ask for."""
        self._message = message
        self._envelope = envelope
        self._timeout = timeout
        self._chunks: collections.deque[bytes] = collections.deque()
        self._unread = [0, 0]  # chunks and bytes that were read, and of which the producer doesn't know
        self._waiting: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._over = False
        self._ref = 0

    def __aiter__(self) -> Inlet:
        """Give itself."""
        return self

    def __iter__(self) -> Inlet:
        """Give itself."""
        return self

    async def __aenter__(self) -> Self:
        """Give itself."""
        return self

    async def __aexit__(self, *_outcome: object) -> None:
        """Close it."""
        await self.aclose()

    async def __anext__(self) -> Any:  # noqa: ANN401
        """Wait for the next chunk."""
        if not self._ref:
            self._ref = self._message.dispatcher.requests.open(self._message, self._envelope, self)
        while not self._chunks:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            await self._arrival()
        return self._read()

    def __next__(self) -> Any:  # noqa: ANN401
        """Wait for the next chunk, in a thread."""
        if self._message.dispatcher.requests.on_loop():
            raise RuntimeError("an async handler would block its worker: use async for")
        try:
            return asyncio.run_coroutine_threadsafe(self.__anext__(), self._message.dispatcher.loop).result()
        except StopAsyncIteration:
            raise StopIteration from None

    async def _arrival(self) -> None:
        waiting = self._waiting = self._message.dispatcher.loop.create_future()
        try:
            await asyncio.wait_for(waiting, self._timeout)
        except TimeoutError:
            self._leave()
            raise errors.CallTimeout(
                f"no chunk came from {self._envelope[1].decode()!r} within {self._timeout:g} s; the stream was closed",
                {"committed": False},
            ) from None

    def _read(self) -> Any:  # noqa: ANN401
        body = self._chunks.popleft()
        unread = self._unread
        unread[0] += 1
        unread[1] += len(body)
        if (unread[0] >= LOT or unread[1] >= LOT_BYTES) and not self._over:
            self._message.dispatcher.emit((_wire.OP_READ, self._message.number, self._ref, unread[0]))
            unread[0] = unread[1] = 0
        return _body.unpack(body)

    async def aclose(self) -> None:
        """Read no more: the generator at the other side is closed."""
        self._leave()

    def _leave(self) -> None:
        if self._ref and not self._over:
            self._over = True
            self._message.dispatcher.requests.withdraw(self._message, self._ref)
        self._over = True
        self._ref = self._ref or -1
        self._chunks.clear()

    def __del__(self) -> None:
        """Close it where the loop over it was left."""
        if self._ref > 0 and not self._over and not self._message.ended:
            # A thread's last reference may be the one that goes.
            with contextlib.suppress(RuntimeError):
                self._message.dispatcher.loop.call_soon_threadsafe(
                    self._message.dispatcher.requests.withdraw, self._message, self._ref
                )

    # --- What the BEAM tells ---

    def item(self, body: bytes) -> None:
        """Take a chunk that has come."""
        self._chunks.append(body)
        self._wake()

    def end(self, error: BaseException | None) -> None:
        """Take note that no more chunks come."""
        self._over, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
