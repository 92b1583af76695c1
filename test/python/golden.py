"""Reads the golden frames of test/fixtures/wire."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyre._body import Ext

DIRECTORY = Path(__file__).parent.parent / "fixtures" / "wire"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Golden:
    """Bytes, and what they stand for."""

    name: str
    kind: str
    canonical: bool
    data: bytes
    term: Any

    def __str__(self) -> str:
        """Name the test."""
        return self.name


def goldens(kind: str) -> list[Golden]:
    """All golden frames of a kind."""
    found = [_read(path) for path in sorted(DIRECTORY.glob("*.json"))]
    return [golden for golden in found if golden.kind == kind]


def _read(path: Path) -> Golden:
    told = json.loads(path.read_text())
    data = path.with_suffix(".bin").read_bytes()
    return Golden(path.stem, told["kind"], told["canonical"], data, _term(told["term"]))


def _term(told: Any) -> Any:
    if isinstance(told, list):
        return [_term(item) for item in told]
    if isinstance(told, dict):
        ((tag, value),) = told.items()
        return _tagged(tag, value)
    return told


def _tagged(tag: str, value: Any) -> Any:
    if tag == "bin":
        return bytes.fromhex(value)
    if tag == "tuple":
        return tuple(_term(value))
    if tag == "map":
        return {_term(key): _term(item) for key, item in value}
    if tag == "ext":
        return Ext(value[0], bytes.fromhex(value[1]))
    assert tag == "timestamp"
    return EPOCH + dt.timedelta(seconds=value[0], microseconds=value[1])
