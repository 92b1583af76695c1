"""The scout: looks around, gives a watcher to what has none, and takes away those whose subject is gone."""

from __future__ import annotations

import asyncio
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _machine import Process, boot_seconds, command, load, memory, mounts, processes
from _plan import Tracked, choose, find_logs, plan_processes
from _reading import Reading, tell

from pyre import Agent, Context, errors, handler

PERIOD = 5.0
FIRST_SCAN = 0.5  # the desk starts at the same time
MAX_MOUNTS = 50
MAX_PROCESSES = 300
MAX_LOGS = 100
MISSED_SCANS = 1  # a log is away for a moment while it is rotated
MAX_ID_BYTES = 255


@dataclass
class Round:
    """Where to look, and who watches what."""

    proc: str = "/proc"
    logs_in: str = "/var/log"
    processes: dict[str, Tracked] = field(default_factory=dict)
    mounts: dict[str, int] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look around found: the mounts and logs by the id of their watcher."""

    at: float
    mounts: dict[str, str]
    logs: dict[str, str]
    processes: list[Process]
    more: dict[str, int]


class Scout(Agent):
    """Keeps one watcher for each mount, process and log of this machine."""

    autostart = "scout"
    State = Round
    state: Round

    async def on_start(self, ctx: Context) -> None:
        """Begin to look around."""
        ctx.after(FIRST_SCAN, "scan", key="scan")

    @handler
    async def scan(self, ctx: Context) -> None:
        """Look around, bring the watchers in line with what is there, tell the desk, and come again."""
        proc, logs_in = Path(self.state.proc), Path(self.state.logs_in)
        ctx.progress(0.0, "reading the kernel's tables")
        sight = await asyncio.to_thread(look_around, proc, logs_in, frozenset(self.state.logs))
        ctx.progress(0.5, f"bringing the watchers in line with {len(sight.processes)} processes")
        gone = [
            *await self.see_files(ctx, "MountWatcher", self.state.mounts, sight.mounts),
            *await self.see_files(ctx, "LogWatcher", self.state.logs, sight.logs),
            *await self.see_processes(ctx, sight),
        ]
        await ctx.cast("desk", "watching", watched=self.watched(), left_out=self.left_out(sight), gone=gone)
        await tell(ctx, machine(proc))
        ctx.after(PERIOD, "scan", key="scan")

    @handler(interleave=True)
    async def look(self) -> Reading:
        """Look at the machine as a whole once more, for the desk."""
        return machine(Path(self.state.proc))

    async def see_files(self, ctx: Context, kind: str, absent: dict[str, int], wanted: dict[str, str]) -> list[str]:
        """Bring the watchers of mounts or logs in line; `absent`: by watcher, how many scans missed its subject."""
        for agent in wanted.keys() - absent.keys():
            await start(ctx, kind, agent, path=wanted[agent])
        gone = [agent for agent, scans in absent.items() if agent not in wanted and scans >= MISSED_SCANS]
        for agent in gone:
            await stop(ctx, agent)
            del absent[agent]
        absent.update({agent: absent.get(agent, 0) + 1 for agent in absent}, **dict.fromkeys(wanted, 0))
        return gone

    async def see_processes(self, ctx: Context, sight: Sight) -> list[str]:
        """Bring the processes' watchers in line: new ones, restarted ones, and those that are gone."""
        tracked, proc = self.state.processes, Path(self.state.proc)
        chosen = choose(sight.processes, tracked, sight.at, MAX_PROCESSES)
        plan = plan_processes(sight.processes, chosen, tracked, lambda pid: command(pid, proc), sight.at)
        for agent, heir in plan.adopt.items():
            tracked[agent] = Tracked(heir.pid, heir.started, tracked[agent].command)
            await ctx.cast(agent, "adopt", pid=heir.pid, started=heir.started)
        for agent in plan.stop:
            del tracked[agent]
            await stop(ctx, agent)
        for each in plan.spawn:
            agent = f"process:{each.pid}:{each.started:.2f}"
            tracked[agent] = Tracked(each.pid, each.started, command(each.pid, proc))
            args = {"pid": each.pid, "started": each.started, "name": each.name, "proc": str(proc)}
            await start(ctx, "ProcessWatcher", agent, **args)
        return plan.stop

    def watched(self) -> dict[str, int]:
        """Count the watchers."""
        state = self.state
        return {"mounts": len(state.mounts), "processes": len(state.processes), "logs": len(state.logs)}

    def left_out(self, sight: Sight) -> dict[str, int]:
        """Count what has no watcher."""
        unwatched = len(sight.processes) - len(self.state.processes)
        return {"small or short-lived processes": max(unwatched, 0), **sight.more}


def look_around(proc: Path, logs_in: Path, watched: frozenset[str]) -> Sight:
    """Read all tables. Runs in a thread: 2,000 processes are 2,000 small files."""
    found = mounts(proc)
    logs = find_logs(logs_in, frozenset(agent.removeprefix("log:") for agent in watched), MAX_LOGS)
    return Sight(
        at=boot_seconds(),
        mounts={agent_id("mount", each.path): each.path for each in found[:MAX_MOUNTS]},
        logs={agent_id("log", each): each for each in logs.chosen},
        processes=processes(proc),
        more={
            "mounts": max(len(found) - MAX_MOUNTS, 0),
            "quieter logs": logs.more,
            "unreadable logs": logs.closed,
        },
    )


def agent_id(kind: str, path: str) -> str:
    """Name a watcher after what it watches; a path may be longer than an id may."""
    name = f"{kind}:{path}"
    return name if len(name.encode()) <= MAX_ID_BYTES else f"{kind}:{zlib.crc32(path.encode()):08x}"


def machine(proc: Path) -> Reading:
    """Put figures to the machine as a whole."""
    total, available = memory(proc)
    figures = {"memory_bytes": float(total), "available_bytes": float(available), "load": load(proc)}
    return Reading("machine", "this machine", {**figures, "cores": float(os.cpu_count() or 1)})


async def start(ctx: Context, kind: str, agent: str, **args: Any) -> None:  # noqa: ANN401  # whatever the class takes
    """Start a watcher, unless a scan that was cut short has started it already."""
    try:
        await ctx.spawn(kind, agent, **args)
    except errors.AlreadyStarted:
        ctx.log.debug("watched already", watcher=agent)


async def stop(ctx: Context, agent: str) -> None:
    """Stop a watcher, unless it has stopped already."""
    try:
        await ctx.stop(agent)
    except errors.NotFound:
        ctx.log.debug("stopped already", watcher=agent)
