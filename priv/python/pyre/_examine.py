"""Examines a Python and directories of agents without a node: `.../pyre/__main__.py --examine FILE DIRECTORY...`.

What is found goes into FILE: agent files may print while they are imported.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import sys
from typing import TYPE_CHECKING, Any

from pyre import _body
from pyre._codec import NAME as CODEC
from pyre._discovery import discover
from pyre._loop import new_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["examine", "main"]

PACKAGES = ("msgpack", "structlog", "uvloop")


def examine(directories: Sequence[str]) -> dict[str, Any]:
    """Tell the version, the loop, the packages, and what the directories bring."""
    loop, kind = new_loop()
    loop.close()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "loop": kind,
        "codec": CODEC,
        "packages": {name: _version(name) for name in PACKAGES},
        **discover(directories).outline(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(file: str, *directories: str) -> int:
    """Write what is found into the file."""
    pathlib.Path(file).write_bytes(_body.pack(examine(directories)))
    return 0
