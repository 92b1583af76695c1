"""The processes of a run, however they were started: what they hold, and their end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys

MARK = "PYRE_BENCH_PEER"


def marked() -> list[int]:
    """Give the processes of this run: some leave the tree, but all inherit the mark in the environment."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def all_pss() -> int:
    """Give the bytes that these processes hold, of each page their share only."""
    return sum(_pss(pid) for pid in marked())


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1_024
    return 0


def end() -> None:
    """End at once with all that was started, whatever still blocks."""
    sys.stdout.flush()
    # More than once, since some start others meanwhile.
    while others := [pid for pid in marked() if pid != os.getpid()]:
        for pid in others:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    os._exit(0)
