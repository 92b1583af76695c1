"""What an agent under test did, message by message; and its comparison with what it did when that was right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyre import _body, _wire, errors

if TYPE_CHECKING:
    from pathlib import Path

    from pyre.testing import RunningAgent

__all__ = ["History", "compare", "text"]

KINDS = {
    _wire.KIND_CALL: "call",
    _wire.KIND_CAST: "cast",
    _wire.KIND_STREAM: "stream",
    _wire.KIND_TIMER: "timer",
    _wire.KIND_ON_START: "on_start",
    _wire.KIND_ON_STOP: "on_stop",
    _wire.KIND_ON_DOWN: "on_down",
}


class History:
    """Writes down each attempt at a message as it ends: what came, what became of it, and what the agent asked for."""

    def __init__(self, agent: RunningAgent) -> None:
        """Begin with nothing."""
        self._agent = agent
        self._seen = {"sent": 0, "published": 0, "progress": 0}
        self._spent: dict[str, float] = {}
        self._timers: list[tuple[float, str]] = []
        self._state = b""
        self.entries: list[dict[str, Any]] = []

    def ended(self, kind: int, handler: bytes, args: bytes, attempt: int, done: tuple[Any, ...]) -> None:
        """Write one attempt down; `done` is what the interpreter answers."""
        status, body, state, effects = done
        entry: dict[str, Any] = {"at": round(self._agent.now, 6), "message": KINDS[kind]}
        if handler:
            entry["handler"] = handler.decode()
        if args and (named := _body.unpack(args)):
            entry["args"] = named
        if attempt > 1:
            entry["attempt"] = attempt
        if status == _wire.STATUS_DONE:
            if (reply := _body.unpack(body)) is not None:
                entry["reply"] = reply
            if kind == _wire.KIND_STREAM:
                entry["chunks"] = list(self._agent.chunks)
            entry |= self._committed(state)
        else:
            error = errors.from_body(_body.unpack(body))
            entry["tried again" if status == _wire.STATUS_RETRY else "error"] = _in_words(error)
        asked = [effect[3] for effect in effects if status == _wire.STATUS_DONE and effect[0] == _wire.EFFECT_ESCALATE]
        if asked:
            entry["escalated"] = [_body.unpack(question) for question in asked]
        self.entries.append(entry | self._asked_for())

    def _committed(self, state: bytes) -> dict[str, Any]:
        if not state or state == self._state:
            return {}
        self._state = state
        return {"state": _body.unpack(state)}

    def _asked_for(self) -> dict[str, Any]:
        agent, seen = self._agent, self._seen
        new: dict[str, list[Any]] = {
            "sent": [
                {"kind": sent.kind, "to": sent.target, "handler": sent.handler, "args": sent.args}
                for sent in agent.sent[seen["sent"] :]
            ],
            "published": [list(event) for event in agent.published[seen["published"] :]],
            "progress": [list(report) for report in agent.progress[seen["progress"] :]],
        }
        self._seen = {name: seen[name] + len(values) for name, values in new.items()}
        entry: dict[str, Any] = {name: values for name, values in new.items() if values}
        timers = [(round(agent.now + seconds, 6), handler) for seconds, handler in agent.timers]
        if timers != self._timers:
            self._timers = timers
            entry["timers"] = [{"at": due, "handler": handler} for due, handler in timers]
        if agent.spent != self._spent:
            self._spent = dict(agent.spent)
            entry["spent"] = self._spent
        return entry


def _in_words(error: errors.PyreError) -> str:
    return str(error) if isinstance(error, errors.RemoteError) else f"{type(error).__name__}: {error}"


def text(entries: list[dict[str, Any]]) -> str:
    """Write entries as JSON for a person to read, and for a version control system to compare."""
    return json.dumps(entries, indent=1, ensure_ascii=False, default=repr) + "\n"


def compare(agent: RunningAgent, golden: Path, *, update: bool) -> str | None:
    """Tell how the agent's history differs from the file's, or None. With `update` the file is written."""
    now = text(agent.history)
    if update:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(now, encoding="utf-8")
        return None
    if not golden.exists():
        return f"there is no {golden.name} yet; look at what the agent did, and keep it with --update-golden:\n{now}"
    before = json.loads(golden.read_text(encoding="utf-8"))
    after = json.loads(now)
    if before == after:
        return None
    return _difference(before, after, golden)


def _difference(before: list[Any], after: list[Any], golden: Path) -> str:
    # The first message that went another way; what follows is often its consequence.
    at = next((n for n, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), None)
    if at is None:
        at = min(len(before), len(after))
    sides = [json.dumps(side[at], ensure_ascii=False) if at < len(side) else "nothing" for side in (before, after)]
    return (
        f"message {at + 1} of {max(len(before), len(after))} went another way than in {golden.name} "
        f"(--update-golden keeps it as it is now):\n  was: {sides[0]}\n  is:  {sides[1]}"
    )
