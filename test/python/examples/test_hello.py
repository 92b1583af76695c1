"""The two agents of the first steps."""

from __future__ import annotations

import pytest
from counter import Counter
from greeter import Greeter

from pyre import errors, testing


def test_the_counter_counts_and_keeps_count_over_a_restart() -> None:
    with testing.run(Counter) as counter:
        assert counter.call("add") == 1
        assert counter.call("add", by=4) == 5
        counter.restart()
        assert counter.call("current") == 5


def test_a_handler_that_raises_has_changed_nothing() -> None:
    with testing.run(Counter, args={"count": 7}) as counter:
        with pytest.raises(errors.RemoteError, match="lost it"):
            counter.call("lose")
        assert counter.call("current") == 7


def test_a_refusal_changes_nothing_either() -> None:
    with testing.run(Counter) as counter:
        with pytest.raises(errors.RemoteError, match="upwards"):
            counter.call("add", by=-1)
        assert counter.state.count == 0


def test_the_greeter_has_its_greetings_counted() -> None:
    with testing.run(Greeter, peers={"counter": {"add": lambda: 3}}) as greeter:
        assert greeter.call("greet", name="Ada") == "Hello, Ada! You are number 3."
        assert [(each.target, each.handler) for each in greeter.sent] == [("counter", "add")]
