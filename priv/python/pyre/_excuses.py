"""What the interpreter may do for longer than a handler may: import, collect garbage, open and close resources, start.

While it does, a word of the flight recorder says since when, and the BEAM's stall clock stands still. Several excuses
may hold at once; each is noted under its reason, so that the end of one doesn't end another.
"""

from __future__ import annotations

import gc
import sys
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pyre._recorder import WORDS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import FrameType

__all__ = ["Excused", "Excuses"]

OLDEST_GENERATION = 2
IMPORTLIB = "<frozen importlib"


class Excuses:
    """The excuses that hold now; any thread may note one."""

    def __init__(self, words: memoryview) -> None:
        """Begin with none."""
        self._words = words
        self._since: dict[str, int] = {}
        self._main = threading.main_thread().ident or 0

    def watch(self) -> None:
        """Notice imports and collections from now on; once in a process."""
        sys.meta_path.insert(0, _Finder(self, self._main))
        gc.callbacks.append(self._collecting)

    def begin(self, reason: str) -> None:
        """Note an excuse; of the same reason twice, the first instant counts."""
        self._since.setdefault(reason, monotonic_ns())
        self._tell()

    def end(self, reason: str) -> None:
        """Strike one out."""
        if self._since.pop(reason, None) is not None:
            self._tell()

    def look(self) -> None:
        """Strike the import out when it is over, which nothing announces; the watchdog calls this at each beat."""
        if "import" in self._since and not _is_importing(sys._current_frames().get(self._main)):  # noqa: SLF001
            self.end("import")

    def _tell(self) -> None:
        # Whoever wrote last has looked again since, so that the word is right whatever the threads' order.
        while self._words[WORDS.EXCUSED] != (first := min(self._since.values(), default=0)):
            self._words[WORDS.EXCUSED] = first

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == OLDEST_GENERATION:
            if phase == "start":
                self.begin("collection")
            else:
                self.end("collection")


class Excused:
    """A coroutine around another one, each step of which is excused; what it waits for meanwhile isn't."""

    def __init__(self, excuses: Excuses, inner: Coroutine[Any, Any, Any]) -> None:
        """Run nothing yet."""
        self._excuses = excuses
        self._inner = inner

    def send(self, value: Any) -> Any:  # noqa: ANN401
        """Run one step."""
        self._excuses.begin("resource")
        try:
            return self._inner.send(value)
        finally:
            self._excuses.end("resource")

    def throw(self, *exception: Any) -> Any:  # noqa: ANN401
        """Raise inside, such as a cancellation."""
        self._excuses.begin("resource")
        try:
            return self._inner.throw(*exception)
        finally:
            self._excuses.end("resource")

    def close(self) -> None:
        """End it."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the steps as part of another coroutine."""
        return self

    def __iter__(self) -> Excused:
        """Be what `await` goes through."""
        return self

    def __next__(self) -> Any:  # noqa: ANN401
        """Run one step."""
        return self.send(None)


class _Finder:
    """Finds no module: it only notices that one is looked for, which is how each import of a new module begins."""

    def __init__(self, excuses: Excuses, main: int) -> None:
        self._excuses = excuses
        self._main = main

    def find_spec(self, _name: str, _path: Any = None, _target: Any = None) -> None:  # noqa: ANN401
        # An import in another thread stops nobody but that thread.
        if threading.get_ident() == self._main:
            self._excuses.begin("import")


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORTLIB):
            return True
        frame = frame.f_back
    return False
