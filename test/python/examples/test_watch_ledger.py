"""The desk's ledger and its report."""

from __future__ import annotations

from _ledger import MAX_FINDINGS, Book, close, hear, settle, with_status
from desk import Ledger, compose


def statuses(book: Book) -> dict[str, str]:
    return {key: finding.status for key, finding in book.items()}


def believed(watcher: str, subject: str, verdicts: dict[str, str], now: float, book: Book) -> None:
    hear(book, watcher, subject, verdicts, now)
    settle(book, watcher, verdicts, now)


def test_what_is_new_is_only_suspected_and_asked_about_once() -> None:
    book: Book = {}
    assert hear(book, "m", "/", {"full": "91%"}, 1.0)
    assert not hear(book, "m", "/", {"full": "92%"}, 2.0)
    assert statuses(book) == {"m full": "suspected"}


def test_what_still_holds_at_the_second_look_is_believed_with_its_newest_words() -> None:
    book: Book = {}
    hear(book, "m", "/", {"full": "91%"}, 1.0)
    assert [each.words for each in settle(book, "m", {"full": "93%"}, 4.0)] == ["93%"]
    assert statuses(book) == {"m full": "open"}
    assert settle(book, "m", {"full": "93%"}, 5.0) == []


def test_what_does_not_hold_any_more_is_dismissed() -> None:
    book: Book = {}
    hear(book, "m", "/", {"full": "91%", "filling": "fast"}, 1.0)
    assert [each.rule for each in settle(book, "m", {"full": "91%"}, 4.0)] == ["full"]
    assert statuses(book) == {"m full": "open", "m filling": "dismissed"}


def test_a_believed_finding_is_over_when_its_watcher_stops_telling_it() -> None:
    book: Book = {}
    believed("m", "/", {"full": "91%"}, 1.0, book)
    believed("n", "/home", {"full": "95%"}, 1.0, book)
    hear(book, "m", "/", {}, 9.0)
    assert statuses(book) == {"m full": "over", "n full": "open"}


def test_what_comes_back_is_asked_about_again() -> None:
    book: Book = {}
    believed("m", "/", {"full": "91%"}, 1.0, book)
    hear(book, "m", "/", {}, 9.0)
    assert hear(book, "m", "/", {"full": "91%"}, 10.0)


def test_a_watcher_that_is_gone_leaves_nothing_open() -> None:
    book: Book = {}
    believed("m", "/", {"full": "91%"}, 1.0, book)
    hear(book, "m", "/", {"full": "91%", "filling": "fast"}, 2.0)
    close(book, "m", 3.0)
    assert statuses(book) == {"m full": "over", "m filling": "dismissed"}


def test_the_ledger_is_bounded_and_open_findings_stay_longest() -> None:
    book: Book = {}
    believed("first", "/", {"full": "91%"}, 0.0, book)
    for number in range(2 * MAX_FINDINGS):
        believed(f"w{number}", "x", {"busy": "x"}, float(number), book)
        hear(book, f"w{number}", "x", {}, float(number))
    assert len(book) == MAX_FINDINGS
    assert [each.watcher for each in with_status(book, "open")] == ["first"]
    assert f"w{2 * MAX_FINDINGS - 1} busy" in book
    assert "w0 busy" not in book


def test_a_quiet_report_says_so_in_two_lines() -> None:
    ledger = Ledger(since=80.0, watched={"mounts": 1, "processes": 1, "logs": 0})
    assert compose(ledger, 100.0) == "Watched 1 mount, 1 process for 20 s.\nNothing needs you."


def test_a_full_report_is_ordered_by_what_matters() -> None:
    book: Book = {}
    believed("a", "/", {"full": "91% full"}, 0.0, book)
    believed("b", "postgres (12)", {"stuck": "waiting for a disk"}, 60.0, book)
    believed("c", "app (13)", {"busy": "98% of one core"}, 60.0, book)
    hear(book, "d", "app (14)", {"busy": "95% of one core"}, 100.0)
    settle(book, "d", {}, 103.0)
    ledger = Ledger(since=0.0, findings=book, watched={"mounts": 1, "processes": 3}, left_out={"quieter logs": 2})
    assert compose(ledger, 480.0).splitlines() == [
        "Watched 1 mount, 3 processes for 8 min.",
        "2 things need you:",
        "  postgres (12)  waiting for a disk, found 7 min ago",
        "  /              91% full, found 8 min ago",
        "Worth knowing:",
        "  app (13)  98% of one core, found 7 min ago",
        "Looked at twice and dismissed: 1 (last: app (14) 95% of one core, 6 min ago).",
        "Left out: 2 quieter logs.",
    ]


def test_a_report_stays_short_however_much_is_wrong() -> None:
    book: Book = {}
    for number in range(100):
        believed(f"w{number}", f"app ({number})", {"stuck": "waiting"}, float(number), book)
    lines = compose(Ledger(findings=book), 200.0).splitlines()
    assert len(lines) < 15
    assert "100 things need you:" in lines
    assert "  and 92 more" in lines
