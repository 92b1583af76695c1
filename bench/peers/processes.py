"""The processes of a run, however they were started: what they hold, and their end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys
import time

MARK = "PYRE_BENCH_PEER"

# As in bench/support/machine.exs.
QUIET_CORES = 0.25
LOOK_SECONDS = 0.25
TICKS_PER_SECOND = 100


class Patience:
    """How long may still be waited for a quiet machine, in seconds."""

    left = float(os.environ.get("PYRE_BENCH_PATIENCE", "10"))


def await_quiet() -> None:
    """Wait until nothing else is busy, in all for as long as the environment says."""
    while _busy() and Patience.left > 0:
        Patience.left -= LOOK_SECONDS


def _busy() -> bool:
    before = _busy_seconds()
    time.sleep(LOOK_SECONDS)
    return (_busy_seconds() - before) / LOOK_SECONDS > QUIET_CORES


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(ticks) for ticks in pathlib.Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


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
