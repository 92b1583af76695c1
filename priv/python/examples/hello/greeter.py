"""An agent that asks another one."""

from __future__ import annotations

from pyre import Agent, Context, handler


class Greeter(Agent):
    """Greets, and has its greetings counted."""

    autostart = "greeter"

    @handler
    async def greet(self, ctx: Context, name: str) -> str:
        """Greet somebody."""
        number = await ctx.call("counter", "add")
        return f"Hello, {name}! You are number {number}."
