"""A committed state that another version of its class wrote, as this version's state."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pyre import _body, errors
from pyre._failure import traceback_text

if TYPE_CHECKING:
    from pyre._handlers import AgentClass
    from pyre.agent import Agent

__all__ = ["check_version", "migrate"]


def check_version(kind: type[Agent]) -> int:
    """Give the version of a class; raises TypeError for one that is none, or a `migrate` that can't be called."""
    version = kind.version
    if type(version) is not int or version < 1:
        raise TypeError(f"version must be an integer from 1 on, got {version!r:.100}")
    for base in kind.__mro__:
        if "migrate" in vars(base):
            if not isinstance(vars(base)["migrate"], staticmethod | classmethod):
                raise TypeError("migrate must be a @staticmethod or @classmethod: there is no agent yet")
            if inspect.iscoroutinefunction(kind.migrate):  # type: ignore[attr-defined]
                raise TypeError("migrate must be a plain function: it only turns one state into another")
            break
    return version


def migrate(kind: AgentClass, committed: bytes, version: int) -> Any:  # noqa: ANN401
    """Make a state of `committed`; raises Parked with the reason where that can't be done."""
    what = f"{kind.name} is at version {kind.version}, and the committed state was written by version {version}"
    function = getattr(kind.kind, "migrate", None)
    if version > kind.version:
        raise errors.Parked(f"{what}: older code can't run it")
    if function is None:
        raise errors.Parked(f"{what}: {kind.name} has no migrate(state, from_version)")
    try:
        fields = function(_body.unpack(committed), version)
    except Exception as exc:
        raise errors.Parked(f"{what}: migrate failed: {traceback_text(exc).strip()}") from exc
    if not isinstance(fields, dict):
        raise errors.Parked(f"{what}: migrate gave no dict of fields but {type(fields).__name__}")
    try:
        return kind.state.build(fields, "the migrated state")
    except errors.PyreError as exc:
        raise errors.Parked(f"{what}: {exc.message}") from exc
