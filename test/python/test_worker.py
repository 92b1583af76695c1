"""A real interpreter, driven over its pipes as the BEAM does."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyre import _body, _wire
from wire_peer import PACKAGE, LogServer, Peer, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS = pathlib.Path(__file__).parent / "agents"


@pytest.fixture
def peer(start: Callable[..., Peer], log: LogServer) -> Peer:
    """One interpreter with the ledger's classes, and agent 1 activated."""
    peer = start(PYRE_LOG=str(log.path))
    peer.hello(AGENTS)
    peer.activate(1, "Ledger", args={"total": 5})
    return peer


# --- Start and end ---


def test_ready_tells_what_the_interpreter_found(start: Callable[..., Peer]) -> None:
    info = start().hello(AGENTS)
    assert info["problems"] == []
    assert info["loop"] == "uvloop"
    assert {"msgpack", "structlog"} <= set(info["packages"])
    hooked, ledger, _shop = sorted(info["classes"], key=lambda kind: kind["name"])
    assert hooked["autostart"] == [["first", {"n": 1}], ["second", {}]]
    assert (hooked["on_start"], hooked["on_stop"], ledger["on_start"]) == (True, True, False)
    assert ledger["file"] == str(AGENTS / "ledger.py")
    assert ledger["doc"] == "Adds up.\n\nA second paragraph."
    assert ledger["handlers"]["add"] == {
        "kind": "async",
        "stream": False,
        "interleave": False,
        "readonly": False,
        "idempotent": False,
        "params": {"n": {"type": "int", "required": True, "scalar": "int"}},
        "open": False,
    }
    assert ledger["handlers"]["add_in_thread"]["kind"] == "sync"
    assert ledger["handlers"]["use_till"]["params"] == {}
    assert ledger["state"]["total"] == {"type": "int", "required": False, "scalar": "int"}
    assert ledger["state"]["entries"]["scalar"] is None


def test_the_interpreter_ends_when_its_input_is_closed(peer: Peer) -> None:
    peer.close_input()
    assert peer.wait() == _wire.EXIT_CLOSED


def test_the_interpreter_ends_although_its_loop_is_stuck(peer: Peer) -> None:
    number = peer.deliver(1, "hog", {"seconds": 60.0})
    eventually(lambda: peer.words()[2] == number)
    peer.close_input()
    assert peer.wait() == _wire.EXIT_CLOSED


def test_the_interpreter_ends_before_it_was_greeted(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.close_input()
    assert peer.wait() == _wire.EXIT_CLOSED


def test_stop_closes_the_resources(peer: Peer, log: LogServer) -> None:
    assert peer.call(1, "use_till").body == 1
    peer.send((_wire.OP_STOP, 100))
    assert peer.wait() == _wire.EXIT_CLOSED
    log.wait_for(lambda server: b"till closed" in server.output)


def test_stop_cancels_what_doesnt_end_within_the_grace(peer: Peer) -> None:
    number = peer.deliver(1, "begin_and_wait")
    peer.request()
    peer.send((_wire.OP_STOP, 1))
    assert peer.done(number).status == _wire.STATUS_CANCELLED
    assert peer.wait() == _wire.EXIT_CLOSED


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\x00\x00\x00\x03\x83\x64\x00",
        b"\x00\x00\x00\x08\x83l\x00\x00\x00\x01h\x01j",
    ],
)
def test_garbage_ends_the_interpreter_as_a_protocol_error(peer: Peer, log: LogServer, data: bytes) -> None:
    peer.send_bytes(data)
    assert peer.wait() == _wire.EXIT_PROTOCOL
    log.wait_for(lambda server: b"protocol error" in server.output)


def test_an_unknown_opcode_is_a_protocol_error(peer: Peer) -> None:
    peer.send((99, 1))
    assert peer.wait() == _wire.EXIT_PROTOCOL


def test_another_version_is_told_ours_before_the_end(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.hello(version=2)
    assert peer.wait() == _wire.EXIT_PROTOCOL
    assert "protocol 2" in peer.errors.read_text()


@pytest.mark.parametrize("package", ["msgpack", "structlog"])
def test_a_missing_package_is_named_with_its_remedy(
    start: Callable[..., Peer], tmp_path: pathlib.Path, package: str
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text(f"raise ModuleNotFoundError({package!r})")
    peer = start(PYTHONPATH=f"{hidden}{os.pathsep}{PACKAGE}")
    assert peer.wait() == _wire.EXIT_UNUSABLE
    (line,) = peer.errors.read_text().splitlines()
    assert f"-m pip install {package}" in line


def test_a_python_that_is_too_old_says_what_is_wanted(tmp_path: pathlib.Path) -> None:
    script = (
        "import sys, runpy; sys.version_info = (3, 8, 1); "
        f"runpy.run_path({str(PACKAGE / 'pyre' / '__main__.py')!r}, run_name='__main__')"
    )
    environment = {"PYTHONPATH": str(PACKAGE), "PYRE_RECORDER": str(tmp_path / "recorder")}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert ended.returncode == _wire.EXIT_UNUSABLE
    (line,) = ended.stderr.decode().splitlines()
    assert "3.8.1" in line
    assert "3.11" in line


def test_main_can_be_read_by_an_old_python() -> None:
    source = (PACKAGE / "pyre" / "__main__.py").read_text()
    compile_as_of_3_6(source)


def compile_as_of_3_6(source: str) -> None:
    import ast  # noqa: PLC0415

    ast.parse(source, feature_version=(3, 6))


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_started_by_hand_it_tells_how_it_is_used(arguments: list[str]) -> None:
    main = str(PACKAGE / "pyre" / "__main__.py")
    ended = subprocess.run(
        [sys.executable, main, *arguments],
        env={"PYTHONPATH": str(PACKAGE)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == _wire.EXIT_BY_HAND
    assert ended.stderr.startswith(b"usage:")


def test_without_uvloop_asyncio_does(start: Callable[..., Peer], tmp_path: pathlib.Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "uvloop.py").write_text("raise ImportError('uvloop')")
    peer = start(PYTHONPATH=f"{hidden}{os.pathsep}{PACKAGE}")
    assert peer.hello(AGENTS)["loop"] == "asyncio"
    peer.activate(1, "Ledger")
    assert peer.call(1, "reply_much", {"size": 3_000_000}).status == 0
    done = peer.call(1, "leave_from_task")
    assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, "SystemExit")
    peer.activate(1, "Ledger", epoch=2)
    assert peer.call(1, "in_a_task", epoch=2).body is True
    peer.close_input()
    assert peer.wait() == _wire.EXIT_CLOSED


def test_a_file_that_fails_to_import_hurts_no_other(start: Callable[..., Peer], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "good.py").write_text("from pyre import Agent\nclass Good(Agent): pass\n")
    (folder / "exits.py").write_text("import sys\nfrom pyre import Agent\nclass Gone(Agent): pass\nsys.exit(1)\n")
    (folder / "broken.py").write_text("class Torn(Agent):\n    def (\n")
    peer = start()
    info = peer.hello(folder)
    assert [kind["name"] for kind in info["classes"]] == ["Good"]
    by_file = {pathlib.Path(problem["file"]).name: problem for problem in info["problems"]}
    assert by_file["exits.py"]["classes"] == ["Gone"]
    assert "SystemExit" in by_file["exits.py"]["error"]
    assert by_file["broken.py"]["classes"] == ["Torn"]
    assert "SyntaxError" in by_file["broken.py"]["traceback"]


# --- Messages ---


def test_a_reply_brings_the_new_state_and_only_a_new_one(peer: Peer) -> None:
    first = peer.call(1, "add", {"n": 2})
    assert (first.status, first.body) == (0, 7)
    assert first.state == {"total": 7, "entries": [], "anything": None}
    assert peer.call(1, "add", {"n": 0}).state is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"n": "x"}, "argument 'n': expected int, got str ('x')"),
        ({"n": True}, "argument 'n': expected int, got bool (True)"),
        ({}, "missing argument 'n'"),
        ({"n": 1, "m": 2}, "unknown argument 'm' (expected: n)"),
    ],
)
def test_arguments_that_dont_fit_are_refused_before_any_code_runs(peer: Peer, args: dict[str, Any], words: str) -> None:
    done = peer.call(1, "add", args)
    assert done.status == _wire.STATUS_REFUSED
    assert done.body == {"kind": "invalid_args", "message": words, "details": {}}
    assert peer.words()[1] == 0
    assert peer.call(1, "add", {"n": 1}).body == 6


def test_an_unknown_handler_is_refused_with_the_known_ones(peer: Peer) -> None:
    done = peer.call(1, "nope")
    assert (done.status, done.body["kind"]) == (_wire.STATUS_REFUSED, "unknown_handler")
    assert "add_in_thread" in done.body["message"]


def test_an_expired_message_is_refused(peer: Peer) -> None:
    done = peer.call(1, "add", {"n": 1}, deadline_ms=1)
    assert (done.status, done.body["kind"]) == (_wire.STATUS_REFUSED, "deadline")


def test_a_class_that_isnt_there_makes_the_activation_unusable(peer: Peer) -> None:
    peer.activate(2, "Nobody")
    done = peer.call(2, "add")
    assert (done.status, done.body["kind"]) == (_wire.STATUS_UNUSABLE, "unknown_class")


@pytest.mark.parametrize(
    ("state", "args", "kind", "words"),
    [
        (b"", {"total": "x"}, "invalid_args", "start arguments: field 'total': expected int, got str ('x')"),
        (b"", {"totl": 1}, "invalid_args", "start arguments: unknown field 'totl'"),
        (b"\x81\xa5total\xa1x", {}, "decode", "committed state: field 'total': expected int, got str ('x')"),
        (b"\x81\xa4gone\x01", {}, "decode", "committed state: unknown field 'gone'"),
        (b"\xc1", {}, "decode", "committed state"),
    ],
)
def test_a_state_that_cant_be_made_is_an_error_and_never_a_blank_agent(
    peer: Peer, state: bytes, args: dict[str, Any], kind: str, words: str
) -> None:
    peer.activate(2, "Ledger", state, args)
    done = peer.call(2, "add", {"n": 1})
    assert (done.status, done.body["kind"]) == (_wire.STATUS_UNUSABLE, kind)
    assert words in done.body["message"]


def test_an_activation_that_isnt_held_is_told(peer: Peer) -> None:
    assert peer.call(9, "add", {"n": 1}).status == _wire.STATUS_EVICTED
    assert peer.call(1, "add", {"n": 1}, epoch=2).status == _wire.STATUS_EVICTED


def test_a_handler_that_raises_is_told_with_its_traceback_and_leaves_nothing(peer: Peer) -> None:
    done = peer.call(1, "fail")
    assert (done.status, done.state_bytes) == (_wire.STATUS_FAILED, [])
    assert (done.body["type"], done.body["message"], done.body["expected"]) == ("ValueError", "negative size", False)
    assert "in fail\n" in done.body["traceback"]
    assert "_message.py" not in done.body["traceback"]
    assert peer.call(1, "add", {"n": 1}).status == _wire.STATUS_EVICTED


@pytest.mark.parametrize(
    ("handler", "kind"),
    [("leave", "SystemExit"), ("leave_thread", "KeyboardInterrupt"), ("recurse", "RecursionError")],
)
def test_what_would_end_an_interpreter_is_the_handlers_failure(peer: Peer, handler: str, kind: str) -> None:
    done = peer.call(1, handler)
    assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, kind)
    assert len(done.body["traceback"]) < 20_000
    peer.activate(2, "Ledger")
    assert peer.call(2, "add", {"n": 1}).body == 1


def test_an_exception_that_cant_be_worded_is_answered(peer: Peer) -> None:
    done = peer.call(1, "speak_not")
    assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, "UnspeakableError")
    assert done.body["message"] == "<its __str__ raised RuntimeError>"


def test_a_refusal_is_expected_and_carries_its_data(peer: Peer) -> None:
    done = peer.call(1, "refuse")
    assert done.status == _wire.STATUS_REJECTED
    assert (done.body["message"], done.body["data"], done.body["expected"]) == ("no such order", {"order": 7}, True)
    peer.activate(1, "Ledger", epoch=2)
    assert peer.call(1, "look_up", epoch=2).status == _wire.STATUS_REJECTED


def test_a_reply_that_cant_travel_names_the_path(peer: Peer) -> None:
    done = peer.call(1, "reply_badly")
    assert (done.status, done.body["kind"]) == (_wire.STATUS_FAILED, "encode")
    assert done.body["details"]["path"] == '["orders"][1]["price"]'


def test_a_state_that_cant_be_kept_names_the_path_and_changes_nothing(peer: Peer) -> None:
    done = peer.call(1, "keep_badly")
    assert (done.status, done.body["kind"], done.state_bytes) == (_wire.STATUS_FAILED, "encode", [])
    assert done.body["details"]["path"] == '["anything"]["a"][0]'


def test_records_are_made_and_written_back(peer: Peer) -> None:
    done = peer.call(1, "enter", {"entry": {"amount": 3}})
    assert done.body == {"amount": 3, "note": ""}
    assert done.state["entries"] == [{"amount": 3, "note": ""}]
    refused = peer.call(1, "enter", {"entry": {"amount": "3"}})
    assert refused.body["message"] == "argument 'entry.amount': expected int, got str ('3')"


def test_a_plain_handler_runs_in_a_thread(peer: Peer) -> None:
    done = peer.call(1, "add_in_thread", {"n": 1})
    assert done.body.startswith("pyre-handler-")
    assert done.state["total"] == 6


def test_a_handler_runs_in_a_task(peer: Peer) -> None:
    assert peer.call(1, "in_a_task").body is True


def test_nothing_but_frames_reaches_the_protocol(peer: Peer, log: LogServer) -> None:
    assert peer.call(1, "say").status == 0
    wanted = [b"printed", b"complained", b"raw", b"child", b"child-error"]
    log.wait_for(lambda server: all(word in server.output.splitlines() for word in wanted))


def test_without_a_log_output_goes_to_standard_error(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.hello(AGENTS)
    peer.activate(1, "Ledger")
    assert peer.call(1, "say").status == 0
    assert {"printed", "raw", "child", "complained"} <= set(peer.errors.read_text().splitlines())


# --- What handlers ask for ---


def test_a_call_is_asked_for_and_its_answer_handed_in(peer: Peer) -> None:
    number = peer.deliver(1, "wait")
    request = peer.request()
    assert request[1] == number
    assert request[3:6] == (_wire.VERB_CALL, b"somebody", b"answer")
    assert (_body.unpack(request[6]), request[7]) == ({"n": 1}, 2500)
    peer.answer(request, "yes")
    assert peer.done(number).body == "yes"


def test_an_error_that_was_answered_is_raised(peer: Peer) -> None:
    number = peer.deliver(1, "wait")
    body = _body.pack({"kind": "not_found", "message": "nobody", "details": {}})
    peer.send((_wire.OP_RESULT, peer.request()[2], _wire.RESULT_ERROR, body))
    done = peer.done(number)
    assert (done.status, done.body["type"], done.body["message"]) == (_wire.STATUS_FAILED, "NotFound", "nobody")


def test_a_thread_waits_for_its_call(peer: Peer) -> None:
    number = peer.deliver(1, "wait_in_thread")
    peer.answer(peer.request(), [1])
    assert peer.done(number).body == [1]


def test_a_commit_in_the_middle_stays_when_the_rest_fails(peer: Peer) -> None:
    number = peer.deliver(1, "commit_and_fail")
    request = peer.request()
    assert request[3] == _wire.VERB_COMMIT
    assert _body.unpack(request[6])["total"] == 6
    peer.answer(request)
    assert peer.done(number).status == _wire.STATUS_FAILED


def test_timers_ride_with_the_commit(peer: Peer) -> None:
    number = peer.deliver(1, "later")
    first, second = peer.done(number).effects
    assert first[:1] + first[2:4] == (_wire.EFFECT_TIMER, 500, b"add")
    assert second == (_wire.EFFECT_TIMER, b"k", 1500, b"add", _body.pack({"n": 2}))


def test_a_cancelled_handler_is_answered(peer: Peer) -> None:
    number = peer.deliver(1, "begin_and_wait")
    peer.request()
    peer.send((_wire.OP_CANCEL, number))
    done = peer.done(number)
    assert (done.status, done.body["kind"]) == (_wire.STATUS_CANCELLED, "cancelled")


def test_a_drop_is_confirmed_once_nothing_runs(peer: Peer) -> None:
    number = peer.deliver(1, "begin_and_wait")
    peer.request()
    peer.send((_wire.OP_DROP, 1, 1))
    assert peer.done(number).status == _wire.STATUS_CANCELLED
    assert peer.receive(lambda e: e[0] == _wire.OP_DROPPED) == (_wire.OP_DROPPED, 1, 1)


def test_a_drop_waits_for_the_thread(peer: Peer, log: LogServer) -> None:
    number = peer.deliver(1, "begin_and_block")
    peer.request()
    peer.send((_wire.OP_DROP, 1, 1))
    assert peer.done(number).status == _wire.STATUS_CANCELLED
    peer.receive(lambda e: e[0] == _wire.OP_DROPPED)
    log.wait_for(lambda server: any(record.get("event") == "let go" for record in server.records))


def test_a_drop_of_what_isnt_held_is_confirmed_at_once(peer: Peer) -> None:
    peer.send((_wire.OP_DROP, 77, 3))
    assert peer.receive(lambda e: e[0] == _wire.OP_DROPPED) == (_wire.OP_DROPPED, 77, 3)


def test_an_interleaving_handler_sees_the_last_commit_beside_a_running_one(peer: Peer) -> None:
    number = peer.deliver(1, "commit_and_fail")
    request = peer.request()
    assert peer.call(1, "peek").body == 5
    peer.answer(request)
    assert peer.done(number).status == _wire.STATUS_FAILED


def test_an_interleaving_handler_cant_write(peer: Peer) -> None:
    done = peer.call(1, "meddle")
    assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, "ReadOnly")


def test_a_readonly_handler_commits_nothing(peer: Peer) -> None:
    done = peer.call(1, "forget")
    assert (done.status, done.state_bytes) == (0, [])


def test_a_task_that_outlives_its_handler_is_cancelled_and_logged(peer: Peer, log: LogServer) -> None:
    assert peer.call(1, "leave_task").status == 0
    log.wait_for(lambda server: any("cancelled 1 tasks" in r.get("event", "") for r in server.records))
    assert peer.call(1, "background_cancelled").body is True


def test_a_task_cant_end_the_interpreter_either(peer: Peer) -> None:
    done = peer.call(1, "leave_from_task")
    assert (done.status, done.body["type"]) == (_wire.STATUS_FAILED, "SystemExit")
    peer.activate(2, "Ledger")
    assert peer.call(2, "add", {"n": 1}).body == 1


def test_replies_larger_than_the_pipe_arrive_whole_and_in_order(peer: Peer) -> None:
    sizes = [3_000_000, 10, 5_000_000, 20]
    numbers = [peer.deliver(1, "reply_much", {"size": size}) for size in sizes]
    assert [len(peer.done(number).body) for number in numbers] == sizes


def test_replies_that_dont_fit_one_frame_go_in_several(peer: Peer) -> None:
    size = 15 * 1024 * 1024
    args = _body.pack({"size": size})
    peer.send(
        *((_wire.OP_DELIVER, number, 1, 1, 0, b"reply_much", args, 0, number) for number in range(1, 6)),
    )
    assert [len(peer.done(number).body) for number in range(1, 6)] == [size] * 5


def test_a_reply_that_is_too_large_is_the_handlers_failure(peer: Peer) -> None:
    done = peer.call(1, "reply_much", {"size": 17 * 1024 * 1024})
    assert (done.status, done.body["kind"]) == (_wire.STATUS_FAILED, "too_large")


def test_a_cast_that_nobody_waited_for_is_logged_once_when_it_fails(peer: Peer, log: LogServer) -> None:
    number = peer.deliver(1, "cast_into_nothing")
    request = peer.request()
    assert peer.done(number).status == 0
    body = _body.pack({"kind": "not_found", "message": "no such agent", "details": {}})
    peer.send((_wire.OP_RESULT, request[2], _wire.RESULT_ERROR, body))
    log.wait_for(lambda server: any("no such agent" in (r.get("exception") or "") for r in server.records))


def test_a_context_is_of_no_use_after_its_message(peer: Peer) -> None:
    assert peer.call(1, "keep_context").status == 0
    assert peer.call(1, "use_kept_context").body["type"] == "StaleActivation"


def test_the_least_recently_used_activations_are_evicted(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.hello(AGENTS, max_activations=4)
    for handle in (1, 2, 3):
        peer.activate(handle, "Ledger")
        assert peer.call(handle, "add", {"n": handle}).status == 0
    busy = peer.deliver(2, "begin_and_wait")
    peer.request()
    assert peer.call(1, "add", {"n": 1}).status == 0
    for handle in (4, 5):
        peer.activate(handle, "Ledger")
    statuses = {handle: peer.call(handle, "forget").status for handle in (1, 3, 4, 5)}
    assert statuses == {1: 0, 3: _wire.STATUS_EVICTED, 4: 0, 5: 0}
    peer.send((_wire.OP_CANCEL, busy))
    assert peer.done(busy).status == _wire.STATUS_CANCELLED


def test_messages_begin_in_the_order_of_their_numbers(peer: Peer) -> None:
    numbers = [peer.deliver(1, "add", {"n": 1}) for _ in range(50)]
    assert [peer.done(number).body for number in numbers] == list(range(6, 56))
    assert peer.words()[1] == numbers[-1]


def test_a_resource_is_opened_once(peer: Peer) -> None:
    peer.activate(2, "Ledger")
    numbers = [peer.deliver(1, "use_till"), peer.deliver(2, "use_till")]
    assert [peer.done(number).body for number in numbers] == [1, 1]
    assert peer.call(1, "use_by_name", {"name": "till"}).body is True


def test_a_resource_that_doesnt_open_fails_the_handler_that_asked(peer: Peer) -> None:
    done = peer.call(1, "use_by_name", {"name": "broken_till"})
    assert (done.status, done.body["type"], done.body["message"]) == (_wire.STATUS_FAILED, "OSError", "no till")
    peer.activate(2, "Ledger")
    assert peer.call(2, "add", {"n": 1}).status == 0


def test_hooks_run_as_their_own_kinds_of_message(peer: Peer, log: LogServer) -> None:
    peer.activate(2, "Hooked")
    started = peer.call(2, "", kind=_wire.KIND_ON_START)
    assert started.state == {"n": 0, "log": ["start agent-2"]}
    assert started.effects[0][2:4] == (1000, b"tick")
    assert peer.call(2, "tick").body == 1
    assert peer.call(2, "", kind=_wire.KIND_ON_STOP).status == 0
    log.wait_for(lambda server: b"stopped agent-2" in server.output)
    failed = peer.call(2, "fail")
    assert failed.body["message"] == "tick"
    log.wait_for(lambda server: b"cleaned up after tick" in server.output)
    log.wait_for(lambda server: any(record.get("event") == "on_error failed" for record in server.records))


def test_a_class_without_hooks_commits_its_start_arguments(peer: Peer) -> None:
    assert peer.call(1, "", kind=_wire.KIND_ON_START).state["total"] == 5


# --- Functions ---


def test_a_function_runs_without_an_agent(peer: Peer) -> None:
    assert peer.done(peer.run("math", "sqrt", [4.0])).body == 2.0
    assert peer.done(peer.run("fractions", "Fraction.from_float", {"f": 0.5})).status == _wire.STATUS_FAILED
    assert peer.done(peer.run("asyncio", "sleep", {"delay": 0, "result": 3})).body == 3


@pytest.mark.parametrize(("module", "function"), [("no_such_module", "f"), ("math", "no_such_function")])
def test_an_unknown_function_is_refused(peer: Peer, module: str, function: str) -> None:
    done = peer.done(peer.run(module, function, []))
    assert (done.status, done.body["kind"]) == (_wire.STATUS_REFUSED, "unknown_handler")


# --- The recorder and the watchdog ---


def test_the_recorder_tells_what_runs_and_what_began(peer: Peer) -> None:
    first = peer.words()
    assert first[0] == 0x0000000145525950
    number = peer.deliver(1, "begin_and_block")
    request = peer.request()
    words = peer.words()
    assert (words[1], words[2], words[8]) == (number, 0, number)
    peer.answer(request)
    peer.done(number)
    eventually(lambda: peer.words()[8] == 0)
    eventually(lambda: peer.words()[6] == 1)
    eventually(lambda: peer.words()[4] > first[4])


def test_a_handler_that_holds_the_loop_is_named_once_with_its_stack(peer: Peer, log: LogServer) -> None:
    assert peer.call(1, "hog", {"seconds": 0.4}).status == 0
    stalls = log.wait_for(lambda server: [record for record in server.records if record["type"] == "stall"])
    (stall,) = stalls
    assert (stall["number"], stall["agent"], stall["class"], stall["handler"]) == (1, "agent-1", "Ledger", "hog")
    assert 100 <= stall["ran_ms"] < 400
    assert "time.sleep(seconds)" in stall["stack"]


def test_records_are_labelled_with_the_message(peer: Peer, log: LogServer) -> None:
    number = peer.deliver(1, "log")
    assert peer.done(number).status == 0
    structured, plain = log.wait_for(lambda server: server.records if len(server.records) > 1 else None)
    labels = {"agent": "agent-1", "class": "Ledger", "handler": "log", "message": number}
    assert labels.items() <= structured.items()
    assert labels.items() <= plain.items()
    assert (structured["level"], structured["event"], structured["fields"]) == ("info", "structured", {"n": 1})
    assert (plain["level"], plain["event"], plain["logger"]) == ("warning", "plain 7", "lib")
    assert "ValueError: why" in plain["exception"]
