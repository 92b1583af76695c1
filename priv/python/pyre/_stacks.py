"""Leaves the Python stacks of all threads in a file: at SIGUSR2, and when the interpreter dies of a fault.

faulthandler writes from the signal handler, in C. So it works where the watchdog's thread can't run: while a C call
holds the GIL, while an import hangs before the first frame was read, and after a segmentation fault.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal

__all__ = ["VARIABLE", "register"]

VARIABLE = "PYRE_STACKS"


def register() -> None:
    """Take the file that the BEAM made; without one, do nothing."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:  # no stacks then; all else works without them
        return
    faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True, chain=False)
    faulthandler.enable(file=descriptor, all_threads=True)
    os.register_at_fork(after_in_child=lambda: _leave(descriptor))


def _leave(descriptor: int) -> None:
    """Write nothing any more: a forked child's stacks would be taken for the interpreter's."""
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.disable()
    with contextlib.suppress(OSError):
        os.close(descriptor)
