"""Ray: an actor is a process on a local cluster, which is started for it."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from peer import Counter, Peer

# Read when Ray is imported: its processes listen on loopback, and tell nobody that they were started.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

STORE_BYTES = 200_000_000


class Adapter(Peer):
    """Actors that Ray restarts as often as they die."""

    asynchronous = True
    agents = 20
    memory_agents = 20

    async def start(self) -> None:
        """Start a cluster on loopback, without its dashboard."""
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        self.kind = ray.remote(num_cpus=0, max_restarts=-1)(Counter)

    async def spawn(self, count: int) -> list[Any]:
        """Start actors."""
        return [self.kind.remote() for _ in range(count)]

    async def call(self, agent: Any, method: str, argument: Any, _patience: float) -> Any:
        """Call; the harness bounds the time."""
        return await getattr(agent, method).remote(argument)

    async def cast(self, agent: Any, method: str, argument: Any) -> None:
        """Call, and drop what would give the reply."""
        getattr(agent, method).remote(argument)

    async def stop(self) -> None:
        """End the cluster."""
        await asyncio.to_thread(ray.shutdown)
