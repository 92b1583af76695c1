"""One agent per process: what it uses, whether it is stuck, and whether it went and came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from _machine import Process, boot_seconds, memory, process
from _reading import Reading, changed, stagger, tell

from pyre import Agent, Context, handler

PERIOD = 5.0
BUSY_SHARE = 0.9  # of one core
RESTART_WINDOW = 600.0  # restarts longer ago are forgotten
MAX_RESTARTS_KEPT = 20


@dataclass
class Watched:
    """A process as it was at the last look. Times are told by CLOCK_BOOTTIME, as the kernel's start times are."""

    pid: int
    started: float
    name: str
    proc: str = "/proc"
    first_seen_at: float = 0.0
    first_rss_bytes: float = 0.0
    seen_at: float = 0.0
    cpu_seconds: float = 0.0
    cpu_share: float = 0.0
    rss_bytes: float = 0.0
    gone_at: float = 0.0
    since: dict[str, float] = field(default_factory=dict)
    restarts: list[float] = field(default_factory=list)


class ProcessWatcher(Agent):
    """Watches one process, and the one that takes its place."""

    State = Watched
    state: Watched

    async def on_start(self, ctx: Context) -> None:
        """Begin to look from time to time."""
        ctx.after(stagger(ctx.id, PERIOD), "check", key="check")

    @handler
    async def check(self, ctx: Context) -> None:
        """Look, tell the desk, and look again later."""
        self.state = look_at(self.state)
        await tell(ctx, reading_of(self.state))
        ctx.after(PERIOD, "check", key="check")

    @handler(interleave=True)
    async def look(self) -> Reading:
        """Look once more, for whoever doubts; keeps nothing."""
        return reading_of(look_at(self.state))

    @handler
    async def adopt(self, ctx: Context, pid: int, started: float) -> None:
        """Go on with the process that has taken the place of the one that went."""
        ctx.log.debug("restarted", name=self.state.name, old_pid=self.state.pid, pid=pid)
        self.state = adopted(self.state, pid, started, boot_seconds())


def look_at(last: Watched) -> Watched:
    """Read the process now."""
    return seen(last, process(last.pid, Path(last.proc)), boot_seconds())


def seen(last: Watched, found: Process | None, now: float) -> Watched:
    """Tell what is known after a look, from what was known before it."""
    if found is None or found.started != last.started:
        gone = {"gone_at": last.gone_at or now, "seen_at": now, "cpu_share": 0.0, "rss_bytes": 0.0, "since": {}}
        return changed(Watched, last, **gone)
    elapsed = now - last.seen_at
    share = (found.cpu_seconds - last.cpu_seconds) / elapsed if last.seen_at and elapsed > 0 else 0.0
    claims = {"busy": share >= BUSY_SHARE, "stuck": found.state == "D", "zombie": found.state == "Z"}
    return changed(
        Watched,
        last,
        first_seen_at=last.first_seen_at or now,
        first_rss_bytes=last.first_rss_bytes or found.rss_bytes,
        seen_at=now,
        cpu_seconds=found.cpu_seconds,
        cpu_share=share,
        rss_bytes=float(found.rss_bytes),
        # A share is known of the time since the last look, a state only of this instant.
        since={
            claim: last.since.get(claim, last.seen_at if claim == "busy" else now)
            for claim, holds in claims.items()
            if holds
        },
    )


def adopted(last: Watched, pid: int, started: float, now: float) -> Watched:
    """Begin anew with another process, and remember the restarts."""
    restarts = [at for at in last.restarts if now - at <= RESTART_WINDOW]
    return Watched(
        pid=pid,
        started=started,
        name=last.name,
        proc=last.proc,
        restarts=[*restarts, now][-MAX_RESTARTS_KEPT:],
    )


def reading_of(watched: Watched) -> Reading:
    """Put figures to what is known."""
    now = watched.seen_at
    total, _ = memory(Path(watched.proc))
    figures = {
        "cpu_share": watched.cpu_share,
        "rss_bytes": watched.rss_bytes,
        "memory_share": watched.rss_bytes / total if total else 0.0,
        "first_rss_bytes": watched.first_rss_bytes,
        "lived_seconds": (watched.gone_at or now) - watched.started,
        **{f"{claim}_seconds": now - since for claim, since in watched.since.items()},
    }
    if watched.gone_at:
        figures["gone_seconds"] = now - watched.gone_at
    if recent := [at for at in watched.restarts if now - at <= RESTART_WINDOW]:
        figures["restarts"] = float(len(recent))
    return Reading("process", f"{watched.name} ({watched.pid})", figures)
