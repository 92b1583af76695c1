"""An operator's commands to a running node: `bin/pyre ctl`, `mix pyre.ctl`, `python -m pyre.ctl`.

Speaks to the node's control socket (lib/pyre/control.ex). Needs nothing but msgpack, so that it starts at once.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]

from pyre import _ctl_text as text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["VERBS", "NoNodeError", "RefusedError", "ask", "default_path", "find_socket", "main", "parser"]

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NO_NODE = 69
CONNECT_SECONDS = 5.0
MIB = 1024 * 1024

EPILOG = """\
The node is found by --control, PYRE_CONTROL, /run/pyre/control, or $XDG_RUNTIME_DIR/pyre/control
(/tmp/pyre-UID/control without it), whichever is there first.

exit status: 0 done, 1 the node refused, 2 wrong usage, 69 no node answers
"""


class RefusedError(Exception):
    """The node's answer is an error."""


class NoNodeError(Exception):
    """Nobody answers."""


def default_path() -> Path:
    """Where a node listens unless it is told otherwise."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "pyre/control" if base else Path(f"/tmp/pyre-{os.getuid()}/control")  # noqa: S108  # 0700


def find_socket(given: str | None) -> Path:
    """Find the socket of the node that is meant."""
    named = given or os.environ.get("PYRE_CONTROL")
    if named:
        return Path(named)
    candidates = [Path("/run/pyre/control"), default_path()]
    return next((path for path in candidates if path.exists()), candidates[-1])


def ask(path: Path, verb: str, args: dict[str, Any]) -> Iterator[Any]:
    """Ask, and give what the node answers: any number of values, the last one the answer itself."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(str(path))
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise NoNodeError(f"no node answers at {path} ({reason.lower()}); is it running? see --control") from exc
        connection.settimeout(None)
        request = msgpack.packb({"verb": verb, "args": args})
        connection.sendall(len(request).to_bytes(4, "big") + request)
        while True:
            answer = msgpack.unpackb(_packet(connection), strict_map_key=False)
            if "error" in answer:
                raise RefusedError(f"{answer['error']['kind']}: {answer['error']['message']}")
            if "ok" in answer:
                yield answer["ok"]
                return
            yield answer["more"]


def _packet(connection: socket.socket) -> bytes:
    size = int.from_bytes(_exactly(connection, 4), "big")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), MIB))
        if not part:
            raise NoNodeError("the node closed the connection before it had answered")
        parts += part
    return bytes(parts)


# The command line


def _json_map(given: str) -> dict[str, Any]:
    try:
        value = json.loads(given)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be a JSON object, such as {"n": 1}')
    return value


def _letter(given: str) -> int | str:
    return given if given == "all" else int(given)


def _milliseconds(given: str) -> int:
    return round(float(given) * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


# The arguments of each verb: as argparse takes them.
Argument = tuple[tuple[str, ...], dict[str, Any]]


def _arg(*names: str, **settings: Any) -> Argument:  # noqa: ANN401  # argparse's own
    return names, settings


ID = _arg("id")
HANDLER = _arg("handler")
ARGS = _arg("args", nargs="?", type=_json_map, default={}, metavar="JSON", help="the arguments, a JSON object")
TIMEOUT = _arg("--timeout", dest="timeout_ms", type=_milliseconds, help="in seconds")
BY = _arg("--by", default=_user(), help="who decides (the user's login name)")
# Exactly one of these.
WHOM = [
    _arg("--agent"),
    _arg("--class", dest="class"),
    _arg("--group"),
    _arg("--all", action="store_true"),
]

VERBS: dict[str, tuple[str, Callable[[Any], str], list[Argument]]] = {
    "status": ("the node on a few lines", text.status, []),
    "health": ("ready or not, and why; exit status 1 where it is not ready", text.health, []),
    "doctor": ("what is wrong, and how to mend it; exit status 1 where something is", text.doctor, []),
    "agents": (
        "the agents",
        text.agents,
        [
            _arg("--class", dest="class", help="only of this class"),
            _arg("--status", help="only with this status"),
            _arg("--limit", type=int, default=100, help="at most so many (100)"),
        ],
    ),
    "inspect": ("one agent, with its committed state", text.fields, [ID]),
    "call": ("call a handler and print its reply", text.plain, [ID, HANDLER, ARGS, TIMEOUT]),
    "cast": ("send a message without a reply", text.plain, [ID, HANDLER, ARGS]),
    "start": (
        "start an agent",
        text.plain,
        [
            _arg("class"),
            _arg("--id"),
            _arg("--args", type=_json_map, metavar="JSON", help="the start arguments, a JSON object"),
        ],
    ),
    "stop-agent": ("stop an agent; its state is forgotten", text.plain, [ID]),
    "restart": ("restart an agent, a terminated one too", text.plain, [ID]),
    "tree": ("the supervision tree", text.tree, []),
    "workers": ("the interpreters", text.workers, []),
    "recycle": ("replace an interpreter between two messages", text.plain, [_arg("worker", type=int)]),
    "pause": ("hold the messages of an agent, a class, a group or all", text.plain, WHOM),
    "resume": ("lift a pause", text.plain, WHOM),
    "quarantine": ("who hurt an interpreter, and how", text.quarantine, []),
    "park": (
        "keep an agent from running, its mailbox stays",
        text.plain,
        [ID, _arg("--reason", help="what to tell those who ask why")],
    ),
    "unpark": ("let a parked agent run again", text.plain, [ID]),
    "dead-letters": (
        "messages that were given up",
        text.letters,
        [
            _arg("--agent", help="only this agent's"),
            _arg("--retry", type=_letter, metavar="LETTER", help="put one, or all, into the mailbox again"),
            _arg("--discard", type=_letter, metavar="LETTER", help="throw one, or all, away"),
        ],
    ),
    "inbox": (
        "what agents ask people, and nobody has answered yet",
        text.inbox,
        [
            _arg("--agent", help="only this agent's"),
            _arg("--class", dest="class", help="only of this class"),
            _arg("--assignee", help="only what is for this person"),
            _arg("--status", help="open (the default), decided or all"),
        ],
    ),
    "answer": (
        "answer a question of the inbox",
        text.plain,
        [_arg("escalation", type=int), _arg("answer"), BY],
    ),
    "dismiss": ("take a question out of the inbox without an answer", text.plain, [_arg("escalation", type=int), BY]),
    "history": (
        "what happened to an agent lately",
        text.history,
        [ID, _arg("--limit", type=int, help="the last so many entries (50)")],
    ),
    "trace": (
        "the same live, until it is interrupted",
        text.event,
        [ID, TIMEOUT, _arg("--limit", type=int, help="so many entries at most (1000)")],
    ),
    "reload": (
        "run what the agents' directories hold now, without losing a call",
        text.fields,
        [
            _arg("--force", action="store_true", help="also where no file has changed"),
            _arg("--now", action="store_true", help="for all agents at once, without a trial"),
        ],
    ),
    "generations": ("the generations of agents' code", text.generations, []),
    "metrics": ("all figures, in the text format of Prometheus", text.plain, []),
    "drain": ("take nothing new, and wait until nothing runs; there is no way back", text.plain, [TIMEOUT]),
    "stop": ("drain and end the node", text.plain, []),
}


def parser() -> argparse.ArgumentParser:
    """All verbs with their arguments."""
    top = argparse.ArgumentParser(
        prog=os.environ.get("PYRE_CTL_NAME", "pyre ctl"),
        description="Look at a running node, and tell it what to do.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (about, _show, arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=about)
        verb.add_argument("--control", metavar="PATH", help="the node's control socket; PYRE_CONTROL by default")
        verb.add_argument("--json", action="store_true", help="print the answer as JSON")
        taker = verb.add_mutually_exclusive_group(required=True) if arguments is WHOM else verb
        for names, settings in arguments:
            taker.add_argument(*names, **settings)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    options = vars(parser().parse_args(argv))
    verb = options.pop("verb")
    path, as_json = find_socket(options.pop("control")), options.pop("json")
    args = {key: value for key, value in options.items() if value is not None}
    answer = None
    try:
        for answer in ask(path, verb, args):
            shown = text.as_json(answer) if as_json else VERBS[verb][1](answer)
            if shown:
                sys.stdout.write(shown.rstrip("\n") + "\n")
                sys.stdout.flush()
    except RefusedError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_REFUSED
    except NoNodeError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_NO_NODE
    except (BrokenPipeError, KeyboardInterrupt):
        return EXIT_REFUSED
    return 0 if _good(verb, answer) else EXIT_REFUSED


def _good(verb: str, answer: Any) -> bool:  # noqa: ANN401  # whatever MessagePack carries
    """Two verbs ask how it is, and scripts want a plain yes or no."""
    if verb == "health":
        return bool(answer) and answer["status"] == "ready"
    return verb != "doctor" or all(finding["status"] != "wrong" for finding in answer)


if __name__ == "__main__":
    sys.exit(main())
