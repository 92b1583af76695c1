"""The errors that agents see."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyre import errors
from pyre._body import pack, unpack
from pyre.errors import PyreError, Reject, RemoteError, from_body, to_body


@pytest.mark.parametrize("kind", sorted(errors.KINDS))
def test_every_kind_goes_over_the_wire_and_comes_back(kind: str) -> None:
    details = {"begun": True, "limit": 3, "path": "[1]"}
    error = from_body({"kind": kind, "message": "what happened", "details": details})
    again = from_body(unpack(pack(to_body(error))))
    assert type(again) is type(error)
    assert (again.kind, again.message, again.details) == (kind, "what happened", details)
    assert str(again) == "what happened"


def test_a_remote_error_goes_over_the_wire_and_comes_back() -> None:
    error = RemoteError("ValueError", "negative size", traceback="t", data=[1])
    again = from_body(unpack(pack(to_body(error))))
    assert isinstance(again, RemoteError)
    assert vars(again) == vars(error)
    assert str(again) == "ValueError: negative size"
    assert not again.retryable
    assert str(RemoteError("KeyError")) == "KeyError"


def test_a_reject_arrives_as_an_expected_remote_error() -> None:
    error = from_body(to_body(Reject("no such order", {"id": 7})))
    assert isinstance(error, RemoteError)
    assert (error.type, error.message) == ("Reject", "no such order")
    assert error.expected
    assert error.data == {"id": 7}


def test_an_unknown_kind_is_internal_and_the_kind_is_kept() -> None:
    error = from_body({"kind": "from_the_future", "message": "x", "details": {"a": 1}})
    assert isinstance(error, errors.InternalError)
    assert error.details == {"a": 1, "kind": "from_the_future"}


@pytest.mark.parametrize("body", [None, 1, "x", [], {}, {"kind": 1}, {"kind": "timeout", "details": 3}])
def test_whatever_arrives_becomes_an_error(body: object) -> None:
    error = from_body(body)
    assert isinstance(error, PyreError)
    assert error.kind in errors.KINDS


@pytest.mark.parametrize(
    ("kind", "details", "retryable"),
    [
        ("overloaded", {}, True),
        ("deadline", {}, True),
        ("not_found", {"begun": False}, False),
        ("worker_down", {}, False),
        ("worker_down", {"begun": True}, False),
        ("worker_down", {"begun": False}, True),
        ("agent_down", {"begun": True, "idempotent": True}, True),
        ("timeout", {"begun": False}, False),
        ("timeout", {"idempotent": True}, True),
    ],
)
def test_retryable_follows_the_table(kind: str, details: dict[str, Any], *, retryable: bool) -> None:
    assert from_body({"kind": kind, "message": "", "details": details}).retryable is retryable


def test_the_drawing_shows_every_public_class_and_kind() -> None:
    drawing = errors.__doc__ or ""
    drawn = set(re.findall(r"[├└]── (\w+)", drawing))
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert drawn == classes
    kinds = dict(re.findall(r"[├└]── (\w+) +([a-z_]+)(?=[:\n])", drawing))
    for name in classes:
        cls = getattr(errors, name)
        if "kind" in vars(cls) and cls is not PyreError:
            assert kinds[name] == cls.kind


def test_read_only_is_an_attribute_error() -> None:
    assert issubclass(errors.ReadOnly, AttributeError)
