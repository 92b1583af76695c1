# ruff: noqa: N818  each class is named after its kind, which has no "Error" in it
"""The errors of Pyre.

    Exception
    ├── PyreError              what Pyre itself, or another agent, answered
    │   ├── InvalidArgs        invalid_args: the arguments don't fit the handler
    │   ├── InvalidId          invalid_id: not 1 to 255 bytes of UTF-8
    │   ├── UnknownHandler     unknown_handler
    │   ├── UnknownClass       unknown_class
    │   ├── EncodeError        encode: a value that cannot travel
    │   │   └── TooLarge       too_large: more bytes than the limit
    │   ├── NotFound           not_found: no agent has this id
    │   ├── AlreadyStarted     already_started: an agent has this id already
    │   ├── Stopped            stopped: the agent was stopped first
    │   ├── Terminated         terminated: it used its restarts up
    │   ├── Parked             parked: it waits for a person
    │   ├── Overloaded         overloaded: its mailbox is full
    │   ├── RateLimited        rate_limited
    │   ├── BudgetExhausted    budget_exhausted
    │   ├── Stopping           stopping: the instance is going down
    │   ├── WorkerStart        worker_start: no interpreter could be started
    │   ├── NotReady           not_ready: no interpreter is up yet
    │   ├── Deadline           deadline: expired in the queue, not begun
    │   ├── CallTimeout        timeout: begun, not finished in time
    │   ├── WorkerDown         worker_down: its interpreter died
    │   ├── AgentDown          agent_down: its BEAM process died
    │   ├── Restarted          restarted: restarted by its group
    │   ├── Cancelled          cancelled: somebody cancelled the message
    │   ├── Deadlock           deadlock: the call would have closed a cycle
    │   ├── StaleActivation    stale_activation: the agent runs elsewhere by now
    │   ├── DecodeError        decode: bytes that are no MessagePack of ours
    │   ├── ProtocolError      protocol: a fault of Pyre, to report
    │   ├── InternalError      internal: a fault of Pyre, to report
    │   └── RemoteError        another agent's handler raised
    │       └── ToolError      a tool of the BEAM's failed
    ├── Unanswered             nobody answered what was escalated: it expired, or was dismissed
    ├── Reject                 raise it to refuse a message on purpose
    └── ReadOnly               state was assigned where it is read-only

The kinds are the same as in Elixir's `Pyre.Error`.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "KINDS",
    "AgentDown",
    "AlreadyStarted",
    "BudgetExhausted",
    "CallTimeout",
    "Cancelled",
    "Deadline",
    "Deadlock",
    "DecodeError",
    "EncodeError",
    "InternalError",
    "InvalidArgs",
    "InvalidId",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Parked",
    "ProtocolError",
    "PyreError",
    "RateLimited",
    "ReadOnly",
    "Reject",
    "RemoteError",
    "Restarted",
    "StaleActivation",
    "Stopped",
    "Stopping",
    "Terminated",
    "TooLarge",
    "ToolError",
    "Unanswered",
    "UnknownClass",
    "UnknownHandler",
    "WorkerDown",
    "WorkerStart",
    "from_body",
    "to_body",
]


class PyreError(Exception):
    """What all errors of Pyre's own share.

    `kind` is one of `KINDS`, `message` says what happened and what to do, and
    `details` holds the numbers behind it. `retryable` is true where sending
    the same message again can neither do the work twice nor is sure to fail.
    """

    kind: str = "internal"

    _always_retryable: ClassVar[bool] = False
    _retryable_unless_begun: ClassVar[bool] = False
    _retryable_if_idempotent: ClassVar[bool] = False

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        """Keep what happened, and the numbers behind it."""
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = {} if details is None else details

    @property
    def retryable(self) -> bool:
        """Whether the same message may be sent again."""
        if self._always_retryable:
            return True
        if self._retryable_unless_begun and self.details.get("begun") is False:
            return True
        return self._retryable_if_idempotent and self.details.get("idempotent") is True


class _Later(PyreError):
    """Not begun, and a later attempt may succeed."""

    _always_retryable = True


class _Lost(PyreError):
    """Retryable where the work had not begun, or does no harm when repeated."""

    _retryable_unless_begun = True
    _retryable_if_idempotent = True


class InvalidArgs(PyreError):
    """The arguments don't fit the handler; none of its code ran."""

    kind = "invalid_args"


class InvalidId(PyreError):
    """An agent's id is 1 to 255 bytes of UTF-8."""

    kind = "invalid_id"


class UnknownHandler(PyreError):
    """The agent's class has no such handler."""

    kind = "unknown_handler"


class UnknownClass(PyreError):
    """No agent class of this name was found."""

    kind = "unknown_class"


class EncodeError(PyreError):
    """A value cannot travel; `details["path"]` says where it stands."""

    kind = "encode"

    def __init__(self, message: str, path: str = "", details: dict[str, Any] | None = None) -> None:
        """Keep the place of the value, as in `["orders"][3]["price"]`."""
        super().__init__(message, {"path": path} if details is None else details)

    @property
    def path(self) -> str:
        """Where inside the value the trouble is; empty for the value itself."""
        return str(self.details.get("path", ""))


class TooLarge(EncodeError):
    """More bytes than the limit; `details` has `size` and `limit`."""

    kind = "too_large"


class NotFound(PyreError):
    """No agent has this id."""

    kind = "not_found"


class AlreadyStarted(PyreError):
    """An agent has this id already."""

    kind = "already_started"


class Stopped(PyreError):
    """The agent was stopped before it came to the message."""

    kind = "stopped"


class Terminated(PyreError):
    """The agent used its restarts up; a person has to start it again."""

    kind = "terminated"


class Parked(PyreError):
    """The agent waits for a person; its mailbox is kept."""

    kind = "parked"


class Overloaded(_Later):
    """The agent's mailbox is full; see `details["retry_after_ms"]`."""

    kind = "overloaded"


class RateLimited(_Later):
    """More messages than the limit allows."""

    kind = "rate_limited"


class BudgetExhausted(_Later):
    """The agent has spent its budget."""

    kind = "budget_exhausted"


class Stopping(_Later):
    """The instance is going down."""

    kind = "stopping"


class WorkerStart(_Later):
    """No interpreter could be started."""

    kind = "worker_start"


class NotReady(_Later):
    """No interpreter is up yet."""

    kind = "not_ready"


class Deadline(_Later):
    """The message expired in the queue; it was not begun."""

    kind = "deadline"


class CallTimeout(PyreError):
    """The handler did not finish in time; it has been cancelled.

    `details["committed"]` says whether its state was committed: true, false or
    "unknown".
    """

    kind = "timeout"
    _retryable_if_idempotent = True


class WorkerDown(_Lost):
    """The interpreter died; `details["begun"]` says if the message had begun."""

    kind = "worker_down"


class AgentDown(_Lost):
    """The agent's BEAM process died."""

    kind = "agent_down"


class Restarted(_Lost):
    """The agent was restarted together with its group."""

    kind = "restarted"


class Cancelled(PyreError):
    """Somebody cancelled the message. Not asyncio's `CancelledError`."""

    kind = "cancelled"


class Deadlock(PyreError):
    """The call would wait for itself; `details["chain"]` has the ids."""

    kind = "deadlock"


class StaleActivation(PyreError):
    """The activation was replaced: its agent runs elsewhere by now."""

    kind = "stale_activation"


class DecodeError(PyreError):
    """The bytes are no MessagePack, or beyond what a body may be."""

    kind = "decode"


class ProtocolError(PyreError):
    """The two sides of the wire disagree: a fault of Pyre, to report."""

    kind = "protocol"


class InternalError(PyreError):
    """A fault of Pyre, to report."""

    kind = "internal"


class RemoteError(PyreError):
    """Another agent's handler raised.

    `type` is the name of the exception's class over there, `traceback` its
    traceback as text. `expected` is true for a refusal on purpose, and `data`
    is what the `Reject` carried.
    """

    def __init__(
        self,
        type: str,  # noqa: A002  the word of the wire
        message: str = "",
        *,
        traceback: str = "",
        expected: bool = False,
        data: Any = None,  # noqa: ANN401
    ) -> None:
        """Keep what the other side told."""
        super().__init__(message)
        self.type = type
        self.traceback = traceback
        self.expected = expected
        self.data = data

    def __str__(self) -> str:
        """Word it as Python words an exception."""
        return f"{self.type}: {self.message}" if self.message else self.type


class ToolError(RemoteError):
    """A tool failed: what its code on the BEAM returned as an error, raised or exited with.

    `tool` is its name. `expected` is true for an error that it returned, `type` is the name of an exception's module
    over there, and `data` is the reason where that is no text.
    """

    def __init__(  # noqa: PLR0913  # as many as the wire has
        self,
        type: str,  # noqa: A002  the word of the wire
        message: str = "",
        *,
        tool: str = "",
        traceback: str = "",
        expected: bool = False,
        data: Any = None,  # noqa: ANN401
    ) -> None:
        """Keep what the other side told."""
        super().__init__(type, message, traceback=traceback, expected=expected, data=data)
        self.tool = tool

    def __str__(self) -> str:
        """Name the tool, too."""
        return f"tool {self.tool!r}: {super().__str__()}"


class Reject(Exception):
    """Refuse a message on purpose.

    The caller gets `message` and `data`, the state is rolled back, and the
    agent is not restarted.
    """

    def __init__(self, message: str, data: Any = None) -> None:  # noqa: ANN401
        """Keep what the caller is told."""
        super().__init__(message)
        self.message = message
        self.data = data


class Unanswered(Exception):
    """Nobody answered what a handler waited for.

    `outcome` is "expired" or "dismissed"; the latter by `by`.
    """

    def __init__(self, message: str, outcome: str, by: str | None, escalation: int) -> None:
        """Keep what became of it."""
        super().__init__(message)
        self.outcome = outcome
        self.by = by
        self.escalation = escalation


class ReadOnly(AttributeError):
    """State was assigned in a handler that only reads it.

    Interleaving handlers run beside others on a snapshot of the last commit.
    """


def _by_kind(base: type[PyreError]) -> dict[str, type[PyreError]]:
    classes = {}
    for cls in base.__subclasses__():
        if "kind" in vars(cls):
            classes[cls.kind] = cls
        classes.update(_by_kind(cls))
    return classes


_CLASSES = _by_kind(PyreError)

KINDS: frozenset[str] = frozenset(_CLASSES)


def from_body(body: object) -> PyreError:
    """Make the exception that a decoded error body stands for."""
    if isinstance(body, dict) and "kind" in body:
        return _own(body)
    if isinstance(body, dict) and "type" in body:
        return _remote(body)
    return InternalError(f"the other side sent an error that is none: {body!r:.200}")


def to_body(error: PyreError | Reject) -> dict[str, Any]:
    """Make the error body that stands for an exception."""
    if isinstance(error, RemoteError):
        body = {
            "type": error.type,
            "message": error.message,
            "traceback": error.traceback,
            "expected": error.expected,
            "data": error.data,
        }
        return {**body, "tool": error.tool} if isinstance(error, ToolError) else body
    if isinstance(error, Reject):
        return {
            "type": type(error).__name__,
            "message": str(error.message),
            "traceback": "",
            "expected": True,
            "data": error.data,
        }
    return {"kind": error.kind, "message": error.message, "details": error.details}


def _own(body: dict[Any, Any]) -> PyreError:
    kind, message = str(body["kind"]), str(body.get("message", ""))
    details = body.get("details")
    details = dict(details) if isinstance(details, dict) else {}
    cls = _CLASSES.get(kind)
    if cls is None:
        return InternalError(message, {**details, "kind": kind})
    if issubclass(cls, EncodeError):
        return cls(message, details=details)
    return cls(message, details)


def _remote(body: dict[Any, Any]) -> RemoteError:
    told: dict[str, Any] = {
        "type": str(body["type"]),
        "message": str(body.get("message", "")),
        "traceback": str(body.get("traceback", "")),
        "expected": body.get("expected") is True,
        "data": body.get("data"),
    }
    return ToolError(**told, tool=str(body["tool"])) if "tool" in body else RemoteError(**told)
