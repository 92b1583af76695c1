"""What a ticket is about, and how much it matters: what a classifier must offer, and the one of rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _tickets import Ticket

__all__ = ["ASK_FROM", "CATEGORIES", "OTHER", "Classifier", "Rules", "Verdict"]

OTHER = "behaviour"
ASK_FROM = 5  # from this priority on a person decides
URGENCY = {"low": 0, "medium": 1, "high": 2, "critical": 3, "emergency": 3}
MATCHES_COUNTED = 3  # a long text is not more of a crash than a short one


@dataclass(frozen=True, slots=True)
class Verdict:
    """A category, a priority from 0 (may wait) to 8 (now), and the words that decided it."""

    category: str
    priority: int
    because: list[str]


class Classifier(Protocol):
    """What triages a ticket. A client of a language model has this one method too; see README.md."""

    async def classify(self, ticket: Ticket) -> Verdict:
        """Judge a ticket. What may be tried again is raised as ConnectionError or TimeoutError."""


# Of each category how much it matters, and the words that speak for it. The first one wins where two are even.
CATEGORIES = {
    "security": (
        5,
        (
            r"CVE-[\d-]+|secur\w+|vulnerab\w+|malicious|exploit\w*|unsafe|world-readable|privileges?|attack\w*"
            r"|code execution|leak\w*|mktemp|mkdtemp"
        ),
    ),
    "crash": (
        3,
        r"crash\w*|segfaults?|segmentation|hang(?:s|ing)?|abort(?:s|ed)?|dies|deadlock\w*|infinite loop|corrupt\w*",
    ),
    "install": (
        2,
        (
            r"install\w*|upgrad\w*|(?:pre|post)(?:inst|rm)|depend\w*|conflicts?|recommends?|replaces|remov(?:al|ing)|purg\w+"
            r"|FTBFS|build\w*|dpkg\S*|initramfs|transition\w*"
        ),
    ),
    "language": (
        0,
        (
            r"translat\w+|locales?|UTF-8|debconf-updatepo|po-debconf|templates?|Basque|Brazilian|Catalan|Czech|Danish|Dutch"
            r"|French|Galician|German|Italian|Japanese|Norwegian|Portuguese|Romanian|Russian|Spanish|Swedish|Turkish"
            r"|Vietnamese"
        ),
    ),
    "documentation": (0, r"document\w*|man ?pages?|manual|README\S*|typos?|spelling|FAQ|describ\w+|clarif\w+|usage"),
}
WORDS = {
    name: re.compile(rf"(?<![\w/.-])(?:{words})(?![\w/-])", re.IGNORECASE)
    for name, (_worth, words) in CATEGORIES.items()
}


class Rules:
    """Triages by words alone: the same ticket gives the same verdict, without a network."""

    async def classify(self, ticket: Ticket) -> Verdict:
        """Count the words that speak for each category."""
        found = {name: pattern.findall(ticket.text) for name, pattern in WORDS.items()}
        best = max(found, key=lambda name: min(len(found[name]), MATCHES_COUNTED))
        urgency = URGENCY.get(ticket.urgency, 0)
        if not found[best]:
            return Verdict(OTHER, 1 + urgency, [])
        worth = CATEGORIES[best][0]
        # Nobody is woken for a typo, however urgent the upload was that mended it.
        priority = worth + urgency if worth else 0
        return Verdict(best, priority, sorted({word.lower() for word in found[best]}))
