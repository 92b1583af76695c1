"""`pyre.testing`: one agent class, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import pyre.testing
from agents.shop import Scale, Shop
from pyre import errors
from pyre.testing import Sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyre.testing import RunningAgent


class Desk:
    """A faked peer."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.heard: list[str] = []

    async def sold(self, name: str) -> None:
        """Take note."""
        self.heard.append(name)

    def ask(self, question: str) -> str:
        """Answer."""
        if question == "why":
            raise ValueError("no reason")
        return f"{question}!"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def shop(desk: Desk) -> Iterator[RunningAgent]:
    with pyre.testing.run(Shop, id="corner", args={"owner": "ann"}, peers={"desk": desk}) as agent:
        yield agent


def test_a_call_gives_the_reply_and_commits(shop: RunningAgent, desk: Desk) -> None:
    assert shop.call("sell", name="tea") == 30
    assert (shop.state.sold, shop.state.owner) == ({"tea": 1}, "ann")
    assert shop.sent == [Sent("cast", "desk", "sold", {"name": "tea"})]
    assert desk.heard == ["tea"]


def test_the_state_is_a_copy(shop: RunningAgent) -> None:
    shop.state.sold["tea"] = 99
    assert shop.state.sold == {}


def test_arguments_are_checked_as_they_are_for_real(shop: RunningAgent) -> None:
    with pytest.raises(errors.InvalidArgs, match="argument 'name': expected str, got int"):
        shop.call("sell", name=1)
    with pytest.raises(errors.UnknownHandler, match="'steal'"):
        shop.call("steal")


def test_start_arguments_are_checked_at_the_start() -> None:
    with pytest.raises(errors.InvalidArgs, match="field 'owner'"), pyre.testing.run(Shop, args={"owner": 1}):
        pass


def test_a_failed_handler_is_rolled_back(shop: RunningAgent) -> None:
    with pytest.raises(errors.RemoteError, match="ValueError: closed"):
        shop.call("fail")
    assert shop.state.owner == "ann"
    assert shop.call("sell", name="tea") == 30


def test_a_thread_asks_a_peer(shop: RunningAgent) -> None:
    assert shop.call("ask", question="who") == "who!"


def test_a_peer_that_raises_is_what_the_handler_sees(shop: RunningAgent) -> None:
    with pytest.raises(errors.RemoteError, match="no reason"):
        shop.call("ask", question="why")


def test_an_unknown_peer_is_not_found() -> None:
    with pyre.testing.run(Shop) as shop, pytest.raises(errors.RemoteError, match="NotFound"):
        shop.call("sell", name="tea")


def test_a_cycle_is_a_deadlock(shop: RunningAgent) -> None:
    with pytest.raises(errors.RemoteError, match="Deadlock"):
        shop.call("ask_myself")


def test_agents_that_were_spawned_are_known(shop: RunningAgent) -> None:
    assert shop.call("open_branch", owner="bo") == "branch-bo"
    with pytest.raises(errors.RemoteError, match="AlreadyStarted"):
        shop.call("open_branch", owner="bo")
    shop.call("close_branch", id="branch-bo")
    assert [sent.kind for sent in shop.sent] == ["spawn", "spawn", "stop"]


def test_a_group_and_who_is_in_it(shop: RunningAgent) -> None:
    assert shop.call("open_chain", name="north") == "north-2"
    group, spawn = shop.sent
    assert (group.kind, group.target) == ("group", "north")
    assert (group.args["strategy"], group.args["group"]) == ("one_for_all", None)
    assert group.args["agents"][1] == ["Shop", {"args": {"owner": "bo"}}]
    assert (spawn.kind, spawn.args) == ("spawn", {"owner": "cy"})
    shop.call("close_branch", id="north-1")
    with pytest.raises(errors.RemoteError, match="AlreadyStarted"):
        shop.call("open_chain", name="north")


def test_time_passes_when_it_is_told_to(shop: RunningAgent) -> None:
    shop.call("remind", after=10.0)
    shop.call("remind", after=20.0)
    assert shop.timers == [(5.0, "sell_later"), (10.0, "sell_later"), (20.0, "sell_later")]
    shop.advance(19.9)
    assert shop.state.sold == {"early": 1}
    shop.advance(0.1)
    assert list(shop.state.sold) == ["early", "late"]


def test_what_fails_without_a_caller_is_kept(shop: RunningAgent) -> None:
    shop.cast("sell_later", name="none")
    (failure,) = shop.failures
    assert isinstance(failure, errors.RemoteError)
    assert (failure.expected, failure.data) == (True, ["none"])


def test_a_restart_keeps_what_was_committed(shop: RunningAgent) -> None:
    shop.call("sell", name="tea")
    shop.restart()
    assert shop.call("sell", name="tea") == 30
    assert shop.state.sold == {"tea": 2}


def test_a_handler_that_hangs_is_ended(shop: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyre.testing, "CALL_SECONDS", 0.05)
    with pytest.raises(errors.CallTimeout):
        shop.call("hang")
    assert shop.state.owner == "ann"


def test_a_resource_can_be_faked(desk: Desk) -> None:
    class Fixed(Scale):
        def weigh(self, name: str) -> int:
            return 1 if name else 0

    fakes: dict[str, Any] = {"scale": Fixed()}
    with pyre.testing.run(Shop, peers={"desk": desk}, resources=fakes) as shop:
        assert shop.call("sell", name="coffee") == 10
