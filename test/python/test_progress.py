"""Progress: what handlers report, how often it is sent, and the fake of `pyre.testing`."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import pyre.testing
from pyre import Agent, Context, _wire, errors, handler
from pyre._progress import MAX_TEXT, PERIOD_SECONDS, Reporter
from pyre.testing import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scanner(Agent):
    """Reports progress."""

    @handler
    async def scan(self, ctx: Context, steps: int) -> None:
        """Report each step."""
        for step in range(1, steps + 1):
            await ctx.progress(step / steps, f"step {step}")

    @handler
    def scan_in_thread(self, ctx: Context, steps: int) -> None:
        """Report each step, from a thread."""
        for step in range(1, steps + 1):
            ctx.progress(step / steps).wait()

    @handler
    async def report(self, ctx: Context, fraction: Any = None, text: Any = "") -> None:
        """Report once, without waiting."""
        ctx.progress(fraction, text)

    @handler
    async def report_late(self, ctx: Context) -> str:
        """Report when the handler has ended."""
        kept.append(ctx)
        return "ended"


kept: list[Context] = []


@pytest.fixture
def scanner() -> Iterator[pyre.testing.RunningAgent]:
    """Run the agent."""
    with pyre.testing.run(Scanner) as agent:
        yield agent


def test_the_fake_keeps_every_report(scanner: pyre.testing.RunningAgent) -> None:
    scanner.call("scan", steps=4)
    assert scanner.progress == [Progress(step / 4, f"step {step}") for step in range(1, 5)]


def test_a_plain_handler_reports_too(scanner: pyre.testing.RunningAgent) -> None:
    scanner.call("scan_in_thread", steps=3)
    assert scanner.progress[-1] == Progress(1.0, "")


def test_a_report_needs_neither_fraction_nor_text_nor_await(scanner: pyre.testing.RunningAgent) -> None:
    scanner.call("report")
    scanner.call("report", text="x" * (MAX_TEXT + 1))
    assert scanner.progress == [Progress(None, ""), Progress(None, "x" * MAX_TEXT)]


@pytest.mark.parametrize(
    ("fraction", "text"), [(1.01, ""), (-0.1, ""), (float("nan"), ""), (True, ""), ("0.5", ""), (None, 7)]
)
def test_what_is_no_progress_is_refused(scanner: pyre.testing.RunningAgent, fraction: Any, text: Any) -> None:
    with pytest.raises(errors.RemoteError, match=r"expected the (fraction to be a number|text to be a str)"):
        scanner.call("report", fraction=fraction, text=text)
    assert scanner.progress == []


def test_a_handler_that_has_ended_reports_nothing(scanner: pyre.testing.RunningAgent) -> None:
    scanner.call("report_late")
    with pytest.raises(errors.StaleActivation, match="can't report progress any more"):
        kept[-1].progress(0.5)


class Clock:
    """A loop as the reporter needs it, whose time passes when it is told to."""

    def __init__(self) -> None:
        """Begin at an hour."""
        self.now = 3600.0
        self.later: list[tuple[float, Any]] = []
        self.soon: list[Any] = []

    def time(self) -> float:
        """Tell the time."""
        return self.now

    def call_later(self, seconds: float, callback: Any) -> None:
        """Keep what is to be called."""
        self.later.append((self.now + seconds, callback))

    def call_soon_threadsafe(self, callback: Any) -> None:
        """Keep what is to be called at once."""
        self.soon.append(callback)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        due = [callback for at, callback in self.later if at <= self.now]
        self.later = [(at, callback) for at, callback in self.later if at > self.now]
        for callback in due:
            callback()


class Sender:
    """A message whose envelopes are kept."""

    def __init__(self) -> None:
        """Have sent nothing."""
        self.clock = Clock()
        self.sent: list[tuple[Any, ...]] = []
        dispatcher = SimpleNamespace(loop=self.clock, emit=self.sent.append)
        message: Any = SimpleNamespace(number=7, ended=False, dispatcher=dispatcher)
        self.message = message
        self.reporter = Reporter(message, threading.get_ident())

    def fractions(self) -> list[Any]:
        """Give the fractions that were sent."""
        assert all(envelope[:2] == (_wire.OP_PROGRESS, 7) for envelope in self.sent)
        return [envelope[2] for envelope in self.sent]


def test_a_thousand_reports_a_second_are_twenty_envelopes() -> None:
    sender = Sender()
    for step in range(1000):
        sender.reporter.report(step / 1000, "")
        sender.clock.advance(0.001)
    assert 19 <= len(sender.sent) <= 21
    assert sender.sent[0] == (_wire.OP_PROGRESS, 7, 0, b"")
    assert sender.fractions() == sorted(sender.fractions())


def test_the_last_report_is_sent_although_none_follows() -> None:
    sender = Sender()
    sender.reporter.report(0.1, "")
    sender.reporter.report(0.2, "")
    sender.reporter.report(None, "é")
    assert sender.fractions() == [100_000]
    sender.clock.advance(PERIOD_SECONDS)
    assert sender.sent[1:] == [(_wire.OP_PROGRESS, 7, [], "é".encode())]
    sender.clock.advance(PERIOD_SECONDS)
    sender.reporter.report(0.4, "")
    assert sender.fractions() == [100_000, [], 400_000]


def test_what_is_held_back_is_sent_once_before_the_answer() -> None:
    sender = Sender()
    sender.reporter.report(0.1, "")
    sender.reporter.report(0.2, "")
    sender.reporter.flush()
    sender.message.ended = True
    sender.clock.advance(1)
    sender.reporter.flush()
    assert sender.fractions() == [100_000, 200_000]


def test_only_a_report_that_was_sent_gives_the_loop_a_turn() -> None:
    async def turns() -> int:
        loop = asyncio.get_running_loop()
        sent: list[Any] = []
        message: Any = SimpleNamespace(number=1, ended=False, dispatcher=SimpleNamespace(loop=loop, emit=sent.append))
        reporter = Reporter(message, threading.get_ident())
        seen: list[int] = []
        loop.call_soon(lambda: seen.append(len(sent)))
        await reporter.report(0.1, "")
        await reporter.report(0.2, "")
        return len(seen)

    assert asyncio.run(turns()) == 1


def test_a_thread_wakes_the_loop_once_for_many_reports() -> None:
    sender = Sender()
    thread = threading.Thread(target=lambda: [sender.reporter.report(step / 100, "") for step in range(100)])
    thread.start()
    thread.join()
    assert sender.sent == []
    assert len(sender.clock.soon) == 1
    sender.clock.soon[0]()
    assert sender.fractions() == [990_000]
