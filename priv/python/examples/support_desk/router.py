"""The router: has each ticket judged, and gives it to the agent of its product."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from _tickets import Ticket
from _triage import Classifier, Rules

from pyre import Agent, Context, Retry, errors, handler, resource

log = logging.getLogger(__name__)


class Outbox:
    """Sends letters to those who wrote; this one only tells the log."""

    def acknowledge(self, ticket: Ticket) -> None:
        """Tell whoever wrote that the ticket has come in."""
        log.debug("acknowledged ticket %d", ticket.number)


@resource
async def classifier() -> AsyncIterator[Classifier]:
    """Open what judges the tickets; the client of a language model has its place here."""
    yield Rules()


@resource
async def outbox() -> AsyncIterator[Outbox]:
    """Open what sends letters."""
    yield Outbox()


class Router(Agent):
    """Judges tickets, and routes them."""

    autostart = "router"

    # A classifier may be a service far away: what it refuses for a while is asked again while others are routed, and
    # a person decides what becomes of a ticket that it keeps refusing.
    @handler(retry=Retry(attempts=4, on=(ConnectionError, TimeoutError), on_exhausted="escalate"))
    async def route(self, ctx: Context, ticket: Ticket) -> None:
        """Acknowledge a ticket once, however often it is judged, and hand it to its product's agent."""
        letters: Outbox = await ctx.resource("outbox")
        await ctx.step("acknowledge", letters.acknowledge, ticket)
        judge: Classifier = await ctx.resource("classifier")
        # What a language model costs is counted here, where all of it passes.
        verdict = await judge.classify(ticket)
        product = f"product:{ticket.product}"
        try:
            await ctx.cast(product, "take", ticket=ticket, verdict=verdict)
        except errors.NotFound:
            await spawn(ctx, product)
            await ctx.cast(product, "take", ticket=ticket, verdict=verdict)


async def spawn(ctx: Context, product: str) -> None:
    """Start a product's agent, unless an attempt that was cut short has started it already."""
    try:
        await ctx.spawn("Product", product)
    except errors.AlreadyStarted:
        ctx.log.debug("started already", product=product)
