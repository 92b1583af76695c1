"""Streams, run without the BEAM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator  # handlers' hints are read
from typing import Any

import pytest

from pyre import Agent, Context, errors, handler, testing


class Counting(Agent):
    """Yields, and reads."""

    class State:
        """What it made or read."""

        made: int = 0
        read: list[int] = []  # noqa: RUF012  # a state's defaults are copied for each agent

    @handler
    async def count(self, to: int) -> AsyncIterator[int]:
        """Count."""
        for n in range(to):
            self.state.made += 1
            yield n

    @handler
    def count_in_thread(self, to: int) -> Iterator[int]:
        """Count, in a thread."""
        for n in range(to):
            self.state.made += 1
            yield n

    @handler
    async def fail_after(self, to: int) -> AsyncIterator[int]:
        """Count, then fail."""
        for n in range(to):
            yield n
        raise ValueError("enough")

    @handler
    async def read(self, ctx: Context, of: str, most: int = 1000) -> int:
        """Read another's."""
        async for n in ctx.stream(of, "count", to=3):
            self.state.read.append(n)
            if len(self.state.read) >= most:
                break
        return len(self.state.read)


@pytest.mark.parametrize("name", ["count", "count_in_thread"])
def test_the_chunks_come_in_order_and_the_state_is_committed_at_the_end(name: str) -> None:
    with testing.run(Counting) as agent:
        assert agent.stream(name, to=50) == list(range(50))
        assert agent.state.made == 50


def test_an_error_leaves_the_chunks_before_it() -> None:
    with testing.run(Counting) as agent:
        with pytest.raises(errors.RemoteError, match="enough"):
            agent.stream("fail_after", to=20)
        assert agent.chunks == list(range(20))
        assert agent.state.made == 0


def test_a_call_to_a_stream_says_what_to_do() -> None:
    with testing.run(Counting) as agent, pytest.raises(errors.UnknownHandler, match="read it with stream"):
        agent.call("count", to=1)


def test_a_stream_of_what_is_none_says_what_to_do() -> None:
    with testing.run(Counting) as agent, pytest.raises(errors.UnknownHandler, match="is no stream: call it"):
        agent.stream("read", of="peer")


def up_to(to: int) -> range:
    return range(to)


async def later_up_to(to: int) -> AsyncIterator[int]:
    for n in range(to):
        yield n


@pytest.mark.parametrize("count", [up_to, later_up_to])
def test_a_peer_gives_what_can_be_iterated(count: Any) -> None:
    with testing.run(Counting, peers={"peer": {"count": count}}) as agent:
        assert agent.call("read", of="peer") == 3
        assert agent.state.read == [0, 1, 2]
        assert agent.sent[0] == ("stream", "peer", "count", {"to": 3})


def test_one_that_is_left_early_is_withdrawn() -> None:
    with testing.run(Counting, peers={"peer": {"count": up_to}}) as agent:
        assert agent.call("read", of="peer", most=1) == 1
