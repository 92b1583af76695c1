"""Measures one peer: harness.py ADAPTER cold | bench | memory | block | kill.

Runs in the peer's own virtual environment, started by bench/peers_bench.exs, which bounds its time. Writes a line
`figure NAME NUMBER` for each figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from callers import Tasks, Threads
from processes import all_pss, await_quiet, end

if TYPE_CHECKING:
    from collections.abc import Callable

    from peer import Peer

WARM_UP_SECONDS = 1.0
WINDOW_SECONDS = 1.0
ROUNDS = 3
LATENCIES = 3_000
ECHOES = 200
CASTS = 20_000
LIMIT_SECONDS = 3.0
SIZES = {"1k": 1_000, "100k": 100_000, "1m": 1_000_000}
CALLERS = (64, 256)
# So many first messages at once, and neighbours asked at once.
AT_ONCE = 64
PATIENCE_SECONDS = 10.0
CALL_SECONDS = 60.0


def tell(name: str, value: float) -> None:
    """Write a figure."""
    sys.stdout.write(f"figure {name} {value:.6f}\n")
    sys.stdout.flush()


class Harness:
    """One peer, and its callers."""

    def __init__(self, peer: Peer) -> None:
        """Choose the callers."""
        self.peer = peer
        new_loop = getattr(peer, "new_loop", asyncio.new_event_loop)
        self.callers = Tasks(new_loop()) if peer.asynchronous else Threads()
        self.added = 0
        self.callers.run(peer.start())
        self.agents = self.callers.run(peer.spawn(peer.agents))

    def call(self, agent: Any, method: str, argument: Any = None, seconds: float = CALL_SECONDS) -> Any:
        """Call once."""
        made = self.peer.call(agent, method, argument, seconds)
        if self.peer.asynchronous:
            made = self.callers.run(asyncio.wait_for(made, seconds))
        return made

    def each(self, agents: list[Any], method: str, argument: Any) -> list[Any]:
        """Call each of many agents once, some at a time, and give the replies or errors."""
        replies: list[Any] = [None] * len(agents)
        left = iter(range(len(agents)))
        at: dict[int, int] = {}

        def go_on(n: int) -> bool:
            at[n] = next(left, -1)
            return at[n] >= 0

        def done(n: int, reply: Any) -> None:
            replies[at[n]] = reply

        def call(n: int) -> Any:
            return self.peer.call(agents[at[n]], method, argument, CALL_SECONDS)

        self.callers.at_once(min(AT_ONCE, len(agents)), call, go_on, done)
        return replies

    ## Speed

    def bench(self) -> None:
        """Measure latency, echoes, calls and casts; then check that nothing was lost."""
        self.added += sum(self.each(self.agents, "add", 1))
        self.load(AT_ONCE, WARM_UP_SECONDS)
        self.latency()
        for name, size in SIZES.items():
            self.echo(name, "x" * size)
        for callers in CALLERS:
            rates = sorted(self.load(callers, WINDOW_SECONDS) for _ in range(ROUNDS))
            tell(f"calls_{callers}", rates[ROUNDS // 2])
        self.casts()
        assert sum(self.each(self.agents, "total", None)) == self.added, "messages were lost"

    def latency(self) -> None:
        """Measure one caller of one agent."""
        latencies = self.alone(lambda: self.peer.call(self.agents[0], "add", 1, CALL_SECONDS), LATENCIES)
        self.added += len(latencies)
        tell("p50_us", percentile(latencies, 50) * 1e6)
        tell("p99_us", percentile(latencies, 99) * 1e6)

    def echo(self, name: str, data: str) -> None:
        """Measure one caller with a payload."""
        latencies = self.alone(lambda: self.peer.call(self.agents[0], "echo", data, CALL_SECONDS), ECHOES)
        tell(f"echo_{name}_us", percentile(latencies, 50) * 1e6)

    def alone(self, body: Callable[[], Any], count: int) -> list[float]:
        """Give the latencies of one caller."""
        await_quiet()
        latencies: list[float] = []
        until = time.perf_counter() + LIMIT_SECONDS
        self.callers.one_by_one(
            body, lambda: len(latencies) < count and (not latencies or time.perf_counter() < until), latencies.append
        )
        return latencies

    def load(self, callers: int, seconds: float) -> float:
        """Give the calls per second of so many callers."""
        await_quiet()
        counts = [0] * callers
        agents, call = self.agents, self.peer.call
        began = time.perf_counter()
        until = began + seconds

        def go_on(n: int) -> bool:
            counts[n] += 1
            return time.perf_counter() < until

        self.callers.at_once(callers, lambda n: call(agents[n % len(agents)], "add", 1, CALL_SECONDS), go_on, nothing)
        # Each was counted once more when it stopped.
        done = sum(counts) - callers
        self.added += done
        return done / (time.perf_counter() - began)

    def casts(self) -> None:
        """Measure casts of one sender, from the first until all are processed."""
        await_quiet()
        sent = 0
        began = time.perf_counter()
        until = began + LIMIT_SECONDS

        def go_on(_n: int) -> bool:
            return sent < CASTS and time.perf_counter() < until

        def send(_n: int) -> Any:
            nonlocal sent
            sent += 1
            return self.peer.cast(self.agents[sent % len(self.agents)], "add", 1)

        self.callers.at_once(1, send, go_on, nothing)
        tell("casts_accepted", sent / (time.perf_counter() - began))
        self.added += sent
        while sum(self.each(self.agents, "total", None)) < self.added:
            pass
        tell("casts_processed", sent / (time.perf_counter() - began))

    ## Size

    def memory(self) -> None:
        """Measure what an agent weighs that has answered once, and how fast such agents are made."""
        self.each(self.agents, "add", 1)
        before = all_pss()
        count = self.peer.memory_agents
        began = time.perf_counter()
        agents = self.callers.run(self.peer.spawn(count))
        replies = self.each(agents, "add", 1)
        took = time.perf_counter() - began
        assert replies == [1] * count
        tell("memory_agents", count)
        tell("spawns", count / took)
        tell("agent_kb", (all_pss() - before) / count / 1_000)
        tell("base_mb", before / 1e6)

    ## Trouble

    def block(self) -> None:
        """Block one agent for ever, and ask its neighbours."""
        self.each(self.agents, "add", 1)
        neighbours = self.agents[1:]
        tell("neighbours", len(neighbours))
        answered: list[float] = []
        began = time.perf_counter()
        # In a thread: where the agents share the caller's loop, nothing else runs any more.
        threading.Thread(target=self._give_up, args=(began, answered), daemon=True).start()
        self.callers.run(self.peer.cast(self.agents[0], "block", None))
        if self.peer.asynchronous:
            # So that it begins.
            self.callers.run(asyncio.sleep(0.1))
        for neighbour in neighbours:
            with contextlib.suppress(Exception):
                self.call(neighbour, "add", 1, PATIENCE_SECONDS)
                answered.append(time.perf_counter() - began)
        self._told(answered)

    def _give_up(self, began: float, answered: list[float]) -> None:
        while time.perf_counter() < began + PATIENCE_SECONDS:
            time.sleep(0.1)
        self._told(answered)

    def _told(self, answered: list[float]) -> None:
        tell("neighbours_answered", len(answered))
        if answered:
            tell("last_neighbour_ms", answered[-1] * 1e3)
        end()

    def kill(self) -> None:
        """Kill the process that runs the first agent, and look what is left."""
        self.each(self.agents, "add", 1)
        pids = self.each(self.agents, "pid", None)
        tell("killed_agents", pids.count(pids[0]))
        tell("caller_dies", pids[0] == os.getpid())
        os.kill(pids[0], signal.SIGKILL)
        began = time.perf_counter()
        threading.Thread(target=self._hurry, args=(began,), daemon=True).start()
        answers: dict[int, int] = {}
        first = None
        while len(answers) < len(self.agents) and time.perf_counter() < began + PATIENCE_SECONDS:
            for n, agent in enumerate(self.agents):
                if n not in answers:
                    with contextlib.suppress(Exception):
                        answers[n] = self.call(agent, "add", 1, 1.0)
                        if pids[n] == pids[0] and first is None:
                            first = time.perf_counter() - began
            self.left = answers
        self._tell_left(answers)
        if first is not None:
            tell("first_answer_ms", first * 1e3)
        end()

    left: dict[int, int] = {}  # noqa: RUF012  # one harness a process

    def _hurry(self, began: float) -> None:
        while time.perf_counter() < began + 2 * PATIENCE_SECONDS:
            time.sleep(0.1)
        self._tell_left(self.left)
        end()

    def _tell_left(self, answers: dict[int, int]) -> None:
        tell("agents_answering", len(answers))
        tell("states_kept", sum(1 for total in answers.values() if total == 2))
        tell("agents", len(self.agents))


def nothing(_caller: int, _result: Any) -> None:
    """Keep nothing."""


def percentile(values: list[float], percent: int) -> float:
    """Give the value by the nearest rank."""
    return sorted(values)[max(-(-len(values) * percent // 100), 1) - 1]


def main(adapter: str, mode: str) -> None:
    """Run one mode."""
    harness = Harness(importlib.import_module(f"adapters.{adapter}").Adapter())
    if mode == "cold":
        harness.call(harness.agents[0], "add", 1)
        sys.stdout.write("reply\n")
        sys.stdout.flush()
    else:
        getattr(harness, mode)()
    with contextlib.suppress(Exception):
        harness.callers.run(harness.peer.stop())
    end()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
