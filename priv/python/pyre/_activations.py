"""Agents' objects: made from the committed state when the first message comes, dropped, and counted.

An activation is the agent's own object: what the runtime keeps of it lies in slots of the object, under names that no
user's attribute has. There are tens of thousands of them in an interpreter, and an object beside each would cost as
much as a small state does.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from pyre._migration import migrate

if TYPE_CHECKING:
    from pyre._handlers import AgentClass

__all__ = ["UNMADE", "Activation", "Activations", "activate", "commit", "materialise", "snapshot"]

EVICTED_SHARE = 16  # one sixteenth at a time, so that not every new one evicts
UNMADE: Any = type("Unmade", (), {"__slots__": ()})()  # stands in `state` until the first message needs it


class Activation:
    """The runtime's part of an agent's object. It has no methods: every public name is the user's."""

    __slots__ = (
        "__pyre_committed__",
        "__pyre_epoch__",
        "__pyre_origin__",
        "__pyre_running__",
        "id",
        "state",
    )

    __pyre_class__: ClassVar[AgentClass]

    # A hash of the state's committed bytes, to tell whether a state has changed without keeping all its bytes; None
    # before the first commit. CPython's is keyed anew in each interpreter, so nobody can make two states collide.
    __pyre_committed__: int | None
    __pyre_epoch__: int
    # (committed bytes, start arguments, the version of the class that wrote them where it was another, else 0): what
    # the state is made from. None once it is made, unless the class has interleaving handlers, which need what was
    # committed last.
    __pyre_origin__: tuple[bytes, bytes, int] | None
    __pyre_running__: int
    id: str
    state: Any


def activate(  # noqa: PLR0913, PLR0917  # what ACTIVATE tells
    kind: AgentClass,
    epoch: int,
    id: str,  # noqa: A002
    committed: bytes,
    args: bytes,
    version: int,
) -> Activation:
    """Keep what the BEAM sent; no user code runs. `version` is that of the class that wrote `committed`."""
    migrates = bool(committed) and version not in {0, kind.version}
    activation: Activation = object.__new__(kind.kind)
    activation.id = id
    activation.state = UNMADE
    # A state that is to be migrated is one that is not written yet.
    activation.__pyre_committed__ = hash(committed) if committed and not migrates else None
    activation.__pyre_epoch__ = epoch
    activation.__pyre_origin__ = (committed, args, version if migrates else 0)
    activation.__pyre_running__ = 0
    return activation


def materialise(activation: Any) -> None:  # noqa: ANN401
    """Make the agent's state. Runs user code: State's validators and the class's __init__."""
    kind = activation.__pyre_class__
    activation.state = _state(activation)
    if type(activation).__init__ is not object.__init__:
        try:
            activation.__init__()
        except BaseException:
            activation.state = UNMADE
            raise
    if not kind.interleaves:
        activation.__pyre_origin__ = None


def snapshot(activation: Activation) -> Any:  # noqa: ANN401
    """Make a read-only object from what was committed last, for a handler that runs beside others."""
    kind = activation.__pyre_class__
    agent: Any = object.__new__(kind.snapshot_kind)
    object.__setattr__(agent, "id", activation.id)
    object.__setattr__(agent, "state", kind.state.freeze(_state(activation)))
    return agent


def commit(activation: Activation, data: bytes) -> None:
    """Take note of what is committed now."""
    activation.__pyre_committed__ = hash(data)
    if activation.__pyre_origin__ is not None:
        activation.__pyre_origin__ = (data, b"", 0)


def _state(activation: Activation) -> Any:  # noqa: ANN401
    kind = activation.__pyre_class__
    committed, args, version = activation.__pyre_origin__ or (b"", b"", 0)
    if version:
        return migrate(kind, committed, version)
    return kind.state.load(committed) if committed else kind.state.start(args)


class Activations:
    """All activations of this interpreter, by handle."""

    def __init__(self, max_activations: int) -> None:
        """Begin with none."""
        self._max = max_activations
        self.crowd = max_activations // 2  # from here on the order of use is kept
        self.held: dict[int, Activation] = {}
        # Let go of, but something of them still runs; and those of them whose DROP is to be confirmed at the end.
        self.leaving: dict[tuple[int, int], Activation] = {}
        self.dropped: set[tuple[int, int]] = set()
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
        if activation is not None and activation.__pyre_running__:
            self.leaving[handle, activation.__pyre_epoch__] = activation
        return activation

    def left(self, handle: int, activation: Activation) -> bool:
        """Forget one that was let go of when nothing of it runs any more; tells whether its DROP waits for that."""
        key = (handle, activation.__pyre_epoch__)
        if activation.__pyre_running__ or self.leaving.get(key) is not activation:
            return False
        del self.leaving[key]
        if key not in self.dropped:
            return False
        self.dropped.remove(key)
        return True

    def _evict(self) -> None:
        # In the order of their last use, the newest being the last; what runs stays.
        idle = (handle for handle, held in self.held.items() if not held.__pyre_running__)
        count = min(len(self.held) // EVICTED_SHARE + 1, len(self.held) - 1)
        for handle in list(itertools.islice(idle, count)):
            del self.held[handle]
