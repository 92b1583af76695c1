"""What the node answered, as text for a person: tables, trees, a few lines. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "agents",
    "as_json",
    "doctor",
    "event",
    "fields",
    "generations",
    "health",
    "history",
    "inbox",
    "letters",
    "plain",
    "quarantine",
    "status",
    "tree",
    "workers",
]

WIDEST = 60
# As `mix pyre.doctor` has them (lib/pyre/doctor.ex).
MARKS = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}
MIB = 1024 * 1024

# Whatever MessagePack carries.
Value = Any
Map = dict[str, Any]


def as_json(value: Value, indent: int | None = 2) -> str:
    """JSON; bytes as hexadecimal digits."""
    return json.dumps(value, indent=indent, default=_as_text, ensure_ascii=False)


def _as_text(value: Value) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _table(rows: Sequence[Sequence[Value]], head: Sequence[str]) -> str:
    """Columns, each as wide as its widest cell, at most WIDEST."""
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    text = " ".join((as_json(value, None) if isinstance(value, dict | list) else _as_text(value)).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _warnings(reasons: list[str]) -> list[str]:
    return [f"  ! {reason}" for reason in reasons]


def status(node: Map) -> str:
    """Show the node on a few lines."""
    counted: dict[str, int] = node["counters"]
    agents = ", ".join(f"{count} {name}" for name, count in sorted(node["agents"].items()) if count) or "none"
    lines = [
        f"{node['name']}  {node['health']['status']}  Pyre {node['version']}",
        *_warnings(node["health"]["reasons"]),
        f"agents    {agents}",
        f"workers   {node['workers']} ready, {counted['worker_deaths']} died, {counted['worker_recycles']} recycled",
        f"messages  {counted['delivered']} delivered, {node['messages_waiting']} in mailboxes",
        f"failures  {counted['failures']}, {counted['retries']} retried",
        f"restarts  {counted['restarts']}, {counted['terminations']} terminated, {counted['parked']} parked",
        f"timers    {node['timers']}",
        f"letters   {node['dead_letters']} dead",
        *(f"paused    {what}" for what in node["paused"]),
        *_warnings([f"{problem['file']}: {problem['error']}" for problem in node["problems"]]),
    ]
    return "\n".join(lines)


def health(found: Map) -> str:
    """Show one word, and why."""
    return "\n".join([found["status"], *_warnings(found["reasons"])])


def doctor(found: list[Map]) -> str:
    """Show each finding on a line, and on one more what mends it; at the end how many are wrong."""
    lines = []
    for finding in found:
        lines.append(f"{MARKS[finding['status']]}  {finding['what']}")
        if finding["mend"]:
            lines.append(f"{'':11}{finding['mend']}")
    wrong, warnings = ([each["status"] for each in found].count(status) for status in ("wrong", "warning"))
    summary = f"{wrong} wrong" if wrong else "nothing is wrong"
    if warnings:
        summary += f", {warnings} warning{'s' * (warnings > 1)}"
    return "\n".join([*lines, "", summary])


def agents(found: Map) -> str:
    """One line an agent."""
    rows = [[agent["id"], agent["class"], agent["status"], agent["mailbox"]] for agent in found["agents"]]
    left_out = found["total"] - len(rows)
    more = f"\n... and {left_out} more; see --limit" if left_out else ""
    return _table(rows, ["ID", "CLASS", "STATUS", "MAILBOX"]) + more


def fields(found: Value) -> str:
    """Show a map as lines."""
    width = max(map(len, found), default=0)
    return "\n".join(f"{key.ljust(width)}  {_field(value)}" for key, value in sorted(found.items()))


def _field(value: Value) -> str:
    return value if isinstance(value, str) else as_json(value, None)


def tree(node: Map) -> str:
    """Draw the supervision tree."""
    return "\n".join(_branch(node, "", ""))


def _branch(node: Map, lead: str, branch: str) -> list[str]:
    notes = [str(node[key]) for key in ("class", "strategy", "status") if node.get(key)]
    if node.get("restarts"):
        notes.append(f"{node['restarts']} restarts")
    lines = [f"{lead}{branch}{node['name']}  {' '.join(notes)}"]
    children = node["children"]
    below = lead + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
    for at, child in enumerate(children, start=1):
        lines += _branch(child, below, "└── " if at == len(children) else "├── ")
    return lines


def workers(found: list[Map]) -> str:
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
            _error(worker["last_error"]),
        ]
        for worker in found
    ]
    return _table(rows, ["WORKER", "ROLE", "STATUS", "PID", "AGENTS", "LAG", "RSS", "DEATHS", "LAST ERROR"])


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / MIB:.0f} MB"


def _error(error: Map | None) -> str | None:
    return None if error is None else str(error["error"])


def quarantine(found: list[Map]) -> str:
    """One line an agent that something is known against."""
    rows = [
        [
            agent["id"],
            agent["class"],
            agent["status"],
            agent["strikes"],
            agent["evidence"][0]["reason"] if agent["evidence"] else "suspect",
        ]
        for agent in found
    ]
    return _table(rows, ["ID", "CLASS", "STATUS", "STRIKES", "WHY"])


def letters(found: Value) -> str:
    """One line a dead letter; after an order, how many it was for."""
    if not isinstance(found, list):
        return plain(found)
    rows = [
        [letter[key] for key in ("id", "agent", "handler", "reason", "attempts", "at")] + [_error(letter["error"])]
        for letter in found
    ]
    return _table(rows, ["LETTER", "AGENT", "HANDLER", "REASON", "ATTEMPTS", "AT", "ERROR"])


def inbox(found: list[Map]) -> str:
    """Show what people are asked, each on a few lines, with what answers it."""
    return "\n\n".join(map(_question, found)) or "nobody is asked anything"


def _question(asked: Map) -> str:
    lines = [f"{asked['id']}  {asked['agent']} ({asked['class']})  {asked['question']}"]
    told = {
        "options": " | ".join(asked["options"]) if asked["options"] else None,
        "data": as_json(asked["data"], None) if asked["data"] is not None else None,
        "for": asked["assignee"],
        "since": asked["since"],
        "expires": asked["expires"],
        "default": asked["default"] if asked["expires"] else None,
    }
    if asked["status"] == "decided":
        told["outcome"] = " ".join(str(asked[key]) for key in ("outcome", "answer") if asked.get(key))
        told["by"] = asked.get("by")
    return "\n".join([*lines, *(f"    {key.ljust(8)} {value}" for key, value in told.items() if value)])


def generations(found: list[Map]) -> str:
    """One line a generation of code."""
    rows = [
        [each["generation"], each["status"], each["at"], ", ".join(map(str, each["workers"])) or None, each["reason"]]
        for each in found
    ]
    return _table(rows, ["GENERATION", "STATUS", "AT", "WORKERS", "WHY"])


def history(found: list[Map]) -> str:
    """One line an entry."""
    return "\n".join(map(event, found)) or "nothing has happened yet"


def event(entry: Map | None) -> str:
    """Show when, what, and all else that is known of it."""
    if entry is None:
        return ""
    rest = dict(entry)
    at, name = rest.pop("at", ""), rest.pop("event")
    words = [f"{key}={_field(value)}" for key, value in sorted(rest.items()) if value is not None]
    return " ".join([str(at), name.ljust(10), *words]).strip()


def plain(value: Value) -> str:
    """Text as it is, nothing for nothing, else JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)
