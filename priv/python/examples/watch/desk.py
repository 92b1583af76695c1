"""The desk: collects what the watchers tell, judges it by rules, asks again before it believes, and keeps a ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from _ledger import MAX_FINDINGS, Finding, close, hear, settle, with_status
from _reading import Reading, size, span

from pyre import Agent, Context, Retry, cron, errors, handler

if TYPE_CHECKING:
    from collections.abc import Callable

RECHECK_AFTER = 3.0  # seconds between the two looks: asked at once, a watcher would see the same instant
ANSWER_WITHIN = 5.0
# An interpreter that is replaced between two looks is no sign that the watcher's subject is gone.
ASK_AGAIN = Retry(attempts=3, base=0.2)
SEEN, MUTE = "seen", "mute"
MAX_ASKED = 20  # questions open at a time: a person reads no more
FORGET_AFTER = 3600.0  # a question that nobody answered makes room for others
MAX_LINES = 8
SUBJECT_WIDTH = 28
URGENT, NOTE = "urgent", "note"  # needs a person; worth knowing

# What matters, and from where on.
FULL_SHARE = 0.95
NEARLY_FULL_SHARE = 0.90
ROOMY_BYTES = 20e9  # a large disk at 92 % still has room
INODE_SHARE = 0.90
FULL_SOON_SECONDS = 3600.0
TREND_SECONDS = 15.0  # a trend needs as much time behind it
TREND_BYTES_PER_SECOND = 100e3
STUCK_SECONDS = 20.0
ZOMBIE_SECONDS = 30.0
BUSY_SECONDS = 60.0
HUNGRY_SHARE = 0.50
GROWN_BYTES = 512e6
FLAPPING_RESTARTS = 3
LONG_LIVED_SECONDS = 600.0
BACK_WITHIN_SECONDS = 10.0  # a restart under way is not an end
TROUBLES_A_MINUTE = 10
LOG_BYTES_PER_SECOND = 1e6
MEMORY_LOW_SHARE = 0.05
LOAD_PER_CORE = 4.0


class Rule(NamedTuple):
    """Which kind of reading it judges, how much it matters, when it holds, and how it is worded."""

    kind: str
    level: str
    holds: Callable[[Figures], bool]
    words: Callable[[Figures], str]


class Figures(dict[str, float]):
    """Figures by name; one that is missing is 0, and `f.name` reads better in a table than `f["name"]`."""

    def __getattr__(self, name: str) -> float:
        """Read one figure."""
        return self.get(name, 0.0)


def _full(f: Figures) -> bool:
    return f.used_share >= FULL_SHARE or (f.used_share >= NEARLY_FULL_SHARE and f.free_bytes < ROOMY_BYTES)


def _filling(f: Figures) -> bool:
    steady = f.observed_seconds >= TREND_SECONDS and f.lost_per_second >= TREND_BYTES_PER_SECOND
    return steady and f.full_in_seconds < FULL_SOON_SECONDS


def _ended(f: Figures) -> bool:
    return f.gone_seconds >= BACK_WITHIN_SECONDS and f.lived_seconds >= LONG_LIVED_SECONDS


def _grown(f: Figures) -> bool:
    return f.rss_bytes >= 2 * f.first_rss_bytes > 0 and f.rss_bytes - f.first_rss_bytes >= GROWN_BYTES


def _lines(count: float) -> str:
    return f"{count:.0f} error {'line' if count == 1 else 'lines'}"


RULES = {
    "full": Rule(
        "mount",
        URGENT,
        _full,
        lambda f: f"{f.used_share:.0%} full, {size(f.free_bytes)} of {size(f.total_bytes)} free",
    ),
    "inodes": Rule(
        "mount",
        URGENT,
        lambda f: f.inode_share >= INODE_SHARE,
        lambda f: f"{f.inode_share:.0%} of its inodes used",
    ),
    "filling": Rule(
        "mount",
        URGENT,
        _filling,
        lambda f: f"fills by {size(f.lost_per_second * 60)} a minute, full in {span(f.full_in_seconds)}",
    ),
    "silent": Rule(
        "mount",
        URGENT,
        lambda f: f.silent > 0,
        lambda _: "does not answer",
    ),
    "stuck": Rule(
        "process",
        URGENT,
        lambda f: f.stuck_seconds >= STUCK_SECONDS,
        lambda f: f"waiting for a disk for {span(f.stuck_seconds)}",
    ),
    "flapping": Rule(
        "process",
        URGENT,
        lambda f: f.restarts >= FLAPPING_RESTARTS,
        lambda f: f"restarted {f.restarts:.0f} times in 10 min",
    ),
    "hungry": Rule(
        "process",
        URGENT,
        lambda f: f.memory_share >= HUNGRY_SHARE,
        lambda f: f"holds {size(f.rss_bytes)}, {f.memory_share:.0%} of the memory",
    ),
    "restarted": Rule(
        "process",
        NOTE,
        lambda f: 0 < f.restarts < FLAPPING_RESTARTS,
        lambda f: "restarted once" if f.restarts == 1 else f"restarted {f.restarts:.0f} times",
    ),
    "ended": Rule(
        "process",
        NOTE,
        _ended,
        lambda f: f"ended after {span(f.lived_seconds)}, not started again",
    ),
    "grown": Rule(
        "process",
        NOTE,
        _grown,
        lambda f: f"grew from {size(f.first_rss_bytes)} to {size(f.rss_bytes)}",
    ),
    "busy": Rule(
        "process",
        NOTE,
        lambda f: f.busy_seconds >= BUSY_SECONDS,
        lambda f: f"{f.cpu_share:.0%} of one core, busy for {span(f.busy_seconds)}",
    ),
    "zombie": Rule(
        "process",
        NOTE,
        lambda f: f.zombie_seconds >= ZOMBIE_SECONDS,
        lambda _: "ended, but its parent doesn't collect it",
    ),
    "errors": Rule(
        "log",
        URGENT,
        lambda f: f.troubles >= TROUBLES_A_MINUTE,
        lambda f: f"{_lines(f.troubles)} in a minute",
    ),
    "flood": Rule(
        "log",
        URGENT,
        lambda f: f.bytes_per_second >= LOG_BYTES_PER_SECOND,
        lambda f: f"grows by {size(f.bytes_per_second * 60)} a minute",
    ),
    "error": Rule(
        "log",
        NOTE,
        lambda f: 0 < f.troubles < TROUBLES_A_MINUTE,
        lambda f: f"{_lines(f.troubles)} in a minute",
    ),
    "earlier errors": Rule(
        "log",
        NOTE,
        lambda f: f.old_troubles > 0,
        lambda f: f"{_lines(f.old_troubles)} from before the watch",
    ),
    "memory": Rule(
        "machine",
        URGENT,
        lambda f: f.memory_bytes > 0 and f.available_bytes < MEMORY_LOW_SHARE * f.memory_bytes,
        lambda f: f"only {size(f.available_bytes)} of {size(f.memory_bytes)} of memory left",
    ),
    "load": Rule(
        "machine",
        NOTE,
        lambda f: f.cores > 0 and f.load >= LOAD_PER_CORE * f.cores,
        lambda f: f"load {f.load:.1f} on {f.cores:.0f} cores",
    ),
}


def judge(reading: Reading) -> dict[str, str]:
    """Tell which rules hold, by name, each in words; a log's with the line that was last."""
    figures = Figures(reading.figures)
    tail = f": {reading.sample}" if reading.sample else ""
    held = {name: rule for name, rule in RULES.items() if rule.kind == reading.kind and rule.holds(figures)}
    return {name: rule.words(figures) + tail for name, rule in held.items()}


@dataclass
class Ledger:
    """What the desk keeps: the findings by watcher and rule, what is watched, and since when."""

    since: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)
    watched: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    muted: list[str] = field(default_factory=list)


class Desk(Agent):
    """Decides what a person should know."""

    autostart = "desk"
    State = Ledger
    state: Ledger

    async def on_start(self, ctx: Context) -> None:
        """Open the ledger."""
        ctx.log.debug("open", findings=len(self.state.findings))
        self.state.since = self.state.since or time.monotonic()

    @handler
    async def tell(self, ctx: Context, watcher: str, reading: Reading) -> None:
        """Take a watcher's reading. What is new in it is believed only after a second look."""
        if hear(self.state.findings, watcher, reading.subject, judge(reading), time.monotonic()):
            ctx.after(RECHECK_AFTER, "confirm", key=watcher, watcher=watcher)

    @handler
    async def confirm(self, ctx: Context, watcher: str) -> None:
        """Ask a watcher to look again, and believe what it still sees."""
        try:
            reading = Reading(**await ctx.call(watcher, "look", timeout=ANSWER_WITHIN, retry=ASK_AGAIN))
        except errors.PyreError as error:
            ctx.log.debug("no second look", watcher=watcher, error=str(error))
            return close(self.state.findings, watcher, time.monotonic())
        for finding in settle(self.state.findings, watcher, judge(reading), time.monotonic()):
            if RULES[finding.rule].level == URGENT:
                self.ask(ctx, finding)
        return None

    def ask(self, ctx: Context, finding: Finding) -> None:
        """Ask a person about a finding, once while the question is open."""
        state = self.state
        if finding.key in state.muted or finding.key in state.asked or len(state.asked) >= MAX_ASKED:
            return
        state.asked.append(finding.key)
        ctx.log.info("needs you", what=finding.subject, why=finding.words)
        ctx.escalate(
            f"{finding.subject}: {finding.words}",
            options=[SEEN, MUTE],
            data=finding.key,
            timeout=FORGET_AFTER,
            then="decided",
            key=finding.key,
        )

    @handler
    async def decided(self, answer: str | None, data: str, by: str | None = None) -> None:
        """Take a person's word: who has seen a finding, or that it is never to be told of again."""
        self.state.asked = [key for key in self.state.asked if key != data]
        finding = self.state.findings.get(data)
        if answer == SEEN and finding:
            finding.seen_by = by or ""
        elif answer == MUTE:
            self.state.muted = [*self.state.muted, data][-MAX_FINDINGS:]

    @cron("0 * * * *")
    async def summary(self, ctx: Context) -> None:
        """Put the hour's figures into the log."""
        ctx.log.info("the watch, hourly", **await self.status(), asked=len(self.state.asked))

    @handler
    async def watching(self, watched: dict[str, int], left_out: dict[str, int], gone: list[str]) -> None:
        """Learn from the scout how much is watched, and which watchers are gone."""
        self.state.watched, self.state.left_out = watched, left_out
        for watcher in gone:
            close(self.state.findings, watcher, time.monotonic())

    @handler(interleave=True)
    async def status(self) -> dict[str, int]:
        """Tell the figures of the status line."""
        return {**self.state.watched, "findings": len(to_tell(self.state))}

    @handler(interleave=True)
    async def report(self) -> str:
        """Word what a person should know."""
        return compose(self.state, time.monotonic())


def to_tell(ledger: Ledger) -> list[Finding]:
    """List what holds now, but for what a person doesn't want to be told of."""
    return [each for each in with_status(ledger.findings, "open") if each.key not in ledger.muted]


def compose(ledger: Ledger, now: float) -> str:
    """Word the report: what was watched, what needs a person, what is worth knowing, what was dismissed."""
    found = to_tell(ledger)
    urgent = [each for each in found if RULES[each.rule].level == URGENT]
    notes = [each for each in found if RULES[each.rule].level == NOTE]
    heading = {0: "Nothing needs you.", 1: "1 thing needs you:"}.get(len(urgent), f"{len(urgent)} things need you:")
    return "\n".join(
        [
            f"Watched {_counts(ledger.watched) or 'nothing'} for {span(now - ledger.since)}.",
            heading,
            *_table(urgent, now),
            *(["Worth knowing:", *_table(notes, now)] if notes else []),
            *_aside("Over by now", with_status(ledger.findings, "over"), now),
            *_aside("Looked at twice and dismissed", with_status(ledger.findings, "dismissed"), now),
            *([f"Muted: {len(ledger.muted)}."] if ledger.muted else []),
            *([f"Left out: {_counts(ledger.left_out)}."] if any(ledger.left_out.values()) else []),
        ],
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {_one(name) if count == 1 else name}" for name, count in counts.items() if count)


def _one(plural: str) -> str:
    return plural.removesuffix("es" if plural.endswith("sses") else "s")


def _table(findings: list[Finding], now: float) -> list[str]:
    width = min(max((len(each.subject) for each in findings), default=0), SUBJECT_WIDTH)
    lines = [
        f"  {each.subject:{width}}  {each.words}, found {span(now - each.since)} ago{_seen(each)}"
        for each in findings[:MAX_LINES]
    ]
    more = len(findings) - MAX_LINES
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _seen(finding: Finding) -> str:
    return f", seen by {finding.seen_by}" if finding.seen_by else ""


def _aside(title: str, findings: list[Finding], now: float) -> list[str]:
    if not findings:
        return []
    last = findings[0]
    return [f"{title}: {len(findings)} (last: {last.subject} {last.words}, {span(now - last.until)} ago)."]
