"""Plain asyncio on uvloop; the harness takes the loop that the adapter names."""

from __future__ import annotations

import uvloop
from adapters import on_asyncio


class Adapter(on_asyncio.Adapter):
    """The same tasks."""

    new_loop = staticmethod(uvloop.new_event_loop)
