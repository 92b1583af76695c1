"""The desk's ledger: what was suspected, believed, dismissed, and what is over. Bounded: the least worth goes first."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_FINDINGS", "Finding", "close", "hear", "settle", "with_status"]

MAX_FINDINGS = 100
WORTH = ("open", "suspected", "dismissed", "over")


@dataclass
class Finding:
    """One thing that a watcher told, and what became of it: suspected, then open or dismissed, and at last over."""

    watcher: str
    rule: str
    subject: str
    words: str
    status: str
    since: float
    until: float
    seen_by: str = ""

    @property
    def key(self) -> str:
        """Where it stands in the book."""
        return f"{self.watcher} {self.rule}"


Book = dict[str, Finding]


def hear(book: Book, watcher: str, subject: str, verdicts: dict[str, str], now: float) -> bool:
    """Enter what holds according to a watcher; True where something is new, and to be asked about."""
    for finding in _of(book, watcher, "open"):
        if finding.rule not in verdicts:
            finding.status, finding.until = "over", now
    news = [Finding(watcher, rule, subject, words, "suspected", now, now) for rule, words in verdicts.items()]
    entered = [_enter(book, finding) for finding in news]
    _trim(book)
    return any(entered)


def _enter(book: Book, news: Finding) -> bool:
    known = book.get(news.key)
    if known and known.status in {"open", "suspected"}:
        known.subject, known.words, known.until = news.subject, news.words, news.until
        return False
    book[news.key] = news
    return True


def settle(book: Book, watcher: str, verdicts: dict[str, str], now: float) -> list[Finding]:
    """Believe what holds at the second look, dismiss the rest; returns what is believed now."""
    opened = []
    for finding in _of(book, watcher, "suspected"):
        finding.until = now
        if finding.rule in verdicts:
            finding.status, finding.words = "open", verdicts[finding.rule]
            opened.append(finding)
        else:
            finding.status = "dismissed"
    return opened


def close(book: Book, watcher: str, now: float) -> None:
    """End what is known of a watcher that is gone."""
    settle(book, watcher, {}, now)
    hear(book, watcher, "", {}, now)


def with_status(book: Book, status: str) -> list[Finding]:
    """List the findings of one status, the newest first."""
    return sorted((each for each in book.values() if each.status == status), key=lambda each: -each.since)


def _of(book: Book, watcher: str, status: str) -> list[Finding]:
    return [each for each in book.values() if each.watcher == watcher and each.status == status]


def _trim(book: Book) -> None:
    while len(book) > MAX_FINDINGS:
        del book[max(book, key=lambda key: (WORTH.index(book[key].status), -book[key].until))]
