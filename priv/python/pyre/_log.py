"""structlog and the standard library's logging become records on the log socket.

Handlers log from the loop and from threads, so sending never blocks: what the socket doesn't take waits in a bounded
buffer, and what doesn't fit there is dropped and counted. Without a socket the records are lines on standard error.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from pyre import _body, _wire, errors
from pyre._convert import dump
from pyre._failure import clean, cut, traceback_text
from pyre._message import CURRENT

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, MutableMapping

    from pyre._message import Message

__all__ = ["LEVELS", "Log", "install"]

BUFFER_BYTES = 1024 * 1024
MAX_EVENT_CHARACTERS = 8 * 1024
MAX_FIELD_CHARACTERS = 4 * 1024
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
SAME_LEVEL = {"warn": "warning", "exception": "error", "err": "error", "fatal": "critical", "msg": "info"}
LABELS = (("agent", str), ("class", str), ("handler", str), ("message", int))
ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Log:
    """The way of records to the BEAM; any thread may use it."""

    def __init__(self, connection: socket.socket | None) -> None:
        """Take a connection whose first byte is sent."""
        self._connection = connection
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._dropped = 0
        if connection is not None:
            connection.setblocking(False)  # noqa: FBT003
            # A child that was forked shares the connection, but not the lock that keeps frames whole.
            os.register_at_fork(after_in_child=self._leave)

    @property
    def lock(self) -> threading.Lock:
        """Held while a record is written: whoever holds it knows that no thread is in the middle of one."""
        return self._lock

    def send(self, record: dict[str, Any]) -> None:
        """Send one record, or keep it, or count it as dropped."""
        if self._connection is None:
            sys.stderr.write(_line(record))
            return
        frame = _frame(record)
        with self._lock:
            if len(self._pending) + len(frame) > BUFFER_BYTES:
                self._drain()
            if len(self._pending) + len(frame) > BUFFER_BYTES:
                self._dropped += 1
                return
            self._pending += frame
            self._drain()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it; the watchdog calls this at each beat."""
        if not self._pending:
            return
        with self._lock:
            self._drain()

    def _drain(self) -> None:
        try:
            while self._pending and self._connection is not None:
                del self._pending[: self._connection.send(self._pending)]
                if not self._pending and self._dropped:
                    self._pending += _frame({"type": "dropped", "count": self._dropped})
                    self._dropped = 0
        except BlockingIOError:
            return
        except OSError:
            self._connection = None

    def _leave(self) -> None:
        self._connection = None
        self._lock = threading.Lock()


def install(log: Log, level: str = "debug") -> None:
    """Send what structlog and logging are given to `log`; called once, before the agents are imported."""
    number = LEVELS.get(level, logging.DEBUG)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _Sender(log),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.root.addHandler(_Handler(log))
    logging.root.setLevel(number)


class _Sender:
    """The last of structlog's processors."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, _logger: Any, method: str, fields: MutableMapping[str, Any]) -> NoReturn:  # noqa: ANN401
        error = _error_of(fields.pop("exc_info", None))
        event = fields.pop("event", "")
        name = str(fields.pop("logger", ""))
        fields.pop("level", None)
        self._log.send(_record(SAME_LEVEL.get(method, method), event, name, fields, error))
        raise structlog.DropEvent


class _Handler(logging.Handler):
    """What the standard library's root logger sends to."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
            fields = {name: value for name, value in vars(record).items() if name not in ORDINARY}
            error = record.exc_info[1] if record.exc_info else None
            self._log.send(_record(_level_of(record.levelno), event, record.name, fields, error))
        except Exception:  # noqa: BLE001  # as logging does: a record that can't be sent breaks no handler
            self.handleError(record)


def _level_of(number: int) -> str:
    return next((name for name, least in reversed(LEVELS.items()) if number >= least), "debug")


def _error_of(value: Any) -> BaseException | None:  # noqa: ANN401
    if isinstance(value, BaseException):
        return value
    if isinstance(value, tuple):
        error: BaseException | None = value[1]
        return error
    return sys.exc_info()[1] if value else None


def _record(
    level: str, event: object, logger: str, fields: MutableMapping[str, Any], error: BaseException | None
) -> dict[str, Any]:
    message = CURRENT.get(None)
    return {
        "type": "log",
        "level": level if level in LEVELS else "info",
        "event": _text(event, MAX_EVENT_CHARACTERS),
        "logger": logger,
        **_labels(message, fields),
        "fields": {str(name): _field(value) for name, value in fields.items()},
        "exception": traceback_text(error) if error is not None else None,
    }


def _labels(message: Message | None, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    known: Mapping[str, Any] = message.labels() if message is not None else {}
    # A user's own field of the same name, as in message="hello", stays a field.
    return {name: fields.pop(name) if isinstance(fields.get(name), kind) else known.get(name) for name, kind in LABELS}


def _field(value: Any) -> Any:  # noqa: ANN401
    plain = value if isinstance(value, bool | int | float | str | None) else dump(value)
    if isinstance(plain, str):
        return _text(plain, MAX_FIELD_CHARACTERS)
    try:
        return plain if len(_body.pack(plain)) <= MAX_FIELD_CHARACTERS else _text(plain, MAX_FIELD_CHARACTERS)
    except errors.PyreError:
        return _text(plain, MAX_FIELD_CHARACTERS)


def _text(value: object, limit: int) -> str:
    try:
        return cut(clean(value if isinstance(value, str) else repr(value)), limit)
    except Exception as exc:  # noqa: BLE001  # __repr__ is the user's
        return f"<its __repr__ raised {type(exc).__name__}>"


def _frame(record: dict[str, Any]) -> bytes:
    data = _body.pack(record)
    if len(data) > _wire.MAX_RECORD_BYTES:
        fields = {"left_out": f"{len(record.get('fields', ()))} fields, too large together"}
        data = _body.pack({**record, "fields": fields})
    return struct.pack(">I", len(data)) + data


def _line(record: dict[str, Any]) -> str:
    told = " ".join(f"{name}={value!r}" for name, value in record.get("fields", {}).items())
    exception = record.get("exception")
    line = f"[{record.get('level', record['type'])}] {record.get('event', '')} {told}".rstrip()
    return f"{line}\n{exception}\n" if exception else f"{line}\n"
