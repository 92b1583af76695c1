"""The scenario of bench/fairness_bench.exs on plain asyncio: actors are tasks with queues, in one loop.

Usage: asyncio_actors.py SECONDS BLOCKED_SECONDS

Writes the neighbours' latencies as JSON: p50_ms, p99_ms, max_ms, calls.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

NEIGHBOURS = 99
CALLERS = 4
PAUSE_SECONDS = 0.002
BEGIN_SECONDS = 1.0
LATE_SECONDS = 0.005

Mailbox = asyncio.Queue[asyncio.Future[int]]


async def actor(mailbox: Mailbox) -> None:
    """Count."""
    total = 0
    while True:
        reply = await mailbox.get()
        total += 1
        reply.set_result(total)


async def culprit(blocked_seconds: float) -> None:
    """Block the loop once, where it should await."""
    await asyncio.sleep(BEGIN_SECONDS)
    time.sleep(blocked_seconds)  # noqa: ASYNC251  # that is what is measured


async def caller(mailboxes: list[Mailbox], until: float, latencies: list[float]) -> None:
    """Call one after the other, with a pause."""
    loop = asyncio.get_running_loop()
    due = time.perf_counter()
    # By when the call was due: the loop may be blocked beyond the end.
    while due < until:
        reply: asyncio.Future[int] = loop.create_future()
        # One that is woken late, since the loop was blocked, has waited since it was due.
        started = time.perf_counter()
        if started - due > LATE_SECONDS:
            started = due
        random.choice(mailboxes).put_nowait(reply)  # noqa: S311
        await reply
        latencies.append((time.perf_counter() - started) * 1000)
        due = time.perf_counter() + PAUSE_SECONDS
        await asyncio.sleep(PAUSE_SECONDS)


async def main(seconds: float, blocked_seconds: float) -> None:
    """Run the scenario."""
    mailboxes: list[Mailbox] = [asyncio.Queue() for _ in range(NEIGHBOURS)]
    actors = [asyncio.create_task(actor(mailbox)) for mailbox in mailboxes]
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    blocked = asyncio.create_task(culprit(blocked_seconds))
    await asyncio.gather(*(caller(mailboxes, until, latencies) for _ in range(CALLERS)))
    blocked.cancel()
    for task in actors:
        task.cancel()
    latencies.sort()
    told = {
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "max_ms": latencies[-1],
        "calls": len(latencies),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2])))
