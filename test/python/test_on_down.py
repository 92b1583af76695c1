"""`ctx.monitor` and `on_down`, in this process."""

from __future__ import annotations

import pytest

import pyre.testing
from pyre import Agent, Context, errors, handler
from pyre.testing import Sent


class Guard(Agent):
    """Watches, and writes down who ended."""

    class State:
        """Ids, and the exceptions' words."""

        downs: list[list[str]] = []  # noqa: RUF012  # copied for each agent

    @handler
    async def watch(self, ctx: Context, id: str) -> None:  # noqa: A002
        """Watch."""
        await ctx.monitor(id)

    @handler
    async def unwatch(self, ctx: Context, id: str) -> None:  # noqa: A002
        """Watch no more."""
        await ctx.demonitor(id)

    async def on_down(self, _ctx: Context, name: str, why: errors.PyreError) -> None:
        """Write it down; the parameters' names are its own affair."""
        self.state.downs.append([name, type(why).__name__, str(why)])
        if name == "bad":
            raise ValueError("it fails")


class Plain(Agent):
    """Has no on_down."""

    @handler
    async def watch(self, ctx: Context) -> None:
        """Try to watch."""
        await ctx.monitor("desk")


def test_what_is_watched_is_seen() -> None:
    with pyre.testing.run(Guard) as guard:
        guard.call("watch", id="desk")
        guard.call("unwatch", id="desk")
        assert guard.sent == [Sent("monitor", "desk", "", {}), Sent("demonitor", "desk", "", {})]


def test_an_end_is_an_exception() -> None:
    with pyre.testing.run(Guard) as guard:
        guard.down("desk")
        guard.down("till", errors.RemoteError("KeyError", "'x'"))
        assert guard.state.downs == [
            ["desk", "Stopped", "the agent 'desk' was stopped"],
            ["till", "RemoteError", "KeyError: 'x'"],
        ]


def test_an_on_down_that_fails_changes_nothing() -> None:
    with pyre.testing.run(Guard) as guard:
        guard.down("bad")
        guard.down("good")
        assert [str(failure) for failure in guard.failures] == ["ValueError: it fails"]
        assert [name for name, *_ in guard.state.downs] == ["good"]


def test_without_on_down_nothing_can_be_watched() -> None:
    with pyre.testing.run(Plain) as plain:
        with pytest.raises(errors.RemoteError, match="UnknownHandler: Plain has no on_down"):
            plain.call("watch")
        assert plain.sent == []
        plain.down("desk")
        (failure,) = plain.failures
        assert failure.kind == "unknown_handler"
