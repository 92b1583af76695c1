"""Questions to people, and their answers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

import pyre.testing
from pyre import Agent, Context, Retry, errors, handler

if TYPE_CHECKING:
    from pyre.testing import Escalation

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
TWICE = Retry(attempts=2, base=10.0, jitter=False, on=(TimeoutError,), on_exhausted="escalate")


class Desk(Agent):
    """Asks people."""

    class State:
        """What was said."""

        said: list[Any] = []  # noqa: RUF012  # a State, which copies it
        eager: bool = False

    async def on_start(self, ctx: Context) -> None:
        """Ask at once, perhaps."""
        if self.state.eager:
            ctx.escalate("Shall I?", then="brief")

    @handler
    async def file(self, ctx: Context, amount: int = 9, *, fail: bool = False, **more: Any) -> None:
        """Ask, and go on."""
        ctx.escalate(f"Refund {amount}?", options=["yes", "no"], data={"amount": amount}, then="decided", **more)
        if fail:
            raise ValueError(amount)

    @handler
    async def file_any(self, ctx: Context, question: Any = "Go on?", **more: Any) -> None:
        """Ask whatever the test wants."""
        await ctx.escalate(question, **{"then": "decided", **more})

    @handler
    async def decided(  # noqa: PLR0913, PLR0917  # all that there is
        self,
        answer: str | None,
        data: dict[str, int] | None,
        outcome: str,
        by: str | None,
        at: dt.datetime,
        question: str,
        escalation: int,
    ) -> None:
        """Take note."""
        self.state.said.append([answer, data, outcome, by, at.isoformat(), question, escalation])

    @handler
    async def brief(self, answer: str | None) -> None:
        """Take the answer alone."""
        self.state.said.append(answer)

    @handler
    async def demanding(self, answer: str, colour: str) -> None:
        """Want what no answer brings."""

    @handler(retry=Retry(attempts=2, base=10.0, jitter=False, on=(TimeoutError,)))
    async def wait(self, ctx: Context, *, fail: bool = False, **more: Any) -> list[Any]:
        """Ask, and wait."""
        step = await ctx.step("before", lambda: ctx.attempt)
        answer = await ctx.escalate("Really?", options=["yes", "no"], **more)
        if fail and ctx.attempt == 1:
            raise TimeoutError
        said = [step, answer, answer.by, answer.outcome, answer.at.isoformat(), isinstance(answer, str)]
        self.state.said.append(said)
        return said

    @handler
    def wait_in_thread(self, ctx: Context) -> str:
        """Wait where nothing can be awaited."""
        return ctx.escalate("Well?").wait()

    @handler
    async def wait_twice(self, ctx: Context, key: str | None = None) -> list[str]:
        """Ask the same again."""
        return [await ctx.escalate("Sure?", key=key), await ctx.escalate("Sure?", key=key)]

    @handler(raises=(errors.Unanswered,))
    async def insist(self, ctx: Context) -> str:
        """Take no answer for a refusal."""
        return await ctx.escalate("Please?", timeout=60)

    @handler(readonly=True, interleave=True)
    async def beside(self, ctx: Context, then: str | None = None) -> str | None:
        """Ask from a snapshot."""
        return await ctx.escalate("Beside?", then=then)

    @handler(retry=TWICE)
    async def fetch(self, ctx: Context, failures: int) -> int:
        """Fail that often in all."""
        self.state.said.append(ctx.attempt)
        await ctx.commit()
        if len(self.state.said) <= failures:
            raise TimeoutError(f"attempt {ctx.attempt}")
        return ctx.attempt


def test_a_continuation_gets_all_that_there_is_to_tell() -> None:
    with pyre.testing.run(Desk, now=NOON) as desk:
        desk.call("file", amount=7, assignee="ada")
        (asked,) = desk.escalations
        assert (asked.question, asked.options, asked.data) == ("Refund 7?", ["yes", "no"], {"amount": 7})
        assert (asked.assignee, asked.then, asked.kind) == ("ada", "decided", "question")
        desk.advance(60)
        desk.answer(asked, "yes", by="ada")
        at = "2026-11-23T12:01:00+00:00"
        assert desk.state.said == [["yes", {"amount": 7}, "answered", "ada", at, "Refund 7?", asked.id]]
        assert desk.escalations == []
        assert (asked.outcome, asked.answer, asked.by) == ("answered", "yes", "ada")
        with pytest.raises(ValueError, match="answered already"):
            desk.answer(asked, "no")


def test_a_handler_that_fails_has_not_asked() -> None:
    with pyre.testing.run(Desk) as desk:
        with pytest.raises(errors.RemoteError):
            desk.call("file", fail=True)
        assert desk.escalations == []


def test_a_continuation_gets_what_it_names() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.call("file_any", then="brief")
        desk.answer(desk.escalations[0], "any text")
        assert desk.state.said == ["any text"]


def test_it_expires_with_its_default_or_without() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.call("file", timeout=60, default="no")
        desk.call("file", amount=8, timeout=90)
        desk.advance(59.9)
        assert len(desk.escalations) == 2
        desk.advance(0.2)
        assert [said[:4] for said in desk.state.said] == [["no", {"amount": 9}, "expired", None]]
        desk.advance(60)
        assert desk.state.said[1][:4] == [None, {"amount": 8}, "expired", None]


def test_a_dismissal_is_told() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.call("file")
        desk.dismiss(desk.escalations[0].id, by="ada")
        assert desk.state.said[0][:4] == [None, {"amount": 9}, "dismissed", "ada"]


def test_on_start_asks_once_while_it_is_open() -> None:
    with pyre.testing.run(Desk, args={"eager": True}) as desk:
        desk.restart()
        assert len(desk.escalations) == 1
        desk.answer(desk.escalations[0], "do")
        desk.restart()
        assert len(desk.escalations) == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"question": ""}, "the question to be a text of 1 to 4096 characters, got ''"),
        ({"question": 7}, "the question to be a text"),
        ({"options": []}, "a list of 1 to 100 texts"),
        ({"options": "yes"}, "a list of 1 to 100 texts"),
        ({"options": ["yes", ""]}, "an option to be a text"),
        ({"options": ["yes", "yes"]}, "the options to differ"),
        ({"assignee": ""}, "assignee to be a text"),
        ({"key": ""}, "key to be a text"),
        ({"timeout": 0}, "timeout to be more than 0"),
        ({"timeout": float("inf")}, "timeout to be more than 0"),
        ({"default": "yes"}, "give it a timeout="),
        ({"options": ["yes"], "timeout": 1, "default": "no"}, "default to be one of the options"),
        ({"then": "nothing"}, "is no handler of Desk"),
        ({"then": "demanding"}, "demanding needs colour"),
    ],
)
def test_what_nobody_could_answer_is_refused(args: dict[str, Any], text: str) -> None:
    with pyre.testing.run(Desk) as desk:
        with pytest.raises(errors.PyreError, match=text):
            desk.call("file_any", args=args)
        assert desk.escalations == []


def test_a_handler_that_waits_is_given_the_answer() -> None:
    with pyre.testing.run(Desk, now=NOON) as desk:
        desk.cast("wait")
        (asked,) = desk.escalations
        assert asked.then is None
        with pytest.raises(ValueError, match="waits for an answer to 'Really\\?'"):
            desk.call("brief", answer="x")
        with pytest.raises(ValueError, match="one of \\['yes', 'no'\\]"):
            desk.answer(asked, "maybe")
        desk.answer(asked, "yes", by="ada")
        assert desk.state.said == [[1, "yes", "ada", "answered", "2026-11-23T12:00:00+00:00", True]]
        desk.call("brief", answer="x")
        assert desk.failures == []


def test_a_call_that_waits_needs_somebody_who_decides() -> None:
    with pyre.testing.run(Desk) as desk:
        with pytest.raises(errors.CallTimeout, match="nobody answered 'Really\\?'"):
            desk.call("wait")
        assert desk.escalations == []
        desk.decide_with(lambda asked: "no" if asked.options else "none")
        assert desk.call("wait")[1] == "no"
        assert desk.call("wait_in_thread") == "none"


def test_a_message_that_is_run_again_is_given_the_same_answer() -> None:
    with pyre.testing.run(Desk) as desk:
        asked: list[str] = []

        def decide(escalation: Escalation) -> str:
            asked.append(escalation.question)
            return "yes"

        desk.decide_with(decide)
        assert desk.call("wait", fail=True)[:2] == [1, "yes"]
        assert asked == ["Really?"]


def test_the_same_question_twice_is_two_questions() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.cast("wait_twice")
        (first,) = desk.escalations
        desk.answer(first, "a")
        (second,) = desk.escalations
        assert second.id != first.id
        desk.answer(second, "b")
        desk.decide_with(lambda _asked: "c")
        with pytest.raises(errors.RemoteError, match="key 'k' names an escalation"):
            desk.call("wait_twice", key="k")


def test_what_nobody_answers_is_an_exception_of_the_handler() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.cast("insist")
        desk.advance(61)
        desk.cast("insist")
        desk.dismiss(desk.escalations[0], by="ada")
        texts = [str(failure) for failure in desk.failures]
        assert "expired before anybody answered" in texts[0]
        assert "ada dismissed" in texts[1]


def test_a_handler_that_commits_nothing_can_wait_only() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.decide_with(lambda _asked: "yes")
        assert desk.call("beside") == "yes"
        with pytest.raises(errors.RemoteError, match="can't ask with then="):
            desk.call("beside", then="brief")


def test_a_message_that_used_its_attempts_up_waits_for_a_person() -> None:
    with pyre.testing.run(Desk) as desk:
        desk.cast("fetch", failures=3)
        desk.advance(30)
        (asked,) = desk.escalations
        assert (asked.kind, asked.options) == ("failure", ["retry", "discard"])
        assert "failed 2 times" in asked.question
        assert desk.state.said == [1, 2]
        desk.answer(asked, "retry")
        desk.advance(30)
        assert desk.state.said == [1, 2, 1, 2]
        assert desk.escalations == []
        assert desk.failures == []


def test_it_may_be_discarded_and_its_caller_has_the_error_at_once() -> None:
    with pyre.testing.run(Desk) as desk:
        with pytest.raises(errors.RemoteError):
            desk.call("fetch", failures=9)
        (asked,) = desk.escalations
        assert desk.failures == []
        desk.answer(asked, "discard")
        assert len(desk.failures) == 1
        assert desk.escalations == []


def test_retry_knows_what_may_follow_its_attempts() -> None:
    with pytest.raises(ValueError, match="on_exhausted to be 'fail' or 'escalate', got 'cry'"):
        Retry(on_exhausted="cry")  # type: ignore[arg-type]
