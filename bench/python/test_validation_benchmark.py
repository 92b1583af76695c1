"""What the interpreter pays to check arguments against the handler's hints, and to load and write a state."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from pyre import Agent, handler
from pyre._handlers import compile_agent

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@dataclasses.dataclass
class Finding:
    """A part of an argument."""

    path: str
    used: float
    seen: dt.datetime


class Desk(Agent):
    """Takes arguments that are simple and some that are not."""

    class State:
        """Five fields."""

        name: str = "desk"
        count: int = 0
        share: float = 0.0
        is_open: bool = True
        notes: list[str] = []  # noqa: RUF012  # a State's default is copied

    @handler
    async def count(self, n: int, share: float, name: str) -> None:
        """Take three scalars."""

    @handler
    async def report(self, findings: list[Finding]) -> None:
        """Take a list of structures."""


DESK = compile_agent(Desk, __file__, {})
SEEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_check_three_scalars(benchmark: BenchmarkFixture) -> None:
    bind = DESK.handlers[b"count"].bind
    args = benchmark(lambda: bind({"n": 1, "share": 0.5, "name": "root"}))
    assert args == {"n": 1, "share": 0.5, "name": "root"}


def test_convert_a_list_of_ten_dataclasses(benchmark: BenchmarkFixture) -> None:
    bind = DESK.handlers[b"report"].bind

    def convert() -> dict[str, Any]:
        return bind({"findings": [{"path": "/", "used": 0.5, "seen": SEEN} for _ in range(10)]})

    assert benchmark(convert) == {"findings": [Finding("/", 0.5, SEEN)] * 10}


def test_load_a_state_of_five_fields(benchmark: BenchmarkFixture) -> None:
    committed = DESK.state.write(DESK.state.start(b""))
    assert DESK.state.write(benchmark(DESK.state.load, committed)) == committed


def test_write_a_state_of_five_fields(benchmark: BenchmarkFixture) -> None:
    state = DESK.state.start(b"")
    assert DESK.state.write(DESK.state.load(benchmark(DESK.state.write, state))) == DESK.state.write(state)
