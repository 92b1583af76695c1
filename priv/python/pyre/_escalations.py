"""What a handler asks a person: how it is worded for the BEAM, and the answer that comes back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pyre import _body, _wire, errors
from pyre._convert import pack

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable
    from typing import Self

    from pyre._handlers import HandlerSpec
    from pyre._message import Message
    from pyre._requests import Request

__all__ = ["TOLD", "Answer", "Question", "ask", "carry"]

MAX_QUESTION = 4_096
MAX_OPTIONS = 100
MAX_TEXT = 255
MAX_SECONDS = 10 * 366 * 86_400.0

# What a continuation can be told, each under its name.
TOLD = frozenset({"answer", "data", "outcome", "by", "at", "question", "escalation"})


class Answer(str):
    """A person's answer: a text, and who gave it when.

    `outcome` is "answered", or "expired" where it is the default. `by` is None then.
    """

    __slots__ = ("at", "by", "escalation", "outcome")

    at: dt.datetime
    by: str | None
    escalation: int
    outcome: str

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """Read a decision; raises Unanswered where it holds no answer."""
        told = _body.unpack(body)
        if told["answer"] is None:
            raise errors.Unanswered(_unanswered(told), told["outcome"], told["by"], told["escalation"])
        answer = cls(told["answer"])
        answer.at, answer.by = told["at"], told["by"]
        answer.escalation, answer.outcome = told["escalation"], told["outcome"]
        return answer


def _unanswered(told: dict[str, Any]) -> str:
    if told["outcome"] == "dismissed":
        return f"{told['by']} dismissed escalation {told['escalation']}"
    if told["outcome"] == "expired":
        return f"escalation {told['escalation']} expired before anybody answered"
    return f"escalation {told['escalation']} was closed"


class Question(NamedTuple):
    """What a person is asked."""

    text: str
    options: list[str] | None
    data: Any
    assignee: str | None
    timeout_ms: int
    default: str | None
    key: str | None

    @classmethod
    def checked(  # noqa: PLR0913, PLR0917  # as many as a question has
        cls,
        text: str,
        options: Iterable[str] | None,
        data: Any,  # noqa: ANN401
        assignee: str | None,
        timeout: float | None,
        default: str | None,
        key: str | None,
    ) -> Self:
        """Refuse what nobody could answer, where it is asked."""
        _text("the question", text, MAX_QUESTION)
        for name, value in (("assignee", assignee), ("key", key), ("default", default)):
            if value is not None:
                _text(name, value, MAX_TEXT)
        chosen = None if options is None else _options(options)
        if default is not None and timeout is None:
            raise ValueError(f"default={default!r} is for an escalation that expires: give it a timeout=, too")
        if default is not None and chosen is not None and default not in chosen:
            raise ValueError(f"expected default to be one of the options {chosen}, got {default!r}")
        return cls(text, chosen, data, assignee, _milliseconds(timeout), default, key)

    def pack(self) -> bytes:
        """Word it for the BEAM, to which the data is bytes."""
        told = {
            "question": self.text,
            "options": self.options,
            "data": pack(self.data),
            "assignee": self.assignee,
            "default": self.default,
        }
        return _body.pack(told)


def ask(message: Message, question: Question) -> Request[Answer]:
    """Ask, and let the handler wait."""
    body = question.pack()
    envelope = (_wire.VERB_ESCALATE, b"", _place(message, question), body, question.timeout_ms)
    return message.request(envelope, Answer.from_body)


def carry(message: Message, question: Question, then: str) -> Request[None]:
    """Ask with the commit, and have the answer sent to a handler."""
    _check_continuation(message, then)
    effect = (_wire.EFFECT_ESCALATE, _place(message, question), then.encode(), question.pack(), question.timeout_ms)
    message.add_escalation(effect)
    return message.dispatcher.requests.settled(None)


# A message that is run again asks under the same name, and finds what it has asked. Not by its order alone: a run that
# takes another way would be given the answer to another question.
def _place(message: Message, question: Question) -> bytes:
    if question.key is not None:
        if not message.take_name(f"escalation {question.key}"):
            raise ValueError(f"key {question.key!r} names an escalation of this attempt already: give each its own")
        return f"key:{question.key}".encode()
    number = 1
    while not message.take_name(f"escalation {number} {question.text}"):
        number += 1
    return f"{number}:{question.text}".encode()


def _check_continuation(message: Message, then: str) -> None:
    handlers: dict[bytes, HandlerSpec] = message.activation.__pyre_class__.handlers
    spec = handlers.get(str(then).encode())
    if spec is None:
        known = ", ".join(sorted(spec.name for spec in handlers.values()))
        raise errors.UnknownHandler(f"then={then!r} is no handler of {message.class_name} (it has: {known})")
    missing = sorted(param.name for param in spec.params if param.required and param.name not in TOLD)
    if missing:
        told = ", ".join(sorted(TOLD))
        raise ValueError(f"{then} needs {', '.join(missing)}, but an answer brings only {told}: put it into data=")


def _options(options: Iterable[str]) -> list[str]:
    chosen = list(options)
    if isinstance(options, str) or not 1 <= len(chosen) <= MAX_OPTIONS:
        raise ValueError(f"expected options to be a list of 1 to {MAX_OPTIONS} texts, got {options!r:.100}")
    for option in chosen:
        _text("an option", option, MAX_TEXT)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"expected the options to differ, got {chosen!r:.200}")
    return chosen


def _text(name: str, value: object, most: int) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise ValueError(f"expected {name} to be a text of 1 to {most} characters, got {value!r:.100}")


def _milliseconds(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if not (math.isfinite(timeout) and 0 < timeout <= MAX_SECONDS):
        raise ValueError(f"expected timeout to be more than 0 and at most {MAX_SECONDS:.0f} seconds, got {timeout!r}")
    return math.ceil(timeout * 1000)
