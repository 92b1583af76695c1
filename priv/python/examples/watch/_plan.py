"""What the scout decides: which processes and logs are worth a watcher, and what becomes of those it has."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _machine import Process

__all__ = ["Logs", "Plan", "Tracked", "choose", "find_logs", "plan_processes"]

MIN_AGE_SECONDS = 5.0  # what lives shorter is somebody's command, not a process to watch
GRACE_SECONDS = 30.0  # for which a process that went may come back under another pid
HEIR_SECONDS = 60.0  # only so young a process can be one that came back
FAITHFUL = 2.0  # a process that is watched already counts so much more, or the choice would flutter
# They come and go by design, always with the same command line.
FLEETING = frozenset({"sleep", "timeout", "watch"})

FAITHFUL_SECONDS = 600.0  # likewise for a log
MAX_ENTRIES = 5000
MAX_DEPTH = 2  # /var/log/nginx/error.log
ROTATED = re.compile(r"\.(gz|xz|bz2|zst|zip|old|journal|journal~)$|[.-]\d+(\.log)?$")
BINARY = frozenset({"btmp", "faillog", "lastlog", "wtmp"})


@dataclass
class Tracked:
    """A process that has a watcher."""

    pid: int
    started: float
    command: str
    gone_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Logs:
    """The log files that are worth a watcher, how many more there are, and how many we may not read."""

    chosen: list[str]
    more: int
    closed: int


@dataclass
class Plan:
    """What to do about the processes."""

    spawn: list[Process] = field(default_factory=list)
    adopt: dict[str, Process] = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)


def choose(found: Iterable[Process], tracked: dict[str, Tracked], now: float, limit: int) -> list[Process]:
    """Choose the processes that use most: memory, and processor time over their life, each as a share of all."""
    held = {(each.pid, each.started) for each in tracked.values()}
    able = [each for each in found if (each.pid, each.started) in held or _lasts(each, now)]
    rss = sum(each.rss_bytes for each in able) or 1
    busy = sum(_cpu_share(each, now) for each in able) or 1.0

    def weight(each: Process) -> float:
        share = each.rss_bytes / rss + _cpu_share(each, now) / busy
        return share * (FAITHFUL if (each.pid, each.started) in held else 1.0)

    return sorted(able, key=weight, reverse=True)[:limit]


def _lasts(each: Process, now: float) -> bool:
    return each.name not in FLEETING and now - each.started >= MIN_AGE_SECONDS


def _cpu_share(each: Process, now: float) -> float:
    return each.cpu_seconds / max(now - each.started, 1.0)


def plan_processes(
    found: list[Process],
    chosen: list[Process],
    tracked: dict[str, Tracked],
    command: Callable[[int], str],
    now: float,
) -> Plan:
    """Match what is there with what is watched; marks in `tracked` what is gone."""
    plan = Plan()
    alive = {(each.pid, each.started) for each in found}
    held = {(each.pid, each.started) for each in tracked.values()}
    fresh = [each for each in found if (each.pid, each.started) not in held]
    heirs = sorted((each for each in fresh if now - each.started <= HEIR_SECONDS), key=lambda each: each.started)
    for agent, each in tracked.items():
        if (each.pid, each.started) in alive:
            continue
        each.gone_at = each.gone_at or now
        heir = next((new for new in heirs if new.started >= each.started and command(new.pid) == each.command), None)
        if heir:
            plan.adopt[agent] = heir
            heirs.remove(heir)
            held.add((heir.pid, heir.started))
        elif now - each.gone_at >= GRACE_SECONDS:
            plan.stop.append(agent)
    keep = {(each.pid, each.started) for each in chosen}
    # One that isn't among the largest any more makes room, once it doesn't fit.
    plan.stop += [
        agent
        for agent, each in tracked.items()
        if (each.pid, each.started) in alive and (each.pid, each.started) not in keep
    ]
    plan.spawn = [each for each in chosen if (each.pid, each.started) not in held]
    return plan


def find_logs(root: Path, watched: frozenset[str], limit: int) -> Logs:
    """Find the log files that were written to last."""
    found = [path for path in _walk(root) if _is_log(path)]
    readable = [str(path) for path in found if os.access(path, os.R_OK)]
    readable.sort(key=lambda path: _written_at(path) + (FAITHFUL_SECONDS if path in watched else 0), reverse=True)
    return Logs(readable[:limit], more=max(len(readable) - limit, 0), closed=len(found) - len(readable))


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    folders = [(root, 0)]
    while folders and len(found) < MAX_ENTRIES:
        folder, depth = folders.pop()
        try:
            entries = [entry for entry in folder.iterdir() if not entry.is_symlink()]
        except OSError:
            continue
        folders += [(entry, depth + 1) for entry in entries if depth < MAX_DEPTH and entry.is_dir()]
        found += entries
    return found


def _is_log(path: Path) -> bool:
    try:
        path.name.encode()
        regular = stat.S_ISREG(path.lstat().st_mode)
    except (OSError, UnicodeEncodeError):  # a name that is no text can't be told to anybody
        return False
    return regular and path.name not in BINARY and not ROTATED.search(path.name)


def _written_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0
