"""The fleet's agents, each alone, with its peers faked; the files that they read are real."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from _machine import TICK, boot_seconds, process
from desk import FORGET_AFTER, RECHECK_AFTER, Desk
from logs import LogWatcher
from mounts import MountWatcher
from processes import ProcessWatcher
from scout import PERIOD, Scout

from pyre import errors, testing

FULL = {"used_share": 0.97, "free_bytes": 3e9, "total_bytes": 100e9}
ROOMY = {"used_share": 0.10, "free_bytes": 90e9, "total_bytes": 100e9}


def mount(figures: dict[str, float]) -> dict[str, Any]:
    return {"kind": "mount", "subject": "/", "figures": figures, "sample": ""}


def taking(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a desk that keeps the readings it is told, and the scout's messages."""
    return {"desk": {"tell": lambda **args: told.append(args["reading"]), "watching": lambda **_: None}}


class Watcher:
    """Stands in for a watcher that the desk asks again."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        """Give these answers, one after the other."""
        self.answers = list(answers)

    def look(self) -> dict[str, Any]:
        """Answer the desk."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


# --- The desk ---


def test_the_desk_believes_what_still_holds_at_a_second_look() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        desk.call("tell", watcher="m", reading=mount(FULL))
        assert desk.call("status")["findings"] == 0
        desk.advance(RECHECK_AFTER)
        assert [(each.kind, each.target, each.handler) for each in desk.sent] == [("call", "m", "look")]
        assert desk.call("status")["findings"] == 1
        assert "1 thing needs you:\n  /  97% full, 3.0 GB of 100.0 GB free, found" in desk.call("report")


def test_the_desk_dismisses_what_does_not_and_says_so() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(ROOMY))}) as desk:
        desk.call("tell", watcher="m", reading=mount(FULL))
        desk.advance(RECHECK_AFTER)
        report = desk.call("report")
        assert "Nothing needs you." in report
        assert "Looked at twice and dismissed: 1 (last: / 97% full" in report


def test_the_desk_asks_once_however_often_it_is_told() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        for _ in range(5):
            desk.call("tell", watcher="m", reading=mount(FULL))
        desk.advance(10 * RECHECK_AFTER)
        assert len(desk.sent) == 1


@pytest.mark.parametrize(
    "peers",
    [{}, {"m": Watcher(errors.CallTimeout("late", {}))}, {"m": Watcher(ValueError("broken"))}],
    ids=["gone", "late", "broken"],
)
def test_a_watcher_that_does_not_answer_does_not_take_the_desk_with_it(peers: dict[str, Any]) -> None:
    with testing.run(Desk, id="desk", peers=peers) as desk:
        desk.call("tell", watcher="m", reading=mount(FULL))
        desk.advance(RECHECK_AFTER)
        assert desk.failures == []
        assert [each.status for each in desk.state.findings.values()] == ["dismissed"]


def test_the_ledger_survives_a_restart_of_the_desk() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        since = desk.state.since
        desk.call("tell", watcher="m", reading=mount(FULL))
        desk.restart()
        desk.advance(RECHECK_AFTER)
        assert desk.state.since == since
        assert desk.call("status")["findings"] == 1


def test_the_desk_refuses_figures_that_are_none() -> None:
    with testing.run(Desk, id="desk") as desk:
        with pytest.raises(errors.InvalidArgs, match="used_share"):
            desk.call("tell", watcher="m", reading=mount({"used_share": "much"}))  # type: ignore[dict-item]
        assert desk.state.findings == {}


def test_a_watcher_that_the_scout_took_away_leaves_nothing_open() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        desk.call("tell", watcher="m", reading=mount(FULL))
        desk.advance(RECHECK_AFTER)
        desk.call("watching", watched={"mounts": 0}, left_out={}, gone=["m"])
        assert desk.call("status") == {"mounts": 0, "findings": 0}
        assert "Over by now: 1" in desk.call("report")


def confirmed(desk: testing.RunningAgent) -> None:
    desk.call("tell", watcher="m", reading=mount(FULL))
    desk.advance(RECHECK_AFTER)


def test_what_needs_a_person_is_asked_once_and_can_be_seen() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        confirmed(desk)
        [asked] = desk.escalations
        assert asked.question.startswith("/: 97% full")
        desk.answer(asked, "seen", by="ada")
        assert desk.call("report").splitlines()[2].endswith(", seen by ada")
        desk.call("tell", watcher="m", reading=mount(FULL))
        desk.advance(RECHECK_AFTER)
        assert desk.escalations == []


def test_a_question_that_is_open_is_not_asked_again_when_its_finding_comes_back() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL), mount(FULL))}) as desk:
        confirmed(desk)
        desk.call("tell", watcher="m", reading=mount(ROOMY))
        confirmed(desk)
        assert desk.call("status")["findings"] == 1
        assert len(desk.escalations) == 1


def test_what_is_muted_is_neither_told_nor_asked_again() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL), mount(FULL))}) as desk:
        confirmed(desk)
        desk.answer(desk.escalations[0], "mute")
        desk.call("tell", watcher="m", reading=mount(ROOMY))
        confirmed(desk)
        assert desk.call("status")["findings"] == 0
        assert desk.escalations == []
        report = desk.call("report")
        assert "Nothing needs you." in report
        assert "Muted: 1." in report


def test_a_question_that_nobody_answers_makes_room() -> None:
    with testing.run(Desk, id="desk", peers={"m": Watcher(mount(FULL))}) as desk:
        confirmed(desk)
        desk.advance(FORGET_AFTER)
        assert desk.escalations == []
        assert desk.state.asked == []


def test_a_second_look_is_asked_for_again_where_the_interpreter_was_replaced() -> None:
    lost = errors.WorkerDown("the interpreter died", {"begun": False})
    with testing.run(Desk, id="desk", peers={"m": Watcher(lost, mount(FULL))}) as desk:
        confirmed(desk)
        assert desk.call("status")["findings"] == 1


# --- The watchers ---


def test_a_mount_watcher_tells_from_time_to_time_and_keeps_samples() -> None:
    told: list[dict[str, Any]] = []
    with testing.run(MountWatcher, id="mount:/", args={"path": "/"}, peers=taking(told)) as watcher:
        watcher.advance(25.0)
        assert watcher.failures == []
        assert len(told) == len(watcher.state.samples) == 3
        assert told[0]["figures"]["total_bytes"] > 0
        assert len(watcher.timers) == 1
        assert watcher.call("look")["figures"].keys() >= told[0]["figures"].keys()
        assert len(watcher.state.samples) == 3


def test_a_mount_that_is_gone_is_told_and_no_failure() -> None:
    told: list[dict[str, Any]] = []
    with testing.run(MountWatcher, id="mount:x", args={"path": "/no/such"}, peers=taking(told)) as watcher:
        watcher.call("check")
        assert told[0]["figures"] == {"silent": 1.0}


def test_a_restart_does_not_double_the_checks() -> None:
    with testing.run(MountWatcher, id="mount:/", args={"path": "/"}, peers=taking([])) as watcher:
        watcher.restart()
        watcher.restart()
        assert len(watcher.timers) == 1


def test_a_process_watcher_sees_this_process_and_then_its_successor() -> None:
    own = process(os.getpid(), Path("/proc"))
    assert own
    told: list[dict[str, Any]] = []
    # The one before is made up: no process has started at 0.
    args = {"pid": own.pid, "started": 0.0, "name": own.name}
    with testing.run(ProcessWatcher, id="p", args=args, peers=taking(told)) as watcher:
        watcher.call("check")
        watcher.call("adopt", pid=own.pid, started=own.started)
        watcher.call("check")
        assert "gone_seconds" in told[0]["figures"]
        assert told[1]["figures"]["rss_bytes"] > 0
        assert told[1]["figures"]["restarts"] == 1
        again = watcher.call("look")
        assert (again["subject"], again["figures"]["restarts"]) == (f"{own.name} ({own.pid})", 1)


def test_a_log_watcher_tells_errors_once_and_keeps_its_place_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("error before\n")
    told: list[dict[str, Any]] = []
    with testing.run(LogWatcher, id="log", args={"path": str(path)}, peers=taking(told)) as watcher:
        watcher.call("check")
        with path.open("a") as file:
            file.write("error one\nerror two\n")
        assert watcher.call("look")["figures"]["troubles"] == 2
        watcher.restart()
        watcher.call("check")
        watcher.call("check")
        assert [each["figures"]["troubles"] for each in told] == [0, 2, 2]
        assert told[-1]["figures"]["old_troubles"] == 1
        assert watcher.state.offset == path.stat().st_size


def test_a_quiet_log_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("")
    told: list[dict[str, Any]] = []
    with testing.run(LogWatcher, id="log", args={"path": str(path)}, peers=taking(told)) as watcher:
        watcher.advance(20.0)
        assert len(told) == 1
        assert len(watcher.timers) == 1


# --- The scout ---


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """Make the tables of a machine with one mount, one process and one log."""
    proc, logs = tmp_path / "proc", tmp_path / "log"
    (proc / "self").mkdir(parents=True)
    logs.mkdir()
    (proc / "self" / "mountinfo").write_text("27 1 254:0 / / rw - ext4 /dev/vda rw\n")
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    (logs / "app.log").write_text("")
    start_process(proc, 7, started=100)
    return {"proc": str(proc), "logs_in": str(logs)}


def start_process(proc: Path, pid: int, started: int) -> None:
    (proc / str(pid)).mkdir()
    fields = f"S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 {started} 4096 25 0 0 0"
    (proc / str(pid) / "stat").write_text(f"{pid} (app) {fields}")
    (proc / str(pid) / "cmdline").write_text("app\0--serve\0")


def end_process(proc: Path, pid: int) -> None:
    for file in (proc / str(pid)).iterdir():
        file.unlink()
    (proc / str(pid)).rmdir()


def sent(agent: testing.RunningAgent, kind: str) -> list[str]:
    return [each.target for each in agent.sent if each.kind == kind]


def test_the_scout_starts_one_watcher_for_each_thing_and_only_once(machine: dict[str, str]) -> None:
    with testing.run(Scout, id="scout", args=machine, peers=taking([])) as scout:
        scout.advance(3 * PERIOD)
        assert scout.failures == []
        watchers = {"mount:/", f"log:{machine['logs_in']}/app.log", "process:7:1.00"}
        assert set(sent(scout, "spawn")) == watchers
        assert len(sent(scout, "spawn")) == len(watchers)
        assert scout.call("look")["figures"]["memory_bytes"] == 1000 * 1024


def test_the_scout_counts_for_the_desk(machine: dict[str, str]) -> None:
    said: list[dict[str, Any]] = []
    peers = {"desk": {"tell": lambda **_: None, "watching": lambda **args: said.append(args)}}
    with testing.run(Scout, id="scout", args=machine, peers=peers) as scout:
        scout.call("scan")
        assert said[0]["watched"] == {"mounts": 1, "processes": 1, "logs": 1}
        assert said[0]["gone"] == []


def test_a_log_that_is_away_for_one_scan_keeps_its_watcher(machine: dict[str, str]) -> None:
    path = Path(machine["logs_in"]) / "app.log"
    with testing.run(Scout, id="scout", args=machine, peers=taking([])) as scout:
        scout.call("scan")
        path.unlink()
        scout.call("scan")
        assert sent(scout, "stop") == []
        path.write_text("")
        scout.call("scan")
        path.unlink()
        scout.call("scan")
        scout.call("scan")
        assert sent(scout, "stop") == [f"log:{path}"]


def test_a_process_that_comes_back_under_another_pid_keeps_its_watcher(machine: dict[str, str]) -> None:
    proc = Path(machine["proc"])
    with testing.run(Scout, id="scout", args=machine, peers=taking([])) as scout:
        scout.call("scan")
        end_process(proc, 7)
        started = int(boot_seconds() * TICK)
        start_process(proc, 8, started=started)
        scout.call("scan")
        adopted = [each for each in scout.sent if each.handler == "adopt"]
        assert [(each.target, each.args) for each in adopted] == [
            ("process:7:1.00", {"pid": 8, "started": started / TICK})
        ]
        assert sent(scout, "stop") == []
        assert len([each for each in sent(scout, "spawn") if each.startswith("process")]) == 1


def test_a_scan_that_was_cut_short_is_made_good_by_the_next(machine: dict[str, str]) -> None:
    answers = iter([ValueError("cut short"), None])

    def watching(**_: object) -> None:
        if error := next(answers):
            raise error

    with testing.run(
        Scout, id="scout", args=machine, peers={"desk": {"tell": lambda **_: None, "watching": watching}}
    ) as scout:
        with pytest.raises(errors.RemoteError, match="cut short"):
            scout.call("scan")
        assert scout.state.mounts == {}
        scout.call("scan")
        assert scout.call("look")
        assert list(scout.state.mounts) == ["mount:/"]


def test_a_desk_that_is_away_does_not_take_the_watchers_with_it() -> None:
    with testing.run(MountWatcher, id="mount:/", args={"path": "/"}) as watcher:
        watcher.advance(25.0)
        assert watcher.failures == []
        assert len(watcher.state.samples) == 3


def test_a_machine_without_any_tables_is_no_failure(tmp_path: Path) -> None:
    args = {"proc": str(tmp_path), "logs_in": str(tmp_path / "missing")}
    with testing.run(Scout, id="scout", args=args, peers=taking([])) as scout:
        scout.call("scan")
        assert sent(scout, "spawn") == []
