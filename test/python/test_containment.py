"""What one handler does to the interpreter that it shares with others: real interpreters, one misbehaviour each."""

from __future__ import annotations

import os
import pathlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pyre import _body, _wire
from wire_peer import LogServer, Peer, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
MISBEHAVING = FIXTURES / "agents" / "misbehaving"
EXCUSED_ONES = FIXTURES / "agents" / "excused"
HANGING = FIXTURES / "hanging_import"

ON_LOOP, EXCUSED, EXHAUSTED = 2, 72, 73
THREADS = slice(8, 72)


@pytest.fixture
def stacks(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "stacks"
    file.touch()
    return file


@pytest.fixture
def peer(start: Callable[..., Peer], log: LogServer, stacks: pathlib.Path) -> Peer:
    """One interpreter; `neighbour` is its agent 1."""
    peer = start(PYRE_LOG=str(log.path), PYRE_STACKS=str(stacks), TEST_SLOW_SECONDS="0.3")
    assert peer.hello(MISBEHAVING, EXCUSED_ONES, max_threads=2)["problems"] == []
    peer.activate(1, "Neighbour")
    return peer


def events(log: LogServer, part: str) -> list[dict[str, Any]]:
    """Give the log records whose text has a part."""
    return [record for record in log.records if part in record.get("event", "")]


# --- What no stall clock should count ---


@pytest.mark.parametrize("name", ["Imports", "Opens", "Collects"])
def test_what_may_take_long_is_excused_while_it_does(peer: Peer, log: LogServer, name: str) -> None:
    peer.activate(2, name)
    before = peer.words()
    assert before[EXCUSED] == 0
    number = peer.deliver(2, "go")
    eventually(lambda: peer.words()[EXCUSED] > before[4])
    assert peer.done(number).status == 0
    eventually(lambda: peer.words()[EXCUSED] == 0)
    assert peer.call(1, "add").body == 1
    assert not [record for record in log.records if record["type"] == "stall"]


@pytest.mark.parametrize(
    ("name", "handler", "args"), [("TimeSleep", "go", {"seconds": 0.3}), ("Imports", "in_thread", {})]
)
def test_what_holds_the_loop_otherwise_and_what_doesnt_hold_it_is_not(
    peer: Peer, name: str, handler: str, args: dict[str, Any]
) -> None:
    peer.activate(2, name)
    number = peer.deliver(2, handler, args)
    eventually(lambda: peer.words()[ON_LOOP] == number or number in peer.words()[THREADS])
    while peer.words()[ON_LOOP] == number or number in peer.words()[THREADS]:
        assert peer.words()[EXCUSED] == 0
    assert peer.done(number).status == 0


def test_the_start_is_excused_until_ready(start: Callable[..., Peer]) -> None:
    peer = start()
    eventually(lambda: peer.words()[0])
    eventually(lambda: peer.words()[EXCUSED])
    since = peer.words()[EXCUSED]
    peer.greet(HANGING)
    beat = peer.words()[4]
    eventually(lambda: peer.words()[4] > beat + 200_000_000)
    assert peer.words()[EXCUSED] == since


def test_the_closing_of_a_resource_is_excused(peer: Peer) -> None:
    peer.activate(2, "Opens")
    assert peer.call(2, "go").status == 0
    eventually(lambda: peer.words()[EXCUSED] == 0)
    peer.send((_wire.OP_STOP, 100))
    eventually(lambda: peer.words()[EXCUSED])
    assert peer.wait() == _wire.EXIT_CLOSED


def test_a_forked_child_writes_into_a_recorder_of_its_own(peer: Peer) -> None:
    peer.activate(2, "ForkBomb")
    (child,) = peer.call(2, "fork_and_import").body
    assert peer.words()[EXCUSED] == 0
    os.kill(child, signal.SIGKILL)


# --- Stacks ---


def test_the_stack_of_a_handler_that_holds_the_gil(peer: Peer, stacks: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sign = tmp_path / "sign"
    peer.activate(2, "GilHeldInC")
    number = peer.deliver(2, "go", {"sign": str(sign)})
    eventually(sign.exists)
    eventually(lambda: peer.words()[ON_LOOP] == number)
    peer.process.send_signal(signal.SIGUSR2)
    eventually(lambda: "gil_held_in_c.py" in stacks.read_text())
    assert "in go" in stacks.read_text()


def test_the_stack_of_an_import_that_hangs(start: Callable[..., Peer], stacks: pathlib.Path) -> None:
    peer = start(PYRE_STACKS=str(stacks))
    peer.greet(HANGING)

    def told() -> bool:
        beat = peer.words()[4]
        peer.process.send_signal(signal.SIGUSR2)
        eventually(lambda: peer.words()[4] > beat)  # a signal at every turn would let nothing else happen
        return "hangs.py" in stacks.read_text()

    eventually(lambda: peer.words()[0])
    eventually(told)


@pytest.mark.parametrize("handler", ["go", "in_thread"])
def test_the_stack_of_a_segmentation_fault(peer: Peer, stacks: pathlib.Path, handler: str) -> None:
    peer.activate(2, "Segfault")
    peer.deliver(2, handler)
    assert peer.wait() == -signal.SIGSEGV
    assert "segfault.py" in stacks.read_text()
    assert "Segmentation fault" in stacks.read_text()


def test_a_forked_child_leaves_no_stacks(peer: Peer, stacks: pathlib.Path) -> None:
    peer.activate(2, "ForkBomb")
    (child,) = peer.call(2, "fork_and_import").body  # it has come far enough to have left the file
    os.kill(child, signal.SIGUSR2)
    eventually(lambda: _has_ended(child))
    assert stacks.read_text() == ""
    assert peer.call(1, "add").body == 1


# --- Threads ---


def test_a_thread_that_was_cancelled_is_ended_by_an_exception(peer: Peer, tmp_path: pathlib.Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    peer.activate(2, "BlockedThread")
    number = peer.deliver(2, "poll", {"sign": str(begun), "ended": str(ended)})
    eventually(begun.exists)
    peer.cancel(number)
    assert peer.done(number).status == _wire.STATUS_CANCELLED
    peer.send((_wire.OP_DROP, 2, 1))
    assert peer.receive(lambda e: e[0] == _wire.OP_DROPPED) == (_wire.OP_DROPPED, 2, 1)
    assert ended.exists()
    assert not any(peer.words()[THREADS])


def test_threads_that_stay_blocked_take_no_place_and_are_named(
    peer: Peer, log: LogServer, tmp_path: pathlib.Path
) -> None:
    numbers = []
    for handle in (2, 3):
        peer.activate(handle, "BlockedThread")
        numbers.append(peer.deliver(handle, "go", {"sign": str(tmp_path / f"sign-{handle}")}))
        eventually((tmp_path / f"sign-{handle}").exists)
    waiting = peer.deliver(1, "add_in_thread", {"n": 7})
    peer.cancel(numbers[0])
    assert peer.done(waiting).body == 7
    peer.cancel(numbers[1])
    assert [peer.done(number).status for number in numbers] == [_wire.STATUS_CANCELLED] * 2
    assert peer.call(1, "add_in_thread", {"n": 1}).body == 8
    told = log.wait_for(lambda _: len(found := events(log, "its thread still runs")) == 2 and found)
    assert {(record["agent"], record["class"], record["handler"]) for record in told} == {
        ("agent-2", "BlockedThread", "go"),
        ("agent-3", "BlockedThread", "go"),
    }
    assert set(numbers) <= set(peer.words()[THREADS])


def test_a_handler_that_swallows_its_cancellation_is_asked_again(peer: Peer, tmp_path: pathlib.Path) -> None:
    sign = tmp_path / "sign"
    peer.activate(2, "CancelsSwallowed")
    number = peer.deliver(2, "yield_at_last", {"sign": str(sign), "times": 2})
    eventually(sign.exists)
    peer.cancel(number)
    assert peer.done(number).status == _wire.STATUS_CANCELLED


def test_a_handler_that_goes_on_swallowing_is_named_once(peer: Peer, log: LogServer, tmp_path: pathlib.Path) -> None:
    sign = tmp_path / "sign"
    peer.activate(2, "CancelsSwallowed")
    number = peer.deliver(2, "go", {"sign": str(sign), "times": 7})
    eventually(sign.exists)
    peer.cancel(number)
    assert peer.done(number).body == 7
    (told,) = log.wait_for(lambda _: events(log, "swallows its cancellation"))
    assert (told["agent"], told["class"], told["handler"]) == ("agent-2", "CancelsSwallowed", "go")


def test_a_thread_that_uses_up_a_cpu_is_named_once(peer: Peer, log: LogServer) -> None:
    peer.activate(2, "CpuBoundThread")
    number = peer.deliver(2, "go")
    peer.activate(3, "BlockedThread")
    assert peer.call(3, "ok_in_thread").body == "ok"
    log.wait_for(lambda _: events(log, "of a CPU"))
    assert peer.call(1, "add").body == 1
    peer.cancel(number)
    assert peer.done(number).status == _wire.STATUS_CANCELLED
    peer.send((_wire.OP_DROP, 2, 1))
    peer.receive(lambda e: e[0] == _wire.OP_DROPPED)
    (told,) = events(log, "of a CPU")
    assert (told["agent"], told["class"], told["handler"]) == ("agent-2", "CpuBoundThread", "go")


# --- Memory ---


@pytest.mark.parametrize("handler", ["go", "in_thread"])
def test_memory_that_is_used_up_is_the_handlers_failure(start: Callable[..., Peer], handler: str) -> None:
    peer = start()
    peer.hello(MISBEHAVING, max_worker_rss_bytes=192 * 1024 * 1024)
    peer.activate(1, "Neighbour")
    for turn in (1, 2):
        peer.activate(2, "OutOfMemory", epoch=turn)
        done = peer.call(2, handler, epoch=turn)
        assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, "MemoryError")
        assert "out_of_memory.py" in done.body["traceback"]
        assert peer.words()[EXHAUSTED] == turn
        assert peer.call(1, "add").body == turn
        assert peer.call(1, "add_in_thread", {"n": 0}).body == turn


def test_a_leak_up_to_the_limit_leaves_the_others_answering(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.hello(MISBEHAVING, max_worker_rss_bytes=192 * 1024 * 1024)
    peer.activate(1, "Neighbour")
    statuses = []
    for epoch in range(1, 12):
        peer.activate(2, "OutOfMemory", epoch=epoch)
        statuses.append(peer.call(2, "keep", {"megabytes": 24}, epoch=epoch).status)
        assert peer.call(1, "add").body == epoch
    assert statuses[0] == 0
    assert statuses[-1] == _wire.STATUS_FAILED
    assert peer.words()[EXHAUSTED] == statuses.count(_wire.STATUS_FAILED)


def test_the_stacks_of_threads_are_not_counted(start: Callable[..., Peer], tmp_path: pathlib.Path) -> None:
    peer = start()
    peer.hello(MISBEHAVING, max_worker_rss_bytes=128 * 1024 * 1024)
    for handle in range(2, 52):
        peer.activate(handle, "BlockedThread")
        peer.deliver(handle, "go", {"sign": str(tmp_path / f"sign-{handle}")})
    eventually(lambda: all((tmp_path / f"sign-{handle}").exists() for handle in range(2, 52)))
    peer.activate(1, "OutOfMemory")
    assert peer.call(1, "in_thread", {"megabytes": 48}).body == 48
    assert peer.call(1, "in_thread", {"megabytes": 128}).body["type"] == "MemoryError"


def test_without_a_limit_nothing_is_refused(peer: Peer) -> None:
    peer.activate(2, "OutOfMemory")
    assert peer.call(2, "go", {"megabytes": 256}).body == 256


# --- What ends an ordinary program, and must not end this one ---


@pytest.mark.parametrize(
    ("name", "handler", "args", "failure"),
    [
        ("Interrupted", "go", {}, "KeyboardInterrupt"),
        ("Interrupted", "in_thread", {}, "KeyboardInterrupt"),
        ("Interrupted", "in_task", {}, "KeyboardInterrupt"),
        ("Interrupted", "in_callback", {}, None),
        ("Exits", "go", {}, "SystemExit"),
        ("Exits", "in_thread", {}, "SystemExit"),
        ("Exits", "in_task", {}, "SystemExit"),
        ("Exits", "in_callback", {}, None),
        ("RecursionFailure", "go", {}, "RecursionError"),
        ("RecursionFailure", "in_thread", {}, "RecursionError"),
        ("RecursionFailure", "through_c", {}, "RecursionError"),
        ("RecursionFailure", "through_c_in_thread", {}, "RecursionError"),
        ("UnprintableException", "go", {}, "UnprintableError"),
        ("UnprintableException", "in_thread", {}, "UnprintableError"),
        ("UnprintableException", "log", {}, None),
        ("UnencodableState", "deep", {}, "encode"),
        ("FdExhaustion", "fail", {}, "OSError"),
        ("ThreadLeak", "go", {}, None),
        ("StdoutNoise", "go", {}, None),
        ("StdoutNoise", "on_loop", {}, None),
        ("StderrFlood", "go", {}, None),
        ("StderrFlood", "on_loop", {}, None),
    ],
)
def test_the_worker_goes_on(peer: Peer, name: str, handler: str, args: dict[str, Any], failure: str | None) -> None:
    peer.activate(2, name)
    done = peer.call(2, handler, args)
    found = done.status and (done.body.get("type") or done.body["kind"])
    assert (done.status, found) == ((1, failure) if failure else (0, 0))
    peer.activate(3, name)
    assert peer.call(3, "ok").status == 0
    assert peer.call(1, "add").body == 1


@pytest.mark.parametrize("name", ["ThreadLeak", "BlockedThread", "CancelsSwallowed", "TimeSleep"])
def test_nothing_that_runs_holds_up_the_end(peer: Peer, name: str) -> None:
    peer.activate(2, name)
    number = peer.deliver(2, "go")
    eventually(lambda: peer.words()[1] == number)
    peer.close_input()
    assert peer.wait() == _wire.EXIT_CLOSED


def test_a_state_that_cant_travel_is_the_handlers_failure(peer: Peer) -> None:
    peer.activate(2, "UnencodableState", _body.pack({"value": None, "total": 4}))
    done = peer.call(2, "go")
    assert (done.status, done.body["kind"]) == (_wire.STATUS_FAILED, "encode")
    peer.activate(2, "UnencodableState", _body.pack({"value": None, "total": 4}), epoch=2)
    assert peer.call(2, "ok", epoch=2).body == 5


def test_the_log_and_the_protocol_go_on_without_a_free_descriptor(peer: Peer, log: LogServer) -> None:
    peer.activate(2, "FdExhaustion")
    assert peer.call(2, "go", {"text": "none left"}).status == 0
    log.wait_for(lambda server: events(server, "none left") and b"none left" in server.output)
    assert peer.call(2, "hold").body > 0
    numbers = [peer.deliver(1, "add"), peer.deliver(1, "add_in_thread")]
    assert [peer.done(number).body for number in numbers] == [1, 2]
    assert peer.call(2, "release").status == 0


def _has_ended(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
