"""Pyre: supervised, stateful agents. What agents import stands here; nothing runs on import."""

from __future__ import annotations

from pyre import errors
from pyre._tools import Tool
from pyre.agent import Address, Agent, cron, every, handler, on, resource
from pyre.context import Context
from pyre.errors import Reject
from pyre.retry import Retry

__all__ = [
    "Address",
    "Agent",
    "Context",
    "Reject",
    "Retry",
    "Tool",
    "cron",
    "errors",
    "every",
    "handler",
    "on",
    "resource",
]
