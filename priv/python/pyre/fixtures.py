"""Fixtures of pytest for agents: there by themselves where the package is installed (`pip install -e priv/python`).

    def test_it_counts(run_agent: RunAgent) -> None:
        counter = run_agent(Counter, args={"count": 3})
        assert counter.call("add") == 4

Without an installation, `pytest_plugins = ["pyre.fixtures"]` in a conftest.py loads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyre.agent import Agent
    from pyre.testing import RunningAgent

__all__ = ["RunAgent", "run_agent"]

# Takes what `pyre.testing.run` takes.
RunAgent = Callable[..., "RunningAgent"]


@pytest.fixture
def run_agent() -> Iterator[RunAgent]:
    """Run agents by `pyre.testing.run`: each is started at once, and stopped when the test ends."""
    # Not before a test asks for it: pytest imports this file in every run, also where no agent is tested.
    from pyre import testing  # noqa: PLC0415

    with contextlib.ExitStack() as agents:

        def start(kind: type[Agent], **given: Any) -> RunningAgent:  # noqa: ANN401  # as `run` has them
            return agents.enter_context(testing.run(kind, **given))

        yield start
