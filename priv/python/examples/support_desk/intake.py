"""The intake: hands the tickets on, no faster than the desk wants them."""

from __future__ import annotations

from _tickets import read_tickets

from pyre import Agent, Context, errors, every, handler

PERIOD = 0.1
PER_TURN = 5


class Intake(Agent):
    """Reads the tickets at a bounded rate."""

    autostart = "intake"

    class State:
        """How many were handed on."""

        done: int = 0
        heard: bool = False

    state: State

    @every(PERIOD)
    async def hand_on(self, ctx: Context) -> None:
        """Hand the next few to the router. What it has no room for now comes with a later turn."""
        tickets = read_tickets()
        if not self.state.heard:
            # Nobody counts what is told before the front desk listens.
            await ctx.call("front", "status")
            self.state.heard = True
        for ticket in tickets[self.state.done : self.state.done + PER_TURN]:
            try:
                await ctx.cast("router", "route", ticket=ticket)
            except errors.Overloaded:
                break
            self.state.done += 1
        ctx.progress(self.state.done / len(tickets), f"{self.state.done} of {len(tickets)} tickets handed on")
        if self.state.done >= len(tickets):
            ctx.cancel_timer("hand_on")

    @handler(interleave=True)
    async def status(self) -> dict[str, int]:
        """Tell the figures of the status line."""
        return {"tickets read": self.state.done}
