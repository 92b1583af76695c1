"""How long a call to a neighbour takes beside a handler's thread that computes for ever, by the switch interval."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import pytest

from wire_peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

MISBEHAVING = pathlib.Path(__file__).parents[2] / "test" / "fixtures" / "agents" / "misbehaving"


@pytest.fixture
def peer(tmp_path: pathlib.Path) -> Iterator[Peer]:
    peer = Peer(tmp_path)
    peer.hello(MISBEHAVING)
    peer.activate(1, "Neighbour")
    peer.activate(2, "CpuBoundThread")
    yield peer
    peer.end()


def test_call_alone(benchmark: BenchmarkFixture, peer: Peer) -> None:
    assert benchmark(peer.call, 1, "add").status == 0


@pytest.mark.parametrize("milliseconds", [5.0, 1.0, 0.5])
def test_call_beside_a_hog(benchmark: BenchmarkFixture, peer: Peer, milliseconds: float) -> None:
    peer.deliver(2, "go")
    assert peer.done(peer.run("sys", "setswitchinterval", [milliseconds / 1000])).status == 0
    assert benchmark(peer.call, 1, "add").status == 0
