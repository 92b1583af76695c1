"""Fixtures of pytest for agents: there by themselves where the package is installed (`pip install -e priv/python`).

    def test_it_counts(run_agent: RunAgent) -> None:
        counter = run_agent(Counter, args={"count": 3})
        assert counter.call("add") == 4

`golden` compares what an agent did with a file that was kept when that was right:

    def test_it_still_does_the_same(run_agent: RunAgent, golden: Golden) -> None:
        counter = run_agent(Counter)
        counter.call("add")
        golden(counter)

Without an installation, `pytest_plugins = ["pyre.fixtures"]` in a conftest.py loads them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyre.agent import Agent
    from pyre.testing import RunningAgent

__all__ = ["Golden", "RunAgent", "golden", "pytest_addoption", "run_agent"]

# Takes what `pyre.testing.run` takes.
RunAgent = Callable[..., "RunningAgent"]
# Takes an agent, and the file's name where a test has several.
Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-golden`."""
    parser.getgroup("pyre").addoption(
        "--update-golden",
        action="store_true",
        help="keep the histories of agents that `golden` compares, as they are now",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare the history of an agent with `golden/TEST.json` beside the test's file; fails where it differs.

    `golden(agent, "name")` takes `golden/TEST-name.json`. `pytest --update-golden` writes the files.
    """
    from pyre import _fake_history  # noqa: PLC0415  # as below

    test = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")

    def compare(agent: RunningAgent, name: str = "") -> None:
        file = request.path.parent / "golden" / f"{test}{'-' if name else ''}{name}.json"
        difference = _fake_history.compare(agent, file, update=request.config.getoption("--update-golden"))
        if difference is not None:
            pytest.fail(difference, pytrace=False)

    return compare


@pytest.fixture
def run_agent() -> Iterator[RunAgent]:
    """Run agents by `pyre.testing.run`: each is started at once, and stopped when the test ends."""
    # Not before a test asks for it: pytest imports this file in every run, also where no agent is tested.
    from pyre import testing  # noqa: PLC0415

    with contextlib.ExitStack() as agents:

        def start(kind: type[Agent], **given: Any) -> RunningAgent:  # noqa: ANN401  # as `run` has them
            return agents.enter_context(testing.run(kind, **given))

        yield start
