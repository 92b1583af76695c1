"""autogen-core: agents of AutoGen's runtime in the caller's own loop."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler
from peer import Counter, Peer


@dataclass
class Message:
    """What a Counter shall run."""

    method: str
    argument: Any


@dataclass
class Reply:
    """What came of it."""

    result: Any


class CounterAgent(RoutedAgent):
    """A Counter behind AutoGen's messages."""

    def __init__(self) -> None:
        """Make the counter."""
        super().__init__("a counter")
        self.counter = Counter()

    @message_handler
    async def run(self, message: Message, ctx: MessageContext) -> Reply:  # noqa: ARG002  # the library's form
        """Run what the message names."""
        return Reply(getattr(self.counter, message.method)(message.argument))


class Adapter(Peer):
    """The runtime."""

    asynchronous = True

    async def start(self) -> None:
        """Start it."""
        self.runtime = SingleThreadedAgentRuntime()
        await CounterAgent.register(self.runtime, "counter", CounterAgent)
        self.runtime.start()
        self.made = itertools.count()
        self.casts: set[asyncio.Task[Any]] = set()

    async def spawn(self, count: int) -> list[AgentId]:
        """Name agents; the runtime makes each with its first message."""
        return [AgentId("counter", f"counter-{next(self.made)}") for _ in range(count)]

    async def call(self, agent: AgentId, method: str, argument: Any, _patience: float) -> Any:
        """Send, and take the reply; the harness bounds the time."""
        return (await self.runtime.send_message(Message(method, argument), agent)).result

    async def cast(self, agent: AgentId, method: str, argument: Any) -> None:
        """Send in a task: the runtime has no message to one agent that nobody waits for."""
        task = asyncio.create_task(self.runtime.send_message(Message(method, argument), agent))
        self.casts.add(task)
        task.add_done_callback(self.casts.discard)

    async def stop(self) -> None:
        """End it."""
        await self.runtime.stop()
