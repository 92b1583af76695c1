"""Plays the BEAM: starts a real interpreter and speaks the protocol with it over pipes."""

from __future__ import annotations

import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from pyre import _body, _frames, _wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PACKAGE", "LogServer", "Peer", "eventually"]

PACKAGE = pathlib.Path(__file__).parents[2] / "priv" / "python"
DEADLINE_SECONDS = 10.0


class Peer:
    """One interpreter, and the BEAM's side of its pipes."""

    def __init__(self, folder: pathlib.Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it; `folder` gets the recorder and what it writes to its standard error."""
        self.recorder = folder / "recorder"
        self.recorder.write_bytes(bytes(4096))
        self.errors = folder / "stderr"
        self._framer = _frames.Framer()
        self._received: list[tuple[Any, ...]] = []
        self._number = 0
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-u", str(PACKAGE / "pyre" / "__main__.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("PYRE_")},
                    "PYTHONPATH": str(PACKAGE),
                    "PYTHONSAFEPATH": "1",
                    "PYRE_RECORDER": str(self.recorder),
                    **(environment or {}),
                },
            )

    # --- Bytes ---

    def send(self, *envelopes: tuple[Any, ...]) -> None:
        """Send one frame."""
        self.send_bytes(b"".join(_frames.pack(list(envelopes))))

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def close_input(self) -> None:
        """Be gone, as far as the interpreter can tell."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def receive(self, wanted: Callable[[tuple[Any, ...]], bool]) -> tuple[Any, ...]:
        """Wait for an envelope; others are kept for later."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            for index, envelope in enumerate(self._received):
                if wanted(envelope):
                    return self._received.pop(index)
            self._read(deadline)

    def _read(self, deadline: float) -> None:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(descriptor, 1 << 20) if ready else b""
        if not data:
            what = "ended" if ready else "didn't answer"
            raise AssertionError(f"the interpreter {what}; its stderr:\n{self.errors.read_text()}")
        for payload in self._framer.feed(data):
            self._received += _frames.unpack(payload)

    # --- The protocol ---

    def greet(self, *agents: pathlib.Path | str, version: int = _wire.VERSION, **config: Any) -> None:
        """Send HELLO."""
        body = _body.pack({"agents": [str(folder) for folder in agents], **config})
        self.send((_wire.OP_HELLO, version, 0, time.monotonic_ns() // 1_000_000, body))

    def hello(self, *agents: pathlib.Path | str, **config: Any) -> dict[str, Any]:
        """Greet it; gives READY's info."""
        self.greet(*agents, **config)
        ready = self.receive(lambda e: e[0] == _wire.OP_READY)
        assert ready[1] == _wire.VERSION
        assert ready[3] == self.process.pid
        info: dict[str, Any] = _body.unpack(ready[4])
        return info

    def activate(
        self, handle: int, name: str, state: bytes = b"", args: Mapping[str, Any] | None = None, *, epoch: int = 1
    ) -> None:
        """Send ACTIVATE."""
        body = _body.pack(dict(args or {}))
        self.send((_wire.OP_ACTIVATE, handle, epoch, name.encode(), f"agent-{handle}".encode(), state, body, 0))

    def deliver(  # noqa: PLR0913  # what a DELIVER has
        self,
        handle: int,
        handler: str,
        args: Mapping[str, Any] | None = None,
        *,
        epoch: int = 1,
        kind: int = 0,
        deadline_ms: int = 0,
    ) -> int:
        """Send DELIVER; gives its number."""
        self._number += 1
        body = _body.pack(dict(args or {}))
        self.send(
            (_wire.OP_DELIVER, self._number, handle, epoch, kind, handler.encode(), body, deadline_ms, self._number)
        )
        return self._number

    def run(self, module: str, function: str, args: list[Any] | dict[str, Any]) -> int:
        """Send RUN; gives its number."""
        self._number += 1
        self.send((_wire.OP_RUN, self._number, module.encode(), function.encode(), _body.pack(args), 0))
        return self._number

    def done(self, number: int) -> Done:
        """Wait for the answer to a message."""
        envelope = self.receive(lambda e: e[0] == _wire.OP_DONE and e[1] == number)
        return Done(*envelope[2:])

    def call(self, handle: int, handler: str, args: Mapping[str, Any] | None = None, **options: Any) -> Done:
        """Deliver, and wait for the answer."""
        return self.done(self.deliver(handle, handler, args, **options))

    def cancel(self, number: int) -> None:
        """Send CANCEL."""
        self.send((_wire.OP_CANCEL, number))

    def request(self) -> tuple[Any, ...]:
        """Wait for a REQUEST."""
        return self.receive(lambda e: e[0] == _wire.OP_REQUEST)

    def answer(self, request: tuple[Any, ...], value: Any = None) -> None:
        """Answer a REQUEST with a value."""
        self.send((_wire.OP_RESULT, request[2], _wire.RESULT_DONE, _body.pack(value)))

    def words(self) -> tuple[int, ...]:
        """Read the flight recorder."""
        return struct.unpack("<512Q", self.recorder.read_bytes())

    def wait(self) -> int:
        """Wait for its end; gives the exit status."""
        return self.process.wait(DEADLINE_SECONDS)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Done:
    """What a DONE says."""

    def __init__(self, status: int, body: bytes, state: Any, effects: Any) -> None:
        """Unpack the bodies."""
        self.status = status
        self.body: Any = _body.unpack(body) if body else None
        self.state_bytes = state
        self.state: Any = _body.unpack(state) if state else None
        self.effects = effects

    def __repr__(self) -> str:
        """Show all of it, for a failed assertion."""
        return f"Done({self.status}, {self.body!r}, {self.state!r}, {self.effects!r})"


class LogServer:
    """The BEAM's log socket: collects raw output and records of all connections."""

    def __init__(self, path: pathlib.Path) -> None:
        """Listen."""
        self.path = path
        self.output = b""
        self.records: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, holds: Callable[[LogServer], Any]) -> Any:
        """Wait until something is true of what came in."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self), DEADLINE_SECONDS), (self.output, self.records)
            return holds(self)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            kind = stream.read(1)
            while data := self._next(kind, stream):
                with self._changed:
                    if kind == b"o":
                        self.output += data
                    else:
                        self.records.append(_body.unpack(data))
                    self._changed.notify_all()

    @staticmethod
    def _next(kind: bytes, stream: Any) -> bytes:
        if kind == b"o":
            data: bytes = stream.read1(65536)
            return data
        prefix = stream.read(4)
        record: bytes = stream.read(struct.unpack(">I", prefix)[0]) if len(prefix) == 4 else b""
        return record


def eventually(holds: Callable[[], Any]) -> None:
    """Look at a file until it shows what is expected; nothing announces a change in it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
