"""`ctx.tool` and `ctx.tools`, with tools that are faked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import pyre.testing
from pyre import Agent, Context, Reject, errors, handler
from pyre.errors import ToolError
from pyre.testing import Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyre.testing import RunningAgent


class Clerk(Agent):
    """Asks tools."""

    class State:
        """How often it asked."""

        asked: int = 0

    @handler
    async def ask(self, ctx: Context, tool: str, given: dict[str, Any]) -> Any:
        """Ask a tool."""
        self.state.asked += 1
        return await ctx.tool(tool, args=given)

    @handler
    def ask_in_thread(self, ctx: Context, id: int) -> Any:  # noqa: A002
        """Ask from a thread."""
        return ctx.tool("crm.lookup", id=id).wait()

    @handler
    async def tell(self, ctx: Context, tool: str) -> tuple[str, str, bool, Any]:
        """Tell what a tool raises."""
        try:
            await ctx.tool(tool)
        except ToolError as exc:
            return (exc.tool, exc.type, exc.expected, exc.data)
        return ("", "", False, None)

    @handler
    async def offered(self, ctx: Context) -> list[dict[str, Any]]:
        """Tell the tools."""
        return [tool._asdict() for tool in await ctx.tools()]

    @handler
    async def hurry(self, ctx: Context) -> None:
        """Give a tool no time."""
        await ctx.tool("crm.lookup", timeout=0)


def lookup(id: int, city: str = "Bonn") -> dict[str, Any]:  # noqa: A002
    """Look a customer up."""
    return {"id": id, "city": city}


async def refuse() -> None:
    """Refuse."""
    raise Reject("not today", {"day": "sunday"})


def crash() -> None:
    """Crash."""
    raise LookupError("no such table")


@pytest.fixture
def clerk() -> Iterator[RunningAgent]:
    tools: dict[str, Callable[..., Any]] = {"crm.lookup": lookup, "refuse": refuse, "crash": crash}
    with pyre.testing.run(Clerk, tools=tools) as agent:
        yield agent


def test_a_tool_is_a_function_here(clerk: RunningAgent) -> None:
    assert clerk.call("ask", tool="crm.lookup", given={"id": 3}) == {"id": 3, "city": "Bonn"}
    assert clerk.call("ask_in_thread", id=4) == {"id": 4, "city": "Bonn"}
    assert clerk.sent == [Sent("tool", "crm.lookup", "", {"id": 3}), Sent("tool", "crm.lookup", "", {"id": 4})]
    assert clerk.state.asked == 1


def test_what_a_tool_raises_is_a_tool_error(clerk: RunningAgent) -> None:
    assert clerk.call("tell", tool="refuse") == ["refuse", "error", True, {"day": "sunday"}]
    assert clerk.call("tell", tool="crash") == ["crash", "LookupError", False, None]
    with pytest.raises(errors.RemoteError, match="ToolError: tool 'crash': LookupError: no such table"):
        clerk.call("ask", tool="crash", given={})
    assert clerk.state.asked == 0


def test_a_tool_that_nobody_faked_and_arguments_that_do_not_fit(clerk: RunningAgent) -> None:
    with pytest.raises(errors.RemoteError, match="NotFound: there is no tool 'mail': put it into tools"):
        clerk.call("ask", tool="mail", given={})
    with pytest.raises(errors.RemoteError, match=r"InvalidArgs: the arguments of the tool 'crm\.lookup' don't fit"):
        clerk.call("ask", tool="crm.lookup", given={"nr": 3})
    with pytest.raises(errors.RemoteError, match="ValueError: expected a timeout of more than 0 seconds"):
        clerk.call("hurry")


def test_tools_tell_their_schema(clerk: RunningAgent) -> None:
    offered = clerk.call("offered")
    assert [tool["name"] for tool in offered] == ["crash", "crm.lookup", "refuse"]
    assert offered[1]["description"] == "Look a customer up."
    assert offered[1]["schema"] == {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "city": {"type": "string", "default": "Bonn"}},
        "required": ["id"],
        "additionalProperties": False,
    }


def test_a_tool_error_survives_the_wire() -> None:
    error = ToolError("ArgumentError", "no", tool="crm.lookup", traceback="there", expected=False, data=[1])
    again = errors.from_body(errors.to_body(error))
    assert isinstance(again, ToolError)
    assert vars(again) == vars(error)
    assert str(again) == "tool 'crm.lookup': ArgumentError: no"
