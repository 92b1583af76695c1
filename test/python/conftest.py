"""Interpreters for the tests that drive real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wire_peer import LogServer, Peer

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Iterator[LogServer]:
    server = LogServer(tmp_path / "log")
    yield server
    server.close()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., Peer]]:
    peers = []

    def start(**environment: str) -> Peer:
        peers.append(Peer(tmp_path, environment))
        return peers[-1]

    yield start
    for peer in peers:
        peer.end()
