"""The agents of the benchmarks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pyre import Agent, Context, handler


class Counter(Agent):
    """Changes its state with each call."""

    class State:
        """Some 40 bytes when it is packed; bench/floor/echo.c writes the same ones."""

        total: int = 0
        name: str = "counter-of-the-benchmarks"

    state: State

    @handler
    async def add(self, ctx: Context, n: int) -> int:  # noqa: ARG002  # as users write it
        """Add, and tell the sum."""
        self.state.total += n
        return self.state.total

    @handler
    async def keep(self, data: str) -> str:
        """Give back what came, and change the state."""
        self.state.total += 1
        return data

    @handler
    async def echo(self, data: str) -> str:
        """Give back what came; changes nothing."""
        return data

    @handler
    async def compute(self, rounds: int) -> int:
        """Take the processor."""
        total = 0
        for n in range(rounds):
            total += n
        return total

    @handler
    async def count(self, up_to: int) -> AsyncIterator[int]:
        """Give numbers as fast as they are taken; changes nothing."""
        for n in range(up_to):
            yield n

    @handler
    async def plan(self, ctx: Context, count: int) -> None:
        """Set timers that are due in an hour and later."""
        for n in range(count):
            ctx.after(3_600 + n, "add", key=f"{n:08}", n=1)


class Keeper(Agent):
    """Keeps a note of any size."""

    class State:
        """What Elixir puts there."""

        note: str = ""

    state: State

    @handler
    async def size(self) -> int:
        """Tell how long the note is; changes nothing."""
        return len(self.state.note)


class Greeter(Agent):
    """Does something when it is started."""

    class State:
        """What it did."""

        greeted: bool = False

    state: State

    async def on_start(self, ctx: Context) -> None:  # noqa: ARG002  # as users write it
        """Change the state."""
        self.state.greeted = True
