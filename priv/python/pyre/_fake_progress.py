"""Progress in `pyre.testing`: every report is kept, and none waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyre._progress import Reported

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyre._message import Message

__all__ = ["Progress", "recorder"]

REPORTED = Reported(turn=False)


class Progress(NamedTuple):
    """What a handler has reported with `ctx.progress`."""

    fraction: float | None
    text: str


class _Recorder:
    """Stands where the reporter of a message is in an interpreter."""

    __slots__ = ("_reports",)

    def __init__(self, reports: list[Progress]) -> None:
        self._reports = reports

    def report(self, fraction: float | None, text: str) -> Reported:
        """Keep the report."""
        self._reports.append(Progress(fraction, text))
        return REPORTED

    def flush(self) -> None:
        """Hold nothing back, so there is nothing to send."""


def recorder(reports: list[Progress]) -> Callable[[Message], _Recorder]:
    """Make what a dispatcher makes reporters with."""
    return lambda _message: _Recorder(reports)
