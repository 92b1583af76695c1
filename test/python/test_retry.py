"""Retries and steps, with a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

import pyre.testing
from pyre import Agent, Context, Reject, Retry, errors, handler

PLAIN = Retry(attempts=3, backoff="exponential", base=10.0, max=15.0, jitter=False, on=(TimeoutError, Reject))
HELD = Retry(attempts=2, backoff="constant", base=5.0, jitter=False, hold=True)


class Till(Agent):
    """Takes money, when the bank is awake."""

    class State:
        """What was taken, and in which attempt."""

        taken: list[list[int]] = []  # noqa: RUF012  # a State, which copies it

    @handler(retry=PLAIN)
    async def take(self, ctx: Context, amount: int, failures: int = 0) -> int:
        """Fail that often."""
        self.state.taken.append([amount, ctx.attempt])
        if ctx.attempt <= failures:
            raise TimeoutError(f"attempt {ctx.attempt} of {ctx.message_id}")
        return ctx.attempt

    @handler(retry=HELD)
    def take_in_order(self, ctx: Context, amount: int) -> None:
        """Fail once."""
        self.state.taken.append([amount, ctx.attempt])
        if ctx.attempt == 1:
            raise ValueError(amount)

    @handler(retry=PLAIN)
    async def refuse(self, ctx: Context) -> None:
        """Refuse, and be asked again."""
        raise Reject(f"attempt {ctx.attempt}")

    @handler(retry=PLAIN)
    async def pay(self, ctx: Context, names: list[str], *, keys: bool = True) -> list[int]:
        """Do one step for each name, and fail in the first attempt."""
        done = [await ctx.step("pay", lambda: ctx.attempt, key=name if keys else None) for name in names]
        if ctx.attempt == 1:
            raise TimeoutError
        return done

    @handler(retry=PLAIN)
    def pay_in_thread(self, ctx: Context) -> tuple[int, int]:
        """Do one step, which raises first, and one that doesn't."""

        def flaky(limit: int) -> int:
            if ctx.attempt < limit:
                raise TimeoutError("asleep")
            return ctx.attempt

        return (ctx.step("one", flaky, 1).wait(), ctx.step("two", flaky, 3).wait())

    @handler
    async def ask(self, ctx: Context, on: str = "desk") -> str:
        """Ask until there is an answer."""
        retry = Retry(attempts=3, backoff="constant", base=60.0, jitter=False)
        answer: str = await ctx.call(on, "ask", retry=retry)
        return answer


class Desk:
    """A peer that raises what it is told to, one after the other."""

    def __init__(self, *raised: Exception) -> None:
        """Keep what is to be raised."""
        self.raised = list(raised)
        self.asked = 0

    def ask(self) -> str:
        """Answer in the end."""
        self.asked += 1
        if self.raised:
            raise self.raised.pop(0)
        return "yes"


def test_a_call_is_tried_again_from_the_committed_state_while_time_passes() -> None:
    with pyre.testing.run(Till) as till:
        assert till.call("take", amount=1, failures=2) == 3
        assert till.state.taken == [[1, 3]]
        assert till.now == 25.0


def test_the_last_attempt_is_answered() -> None:
    with pyre.testing.run(Till) as till:
        with pytest.raises(errors.RemoteError, match="attempt 3 of") as caught:
            till.call("take", amount=1, failures=3)
        assert not caught.value.expected
        assert till.state.taken == []
        with pytest.raises(errors.RemoteError, match="attempt 3") as caught:
            till.call("refuse")
        assert caught.value.expected


def test_a_cast_waits_for_its_time_and_others_run_meanwhile() -> None:
    with pyre.testing.run(Till) as till:
        till.cast("take", amount=1, failures=1)
        assert till.call("take", amount=2) == 1
        till.advance(9.9)
        assert till.state.taken == [[2, 1]]
        till.advance(0.1)
        assert till.state.taken == [[2, 1], [1, 2]]
        till.cast("take", amount=3, failures=9)
        assert till.failures == []
        till.advance(100)
        assert [failure.message for failure in till.failures] == ["attempt 3 of 8"]


def test_hold_keeps_the_order() -> None:
    with pyre.testing.run(Till) as till:
        till.cast("take_in_order", amount=1)
        assert till.call("take", amount=2) == 1
        assert till.state.taken == [[1, 2], [2, 1]]
        assert till.now == 5.0


def test_a_step_is_done_once() -> None:
    with pyre.testing.run(Till) as till:
        assert till.call("pay", names=["a", "b"]) == [1, 1]
        assert till.call("pay", names=["a"]) == [1]
        assert till.call("pay_in_thread") == [1, 3]


def test_two_steps_of_one_name_need_keys() -> None:
    with pyre.testing.run(Till) as till, pytest.raises(errors.RemoteError, match="give each its own key="):
        till.call("pay", names=["a", "b"], keys=False)


def test_a_call_is_made_again_where_that_is_safe() -> None:
    desk = Desk(errors.Overloaded("full"), errors.WorkerDown("gone", {"begun": False}))
    with pyre.testing.run(Till, peers={"desk": desk}) as till:
        assert till.call("ask") == "yes"
        assert (desk.asked, till.now) == (3, 120.0)


@pytest.mark.parametrize("raised", [errors.WorkerDown("gone", {"begun": True}), ValueError("no"), Reject("no")])
def test_a_call_is_not_made_again_where_it_may_have_done_something(raised: Exception) -> None:
    desk = Desk(raised)
    with pyre.testing.run(Till, peers={"desk": desk}) as till:
        with pytest.raises(errors.PyreError):
            till.call("ask")
        assert desk.asked == 1


def test_the_waits_grow_to_their_limit() -> None:
    assert [Retry(base=1, max=5, jitter=False).delay(n) for n in (1, 2, 3, 4, 900)] == [1, 2, 4, 5, 5]
    assert all(0.5 <= Retry(base=1, backoff="constant").delay(n) <= 1 for n in range(1, 50))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"attempts": 0}, "attempts"),
        ({"backoff": "none"}, "backoff"),
        ({"base": 0}, "base"),
        ({"base": float("nan")}, "base"),
        ({"base": 9, "max": 1}, "max to be at least base"),
        ({"on": "TimeoutError"}, "on to be exceptions"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        Retry(**wrong)


def test_which_failures_are_worth_it() -> None:
    retry = Retry(attempts=3, on=LookupError, unless=KeyError)
    assert retry.wants(IndexError(), 1)
    assert not retry.wants(IndexError(), 3)
    assert not retry.wants(KeyError(), 1)
    assert not retry.wants(ValueError(), 1)
    assert not Retry().wants(Reject("no"), 1)
    assert not Retry().wants(KeyError(), 1, (LookupError,))
    assert Retry(on=KeyError).wants(KeyError(), 1, (LookupError,))
