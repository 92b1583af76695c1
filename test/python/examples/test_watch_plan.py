"""What the scout decides."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from _machine import Process
from _plan import GRACE_SECONDS, Tracked, choose, find_logs, plan_processes

if TYPE_CHECKING:
    from pathlib import Path

NOW = 10_000.0


def running(pid: int, *, name: str = "app", started: float = 100.0, rss: int = 1000, cpu: float = 0.0) -> Process:
    return Process(pid=pid, name=name, state="S", cpu_seconds=cpu, started=started, rss_bytes=rss)


def no_command(_pid: int) -> str:
    return ""


def test_the_largest_and_the_busiest_are_chosen() -> None:
    found = [running(1), running(2, rss=90_000), running(3, cpu=9000), running(4)]
    assert {each.pid for each in choose(found, {}, NOW, limit=2)} == {2, 3}


def test_short_lived_and_sleeping_commands_are_not_chosen() -> None:
    found = [running(1, started=NOW - 1), running(2, name="sleep"), running(3)]
    assert [each.pid for each in choose(found, {}, NOW, limit=10)] == [3]


def test_a_slightly_larger_newcomer_does_not_push_a_watched_one_out() -> None:
    tracked = {"a": Tracked(1, 100.0, "app")}
    assert [each.pid for each in choose([running(1), running(2, rss=1500)], tracked, NOW, limit=1)] == [1]
    assert [each.pid for each in choose([running(1), running(2, rss=9000)], tracked, NOW, limit=1)] == [2]


def test_a_process_that_came_back_is_kept_however_young() -> None:
    young = running(2, started=NOW)
    assert choose([young], {"a": Tracked(2, NOW, "app")}, NOW, limit=1) == [young]


def test_a_new_process_gets_a_watcher_once() -> None:
    found = [running(1)]
    plan = plan_processes(found, found, {}, no_command, NOW)
    assert plan.spawn == found
    assert not plan_processes(found, found, {"a": Tracked(1, 100.0, "app")}, no_command, NOW).spawn


def test_a_restarted_process_is_adopted_by_the_watcher_of_the_old_one() -> None:
    tracked = {"a": Tracked(1, 100.0, "nginx -g")}
    found = [running(2, started=9_999.0), running(3, started=9_998.0)]
    plan = plan_processes(found, [], tracked, {2: "nginx -g", 3: "other"}.__getitem__, NOW)
    assert plan.adopt == {"a": found[0]}
    assert not plan.stop


def test_two_watchers_never_adopt_the_same_process() -> None:
    tracked = {"a": Tracked(1, 100.0, "x"), "b": Tracked(2, 100.0, "x")}
    found = [running(3, started=9_999.0)]
    plan = plan_processes(found, found, tracked, lambda _: "x", NOW)
    assert len(plan.adopt) == 1
    assert not plan.spawn


def test_an_older_twin_is_no_restart() -> None:
    tracked = {"a": Tracked(1, 9_999.0, "x")}
    plan = plan_processes([running(2, started=9_998.0)], [], tracked, lambda _: "x", NOW)
    assert not plan.adopt


def test_a_reused_pid_is_another_process() -> None:
    tracked = {"a": Tracked(1, 100.0, "x")}
    plan = plan_processes([running(1, started=200.0)], [], tracked, lambda _: "y", NOW)
    assert not plan.adopt
    assert tracked["a"].gone_at == NOW


def test_a_watcher_is_stopped_only_after_its_process_was_gone_for_a_while() -> None:
    tracked = {"a": Tracked(1, 100.0, "x")}
    assert not plan_processes([], [], tracked, no_command, NOW).stop
    assert plan_processes([], [], tracked, no_command, NOW + GRACE_SECONDS).stop == ["a"]


def test_a_watched_process_that_is_not_among_the_largest_makes_room() -> None:
    tracked = {"a": Tracked(1, 100.0, "x")}
    found = [running(1), running(2, rss=10**9)]
    plan = plan_processes(found, found[1:], tracked, no_command, NOW)
    assert plan.stop == ["a"]
    assert plan.spawn == found[1:]


def test_logs_are_found_two_folders_deep_without_rotated_and_binary_ones(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    names = ["syslog", "syslog.1", "syslog.2.gz", "wtmp", "a/x.log", "a/b/y.log", "a/b/c/z.log", "app.log-20260101"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "link.log").symlink_to(tmp_path / "syslog")
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / os.fsdecode(b"\xff.log")).write_text("")
    found = find_logs(tmp_path, frozenset(), 100)
    assert {path.removeprefix(f"{tmp_path}/") for path in found.chosen} == {"syslog", "a/x.log", "a/b/y.log"}


def test_the_logs_written_to_last_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    for age in range(5):
        (tmp_path / f"{age}.txt").write_text("")
        os.utime(tmp_path / f"{age}.txt", (10_000 - age * 1000, 10_000 - age * 1000))
    found = find_logs(tmp_path, frozenset(), 2)
    assert found.chosen == [str(tmp_path / "0.txt"), str(tmp_path / "1.txt")]
    assert found.more == 3


def test_no_folder_of_logs_is_no_error(tmp_path: Path) -> None:
    assert find_logs(tmp_path / "missing", frozenset(), 10).chosen == []
