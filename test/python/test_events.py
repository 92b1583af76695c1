"""Events: published, wanted, refused."""

from __future__ import annotations

from typing import Any

import pytest

import pyre.testing
from pyre import Agent, Context, handler, on
from pyre._topics import check_pattern, check_topic, matches


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("orders.paid", "orders.paid", True),
        ("orders.paid", "orders", False),
        ("orders.*", "orders.paid", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.paid.late", False),
        ("*.paid", "orders.paid", True),
        ("orders.**", "orders", True),
        ("orders.**", "orders.paid.late", True),
        ("**", "anything.at.all", True),
    ],
)
def test_patterns(pattern: str, topic: str, *, expected: bool) -> None:
    assert matches(check_pattern(pattern), check_topic(topic)) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a string of 1 to 255 bytes"),
        ("a" * 256, "a string of 1 to 255 bytes"),
        ("orders..paid", "words with dots between them"),
        ("orders.pa*", "stands for a whole word"),
        ("**.paid", "comes last"),
    ],
)
def test_wrong_patterns_are_refused_where_they_are_declared(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        on(text)


class Shop(Agent):
    """Sells, and takes note of what others sell."""

    class State:
        """What was heard."""

        heard: list[Any] = []  # noqa: RUF012  # a State, which copies it

    state: State

    @on("orders.*")
    async def ordered(self, topic: str, event: dict[str, int]) -> None:
        """Hear."""
        self.state.heard.append([topic, event["id"]])

    @handler
    async def sell(self, ctx: Context, id: int) -> None:  # noqa: A002
        """Tell."""
        await ctx.publish("orders.sold", {"id": id})

    @handler
    async def widen(self, ctx: Context) -> None:
        """Hear more."""
        ctx.subscribe("returns.**", "count")
        ctx.unsubscribe("orders.*")

    @handler
    async def count(self) -> None:
        """Take nothing of it."""
        self.state.heard.append("one")


def test_an_agent_publishes_and_hears() -> None:
    with pyre.testing.run(Shop) as shop:
        shop.call("sell", id=7)
        assert shop.published == [("orders.sold", {"id": 7})]
        shop.publish("orders.paid", {"id": 8})
        shop.publish("returns.late", {})
        shop.call("widen")
        shop.publish("orders.paid", {"id": 9})
        shop.publish("returns.late", {})
        assert shop.state.heard == [["orders.paid", 8], "one"]


def test_a_handler_that_needs_more_than_an_event_gives_is_refused() -> None:
    class Greedy(Agent):
        @on("orders.*")
        async def ordered(self, topic: str, price: int) -> None: ...

    with pytest.raises(TypeError, match="an event gives `topic` and `event`, and 'price' is required"):
        pyre.testing.run(Greedy)
