"""Cancellation and shields, run without the BEAM."""

from __future__ import annotations

import asyncio

import pytest

from pyre import Agent, Context, errors, handler, testing


class Clerk(Agent):
    """Writes down how far it came."""

    class State:
        """How often something was done to the end."""

        done: int = 0

    trail: list[str]

    def __init__(self) -> None:
        """Begin with a clean sheet, which the tests look at."""
        self.trail = TRAIL

    @handler
    async def work(self) -> None:
        """Wait, and tell of the cancellation."""
        self.state.done += 1
        try:
            await asyncio.sleep(10)
        finally:
            self.trail.append("finally")

    @handler
    async def swallow(self) -> str:
        """Go on after the cancellation."""
        self.state.done += 1
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    @handler
    async def at_once(self) -> str:
        """End without waiting."""
        self.state.done += 1
        return "done"

    @handler
    async def shielded(self, ctx: Context) -> None:
        """Finish the shielded part, with another in it."""
        async with ctx.shield():
            async with ctx.shield():
                await asyncio.sleep(0.01)
            self.trail.append("inner")
            await asyncio.sleep(0.01)
            self.trail.append("outer")
        self.trail.append("after")

    @handler
    async def fail_shielded(self, ctx: Context) -> None:
        """Fail in the shielded part."""
        async with ctx.shield():
            await asyncio.sleep(0.01)
            raise ValueError("in the shield")

    @handler
    async def give_up(self, ctx: Context) -> str:
        """Give a call up, and go on."""
        try:
            await asyncio.wait_for(_ask(ctx), timeout=0.01)
        except TimeoutError:
            return "gave up"
        return "answered"


TRAIL: list[str] = []


async def _ask(ctx: Context) -> None:
    await ctx.call("slow", "work")


@pytest.fixture(autouse=True)
def _clean_sheet() -> None:
    TRAIL.clear()


def test_a_cancelled_handler_runs_its_finally_and_commits_nothing() -> None:
    with testing.run(Clerk) as clerk:
        with pytest.raises(errors.Cancelled):
            clerk.cancel("work")
        assert TRAIL == ["finally"]
        assert clerk.state.done == 0
        assert clerk.call("at_once") == "done"
        assert clerk.state.done == 1


def test_a_swallowed_cancellation_commits_nothing() -> None:
    with testing.run(Clerk) as clerk:
        with pytest.raises(errors.Cancelled):
            clerk.cancel("swallow")
        assert clerk.state.done == 0


def test_a_cancellation_may_come_too_late() -> None:
    with testing.run(Clerk) as clerk:
        assert clerk.cancel("at_once") == "done"
        assert clerk.state.done == 1


def test_a_shield_finishes_and_what_comes_after_it_does_not_run() -> None:
    with testing.run(Clerk) as clerk:
        with pytest.raises(errors.Cancelled):
            clerk.cancel("shielded")
        assert TRAIL == ["inner", "outer"]


def test_a_shield_without_a_cancellation_changes_nothing() -> None:
    with testing.run(Clerk) as clerk:
        clerk.call("shielded")
        assert TRAIL == ["inner", "outer", "after"]


def test_an_error_in_a_shield_is_not_lost_in_the_next_call() -> None:
    with testing.run(Clerk) as clerk:
        with pytest.raises(errors.RemoteError):
            clerk.call("fail_shielded")
        with pytest.raises(errors.Cancelled):
            clerk.cancel("fail_shielded")
        assert clerk.call("at_once") == "done"


def test_a_call_that_is_given_up_is_withdrawn() -> None:
    async def slow(**_named: object) -> None:
        await asyncio.sleep(1)

    with testing.run(Clerk, peers={"slow": {"work": slow}}) as clerk:
        assert clerk.call("give_up") == "gave up"
        assert clerk.call("at_once") == "done"
