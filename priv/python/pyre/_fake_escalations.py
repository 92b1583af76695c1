"""The people that an agent under test asks: `pyre.testing`'s part of escalations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pyre import _body, _wire
from pyre._convert import dump

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from pyre._handlers import AgentClass

__all__ = ["Escalation", "Expiry", "People", "is_failure"]

FAILURE_OPTIONS = ["retry", "discard"]


@dataclass(slots=True)
class Escalation:
    """What the agent asked, and, once it is decided, what became of it."""

    id: int
    question: str
    options: list[str] | None
    data: Any
    assignee: str | None
    default: str | None
    then: str | None
    kind: str = "question"
    outcome: str | None = None
    answer: str | None = None
    by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has decided it."""
        return self.outcome is None


class Expiry(NamedTuple):
    """The instant at which an escalation expires."""

    due: float
    order: int
    id: int


class _Row(NamedTuple):
    asked: Escalation
    message: int
    place: bytes
    data: bytes


class People:
    """Holds the escalations of one agent."""

    def __init__(self, today: Callable[[], dt.datetime]) -> None:
        """Begin with none; `today` tells what time it is."""
        self._today = today
        self._ids = itertools.count(1)
        self._rows: dict[int, _Row] = {}
        self._refs: dict[int, int] = {}
        self.expiries: list[Expiry] = []
        # Decides at once, where the test gave one.
        self.decide_with: Callable[[Escalation], str | None] | None = None

    @property
    def asked(self) -> list[Escalation]:
        """All of them, the oldest first."""
        return [row.asked for row in self._rows.values()]

    def open(  # noqa: PLR0913, PLR0917  # what an escalation is made of
        self, message: int, place: bytes, then: bytes | None, body: bytes, timeout_ms: int, now: float
    ) -> Escalation:
        """Open one, unless its message has done so before."""
        for row in self._rows.values():
            # A hook, which has no id, finds what is open.
            if (row.message, row.place) == (message, place) and (message or row.asked.is_open):
                return row.asked
        told = _body.unpack(body)
        number = next(self._ids)
        asked = Escalation(
            id=number,
            question=told["question"],
            options=told["options"],
            data=_body.unpack(told["data"]),
            assignee=told["assignee"],
            default=told["default"],
            then=None if then is None else then.decode(),
        )
        self._rows[number] = _Row(asked, message, place, told["data"])
        if timeout_ms:
            self.expiries.append(Expiry(now + timeout_ms / 1000, number, number))
        return asked

    def failed(self, message: int, question: str) -> Escalation:
        """Open one for a message that used its attempts up."""
        number = next(self._ids)
        asked = Escalation(number, question, list(FAILURE_OPTIONS), None, None, None, None, kind="failure")
        self._rows[number] = _Row(asked, message, b"", _body.pack(None))
        return asked

    def decide(self, number: int, outcome: str, answer: str | None, by: str | None) -> Escalation:
        """Decide an open one; a test that decides what it may not is wrong."""
        asked = self._rows[number].asked
        if not asked.is_open:
            raise ValueError(f"escalation {number} is {asked.outcome} already, with {asked.answer!r} by {asked.by!r}")
        if outcome == "answered" and asked.options is not None and answer not in asked.options:
            raise ValueError(f"expected the answer to be one of {asked.options}, got {answer!r}")
        if outcome == "answered" and not (isinstance(answer, str) and answer):
            raise ValueError(f"expected the answer to be a text that is not empty, got {answer!r}")
        asked.outcome, asked.answer, asked.by = outcome, answer, by
        self.expiries = [expiry for expiry in self.expiries if expiry.id != number]
        return asked

    def default_of(self, number: int) -> str | None:
        """Tell what it is answered with when it expires."""
        return self._rows[number].asked.default

    def wait(self, number: int, ref: int) -> None:
        """Remember who waits for the answer."""
        self._refs[number] = ref

    def waiting(self, message: int) -> list[Escalation]:
        """Tell what a message waits for."""
        return [row.asked for row in self._rows.values() if row.message == message and row.asked.id in self._refs]

    def is_waited_for(self, number: int) -> bool:
        """Tell whether a handler waits for the answer."""
        return number in self._refs

    def ref_of(self, number: int) -> int | None:
        """Tell who waits for the answer, once."""
        return self._refs.pop(number, None)

    def close(self, message: int) -> None:
        """Close what a message waited for that has ended."""
        for row in self._rows.values():
            if row.message == message and row.asked.then is None and row.asked.is_open and row.asked.kind == "question":
                self._refs.pop(row.asked.id, None)
                self.decide(row.asked.id, "closed", None, None)

    def answer_body(self, asked: Escalation) -> bytes:
        """Word a decision for the handler that waits."""
        return _body.pack(dump(self._told(asked)))

    def continuation(self, asked: Escalation, kind: AgentClass) -> bytes:
        """Word a decision for the handler named in `then`: of what it names."""
        told = {**self._told(asked), "question": asked.question, "data": _body.unpack(self._rows[asked.id].data)}
        spec = kind.handlers[(asked.then or "").encode()]
        taken = {name: value for name, value in told.items() if spec.is_open or name in {p.name for p in spec.params}}
        return _body.pack(dump(taken))

    def _told(self, asked: Escalation) -> dict[str, Any]:
        return {
            "escalation": asked.id,
            "outcome": asked.outcome,
            "answer": asked.answer,
            "by": asked.by,
            "at": self._today(),
        }


def is_failure(effects: Any) -> bool:  # noqa: ANN401
    """Tell whether a message that failed waits for a person, and not for its next attempt."""
    return bool(effects) and tuple(effects[0]) == (_wire.EFFECT_FAILURE,)
