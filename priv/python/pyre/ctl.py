"""An operator's commands to a running node: `bin/pyre ctl`, `mix pyre.ctl`, `python -m pyre.ctl`.

Speaks to the node's control socket (lib/pyre/control.ex). Needs nothing but msgpack, so that it starts at once.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_NO_NODE = 69
CONNECT_SECONDS = 5.0
WIDEST = 60
SHORTEST_SECOND = 60
MIB = 1024 * 1024

EPILOG = """\
The node is found by --socket, PYRE_CONTROL, /run/pyre/control, or $XDG_RUNTIME_DIR/pyre/control
(/tmp/pyre-UID/control without it), whichever is there first.

exit status: 0 done, 1 the node refused, 2 wrong usage, 69 no node answers
"""


class Refused(Exception):
    """The node's answer is an error."""


class NoNode(Exception):
    """Nobody answers."""


def default_path() -> Path:
    """Where a node listens unless it is told otherwise."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "pyre/control" if base else Path(f"/tmp/pyre-{os.getuid()}/control")  # noqa: S108  # 0700


def find_socket(given: str | None) -> Path:
    """The socket of the node that is meant."""
    named = given or os.environ.get("PYRE_CONTROL")
    if named:
        return Path(named)
    candidates = [Path("/run/pyre/control"), default_path()]
    return next((path for path in candidates if path.exists()), candidates[-1])


def ask(path: Path, verb: str, args: dict[str, Any]) -> Iterator[Any]:
    """What the node answers: any number of values, the last one the answer itself."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(str(path))
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise NoNode(f"no node answers at {path} ({reason.lower()}); is it running? see --socket") from exc
        connection.settimeout(None)
        request = msgpack.packb({"verb": verb, "args": args})
        connection.sendall(len(request).to_bytes(4, "big") + request)
        while True:
            answer = msgpack.unpackb(_packet(connection), strict_map_key=False)
            if "error" in answer:
                raise Refused(f"{answer['error']['kind']}: {answer['error']['message']}")
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
            raise NoNode("the node closed the connection before it had answered")
        parts += part
    return bytes(parts)


# Showing


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """Columns, as wide as their widest cell, at most WIDEST."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [list(head), *cells]]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict | list):
        value = json.dumps(value, default=str, ensure_ascii=False)
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / MIB:.0f} MB"


def show_status(status: dict[str, Any]) -> str:
    """The node on a few lines."""
    health = status["health"]
    counters = status["counters"]
    agents = ", ".join(f"{count} {name}" for name, count in sorted(status["agents"].items()) if count) or "none"
    lines = [
        f"{status['name']}  {health['status']}  Pyre {status['version']}",
        *(f"  ! {reason}" for reason in health["reasons"]),
        f"agents    {agents}",
        f"workers   {status['workers']} ready, {counters['worker_deaths']} died, {counters['worker_recycles']} recycled",
        f"messages  {counters['delivered']} delivered, {status['messages_waiting']} in mailboxes, "
        f"{counters['failures']} failed, {counters['retries']} retried",
        f"restarts  {counters['restarts']}, {counters['terminations']} terminated, {counters['parked']} parked",
        f"timers    {status['timers']}",
        f"letters   {status['dead_letters']} dead",
    ]
    lines += [f"paused    {what}" for what in status["paused"]]
    lines += [f"  ! {problem['file']}: {problem['error']}" for problem in status["problems"]]
    return "\n".join(lines)


def show_health(health: dict[str, Any]) -> str:
    """One word, and why."""
    return "\n".join([health["status"], *(f"  ! {reason}" for reason in health["reasons"])])


def show_agents(found: dict[str, Any]) -> str:
    """One line an agent."""
    rows = [[agent["id"], agent["class"], agent["status"], agent["mailbox"]] for agent in found["agents"]]
    text = table(rows, ["ID", "CLASS", "STATUS", "MAILBOX"])
    missing = found["total"] - len(rows)
    return text + (f"\n... and {missing} more; see --limit" if missing else "")


def show_fields(fields: Any) -> str:
    """A map as lines, anything else as JSON."""
    if not isinstance(fields, dict):
        return _json(fields)
    width = max(map(len, fields), default=0)
    return "\n".join(f"{key.ljust(width)}  {_field(value)}" for key, value in sorted(fields.items()))


def _field(value: Any) -> str:
    return value if isinstance(value, str) else _json(value, indent=None)


def show_tree(node: dict[str, Any], lead: str = "", branch: str = "") -> str:
    """The supervision tree, drawn."""
    notes = [str(node[key]) for key in ("class", "strategy", "status") if node.get(key)]
    if node.get("restarts"):
        notes.append(f"{node['restarts']} restarts")
    lines = [f"{lead}{branch}{node.get('name') or node['kind']}  {' '.join(notes)}".rstrip()]
    children = node.get("children") or []
    below = lead + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
    for at, child in enumerate(children, start=1):
        lines.append(show_tree(child, below, "└── " if at == len(children) else "├── "))
    return "\n".join(lines)


def show_workers(workers: list[dict[str, Any]]) -> str:
    """One line a worker."""
    rows = [
        [
            worker["worker"],
            worker["role"],
            worker["status"],
            worker["os_pid"],
            worker["activations"],
            f"{worker['lag_us'] / 1000:.1f} ms",
            _size(worker["rss_bytes"]),
            worker["deaths"],
            (worker["last_error"] or {}).get("error"),
        ]
        for worker in workers
    ]
    return table(rows, ["WORKER", "ROLE", "STATUS", "PID", "AGENTS", "LAG", "RSS", "DEATHS", "LAST ERROR"])


def show_quarantine(agents: list[dict[str, Any]]) -> str:
    """One line an agent that something is known against."""
    rows = [
        [agent["id"], agent["class"], agent["status"], agent["strikes"], agent["evidence"][0]["reason"] if agent["evidence"] else "suspect"]
        for agent in agents
    ]
    return table(rows, ["ID", "CLASS", "STATUS", "STRIKES", "WHY"])


def show_letters(letters: Any) -> str:
    """One line a dead letter."""
    if not isinstance(letters, list):
        return "" if letters is None else _json(letters)
    rows = [
        [letter["id"], letter["agent"], letter["handler"], letter["reason"], letter["attempts"], letter["at"], (letter["error"] or {}).get("error")]
        for letter in letters
    ]
    return table(rows, ["LETTER", "AGENT", "HANDLER", "REASON", "ATTEMPTS", "AT", "ERROR"])


def show_plain(value: Any) -> str:
    """Text as it is, nothing for nothing, else JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, default=_unknown, ensure_ascii=False)


def _unknown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


# The command line


def _json_map(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be a JSON object, such as {"n": 1}')
    return value


def _letter(text: str) -> int | str:
    return text if text == "all" else int(text)


def _milliseconds(text: str) -> int:
    return round(float(text) * 1000)


def parser() -> argparse.ArgumentParser:
    """All verbs with their arguments."""
    top = argparse.ArgumentParser(
        prog=os.environ.get("PYRE_CTL_NAME", "pyre ctl"),
        description="Look at a running node, and tell it what to do.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--socket", help="the node's control socket")
    shared.add_argument("--json", action="store_true", help="print the answer as JSON")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, about: str, show: Callable[[Any], str] = show_plain) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=about, description=about, parents=[shared])
        sub.set_defaults(show=show)
        return sub

    verb("status", "the node on a few lines", show_status)
    verb("health", "ready or not, and why; exit status 1 where it is not ready", show_health)
    agents = verb("agents", "the agents", show_agents)
    agents.add_argument("--class", dest="class", help="only of this class")
    agents.add_argument("--status", help="only with this status")
    agents.add_argument("--limit", type=int, default=100, help="at most so many (100)")
    verb("inspect", "one agent, with its committed state", show_fields).add_argument("id")
    for name, about in [("call", "call a handler and print its reply"), ("cast", "send a message without a reply")]:
        sub = verb(name, about)
        sub.add_argument("id")
        sub.add_argument("handler")
        sub.add_argument("args", nargs="?", type=_json_map, default={}, metavar="JSON", help="the arguments, a JSON object")
        if name == "call":
            sub.add_argument("--timeout", dest="timeout_ms", type=_milliseconds, help="in seconds (60)")
    start = verb("start", "start an agent")
    start.add_argument("class")
    start.add_argument("--id")
    start.add_argument("--args", type=_json_map, metavar="JSON", help="the start arguments, a JSON object")
    verb("stop-agent", "stop an agent; its state is forgotten").add_argument("id")
    verb("restart", "restart an agent, a terminated one too").add_argument("id")
    verb("tree", "the supervision tree", show_tree)
    verb("workers", "the interpreters", show_workers)
    verb("recycle", "replace an interpreter between two messages").add_argument("worker", type=int)
    for name in ["pause", "resume"]:
        sub = verb(name, f"{name} an agent, a class, a group or all")
        whom = sub.add_mutually_exclusive_group(required=True)
        whom.add_argument("--agent")
        whom.add_argument("--class", dest="class")
        whom.add_argument("--group")
        whom.add_argument("--all", action="store_true")
    verb("quarantine", "who hurt an interpreter, and how", show_quarantine)
    park = verb("park", "keep an agent from running, its mailbox stays")
    park.add_argument("id")
    park.add_argument("--reason", help="what to tell those who ask why")
    verb("unpark", "let a parked agent run again").add_argument("id")
    letters = verb("dead-letters", "messages that were given up", show_letters)
    letters.add_argument("--agent", help="only this agent's")
    act = letters.add_mutually_exclusive_group()
    act.add_argument("--retry", type=_letter, metavar="LETTER", help="put one, or all, into the mailbox again")
    act.add_argument("--discard", type=_letter, metavar="LETTER", help="throw one, or all, away")
    verb("metrics", "all figures, in the text format of Prometheus")
    drain = verb("drain", "take nothing new, and wait until nothing runs; there is no way back")
    drain.add_argument("--timeout", dest="timeout_ms", type=_milliseconds, help="in seconds")
    verb("stop", "drain and end the node")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    options = vars(parser().parse_args(argv))
    verb, show = options.pop("verb"), options.pop("show")
    path, as_json = find_socket(options.pop("socket")), options.pop("json")
    args = {key: value for key, value in options.items() if value is not None}
    answer = None
    try:
        for answer in ask(path, verb, args):
            text = _json(answer) if as_json else show(answer)
            if text:
                sys.stdout.write(text.rstrip("\n") + "\n")
                sys.stdout.flush()
    except Refused as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_REFUSED
    except NoNode as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_NO_NODE
    except (BrokenPipeError, KeyboardInterrupt):
        return EXIT_REFUSED
    return EXIT_REFUSED if verb == "health" and answer["status"] != "ready" else 0


if __name__ == "__main__":
    sys.exit(main())
