"""An agent with a state: it counts."""

from __future__ import annotations

from pyre import Agent, Context, Reject, handler


class Counter(Agent):
    """Counts, and never loses count."""

    autostart = "counter"

    class State:
        """Kept outside this interpreter: whatever happens to it, the count stands."""

        count: int = 0

    @handler
    async def add(self, ctx: Context, by: int = 1) -> int:
        """Add to the count, and tell the new one."""
        if by < 0:
            raise Reject("it only counts upwards", {"by": by})
        self.state.count += by
        ctx.log.debug("counted", count=self.state.count)
        return int(self.state.count)

    @handler(readonly=True)
    async def current(self) -> int:
        """Tell the count."""
        return int(self.state.count)

    @handler
    async def lose(self) -> None:
        """Change the count and fail, to show that a handler that raises has changed nothing."""
        self.state.count = 0
        raise RuntimeError("lost it")
