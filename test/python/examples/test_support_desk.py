"""The support desk's agents, each alone, with its peers faked; the tickets are the real ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from _tickets import Ticket, read_tickets
from _triage import ASK_FROM, CATEGORIES, OTHER, Rules, Verdict
from front import Front
from intake import PER_TURN, PERIOD, Intake
from products import ANSWER_WITHIN, FIX_NOW, QUEUE, REMIND_AFTER, Product
from router import Router

from pyre import errors, testing

LICENSED = {"xorg", "openssh", "tmux", "debconf"}
TYPO = {"number": 7, "product": "tmux", "version": "3", "urgency": "low", "text": "Fix a typo in the manual page"}
HOLE = {**TYPO, "number": 8, "urgency": "high", "text": "CVE-2026-1: a malicious server can write any file"}
CALM = {"category": "documentation", "priority": 0, "because": ["typo"]}
GRAVE = {"category": "security", "priority": ASK_FROM, "because": ["malicious"]}


def judged(ticket: dict[str, Any]) -> Verdict:
    return asyncio.run(Rules().classify(Ticket(**ticket)))


class Letters:
    """Stands in for what sends letters."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sent: list[int] = []

    def acknowledge(self, ticket: Ticket) -> None:
        """Keep the number."""
        self.sent.append(ticket.number)


class Flaky:
    """A classifier that is away for the first so many times."""

    def __init__(self, failures: int) -> None:
        """Fail so often."""
        self.failures = failures

    async def classify(self, ticket: Ticket) -> Verdict:
        """Judge, at last."""
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the model is away")
        return await Rules().classify(ticket)


# --- The tickets and the rules ---


def test_the_tickets_are_those_that_the_licences_cover() -> None:
    tickets = read_tickets()
    assert {ticket.product for ticket in tickets} == LICENSED
    assert [ticket.number for ticket in tickets] == sorted({ticket.number for ticket in tickets})
    assert all(ticket.text for ticket in tickets)


def test_the_rules_know_every_ticket_and_ask_about_few() -> None:
    verdicts = [asyncio.run(Rules().classify(ticket)) for ticket in read_tickets()]
    assert {verdict.category for verdict in verdicts} == {*CATEGORIES, OTHER}
    assert 0 < sum(verdict.priority >= ASK_FROM for verdict in verdicts) < len(verdicts) / 10


def test_a_hole_is_grave_and_a_typo_is_not_however_urgent_its_upload() -> None:
    assert judged(HOLE) == Verdict("security", 7, ["cve-2026-1", "malicious"])
    assert judged({**TYPO, "urgency": "high"}) == Verdict("documentation", 0, ["manual", "typo"])


def test_what_no_rule_knows_is_behaviour() -> None:
    assert judged({**TYPO, "text": "Sort the output by name"}) == Verdict(OTHER, 1, [])


# --- The intake ---


def test_the_intake_hands_all_tickets_on_at_its_rate_and_stops() -> None:
    taken: list[int] = []
    router = {"route": lambda ticket: taken.append(ticket["number"])}
    front = {"status": dict}
    with testing.run(Intake, id="intake", peers={"router": router, "front": front}) as intake:
        intake.advance(PERIOD)
        assert len(taken) == PER_TURN
        intake.advance(PERIOD * (len(read_tickets()) / PER_TURN + 2))
        assert taken == [ticket.number for ticket in read_tickets()]
        assert intake.timers == []
        assert intake.progress[-1].fraction == 1


# --- The router ---


def routed(judge: object) -> tuple[testing.RunningAgent, Letters, list[dict[str, Any]]]:
    letters, taken = Letters(), []
    peers = {"product:tmux": {"take": lambda **args: taken.append(args)}}
    resources = {"classifier": judge, "outbox": letters}
    return testing.run(Router, id="router", peers=peers, resources=resources), letters, taken


def test_a_ticket_goes_to_its_product_with_the_verdict() -> None:
    running, letters, taken = routed(Rules())
    with running as router:
        router.cast("route", ticket=TYPO)
    assert [(each["ticket"]["number"], each["verdict"]["category"]) for each in taken] == [(7, "documentation")]
    assert letters.sent == [7]


def test_a_classifier_that_is_away_is_asked_again_and_the_letter_is_sent_once() -> None:
    running, letters, taken = routed(Flaky(2))
    with running as router:
        router.cast("route", ticket=TYPO)
        assert taken == []
        router.advance(5)
    assert len(taken) == 1
    assert letters.sent == [7]


def test_a_person_decides_about_a_ticket_that_the_classifier_keeps_refusing() -> None:
    running, letters, taken = routed(Flaky(4))
    with running as router:
        router.cast("route", ticket=TYPO)
        router.advance(60)
        assert taken == []
        [asked] = router.escalations
        router.answer(asked, "retry")
    assert len(taken) == 1
    assert letters.sent == [7]


# --- A product ---


def told(product: testing.RunningAgent) -> list[str]:
    return [topic for topic, _event in product.published]


def test_a_ticket_that_may_wait_is_queued_once_however_often_it_comes() -> None:
    with testing.run(Product, id="product:tmux") as product:
        product.cast("take", ticket=TYPO, verdict=CALM)
        product.cast("take", ticket=TYPO, verdict=CALM)
        assert told(product) == ["tickets.queued"]
        assert product.escalations == []


@pytest.mark.parametrize(("answer", "status"), [(FIX_NOW, "urgent"), (QUEUE, "queued")])
def test_a_grave_one_waits_for_a_person(answer: str, status: str) -> None:
    with testing.run(Product, id="product:tmux") as product:
        product.cast("take", ticket=HOLE, verdict=GRAVE)
        [asked] = product.escalations
        assert asked.question.startswith("tmux #8 (security): CVE-2026-1")
        product.cast("take", ticket=TYPO, verdict=CALM)
        product.answer(asked, answer, by="ada")
        assert told(product) == ["tickets.waiting", "tickets.queued", f"tickets.{status}"]
        product.advance(REMIND_AFTER)
        assert product.state.cases["8"].status == status


def test_one_that_nobody_decides_is_overdue_and_queued_in_the_end() -> None:
    with testing.run(Product, id="product:tmux") as product:
        product.cast("take", ticket=HOLE, verdict=GRAVE)
        product.advance(REMIND_AFTER)
        assert product.state.cases["8"].status == "overdue"
        product.advance(ANSWER_WITHIN)
        assert product.state.cases["8"].status == "queued"


def test_a_dismissed_question_leaves_its_ticket_in_the_queue() -> None:
    with testing.run(Product, id="product:tmux") as product:
        product.cast("take", ticket=HOLE, verdict=GRAVE)
        product.dismiss(product.escalations[0])
        assert product.state.cases["8"].status == "queued"


def test_the_cases_are_streamed_the_most_pressing_first() -> None:
    with testing.run(Product, id="product:tmux") as product:
        product.cast("take", ticket=TYPO, verdict=CALM)
        product.cast("take", ticket={**TYPO, "number": 9}, verdict={**CALM, "priority": 3})
        assert [case["number"] for case in product.stream("cases", status="queued")] == ["9", "7"]


# --- The front desk ---


def event(number: str, status: str, category: str = "security") -> dict[str, str]:
    return {"number": number, "product": "tmux", "category": category, "status": status}


def test_the_front_desk_counts_each_ticket_once_by_what_was_told_last() -> None:
    with testing.run(Front, id="front") as front:
        front.publish("tickets.waiting", event("8", "waiting"))
        front.publish("tickets.waiting", event("8", "waiting"))
        front.publish("tickets.queued", event("7", "queued", "documentation"))
        assert front.call("status") == {"triaged": 2, "for a person": 1}
        assert "Waiting for a person: 1." in front.call("report")
        front.publish("tickets.urgent", event("8", "urgent"))
        report = front.call("report")
        assert "Triaged 2 tickets: 1 queued, 1 to be fixed now." in report
        assert "Nothing waits for a person." in report


def test_the_licences_stand_beside_the_data() -> None:
    folder = Path(__file__).parents[3] / "priv/python/examples/support_desk"
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 300_000
    assert "BSD-2-clause" in (folder / "tickets.licences.txt").read_text(encoding="utf-8")
    assert "Permission is hereby granted" in (folder / "tickets.licences.txt").read_text(encoding="utf-8")


def test_the_router_starts_a_product_that_is_not_there() -> None:
    resources = {"classifier": Rules(), "outbox": Letters()}
    with testing.run(Router, id="router", resources=resources) as router:
        router.cast("route", ticket=TYPO)
        spawned = [each for each in router.sent if each.kind == "spawn"]
        assert [each.target for each in spawned] == ["product:tmux"]


def test_the_intake_waits_until_the_front_desk_listens() -> None:
    with testing.run(Intake, id="intake", peers={"router": {"route": lambda ticket: None}}) as intake:  # noqa: ARG005
        intake.advance(PERIOD)
        assert isinstance(intake.failures[0], errors.PyreError)
        assert intake.state.done == 0
