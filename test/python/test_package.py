"""The package as others install it: what its metadata says, and the fixtures that come with it."""

from __future__ import annotations

import json
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


DIARY = """
from pyre import Agent, Context, errors, handler


class Diary(Agent):
    class State:
        lines: list[str]

    @handler
    async def write(self, ctx: Context, line: str) -> int:
        if not line:
            raise ValueError("nothing to write")
        self.state.lines.append(line)
        await ctx.call("shelf", "keep", line=line)
        ctx.after(5.0, "forget")
        return len(self.state.lines)

    @handler
    async def forget(self) -> None:
        self.state.lines.clear()
"""
TEST_DIARY = """
import pytest
from diary import Diary
from pyre import errors


def test_the_diary(run_agent, golden) -> None:
    diary = run_agent(Diary, args={"lines": []}, peers={"shelf": {"keep": lambda line: None}})
    diary.call("write", line="a")
    with pytest.raises(errors.RemoteError):
        diary.call("write", line="")
    diary.advance(6)
    golden(diary)
"""


def _pytest(directory: Path, *arguments: str) -> str:
    plugin = ["-p", "pyre.fixtures", "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, "-m", "pytest", *plugin, str(directory), *arguments]
    environment = {"PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def test_a_golden_history_is_kept_and_compared(tmp_path: Path) -> None:
    (tmp_path / "diary.py").write_text(DIARY)
    (tmp_path / "test_diary.py").write_text(TEST_DIARY)
    assert "there is no test_the_diary.json yet" in _pytest(tmp_path)
    assert "1 passed" in _pytest(tmp_path, "--update-golden")
    history = json.loads((tmp_path / "golden" / "test_the_diary.json").read_text())
    assert history == [
        {"at": 0.0, "message": "on_start", "state": {"lines": []}},
        {
            "at": 0.0,
            "message": "call",
            "handler": "write",
            "args": {"line": "a"},
            "reply": 1,
            "state": {"lines": ["a"]},
            "sent": [{"kind": "call", "to": "shelf", "handler": "keep", "args": {"line": "a"}}],
            "timers": [{"at": 5.0, "handler": "forget"}],
        },
        {
            "at": 0.0,
            "message": "call",
            "handler": "write",
            "args": {"line": ""},
            "error": "ValueError: nothing to write",
        },
        {"at": 5.0, "message": "on_start", "timers": []},
        {"at": 5.0, "message": "timer", "handler": "forget", "state": {"lines": []}},
    ]
    assert "1 passed" in _pytest(tmp_path)
    (tmp_path / "diary.py").write_text(DIARY.replace("clear()", 'append("more")'))
    said = _pytest(tmp_path)
    assert "message 5 of 5 went another way than in test_the_diary.json" in said
    assert '"state": {"lines": ["a", "more"]}' in said
