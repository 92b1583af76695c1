"""Who is named as a hog, by invented CPU clocks."""

from __future__ import annotations

from typing import Any

from pyre._hogs import Hogs

SECOND = 1_000_000_000


class Clocks:
    """Stands in for the threads."""

    def __init__(self) -> None:
        """Run nothing."""
        self.used: dict[Any, int] = {}

    def running(self) -> list[tuple[Any, int]]:
        """Give what was set."""
        return list(self.used.items())


class Job:
    """Stands in for a job; its message is its name."""

    def __init__(self, message: str) -> None:
        """Take a name."""
        self.message = message


def told(hogs: Hogs, clocks: Clocks, second: float, others: float = 0.0) -> list[str]:
    """Look at a second; `others` is what the rest of the interpreter has used, in seconds."""
    used = sum(clocks.used.values()) + int(others * SECOND)
    found: Any = hogs.look(clocks, int(second * SECOND), used)  # type: ignore[arg-type]
    return sorted(message for message, _share in found)


def test_a_thread_is_named_after_a_second_and_only_once() -> None:
    hogs, clocks, job = Hogs(), Clocks(), Job("busy")
    clocks.used[job] = 0
    assert told(hogs, clocks, 10) == []
    clocks.used[job] = SECOND // 2
    assert told(hogs, clocks, 10.5) == []
    clocks.used[job] = SECOND
    assert told(hogs, clocks, 11) == ["busy"]
    clocks.used[job] = 2 * SECOND
    assert told(hogs, clocks, 12) == []


def test_two_threads_that_share_the_gil_are_both_named() -> None:
    hogs, clocks = Hogs(), Clocks()
    first, second, idle = Job("first"), Job("second"), Job("idle")
    clocks.used = {first: 0, second: 0, idle: 0}
    told(hogs, clocks, 10)
    clocks.used = {first: SECOND * 49 // 100, second: SECOND * 48 // 100, idle: SECOND // 100}
    assert told(hogs, clocks, 11) == ["first", "second"]


def test_a_thread_that_computes_now_and_then_is_not_named() -> None:
    hogs, clocks, job = Hogs(), Clocks(), Job("modest")
    for second in range(10, 20):
        clocks.used[job] = (second - 10) * SECOND * 2 // 10
        assert told(hogs, clocks, second) == []


def test_a_thread_that_computes_beside_a_busy_loop_is_not_named() -> None:
    hogs, clocks, job = Hogs(), Clocks(), Job("one of two")
    for second in range(10, 20):
        clocks.used[job] = (second - 10) * SECOND * 5 // 10
        assert told(hogs, clocks, second, others=(second - 10) * 0.4) == []


def test_a_hog_on_a_busy_machine_is_named() -> None:
    hogs, clocks, job = Hogs(), Clocks(), Job("hog")
    clocks.used[job] = 0
    told(hogs, clocks, 10)
    clocks.used[job] = SECOND // 2
    assert told(hogs, clocks, 11, others=0.02) == ["hog"]


def test_a_message_that_came_to_a_hogs_thread_afterwards_is_not_named() -> None:
    hogs, clocks = Hogs(), Clocks()
    clocks.used = {Job("hog"): 0}
    told(hogs, clocks, 10)
    clocks.used = {Job("next"): SECOND}
    assert told(hogs, clocks, 11) == []
