"""What the BEAM offers to agents: tools, as `ctx.tools` describes them."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyre import _body

__all__ = ["Tool", "read_tools"]


class Tool(NamedTuple):
    """A tool: its name, what it does, and its arguments as JSON Schema, as a language model is told of them."""

    name: str
    description: str
    schema: dict[str, Any]


def read_tools(body: bytes) -> list[Tool]:
    """Read the BEAM's answer."""
    return [Tool(**tool) for tool in _body.unpack(body)]
