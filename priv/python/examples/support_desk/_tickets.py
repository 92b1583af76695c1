"""The tickets: real ones, from a file. DATA.md says whose words they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Ticket", "read_tickets"]

FILE = Path(__file__).with_name("tickets.jsonl")


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket: its public number, what it is about, how urgent its upload was, and its text."""

    number: int
    product: str
    version: str
    urgency: str
    text: str


@cache
def read_tickets(path: Path = FILE) -> list[Ticket]:
    """Read all tickets, in the order in which they came in."""
    return [Ticket(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
