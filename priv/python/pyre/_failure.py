"""Error bodies: what went wrong, as the BEAM and the caller are told. None of it may fail, whatever the exception."""

from __future__ import annotations

import pathlib
import traceback
from typing import TYPE_CHECKING, Any

from pyre import _body, errors

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["PACKAGE", "clean", "cut", "failure_body", "own_body", "rejection_body", "traceback_text"]

MAX_TRACEBACK_CHARACTERS = 16 * 1024
MAX_MESSAGE_CHARACTERS = 4 * 1024
MAX_FRAMES = 40
PACKAGE = str(pathlib.Path(__file__).parent)


def own_body(error: errors.PyreError) -> bytes:
    """Word one of Pyre's own errors."""
    try:
        return _body.pack(errors.to_body(error))
    except errors.PyreError:
        return _body.pack({"kind": error.kind, "message": clean(error.message), "details": {}})


def failure_body(error: BaseException) -> bytes:
    """Word an exception of the user's code."""
    return _body.pack(
        {
            "type": _name(error),
            "message": _message(error),
            "traceback": traceback_text(error),
            "expected": False,
            "data": None,
        }
    )


def rejection_body(error: BaseException) -> bytes:
    """Word an expected refusal; what a Reject carries goes along where it can travel."""
    told = {"type": _name(error), "message": _message(error), "traceback": "", "expected": True}
    data = error.data if isinstance(error, errors.Reject) else None
    try:
        return _body.pack({**told, "data": data})
    except errors.PyreError as exc:
        return _body.pack({**told, "message": f"{told['message']} (its data can't travel: {exc})", "data": None})


def traceback_text(error: BaseException) -> str:
    """Format a traceback, bounded, without the runtime's own frames and without locals."""
    try:
        lines = traceback.format_exception(type(error), error, _users_part(error.__traceback__), limit=-MAX_FRAMES)
        text = "".join(lines)
    except BaseException:  # noqa: BLE001  # an exception's own methods may raise anything
        text = "".join(traceback.format_tb(_users_part(error.__traceback__), limit=-MAX_FRAMES)) + _name(error)
    return cut(clean(text), MAX_TRACEBACK_CHARACTERS)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    return trace


def _name(error: BaseException) -> str:
    return clean(type(error).__name__)


def _message(error: BaseException) -> str:
    try:
        text: Any = str(error)
    except BaseException as exc:  # noqa: BLE001  # __str__ is the user's
        text = f"<its __str__ raised {type(exc).__name__}>"
    return cut(clean(text), MAX_MESSAGE_CHARACTERS)


def clean(text: str) -> str:
    """Make a text that UTF-8 can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def cut(text: str, limit: int) -> str:
    """Cut the middle out of a text that is too long."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
