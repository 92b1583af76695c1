"""Makes the tickets of the support desk example, from the changelogs of Debian packages that are installed.

    python scripts/sample_tickets.py > priv/python/examples/support_desk/tickets.jsonl

A maintainer who closes a public bug report says in the package's changelog what it was about, and its number. These
sentences are the tickets. Only packages whose packaging has a short permissive licence are read; the example's
DATA.md names them. Of each source the latest PER_SOURCE are taken, in the order of their numbers, so the same packages
give the same file.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DOC = Path("/usr/share/doc")
SOURCES = {
    "xorg": "x11-common/changelog.gz",
    "openssh": "openssh-client/changelog.Debian.gz",
    "debconf": "debconf/changelog.gz",
    "tmux": "tmux/changelog.Debian.gz",
}
PER_SOURCE = 120
MAX_TEXT = 400

ENTRY = re.compile(r"^(\S+) \(([^)]+)\) .*urgency=(\w+)")
CLOSES = re.compile(r"closes:\s*(?:bug)?#?\s?\d+(?:,\s*#?\s?\d+)*", re.IGNORECASE)
CREDIT = re.compile(r"[.;,]?\s*\(?\b(thanks,? |thank you|patch (from|by) |reported by ).*$", re.IGNORECASE)
EMPTY = re.compile(r"[(\[]\s*[,;]?\s*[)\]]|\(?\bLP: #[\d, #]+\)?")


def items(path: Path) -> Iterator[tuple[str, str, str]]:
    """Read a changelog: of each item the version, the urgency of its upload, and the text on one line."""
    version = urgency = ""
    item: list[str] = []
    for line in [*gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines(), " --"]:
        entry = ENTRY.match(line)
        begins = re.match(r"\s+[*+-] ", line)
        if entry or begins or line.startswith(" --") or not line.strip():
            if item:
                yield version, urgency, " ".join(item)
            item = [line.strip()[2:]] if begins and not line.startswith(" --") else []
        elif item:
            item.append(line.strip())
        if entry:
            version, urgency = entry[2], entry[3].lower()


def tickets(product: str, path: Path) -> Iterator[dict[str, object]]:
    """Find what was closed; an item that closes several reports is a ticket under the first number."""
    for version, urgency, text in items(path):
        closed = CLOSES.search(text)
        number = re.search(r"\d+", closed[0]) if closed else None
        words = EMPTY.sub("", CREDIT.sub("", CLOSES.sub("", text)))
        words = re.sub(r"\s+([.,;)])", r"\1", " ".join(words.split())).rstrip(" (,;.")
        if number and len(words.split()) >= 5:  # noqa: PLR2004  # fewer words say nothing
            yield {
                "number": int(number[0]),
                "product": product,
                "version": version,
                "urgency": urgency,
                "text": words[:MAX_TEXT],
            }


def main() -> None:
    """Print one ticket a line, by number: as they came in."""
    found: dict[int, dict[str, object]] = {}
    for product, path in SOURCES.items():
        by_number = {ticket["number"]: ticket for ticket in tickets(product, DOC / path)}
        found.update(dict(sorted(by_number.items(), key=lambda pair: pair[0])[-PER_SOURCE:]))  # type: ignore[arg-type, return-value]
    for _number, ticket in sorted(found.items()):
        sys.stdout.write(json.dumps(ticket, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
