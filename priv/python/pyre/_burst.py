"""Casts of one agent that came together: they run one right after the other, and are answered together.

Most of what a cast costs is its way: an envelope here, an answer back. In a burst many share both. It lasts as long as
its casts run through in one step each. The first that does anything else (it waits, asks the BEAM, fails, has effects)
*parts* from it: what has ended is told, what has not begun goes back to the mailbox, and that one goes on alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyre import _wire
from pyre._body import unpack_own
from pyre._message import Message

if TYPE_CHECKING:
    from pyre._activations import Activation
    from pyre._dispatch import Dispatcher

__all__ = ["Burst"]

BURST_DONE = _wire.OP_BURST_DONE
SINCE = 3
# So long the messages of others wait for all bursts of a turn. From then on each has one more of its own.
MOST_NS = 2_000_000


class Burst:
    """What is left of a BURST, and what is to be told of it."""

    __slots__ = ("_activation", "_changes", "_dispatcher", "_ended", "_handle", "_number", "_rest", "_state")

    def __init__(
        self,
        dispatcher: Dispatcher,
        number: int,
        handle: int,
        activation: Activation,
        deliveries: bytes,
    ) -> None:
        """Begin with nothing ended; `number` is that of the first message."""
        self._dispatcher = dispatcher
        self._number = number
        self._handle = handle
        self._activation = activation
        self._rest: list[list[Any]] = unpack_own(deliveries)
        self._rest.reverse()
        self._ended = 0
        # The state that the last of them left, the empty list where none has changed it, and how many did.
        self._state: Any = []
        self._changes = 0

    def next(self) -> Message | None:
        """Make the next message; None where it can't run in a burst, or there is none."""
        if not self._rest:
            return None
        name, args, id_, attempt = self._rest[-1]
        activation = self._activation
        spec = activation.__pyre_class__.handlers.get(name)
        if spec is None or spec.options.interleave:
            return None
        self._rest.pop()
        number = self._number + self._ended
        message = Message(
            self._dispatcher, number, self._handle, activation, spec, args, 0, id_ if attempt == 1 else (id_, attempt)
        )
        message.burst = self
        activation.__pyre_running__ += 1
        self._dispatcher.running[number] = message
        return message

    def ended(self, message: Message, state: Any) -> Message | None:  # noqa: ANN401
        """Take note that one ended well; gives the next, or tells the BEAM where there is none."""
        message.burst = None
        self._ended += 1
        if state:
            self._state = state
            self._changes += 1
        dispatcher = self._dispatcher
        following = self.next() if dispatcher.words[SINCE] - dispatcher.turn_began_ns < MOST_NS else None
        if following is None:
            self._tell()
        return following

    def part(self, message: Message) -> None:
        """Let one go on alone."""
        message.burst = None
        self._tell()

    def _tell(self) -> None:
        back, self._rest = len(self._rest), []
        self._dispatcher.queue((BURST_DONE, self._number, self._ended, self._changes, self._state, back))
