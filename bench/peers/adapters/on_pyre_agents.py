"""pyre-agents: the Python package of an earlier system of this kind, which runs agents in the caller's own loop."""

from __future__ import annotations

import itertools
from typing import Any

from peer import Counter, Peer
from pydantic import BaseModel, ConfigDict
from pyre_agents import Agent, AgentContext, AgentRef, CallResult, Pyre


class State(BaseModel):
    """A Counter, as the library wants a state."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    counter: Counter


class CounterAgent(Agent[State]):
    """A Counter behind the library's messages."""

    async def init(self) -> State:
        """Make the counter."""
        return State(counter=Counter())

    async def handle_call(self, state: State, msg: dict[str, Any], ctx: AgentContext) -> CallResult[State]:  # noqa: ARG002  # the library's form
        """Run what the message names."""
        return CallResult(_run(state, msg), state)

    async def handle_cast(self, state: State, msg: dict[str, Any], ctx: AgentContext) -> State:  # noqa: ARG002  # the library's form
        """Run what the message names."""
        _run(state, msg)
        return state


def _run(state: State, msg: dict[str, Any]) -> Any:
    return getattr(state.counter, msg["type"])(msg["payload"]["argument"])


class Adapter(Peer):
    """The system."""

    asynchronous = True
    memory_agents = 20_000

    async def start(self) -> None:
        """Start it."""
        self.system = await Pyre.start()
        self.made = itertools.count()

    async def spawn(self, count: int) -> list[AgentRef]:
        """Start agents."""
        return [await self.system.spawn(CounterAgent, name=f"counter-{next(self.made)}") for _ in range(count)]

    async def call(self, agent: AgentRef, method: str, argument: Any, _patience: float) -> Any:
        """Call; the harness bounds the time."""
        return await agent.call(method, {"argument": argument})

    async def cast(self, agent: AgentRef, method: str, argument: Any) -> None:
        """Send; the library runs the handler before it returns."""
        await agent.cast(method, {"argument": argument})

    async def stop(self) -> None:
        """End it."""
        await self.system.stop_system()
