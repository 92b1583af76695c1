"""States: what snapshots allow."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from pyre import Agent, errors, handler
from pyre.testing import run


class Ledger(Agent):
    """Has something to copy."""

    class State:
        """Two fields."""

        total: int = 1
        name: str = "x"

    state: State

    @handler(interleave=True)
    async def replaced(self) -> int:
        """Make another state from the snapshot."""
        other = dataclasses.replace(self.state, total=5)  # type: ignore[type-var]  # becomes a dataclass at run time
        other.total += 1
        return other.total

    @handler(interleave=True)
    async def copied(self, *, deep: bool) -> int:
        """Copy the snapshot."""
        other = copy.deepcopy(self.state) if deep else copy.copy(self.state)
        other.total += 10
        return other.total

    @handler(interleave=True)
    async def write(self) -> None:
        """Write to the snapshot."""
        self.state.total = 2

    @handler
    async def total(self) -> int:
        """Give what is committed."""
        return self.state.total


def test_what_is_made_from_a_snapshot_may_be_written_to() -> None:
    with run(Ledger) as agent:
        assert agent.call("replaced") == 6
        assert agent.call("copied", deep=False) == 11
        assert agent.call("copied", deep=True) == 11
        assert agent.call("total") == 1


def test_a_snapshot_itself_is_read_only() -> None:
    with run(Ledger) as agent:
        with pytest.raises(errors.RemoteError, match="read-only"):
            agent.call("write")
        assert agent.call("total") == 1
