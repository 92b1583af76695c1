"""What every adapter offers, and the agent that all of them run.

An adapter is a file in bench/peers/adapters with a class `Adapter`. Its calls are either all blocking or all
coroutines; the harness has threads for the former and tasks for the latter.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import Any


class Counter:
    """An agent with a small dict as its state."""

    def __init__(self) -> None:
        """Begin with what bench/agents/counter.py begins with."""
        self.state = {"total": 0, "name": "counter-of-the-benchmarks"}

    def add(self, n: int) -> int:
        """Change the state."""
        self.state["total"] += n
        return self.state["total"]

    def total(self, _argument: None = None) -> int:
        """Tell the sum."""
        return self.state["total"]

    def echo(self, data: str) -> str:
        """Give back what came."""
        return data

    def block(self, _argument: None = None) -> None:
        """Never end, as code does that waits where it should not."""
        time.sleep(3600)

    def pid(self, _argument: None = None) -> int:
        """Tell which process runs this agent."""
        return os.getpid()


class Peer(ABC):
    """A way to run agents. All methods of one whose `asynchronous` is true give awaitables, but for `forget`."""

    asynchronous = False
    # Beyond the runtime's own limits, or this machine's, there is nothing to measure.
    agents = 100
    memory_agents = 5_000

    @abstractmethod
    def start(self) -> Any:
        """Start what runs agents."""

    @abstractmethod
    def spawn(self, count: int) -> Any:
        """Start agents, and give what `call` takes for each."""

    @abstractmethod
    def call(self, agent: Any, method: str, argument: Any, patience: float) -> Any:
        """Give the reply, or raise."""

    @abstractmethod
    def cast(self, agent: Any, method: str, argument: Any) -> Any:
        """Send, and don't wait for it to be done."""

    @abstractmethod
    def stop(self) -> Any:
        """End what was started."""
