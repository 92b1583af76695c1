"""What all agents of a worker share: opened at the first use, once, and closed when the worker ends."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import functools
import inspect
import threading
import typing
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyre import errors
from pyre._excuses import Excused
from pyre._requests import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pyre._excuses import Excuses

__all__ = ["Resources", "opens_type"]

ERROR_KEPT_SECONDS = 1.0
_YIELDING = {
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.Iterable,
}


class _Opening:
    """One resource: a task that opens it, and the exit that closes it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.failed_at: float | None = None

    def is_stale(self) -> bool:
        """Tell whether it failed long enough ago to be tried again."""
        return self.failed_at is not None and monotonic() - self.failed_at > ERROR_KEPT_SECONDS


class Resources:
    """The resources of one worker; used on the loop's thread, but for `request`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, functions: Mapping[str, Callable[..., Any]], excuses: Excuses
    ) -> None:
        """Open none yet."""
        self._loop = loop
        self.excuses = excuses  # the worker puts its own in
        self._functions = functions
        self._openings: dict[str, _Opening] = {}
        self._exits = contextlib.AsyncExitStack()
        self._thread = threading.get_ident()

    async def get(self, name: str) -> Any:  # noqa: ANN401
        """Give a resource; all who ask while it is being opened wait for the same opening."""
        opening = self._openings.get(name)
        if opening is None or opening.is_stale():
            opening = self._openings[name] = self._open(name)
        # A handler that is cancelled must not end the opening that others wait for.
        return await asyncio.shield(opening.task)

    def request(self, name: str) -> Request[Any]:
        """Give a resource to an async handler, or to one that runs in a thread."""
        if threading.get_ident() == self._thread:
            return Request(self._loop.create_task(self.get(name)))
        return Request(asyncio.run_coroutine_threadsafe(self.get(name), self._loop))

    async def close(self) -> None:
        """Close what is open, the last one first."""
        for opening in self._openings.values():
            opening.task.cancel()
        await Excused(self.excuses, self._exits.aclose())

    def _open(self, name: str) -> _Opening:
        function = self._functions.get(name)
        if function is None:
            known = ", ".join(sorted(self._functions)) or "none"
            raise errors.InternalError(f"no resource is named {name!r} (known: {known})")
        # In a context of its own: what it starts belongs to the worker, not to the message that came first.
        opened: Any = Excused(self.excuses, self._entered(function))
        task = asyncio.Task(opened, loop=self._loop, context=contextvars.Context())
        opening = _Opening(task)
        task.add_done_callback(functools.partial(_note_failure, opening))
        return opening

    def _entered(self, function: Callable[..., Any]) -> Coroutine[Any, Any, Any]:
        if inspect.isasyncgenfunction(function):
            return self._exits.enter_async_context(contextlib.asynccontextmanager(function)())
        if inspect.isgeneratorfunction(function):
            return _in_coroutine(lambda: self._exits.enter_context(contextlib.contextmanager(function)()))
        return _in_coroutine(function)


async def _in_coroutine(function: Callable[[], Any]) -> Any:  # noqa: ANN401
    value = function()
    return await value if inspect.isawaitable(value) else value


def _note_failure(opening: _Opening, task: asyncio.Task[Any]) -> None:
    if task.cancelled() or task.exception() is not None:
        opening.failed_at = monotonic()


def opens_type(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Tell by which type a resource is injected, from its function's return annotation; None where only by name."""
    hint = typing.get_type_hints(function).get("return")
    args = typing.get_args(hint)
    opened = args[0] if typing.get_origin(hint) in _YIELDING and args else hint
    # An int or a dict is what callers send: a handler that takes one means theirs.
    is_own_type = isinstance(opened, type) and opened.__module__ != "builtins"
    return opened if is_own_type and typing.get_origin(opened) is None else None
