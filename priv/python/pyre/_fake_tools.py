"""The tools of `pyre.testing`: plain functions in place of what the BEAM would run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pyre import errors
from pyre._failure import traceback_text
from pyre._schema import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FakeTools"]


class FakeTools:
    """What `ctx.tool` and `ctx.tools` find in a test."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        """Keep the functions, by the names of the tools that they stand for."""
        self._functions = functions

    async def use(self, name: str, args: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run one; what it raises is a ToolError, but for Pyre's own errors, which are given as they are."""
        function = self._functions.get(name)
        if function is None:
            raise errors.NotFound(f"there is no tool {name!r}: put it into tools")
        try:
            inspect.signature(function).bind(**args)
        except TypeError as exc:
            raise errors.InvalidArgs(f"the arguments of the tool {name!r} don't fit: {exc}") from None
        try:
            reply = function(**args)
            return await reply if inspect.isawaitable(reply) else reply
        except errors.PyreError:
            raise
        except errors.Reject as exc:
            raise errors.ToolError("error", exc.message, tool=name, expected=True, data=exc.data) from None
        except Exception as exc:
            trace = traceback_text(exc)
            raise errors.ToolError(type(exc).__name__, str(exc), tool=name, traceback=trace) from exc

    async def listed(self) -> list[dict[str, Any]]:
        """Describe them, as the functions' hints and docstrings do."""
        return [
            {"name": name, **describe(function, set(inspect.signature(function).parameters))}
            for name, function in sorted(self._functions.items())
        ]
