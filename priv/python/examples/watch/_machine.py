"""Reads the kernel's tables: mounts, processes, memory, load. What vanishes meanwhile is simply not there."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Mount",
    "Process",
    "Space",
    "boot_seconds",
    "command",
    "load",
    "memory",
    "mounts",
    "process",
    "processes",
    "space",
]

# Without contents of their own, or full by nature (images).
PSEUDO = re.compile(
    r"autofs|binfmt_misc|bpf|cgroup2?|configfs|cramfs|debugfs|devpts|devtmpfs|efivarfs|erofs|fusectl|hugetlbfs|iso9660"
    r"|fuse[.](gvfsd-fuse|lxcfs|portal|snapfuse)|mqueue|nsfs|proc|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|squashfs"
    r"|sysfs|tracefs",
)
KERNEL_THREAD = 0x00200000  # PF_KTHREAD, linux/sched.h
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted filesystem."""

    path: str
    kind: str
    device: str


@dataclass(frozen=True, slots=True)
class Space:
    """How full a filesystem is, as `df` counts it: what only root may use is not free."""

    used_share: float
    free_bytes: int
    total_bytes: int
    inode_share: float


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one instant. With its start time, the pid names it for good."""

    pid: int
    name: str
    state: str
    cpu_seconds: float
    started: float
    rss_bytes: int


def mounts(proc: Path) -> list[Mount]:
    """List the writable filesystems once each: a device mounted twice stands under its shortest path."""
    found: dict[str, Mount] = {}
    for line in _text(proc / "self" / "mountinfo").splitlines():
        mount = _mount(line)
        if mount and (mount.device not in found or len(mount.path) < len(found[mount.device].path)):
            found[mount.device] = mount
    return sorted(found.values(), key=lambda mount: mount.path)


def _mount(line: str) -> Mount | None:
    left, _, right = line.partition(" - ")
    before, after = left.split(), right.split()
    if len(before) < 6 or len(after) < 3 or PSEUDO.fullmatch(after[0]):  # noqa: PLR2004
        return None
    if "ro" in before[5].split(",") or "ro" in after[2].split(","):
        return None
    if before[4].startswith(("/proc/", "/sys/")):
        return None
    path = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before[4])
    return Mount(path=path, kind=after[0], device=before[2])


def space(path: str) -> Space | None:
    """Ask the filesystem how full it is; None where it has no size. May block for as long as its server is away."""
    info = os.statvfs(path)
    used = info.f_blocks - info.f_bfree
    usable = used + info.f_bavail
    if usable <= 0:
        return None
    inodes = (info.f_files - info.f_favail) / info.f_files if info.f_files else 0.0
    return Space(
        used_share=used / usable,
        free_bytes=info.f_bavail * info.f_frsize,
        total_bytes=usable * info.f_frsize,
        inode_share=inodes,
    )


def process(pid: int, proc: Path) -> Process | None:
    """Read one process; None where it is gone, or is a thread of the kernel's."""
    raw = _text(proc / str(pid) / "stat")
    # The name stands in brackets, and may hold brackets, blanks and line ends itself.
    name, rest = raw[raw.find("(") + 1 : raw.rfind(")")], raw[raw.rfind(")") + 1 :].split()
    if len(rest) < 22 or int(rest[6]) & KERNEL_THREAD:  # noqa: PLR2004
        return None
    return Process(
        pid=pid,
        name=name,
        state=rest[0],
        cpu_seconds=(int(rest[11]) + int(rest[12])) / TICK,
        started=int(rest[19]) / TICK,
        rss_bytes=int(rest[21]) * PAGE,
    )


def processes(proc: Path) -> list[Process]:
    """Read all processes that are there."""
    pids = (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return [found for pid in pids if (found := process(pid, proc))]


def command(pid: int, proc: Path) -> str:
    """Read a process's command line, empty where it is gone or a zombie."""
    return _text(proc / str(pid) / "cmdline").replace("\0", " ").strip()


def memory(proc: Path) -> tuple[int, int]:
    """Read how many bytes of memory there are, and how many are available."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE))
    total = int(found.get("MemTotal", 0)) * 1024
    return total, int(found.get("MemAvailable", 0)) * 1024


def load(proc: Path) -> float:
    """Read the load of the last minute."""
    words = _text(proc / "loadavg").split()
    return float(words[0]) if words else 0.0


def boot_seconds() -> float:
    """Tell the time on the clock that start times are told by; /proc/uptime is the container's own in some."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
