"""The agent of the benchmarks: a small state that each call changes."""

from __future__ import annotations

from pyre import Agent, Context, handler


class Counter(Agent):
    """Counts."""

    class State:
        """Some 40 bytes when it is packed."""

        total: int = 0
        name: str = "counter-of-the-benchmarks"

    state: State

    @handler
    async def add(self, ctx: Context, n: int = 1) -> int:  # noqa: ARG002  # as users write it
        """Add to the total."""
        self.state.total += n
        return self.state.total
