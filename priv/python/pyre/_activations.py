"""Agents' objects: made from the committed state when the first message comes, dropped, and counted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyre._handlers import AgentClass

__all__ = ["DROPPED", "HELD", "LEAVING", "Activation", "Activations"]

# How far an activation is let go of: not at all, by us, or by a DROP that is to be confirmed.
HELD, LEAVING, DROPPED = range(3)

EVICTED_SHARE = 16  # one sixteenth at a time, so that not every new one evicts


class Activation:
    """One agent in this interpreter. Its object is made late: until then only bytes are held."""

    __slots__ = ("agent", "args", "committed", "epoch", "id", "kind", "leaving", "running")

    def __init__(self, epoch: int, kind: AgentClass, id: str, committed: bytes, args: bytes) -> None:  # noqa: A002
        """Keep what the BEAM sent; no user code runs."""
        self.epoch = epoch
        self.kind = kind
        self.id = id
        self.committed = committed
        self.args: bytes | None = args
        self.agent: Any = None
        self.running = 0
        self.leaving = HELD

    def materialise(self) -> Any:  # noqa: ANN401
        """Make the agent's object. Runs user code: State's validators and the class's __init__."""
        agent: Any = self._made(self.kind.kind)
        agent.state = self._state()
        if type(agent).__init__ is not object.__init__:
            agent.__init__()
        self.agent = agent
        return agent

    def snapshot(self) -> Any:  # noqa: ANN401
        """Make a read-only object from what was committed last, for a handler that runs beside others."""
        agent = self._made(self.kind.snapshot_kind)
        object.__setattr__(agent, "state", self.kind.state.freeze(self._state()))
        return agent

    def _made(self, kind: type) -> Any:  # noqa: ANN401
        agent: Any = object.__new__(kind)
        object.__setattr__(agent, "id", self.id)
        return agent

    def _state(self) -> Any:  # noqa: ANN401
        state = self.kind.state
        return state.load(self.committed) if self.committed else state.start(self.args or b"")


class Activations:
    """All activations of this interpreter, by handle."""

    def __init__(self, max_activations: int) -> None:
        """Begin with none."""
        self._max = max_activations
        self.crowd = max_activations // 2  # from here on the order of use is kept
        self.held: dict[int, Activation] = {}
        self._leaving: dict[tuple[int, int], Activation] = {}
        self.turn = 0
        self.get = self.held.get

    def __len__(self) -> int:
        """Count those held."""
        return len(self.held)

    def put(self, handle: int, activation: Activation) -> None:
        """Hold a new one, in place of an older epoch; evicts others above the limit."""
        self.remove(handle)
        self.held[handle] = activation
        if len(self.held) > self._max:
            self._evict()

    def use(self, handle: int, activation: Activation) -> None:
        """Take note that it was used just now; called where eviction comes near."""
        self.held.pop(handle)
        self.held[handle] = activation

    def remove(self, handle: int) -> Activation | None:
        """Let go of one; what still runs of it is remembered until it has ended."""
        activation = self.held.pop(handle, None)
        if activation is not None and activation.running:
            activation.leaving = LEAVING
            self._leaving[handle, activation.epoch] = activation
        return activation

    def leaving(self, handle: int, epoch: int) -> Activation | None:
        """Find one that was let go of, but of which something still runs."""
        return self._leaving.get((handle, epoch))

    def forget(self, handle: int, epoch: int) -> None:
        """Nothing of it runs any more."""
        self._leaving.pop((handle, epoch), None)

    def _evict(self) -> None:
        # In the order of their last use, the newest being the last; what runs stays.
        idle = (handle for handle, held in self.held.items() if not held.running)
        count = min(len(self.held) // EVICTED_SHARE + 1, len(self.held) - 1)
        for handle in list(itertools.islice(idle, count)):
            del self.held[handle]
