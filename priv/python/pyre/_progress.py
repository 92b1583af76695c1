"""How far a handler is: told to the BEAM often enough to be looked at, however often the handler tells it.

The first report of a message is sent at once, then the latest one each `PERIOD_SECONDS`, and the last one before the
message's answer. So a handler may report in its innermost loop.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from pyre import _wire, errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyre._message import Message

__all__ = ["MAX_TEXT", "PERIOD_SECONDS", "Reported", "Reporter", "Reports", "checked"]

PERIOD_SECONDS: Final = 0.05
MAX_TEXT: Final = 1_000
# The wire has no floats.
WHOLE: Final = 1_000_000


class Reported:
    """What `ctx.progress` gives: it has taken effect, whether it is awaited or not."""

    __slots__ = ("_turn",)

    def __init__(self, *, turn: bool) -> None:
        """Tell whether awaiting it lets others have a turn."""
        self._turn = turn

    def __await__(self) -> Generator[Any, None, None]:
        """Let the loop write, where a report has just been sent: a handler that only computes would keep it."""
        if self._turn:
            yield

    def wait(self) -> None:
        """Do nothing: so it reads as other requests do in a plain `def` handler."""


SENT = Reported(turn=True)
KEPT = Reported(turn=False)


class Reports(Protocol):
    """Where the reports of one message go."""

    def report(self, fraction: float | None, text: str) -> Reported:
        """Take one."""

    def flush(self) -> None:
        """Let the last one go before the message is answered."""


class Reporter:
    """The reports of one message. `report` is called from any thread, the rest on the loop's."""

    __slots__ = ("_latest", "_message", "_scheduled", "_sent_at", "_thread")

    def __init__(self, message: Message, thread: int) -> None:
        """Have nothing to report; `thread` is the loop's."""
        self._message = message
        self._thread = thread
        self._latest: tuple[Any, bytes] | None = None
        self._scheduled = False
        self._sent_at = -math.inf

    def report(self, fraction: float | None, text: str) -> Reported:
        """Report, now or soon."""
        # In this order: whoever sends looks at them the other way round, so that no report is left lying.
        self._latest = (_parts(fraction), text.encode("utf-8", "replace"))
        if self._scheduled:
            return KEPT
        self._scheduled = True
        if threading.get_ident() == self._thread:
            return self._plan()
        self._message.dispatcher.loop.call_soon_threadsafe(self._plan)
        return KEPT

    def _plan(self) -> Reported:
        loop = self._message.dispatcher.loop
        wait = self._sent_at + PERIOD_SECONDS - loop.time()
        if wait <= 0:
            self._due()
            return SENT
        loop.call_later(wait, self._due)
        return KEPT

    def _due(self) -> None:
        if not self._message.ended:
            self.flush()

    def flush(self) -> None:
        """Send what was reported last, unless it is sent already."""
        self._scheduled = False
        latest, self._latest = self._latest, None
        if latest is not None:
            message = self._message
            self._sent_at = message.dispatcher.loop.time()
            message.dispatcher.emit((_wire.OP_PROGRESS, message.number, *latest))


def checked(message: Message, fraction: float | None, text: str) -> tuple[float | None, str]:
    """Refuse what is no progress; a text that is too long is cut."""
    if message.ended:
        raise errors.StaleActivation(f"{message.name} has ended: it can't report progress any more")
    if fraction is not None and (isinstance(fraction, bool) or not isinstance(fraction, int | float)):
        raise TypeError(f"expected the fraction to be a number from 0 to 1, or None, got {fraction!r:.100}")
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"expected the fraction to be a number from 0 to 1, or None, got {fraction!r:.100}")
    if not isinstance(text, str):
        raise TypeError(f"expected the text to be a str, got {text!r:.100}")
    return fraction, text[:MAX_TEXT]


def _parts(fraction: float | None) -> Any:  # noqa: ANN401  # an integer, or the wire's nothing
    return [] if fraction is None else round(fraction * WHOLE)
