"""One agent per product: keeps its tickets, asks a person where that is due, and reminds of those that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from _tickets import Ticket
from _triage import ASK_FROM, Verdict

from pyre import Agent, Context, handler

FIX_NOW, QUEUE = "fix now", "queue"
ANSWER_WITHIN = 3600.0  # after which a ticket that nobody decided is queued
REMIND_AFTER = 600.0


@dataclass
class Case:
    """A ticket and what became of it: queued, waiting for a person, or urgent."""

    text: str
    category: str
    priority: int
    status: str


@dataclass
class Book:
    """A product's cases, by number. JSON has no numbers as keys, so they are texts."""

    cases: dict[str, Case] = field(default_factory=dict)


class Product(Agent):
    """Decides about one product's tickets."""

    State = Book
    state: Book

    @handler
    async def take(self, ctx: Context, ticket: Ticket, verdict: Verdict) -> None:
        """Take a ticket, once. A serious one waits for a person, while the agent goes on with others."""
        key = str(ticket.number)
        if key in self.state.cases:
            return
        asks = verdict.priority >= ASK_FROM
        status = "waiting" if asks else "queued"
        self.state.cases[key] = Case(ticket.text, verdict.category, verdict.priority, status)
        if asks:
            ctx.escalate(
                f"{ticket.product} #{key} ({verdict.category}): {ticket.text}",
                options=[FIX_NOW, QUEUE],
                data={"number": key, "because": verdict.because},
                timeout=ANSWER_WITHIN,
                default=QUEUE,
                then="decided",
                key=key,
            )
            ctx.after(REMIND_AFTER, "remind", key=f"remind {key}", number=key)
        await self.tell(ctx, key)

    @handler
    async def decided(self, ctx: Context, answer: str | None, data: dict[str, Any], by: str | None = None) -> None:
        """Do what the person said. A question that was dismissed leaves its ticket in the queue."""
        case = self.state.cases[data["number"]]
        case.status = "urgent" if answer == FIX_NOW else "queued"
        ctx.cancel_timer(f"remind {data['number']}")
        ctx.log.info("decided", number=data["number"], status=case.status, by=by)
        await self.tell(ctx, data["number"])

    @handler
    async def remind(self, ctx: Context, number: str) -> None:
        """Say that a ticket has waited too long for its answer."""
        self.state.cases[number].status = "overdue"
        ctx.log.warning("waits for a person", product=ctx.id, number=number, text=self.state.cases[number].text)
        await self.tell(ctx, number)

    @handler
    async def cases(self, status: str) -> AsyncIterator[dict[str, Any]]:
        """Stream the cases of one status, the most pressing first."""
        chosen = [(number, case) for number, case in self.state.cases.items() if case.status == status]
        for number, case in sorted(chosen, key=lambda pair: -pair[1].priority):
            yield {"number": number, "text": case.text, "category": case.category, "priority": case.priority}

    async def tell(self, ctx: Context, number: str) -> None:
        """Tell whoever keeps counts. The number makes it harmless to be told twice."""
        case = self.state.cases[number]
        product = ctx.id.removeprefix("product:")
        event = {"number": number, "product": product, "category": case.category, "status": case.status}
        await ctx.publish(f"tickets.{case.status}", event)
