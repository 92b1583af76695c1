"""What classes say of their limits, and what is spent."""

from __future__ import annotations

import math
from typing import Any

import pytest

import pyre.testing
from pyre import Agent, Context, handler
from pyre._limits import concurrency, idle_timeout, rate_limit


class Buyer(Agent):
    """Buys."""

    @handler
    async def buy(self, ctx: Context, usd: float, *, fail: bool = False) -> None:
        """Spend."""
        ctx.spend(usd=usd, tokens=7)
        if fail:
            raise ValueError("returned")


def kind(**body: Any) -> type[Agent]:
    """Make a class."""
    return type("Limited", (Agent,), body)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("20/s", [20, 1_000]),
        ("100/min", [100, 60_000]),
        ("3/h", [3, 3_600_000]),
        ((5, 0.5), [5, 500]),
    ],
)
def test_rates(given: Any, expected: list[int] | None) -> None:
    assert rate_limit(kind(rate_limit=given)) == expected


@pytest.mark.parametrize("given", ["20", "20/y", "0/s", (0, 1), (1.5, 1), (2000, 0.001), 20, (1, "s")])
def test_what_is_no_rate_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="Limited: rate_limit must be"):
        pyre.testing.run(kind(rate_limit=given))


@pytest.mark.parametrize("given", [0, -1, 1.5, "2", True])
def test_what_is_no_number_of_agents_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="concurrency must be"):
        concurrency(kind(concurrency=given))


@pytest.mark.parametrize(("given", "expected"), [(None, None), (60.0, 60_000), (2, 2_000), (0.0001, 1), (math.inf, 0)])
def test_when_agents_fall_asleep(given: Any, expected: int | None) -> None:
    assert idle_timeout(kind(idle_timeout=given)) == expected


@pytest.mark.parametrize("given", [0, -1, "60", True, math.nan])
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="Limited: idle_timeout must be"):
        pyre.testing.run(kind(idle_timeout=given))


def test_what_is_spent_rides_with_the_commit() -> None:
    with pyre.testing.run(Buyer) as buyer:
        buyer.call("buy", usd=0.25)
        with pytest.raises(pyre.errors.RemoteError):
            buyer.call("buy", usd=1.0, fail=True)
        buyer.call("buy", usd=0.5)
        assert buyer.spent == {"usd": 0.75, "tokens": 14.0}


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf"), "1", True])
def test_what_can_not_be_spent_is_refused(usd: Any) -> None:
    with pyre.testing.run(Buyer) as buyer, pytest.raises(pyre.errors.PyreError, match="usd"):
        buyer.call("buy", usd=usd)
