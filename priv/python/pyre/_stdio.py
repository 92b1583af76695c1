"""Takes the standard descriptors: what was 0 and 1 becomes the protocol, 1 and 2 become the log.

Called once, before any of the user's code is imported. From then on a `print`, a C library's `printf` and a child
process write to the log, and nothing but the loop can write into the protocol.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from typing import NamedTuple, TextIO

__all__ = ["Protocol", "connect_log", "flush", "take"]

PIPE_BYTES = 1024 * 1024
LOG_VARIABLE = "PYRE_LOG"
RAW_OUTPUT = b"o"


class Protocol(NamedTuple):
    """The two descriptors of the protocol."""

    input: int
    output: int


def take() -> Protocol:
    """Move the protocol away from 0 and 1, and point 0, 1 and 2 elsewhere."""
    protocol = Protocol(os.dup(0), os.dup(1))  # not inheritable (PEP 446), so no child keeps the pipes open
    os.register_at_fork(after_in_child=lambda: _close(protocol))
    for descriptor in protocol:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    _replace_input()
    _replace_output()
    return protocol


def connect_log(kind: bytes) -> socket.socket | None:
    """Connect to the BEAM's log socket, and say what will follow; None where there is none."""
    path = os.environ.get(LOG_VARIABLE)
    if not path:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        connection.sendall(kind)
    except OSError:
        connection.close()
        return None
    return connection


def flush() -> None:
    """Write out what Python still buffers; `os._exit` would lose it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _replace_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _replace_output() -> None:
    connection = connect_log(RAW_OUTPUT)
    if connection is None:
        os.dup2(2, 1)
    else:
        os.dup2(connection.fileno(), 1)
        os.dup2(connection.fileno(), 2)
        connection.close()
    # New text streams: the old ones remember what their descriptors could do before, such as seeking in a file.
    sys.stdout = _text(1)
    sys.stderr = _text(2)


def _text(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _close(protocol: Protocol) -> None:
    for descriptor in protocol:
        with contextlib.suppress(OSError):
            os.close(descriptor)
