"""One interpreter from its first frame to its last: set up, run, tear down."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import structlog

from pyre import _body, _log, _recorder, _stacks, _stdio, _wire
from pyre._codec import NAME as CODEC
from pyre._discovery import discover
from pyre._dispatch import Dispatcher
from pyre._etf import WireError
from pyre._excuses import Excuses
from pyre._loop import Link, new_loop
from pyre._memory import Memory
from pyre._pools import Place
from pyre._threads import MAX_THREADS
from pyre._watchdog import Watchdog
from pyre.errors import PyreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyre._discovery import Found
    from pyre._message import Message

__all__ = ["Worker"]

PACKAGES = ("msgpack", "structlog", "uvloop", "msgspec", "pydantic")
CLOSE_SECONDS = 1.0
STALL_WARNING_MS = 100
# How long a thread may compute before the loop gets the GIL back; CPython's own choice is 5 ms. Beside a thread that
# computes for ever a call takes, in the median and at the 99th percentile, 5.5 and 11 ms with 5 ms, 1.2 and 2.4 ms with
# 1 ms, 0.7 and 1.3 ms with 0.5 ms; alone it takes 0.1 ms (bench/python/test_hog_benchmark.py).
SWITCH_SECONDS = 0.001


class Worker:
    """The interpreter; used by `__main__` alone."""

    def __init__(self) -> None:
        """Take the descriptors before anything else is imported by anyone."""
        self._protocol = _stdio.take()
        _stacks.register()  # first, so that also an import that hangs leaves its stack
        self._link = Link(self._protocol.input, self._protocol.output, self.end)
        self._words = _recorder.map_file(os.environ[_recorder.VARIABLE])
        self._excuses = Excuses(self._words)
        self._excuses.begin("start")
        self._excuses.watch()
        self._memory = Memory(self._words)
        self._log = _log.Log(_stdio.connect_log(b"l"))
        self._watchdog = Watchdog(self._words, self._log, self._protocol.input, self._excuses)
        self._watchdog.start()
        self._loop, self._loop_name = new_loop()
        self._dispatcher: Dispatcher | None = None
        self._exit_status: int | None = None
        self._grace_seconds = 0.0

    def set_up(self) -> None:
        """Read HELLO, import the agents, write READY."""
        try:
            envelopes = self._link.first()
            if envelopes is None:
                self.end(_wire.EXIT_CLOSED, "")
                return
            self._greet(envelopes)
        except (WireError, PyreError, ValueError, IndexError) as exc:
            self.end(_wire.EXIT_PROTOCOL, f"protocol error: {exc}")

    def _greet(self, envelopes: list[tuple[Any, ...]]) -> None:
        hello = envelopes[0]
        if hello[0] != _wire.OP_HELLO:
            raise ValueError(f"expected HELLO first, got {hello!r:.100}")
        if hello[1] != _wire.VERSION:
            self._link.emit(_ready({}))
            self.end(_wire.EXIT_PROTOCOL, f"the BEAM speaks protocol {hello[1]}, this interpreter {_wire.VERSION}")
            return
        _op, _version, _number, now_ms, body = hello
        config: Mapping[str, Any] = _body.unpack(body)
        found = self._prepare(config)
        self._dispatcher = self._make_dispatcher(found, config)
        self._dispatcher.set_clock(now_ms)
        self._watchdog.idle = self._link.allocator.give_back
        self._watchdog.watch(self._loop, self._dispatcher, config.get("stall_warning_ms", STALL_WARNING_MS))
        _settle_memory()
        kind = {"loop": self._loop_name, "codec": CODEC}
        self._link.emit(_ready({**found.outline(), "packages": _packages(), **kind}))
        self._excuses.end("start")
        self._excuses.end("import")
        self._link.start(self._loop, self._dispatcher.take, self._dispatcher.begin)
        if envelopes[1:]:
            self._dispatcher.apply(envelopes[1:])

    def _prepare(self, config: Mapping[str, Any]) -> Found:
        _log.install(self._log, config.get("log_level", "debug"))
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_log_unhandled)
        # What handlers give to `asyncio.to_thread`: its own default has six threads on two cores.
        self._loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, "pyre-to-thread"))
        sys.setswitchinterval(SWITCH_SECONDS)
        if max_bytes := config.get("max_worker_rss_bytes"):
            self._memory.limit(max_bytes)
        return discover(config.get("agents", []), config.get("pinned", []), _place(config))

    def _make_dispatcher(self, found: Found, config: Mapping[str, Any]) -> Dispatcher:
        dispatcher = Dispatcher(self._loop, self._link.emit, self._words, found, config)
        dispatcher.queue = self._link.queue
        dispatcher.flush = self._link.flush
        dispatcher.on_stop = self._stop
        dispatcher.memory = self._memory
        dispatcher.threads.grows = self._memory.make_room
        dispatcher.resources.excuses = self._excuses
        dispatcher.threads.guard = self._log.lock
        dispatcher.note = dispatcher.threads.note = _note
        return dispatcher

    def run(self) -> None:
        """Run the loop until the protocol ends."""
        while self._exit_status is None:
            try:
                self._loop.run_forever()
            except BaseException:  # noqa: BLE001  # a SystemExit in somebody's task must not end all agents
                traceback.print_exc()

    def tear_down(self) -> int:
        """End what runs, close the resources, write what is left; gives the exit status."""
        self._watchdog.closing = True
        self._link.stop_reading()
        if self._dispatcher is not None and not self._loop.is_closed():
            with contextlib.suppress(Exception):
                closing = self._dispatcher.close(self._grace_seconds)
                self._loop.run_until_complete(asyncio.wait_for(closing, self._grace_seconds + 2 * CLOSE_SECONDS))
        self._link.finish()
        self._log.flush()
        _stdio.flush()
        return self._exit_status or 0

    def end(self, exit_status: int, reason: str) -> None:
        """Stop the loop; the first who says why is heard."""
        if self._exit_status is None:
            self._exit_status = exit_status
            if reason:
                sys.stderr.write(f"pyre: {reason}\n")
        self._loop.stop()

    def _stop(self, grace_ms: int) -> None:
        self._grace_seconds = grace_ms / 1000
        self.end(_wire.EXIT_CLOSED, "")


def _place(config: Mapping[str, Any]) -> Place | None:
    if "pool" not in config:
        return None
    return Place(config["pool"], tuple(config["pools"]), tuple(config["own"]))


def _ready(info: dict[str, Any]) -> tuple[Any, ...]:
    return (_wire.OP_READY, _wire.VERSION, platform.python_version().encode(), os.getpid(), _body.pack(info))


def _packages() -> dict[str, str]:
    # By the names of the folders that pip leaves. `importlib.metadata` reads files, and to import it alone takes 11 ms.
    found: dict[str, str] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder or "."):  # noqa: PTH208
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                if entry.endswith(".dist-info") and name in PACKAGES:
                    found.setdefault(name, version)
    return found


def _settle_memory() -> None:
    # What was imported stays for ever: out of the collector's sight. The oldest generation holds all activations, and
    # takes 109 ms with 300,000 of them; it is collected when the worker is idle, which is also when the garbage of the
    # imports goes (`Watchdog`).
    gc.freeze()
    first, second, _third = gc.get_threshold()
    gc.set_threshold(first, second, 1_000_000)
    gc.enable()


def _note(message: Message, event: str, error: BaseException | None = None) -> None:
    structlog.get_logger("pyre").warning(event, exc_info=error, **message.labels())


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    structlog.get_logger("pyre").error(context.get("message", "unhandled error"), exc_info=context.get("exception"))
