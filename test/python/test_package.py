"""The package as others install it: what its metadata says, and the fixtures that come with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agents.shop import Shop

if TYPE_CHECKING:
    from pyre.fixtures import RunAgent

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "priv" / "python"

pytest_plugins = ["pyre.fixtures"]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    return project


def test_its_version_is_that_of_the_elixir_side(project: dict[str, Any]) -> None:
    assert f'@version "{project["version"]}"' in (REPOSITORY / "mix.exs").read_text()


def test_it_asks_for_what_the_tested_requirements_give(project: dict[str, Any]) -> None:
    pinned = dict(line.split("==") for line in (PACKAGE / "requirements.txt").read_text().split())
    wanted = [*project["dependencies"], *project["optional-dependencies"]["uvloop"]]
    least = dict(requirement.split(">=") for requirement in wanted)
    assert least.keys() == pinned.keys()
    for name, version in least.items():
        assert _numbers(version) <= _numbers(pinned[name])


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_it_is_marked_as_typed() -> None:
    assert (PACKAGE / "pyre" / "py.typed").is_file()


def test_an_agent_runs_for_the_time_of_a_test(run_agent: RunAgent) -> None:
    shop = run_agent(Shop, args={"owner": "ann"}, peers={"desk": {"sold": lambda **_sale: None}})
    assert shop.call("sell", name="tea") == 30


AGENT = """
from pyre import Agent, Context


class Door(Agent):
    async def on_stop(self, ctx: Context) -> None:
        print("closed", ctx.id)
"""
TEST = """
from door import Door


def test_two_doors(run_agent) -> None:
    run_agent(Door, id="front")
    run_agent(Door, id="back")
"""


def test_pytest_stops_the_agents_of_a_test(tmp_path: Path) -> None:
    (tmp_path / "door.py").write_text(AGENT)
    (tmp_path / "test_door.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pyre.fixtures", "-p", "no:cacheprovider", "-rP", "-q", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"closed \w+", done.stdout) == ["closed back", "closed front"]
