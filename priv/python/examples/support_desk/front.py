"""The front desk: counts what becomes of the tickets, and words it for whoever looks in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pyre import Agent, Context, cron, handler, on


@dataclass
class Line:
    """What was told of a ticket last."""

    number: str
    product: str
    category: str
    status: str


@dataclass
class Counts:
    """What was told, by number: to be told of a ticket twice changes nothing."""

    tickets: dict[str, Line] = field(default_factory=dict)


class Front(Agent):
    """Keeps the counts of the whole desk."""

    autostart = "front"
    State = Counts
    state: Counts

    @on("tickets.*")
    async def heard(self, event: Line) -> None:
        """Learn what became of a ticket."""
        self.state.tickets[event.number] = event

    @cron("0 * * * *")
    async def summary(self, ctx: Context) -> None:
        """Put the hour's figures into the log."""
        ctx.log.info("the desk, hourly", **Counter(line.status for line in self.state.tickets.values()))

    @handler(interleave=True)
    async def status(self) -> dict[str, int]:
        """Tell the figures of the status line."""
        statuses = Counter(line.status for line in self.state.tickets.values())
        return {"triaged": len(self.state.tickets), "for a person": statuses["waiting"] + statuses["overdue"]}

    @handler(interleave=True)
    async def report(self) -> str:
        """Word what was triaged, and what waits for a person."""
        return compose(list(self.state.tickets.values()))


def compose(lines: list[Line]) -> str:
    """Word the counts: by category, by product, by what became of the tickets."""
    waiting = sum(line.status in {"waiting", "overdue"} for line in lines)
    statuses = Counter(line.status for line in lines)
    decided = f", {statuses['urgent']} to be fixed now" if statuses["urgent"] else ""
    overdue = f" ({statuses['overdue']} overdue)" if statuses["overdue"] else ""
    return "\n".join(
        [
            f"Triaged {len(lines)} tickets: {statuses['queued']} queued{decided}.",
            f"  by category: {_counted(Counter(line.category for line in lines))}",
            f"  by product:  {_counted(Counter(line.product for line in lines))}",
            f"Waiting for a person: {waiting}{overdue}." if waiting else "Nothing waits for a person.",
        ]
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"
