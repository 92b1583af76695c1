"""What the watchers conclude from one look after another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _follow import Gain, Place
from _machine import Process, Space, boot_seconds, process
from logs import Followed, counted, look_at
from logs import reading_of as log_reading
from mounts import reading_of as mount_reading
from processes import RESTART_WINDOW, Watched, adopted, seen
from processes import look_at as look_at_process
from processes import reading_of as process_reading

GB = 10**9


def running(*, cpu: float = 0.0, state: str = "S", rss: int = 1000) -> Process:
    return Process(pid=7, name="app", state=state, cpu_seconds=cpu, started=100.0, rss_bytes=rss)


@pytest.fixture
def watched() -> Watched:
    return Watched(pid=7, started=100.0, name="app")


def test_the_first_look_knows_no_share_of_the_processor(watched: Watched) -> None:
    assert seen(watched, running(cpu=500.0), 200.0).cpu_share == 0


def test_a_share_is_what_was_used_between_two_looks(watched: Watched) -> None:
    first = seen(watched, running(cpu=10.0), 200.0)
    assert seen(first, running(cpu=14.0), 205.0).cpu_share == pytest.approx(0.8)


def test_a_process_is_busy_since_the_look_before_and_no_more_once_it_rests(watched: Watched) -> None:
    state = seen(watched, running(cpu=0.0), 200.0)
    for step in (1, 2, 3):
        state = seen(state, running(cpu=5.0 * step), 200.0 + 5 * step)
    assert process_reading(state).figures["busy_seconds"] == 15
    rested = seen(state, running(cpu=15.0), 220.0)
    assert "busy_seconds" not in process_reading(rested).figures


def test_a_process_that_waits_for_a_disk_is_stuck_only_while_it_does(watched: Watched) -> None:
    state = seen(seen(watched, running(state="D"), 200.0), running(state="D"), 220.0)
    assert process_reading(state).figures["stuck_seconds"] == 20
    assert "stuck_seconds" not in process_reading(seen(state, running(), 225.0)).figures


def test_a_process_that_went_keeps_the_time_it_went(watched: Watched) -> None:
    state = seen(seen(watched, running(), 200.0), None, 210.0)
    later = seen(state, None, 230.0)
    figures = process_reading(later).figures
    assert (figures["gone_seconds"], figures["lived_seconds"], figures["rss_bytes"]) == (20.0, 110.0, 0.0)


def test_another_process_under_the_same_pid_is_not_taken_for_it(watched: Watched) -> None:
    other = Process(pid=7, name="app", state="S", cpu_seconds=0.0, started=150.0, rss_bytes=1)
    assert seen(watched, other, 200.0).gone_at == 200.0


def test_a_restart_begins_anew_and_is_counted(watched: Watched) -> None:
    gone = seen(seen(watched, running(rss=5000), 200.0), None, 210.0)
    again = adopted(gone, pid=8, started=209.0, now=212.0)
    assert (again.pid, again.gone_at, again.first_rss_bytes, again.restarts) == (8, 0.0, 0.0, [212.0])


def test_restarts_of_long_ago_are_forgotten(watched: Watched) -> None:
    state = watched
    for number in range(100):
        state = adopted(state, pid=number, started=float(number), now=100.0 * number)
    assert len(state.restarts) <= RESTART_WINDOW / 100 + 1
    later = seen(state, None, 100.0 * 99 + RESTART_WINDOW + 1)
    assert "restarts" not in process_reading(later).figures


def test_this_very_process_is_watched() -> None:
    own = process(os.getpid(), Path("/proc"))
    assert own
    state = look_at_process(Watched(pid=own.pid, started=own.started, name=own.name))
    figures = process_reading(state).figures
    assert 0 < figures["memory_share"] < 1
    assert 0 < figures["lived_seconds"] < boot_seconds()
    assert "gone_seconds" not in figures


def test_a_mount_that_loses_space_tells_when_it_will_be_full() -> None:
    found = Space(used_share=0.5, free_bytes=4 * GB, total_bytes=10 * GB, inode_share=0.1)
    figures = mount_reading("/", found, [[0.0, 5.0 * GB], [50.0, 4.5 * GB]], 100.0).figures
    assert figures["lost_per_second"] == GB / 100
    assert figures["full_in_seconds"] == 400


def test_a_mount_that_gains_space_tells_no_such_time() -> None:
    found = Space(used_share=0.5, free_bytes=4 * GB, total_bytes=10 * GB, inode_share=0.1)
    assert "full_in_seconds" not in mount_reading("/", found, [[0.0, 3.0 * GB]], 100.0).figures


def test_a_mount_that_does_not_answer_is_silent() -> None:
    assert mount_reading("/", None, [], 1.0).figures == {"silent": 1.0}


def gain(*, read: int = 100, troubles: int = 0, sample: str = "") -> Gain:
    return Gain(place=Place(inode=9, offset=read), read_bytes=read, lines=1, troubles=troubles, sample=sample)


def test_what_stood_in_a_log_before_the_watch_is_counted_apart() -> None:
    state = counted(Followed(path="/x"), gain(troubles=3), 10.0)
    assert (state.old_troubles, state.recent, state.first) == (3, [], False)
    state = counted(state, gain(troubles=2, sample="error\x1b[0m"), 12.0)
    figures = log_reading(state, 12.0).figures
    assert (figures["old_troubles"], figures["troubles"], state.sample) == (3, 2, "error [0m")


def test_errors_of_more_than_a_minute_ago_do_not_count() -> None:
    state = Followed(path="/x", inode=9, first=False)
    for now in range(0, 600, 2):
        state = counted(state, gain(troubles=1), float(now))
    assert len(state.recent) == 31
    assert log_reading(state, 700.0).figures["troubles"] == 0


def test_a_log_that_is_away_keeps_its_place_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("old\n")
    state = look_at(Followed(path=str(path)))
    path.rename(tmp_path / "app.log.1")
    away = look_at(state)
    assert (away.inode, away.offset) == (state.inode, state.offset)
    path.write_text("error\n")
    back = look_at(away)
    assert log_reading(back, back.recent[-1][0]).figures["troubles"] == 1
