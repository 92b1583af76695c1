"""A second file, with a resource that opens at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pyre import Address, Agent, Context, Reject, handler, resource


class Scale:
    """What `scale` yields."""

    def weigh(self, name: str) -> int:
        """Weigh by the name's length."""
        return len(name)


@resource
def scale() -> Iterator[Scale]:
    """Open at once."""
    yield Scale()


class Shop(Agent):
    """Sells, and asks others."""

    class State:
        """What was sold."""

        sold: dict[str, int] = {}  # noqa: RUF012  # copied for each agent
        owner: str = "nobody"

    @handler
    async def sell(self, ctx: Context, name: str, scale: Scale) -> int:
        """Sell one, and tell the desk."""
        self.state.sold[name] = self.state.sold.get(name, 0) + 1
        await ctx.cast("desk", "sold", name=name)
        return 10 * scale.weigh(name)

    @handler
    def ask(self, ctx: Context, question: str) -> str:
        """Ask the desk, from a thread."""
        answer: str = ctx.call("desk", "ask", question=question).wait()
        return answer

    @handler
    async def ask_myself(self, ctx: Context) -> str:
        """Close a cycle."""
        answer: str = await ctx.call(ctx.id, "ask", question="?")
        return answer

    @handler
    async def open_branch(self, ctx: Context, owner: str) -> Address:
        """Spawn another shop."""
        return await ctx.spawn(Shop, f"branch-{owner}", owner=owner)

    @handler
    async def open_chain(self, ctx: Context, name: str) -> str:
        """Spawn shops that are restarted together."""
        first = (Shop, {"id": f"{name}-1", "args": {"owner": "ann"}})
        await ctx.group(name, strategy="one_for_all", agents=[first, ("Shop", {"args": {"owner": "bo"}})])
        return await ctx.spawn(Shop, f"{name}-2", owner="cy", group=name)

    @handler
    async def close_branch(self, ctx: Context, id: Address) -> None:  # noqa: A002
        """Stop another shop."""
        await ctx.stop(id)

    @handler
    async def remind(self, ctx: Context, after: float) -> None:
        """Sell later."""
        ctx.after(after, "sell_later", key="remind", name="late")
        ctx.after(after / 2, "sell_later", name="early")

    @handler
    async def sell_later(self, name: str) -> None:
        """Sell without asking anybody; there is no stock of `none`."""
        if name == "none":
            raise Reject("out of stock", ["none"])
        self.state.sold[name] = len(self.state.sold)

    @handler
    async def hang(self) -> None:
        """Never end."""
        await asyncio.Event().wait()

    @handler
    async def fail(self) -> None:
        """Change, and raise."""
        self.state.owner = "someone"
        raise ValueError("closed")
