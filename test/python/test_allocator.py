"""What becomes of the memory that large messages leave, in processes of their own: it is a setting of the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wire_peer import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

MEGABYTE = 1_000_000
PAGES = MEGABYTE // os.sysconf("SC_PAGE_SIZE")
ROUNDS = 20

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")

PROGRAM = f"""
import resource
from pyre._allocator import Allocator

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])

def churn():
    before = faults()
    for _ in range({ROUNDS}):
        body = b"x" * {MEGABYTE}
        copy = body + b"y"
        del body, copy
    return faults() - before

allocator = Allocator()
if KEEP:
    allocator.keep()
    churn()
print(churn())
large = [b"x" * {MEGABYTE} for _ in range(20)]
del large
held = resident()
allocator.give_back()
print(held - resident())
allocator.give_back()
"""


def measured(*, keep: bool, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Give the page faults of copying large blocks, and how many pages were given back after."""
    run = subprocess.run(
        [sys.executable, "-c", f"KEEP = {keep}\n{PROGRAM}"],
        env={"PYTHONPATH": str(PACKAGE), "PATH": os.environ["PATH"], **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    faults, given_back = run.stdout.split()
    return int(faults), int(given_back)


def test_memory_is_kept_from_the_first_large_frame_on_and_given_back_when_idle() -> None:
    faults, given_back = measured(keep=True)
    assert faults < PAGES  # less than a single copy in fresh pages
    assert given_back > 15 * PAGES


def test_nothing_changes_before() -> None:
    _, given_back = measured(keep=False)
    assert given_back < PAGES


@pytest.mark.parametrize(
    "operators", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}]
)
def test_what_the_environment_says_stays(operators: dict[str, str]) -> None:
    faults, given_back = measured(keep=True, environment=operators)
    assert faults > ROUNDS * PAGES // 2
    assert given_back < PAGES
