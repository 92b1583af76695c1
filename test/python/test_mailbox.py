"""The mailbox of a real agent against a model: priorities, cancellations, deadlines, as hypothesis finds them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

ROOT = Path(__file__).parents[2]
LANES = {"high": 1, "normal": 2, "low": 3}
FAIR_TURN = 8
LONG_MS, SHORT_MS = 60_000, 1

pytestmark = pytest.mark.skipif(shutil.which("mix") is None, reason="there is no Elixir")


class Peer:
    """The Elixir side, started once for all examples."""

    process: ClassVar[subprocess.Popen[str] | None] = None

    @classmethod
    def ask(cls, line: str) -> str:
        """Send a line, and give one back."""
        if cls.process is None:
            command = ["mix", "run", "test/support/mailbox_peer.exs"]
            cls.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "MIX_ENV": "test"},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        pipe: Any = cls.process.stdin
        pipe.write(line + "\n")
        pipe.flush()
        return cls.read()

    @classmethod
    def read(cls) -> str:
        """Give the next line that is an answer: mix may have something to say first."""
        output: IO[str] | None = cls.process.stdout if cls.process else None
        assert output is not None
        while line := output.readline():
            words = line.split()
            if words and (words[0] in {"ok", "cancelled", "already_done", "not_found", "order"} or words[0].isdigit()):
                return line.strip()
        raise AssertionError("the peer ended")

    @classmethod
    def end(cls) -> None:
        """Have it end by itself."""
        if cls.process is not None and cls.process.stdin is not None:
            cls.process.stdin.close()
            cls.process.wait(timeout=30)
            if cls.process.stdout is not None:
                cls.process.stdout.close()
            cls.process = None


class Mailbox(RuleBasedStateMachine):
    """What was put, and what must come of it."""

    def __init__(self) -> None:
        """Begin with an empty mailbox."""
        super().__init__()
        self.lanes: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.short: set[int] = set()
        self.expired: set[int] = set()

    @initialize()
    def begin(self) -> None:
        """Begin to number the messages."""
        self.count = 0

    @rule(priority=st.sampled_from(["high", "normal", "normal", "low"]), short=st.integers(0, 5).map(lambda n: n == 0))
    def put(self, priority: str, *, short: bool) -> None:
        """Put a message, one in six with a deadline that passes before it can run."""
        self.count += 1
        assert Peer.ask(f"put {self.count} {priority} {SHORT_MS if short else LONG_MS}") == "ok"
        self.lanes[self.count] = LANES[priority]
        if short:
            self.short.add(self.count)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel one of them, perhaps again."""
        if not self.lanes:
            return
        number = data.draw(st.sampled_from(sorted(self.lanes)))
        if number in self.short:
            return
        verdict = Peer.ask(f"cancel {number}")
        assert verdict == ("already_done" if number in self.cancelled else "cancelled")
        self.cancelled.add(number)

    @rule()
    def run(self) -> None:
        """Let the agent through, and hold what came of it against the model."""
        # A deadline is an instant: it has passed once this has.
        time.sleep(2 * SHORT_MS / 1000)
        answers = dict(_answer(Peer.ask("run") if n == 1 else Peer.read()) for n in range(1, len(self.lanes) + 1))
        order = (Peer.read() if self.lanes else Peer.ask("run")).split()[1:]
        ran = [int(number) for number in order]
        expected = {number: self._outcome(number) for number in self.lanes}
        assert answers == expected
        assert sorted(ran) == [number for number, outcome in sorted(expected.items()) if outcome == "ok"]
        self._check_order(ran)
        self.lanes, self.cancelled, self.short = {}, set(), set()

    def teardown(self) -> None:
        """Leave the agent at its gate, with nothing to do."""
        self.run()

    def _outcome(self, number: int) -> str:
        if number in self.cancelled:
            return "cancelled"
        return "deadline" if number in self.short else "ok"

    def _check_order(self, ran: list[int]) -> None:
        """Check that each is the oldest of the first lane, but for one in eight, which is the oldest of all."""
        turns = [-FAIR_TURN]
        for at, number in enumerate(ran):
            waiting = ran[at:]
            if number == min(waiting, key=lambda n: (self.lanes[n], n)):
                continue
            assert number == min(waiting)
            # Those that were taken out unrun count as turns too.
            assert at - turns[-1] >= FAIR_TURN - len(self.lanes) + len(ran)
            turns.append(at)


def _answer(line: str) -> tuple[int, str]:
    number, outcome = line.split()
    return int(number), outcome


def test_the_mailbox_and_its_model_agree() -> None:
    try:
        checks = settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        Mailbox.TestCase.settings = checks
        case = Mailbox.TestCase()
        case.runTest()
    finally:
        Peer.end()
