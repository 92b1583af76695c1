"""Names the handlers whose threads use up a CPU.

Such a handler never blocks the loop, and yet starves it: the loop gets the GIL back only after each switch interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyre._message import Message
    from pyre._threads import Job, Threads

__all__ = ["Hogs"]

LOOK_NS = 1_000_000_000
SHARE = 0.8
# On a busy machine a hog gets less of a CPU, but still nearly all that the interpreter gets.
LEAST_SHARE = 0.25
COUNTED = 0.1  # threads that use less don't share the GIL with a hog


class Hogs:
    """Compares the CPU clocks of the handlers' threads once a second; used in the watchdog's thread."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._looked_ns = 0
        self._used_ns = 0
        self._before: dict[Job, int] = {}
        self._told: set[Job] = set()

    def look(self, threads: Threads, now_ns: int, used_ns: int) -> list[tuple[Message, float]]:
        """Give the messages to be told, each once, with the share of a CPU that its thread used.

        `used_ns` is the CPU time that the whole interpreter has used.
        """
        elapsed = now_ns - self._looked_ns
        if elapsed < LOOK_NS:
            return []
        before, self._before = self._before, dict(threads.running())
        in_all, self._used_ns = (used_ns - self._used_ns) / elapsed, used_ns
        self._looked_ns = now_ns
        self._told &= self._before.keys()
        shares = {job: (used - before[job]) / elapsed for job, used in self._before.items() if job in before}
        # Hogs share one GIL: two of them use half a CPU each.
        count = sum(share > COUNTED for share in shares.values())
        least = max(LEAST_SHARE, SHARE * min(1.0, in_all)) / max(1, count)
        hogs = {job: share for job, share in shares.items() if share > least and job not in self._told}
        self._told |= hogs.keys()
        return [(job.message, share) for job, share in hogs.items()]
