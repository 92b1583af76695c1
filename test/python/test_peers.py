"""The harness that measures other runtimes beside Pyre: how fast they are is asked in bench/ only."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import uuid

PEERS = pathlib.Path(__file__).parents[2] / "bench" / "peers"
MARK = "PYRE_BENCH_PEER"


def run(adapter: str, mode: str) -> tuple[subprocess.CompletedProcess[str], str]:
    mark = uuid.uuid4().hex
    env = {**os.environ, "PYTHONPATH": str(PEERS), MARK: mark, "PYRE_BENCH_PATIENCE": "0"}
    done = subprocess.run(
        [sys.executable, str(PEERS / "harness.py"), adapter, mode],
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done, f"{MARK}={mark}"


def figures(output: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^figure (\w+) ([\d.]+)$", output, re.MULTILINE)}


def marked(mark: str) -> list[str]:
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_a_kill_of_the_process_that_runs_the_agents_takes_a_caller_in_it_along() -> None:
    done, _mark = run("on_asyncio", "kill")
    assert done.returncode == -9
    assert figures(done.stdout) == {"killed_agents": 100, "caller_dies": 1}


def test_threads_answer_beside_one_that_blocks_for_ever() -> None:
    done, _mark = run("on_threads", "block")
    assert done.returncode == 0
    told = figures(done.stdout)
    assert told["neighbours_answered"] == told["neighbours"] == 99


def test_a_run_leaves_no_process_behind() -> None:
    done, mark = run("on_pipes", "cold")
    assert (done.returncode, done.stdout) == (0, "reply\n"), done.stderr
    assert marked(mark) == []
