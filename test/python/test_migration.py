"""States that another version of a class has committed."""

from __future__ import annotations

from typing import Any

import pytest

import pyre.testing
from pyre import Agent, Context, errors, handler


class Till(Agent):
    """Counts euros, and counted cents."""

    version = 3

    class State:
        """What is in it."""

        euros: float = 0.0
        versions: list[int] = []  # noqa: RUF012  # a State, which copies it

    state: State

    @staticmethod
    def migrate(state: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Turn cents into euros."""
        if from_version == 1:
            return {"euros": state["cents"] / 100, "versions": [1]}
        return {**state, "versions": [*state.get("versions", []), from_version]}

    @handler
    async def pay(self, ctx: Context, cents: int) -> float:
        """Pay in."""
        self.state.euros += cents / 100
        if cents == 0:
            await ctx.commit()
        return self.state.euros

    @handler(interleave=True)
    async def look(self) -> float:
        """Tell what is in it, on a snapshot."""
        return self.state.euros


class Plain(Agent):
    """Has nothing to migrate with."""

    version = 2

    class State:
        """Anything."""

        count: int = 0

    state: State

    @handler
    async def add(self) -> int:
        """Add one."""
        self.state.count += 1
        return self.state.count


def test_a_state_of_an_older_version_is_migrated_once() -> None:
    with pyre.testing.run(Till, state={"cents": 250}, version=1) as till:
        assert till.call("look") == 2.5
        assert till.call("pay", cents=50) == 3.0
        till.restart()
        assert till.call("pay", cents=0) == 3.0
        assert till.state.versions == [1]


def test_each_version_is_told() -> None:
    with pyre.testing.run(Till, state={"euros": 1.0}, version=2) as till:
        assert till.call("pay", cents=100) == 2.0
        assert till.state.versions == [2]


def test_a_state_of_the_same_version_is_left_alone() -> None:
    with pyre.testing.run(Till, state={"euros": 1.0, "versions": []}, version=3) as till:
        assert till.call("pay", cents=0) == 1.0
        assert till.state.versions == []


@pytest.mark.parametrize(
    ("kind", "state", "version", "words"),
    [
        (Plain, {"count": 1}, 1, r"no migrate\(state, from_version\)"),
        (Plain, {"count": 1}, 3, "written by version 3: older code can't run it"),
        (Till, {"pence": 1}, 1, "migrate failed: .*KeyError: 'cents'"),
        (Till, {"florins": 1}, 2, "the migrated state: unknown field 'florins'"),
    ],
)
def test_what_does_not_migrate_parks_the_agent(
    kind: type[Agent], state: dict[str, Any], version: int, words: str
) -> None:
    with (
        pytest.raises(errors.Parked, match=f"(?s){words}"),
        pyre.testing.run(kind, state=state, version=version),
    ):
        pass


def test_a_fresh_agent_of_a_later_version_has_nothing_to_migrate() -> None:
    with pyre.testing.run(Plain) as plain:
        assert plain.call("add") == 1
        plain.restart()
        assert plain.call("add") == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"version": 0}, "version must be an integer from 1 on, got 0"),
        ({"version": "2"}, "version must be an integer from 1 on, got '2'"),
        ({"version": True}, "version must be an integer from 1 on, got True"),
        ({"migrate": lambda _state, _version: {}}, "migrate must be a @staticmethod or @classmethod"),
    ],
)
def test_a_wrong_declaration_is_told_with_the_class(body: dict[str, Any], words: str) -> None:
    kind = type("Wrong", (Agent,), body)
    with pytest.raises(TypeError, match=f"Wrong: {words}"):
        pyre.testing.run(kind)
