"""Topics and patterns of events. lib/pyre/events/topic.ex says the same."""

from __future__ import annotations

__all__ = ["check_pattern", "check_topic", "matches"]

MAX_BYTES = 255


def check_topic(topic: str) -> str:
    """Give a topic; raises ValueError for what is none."""
    if any("*" in word for word in _words(topic, "a topic")):
        raise ValueError(f"a topic has no *, a pattern has: got {topic!r}")
    return topic


def check_pattern(pattern: str) -> str:
    """Give a pattern; raises ValueError for what is none."""
    words = _words(pattern, "a pattern")
    if any("*" in word and word not in {"*", "**"} for word in words):
        raise ValueError(f"in a pattern * stands for a whole word: got {pattern!r}")
    if "**" in words[:-1]:
        raise ValueError(f"in a pattern ** comes last: got {pattern!r}")
    return pattern


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic matches a pattern."""
    wanted, words = pattern.split("."), topic.split(".")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(want in {"*", word} for want, word in zip(wanted, words, strict=True))


def _words(text: object, what: str) -> list[str]:
    if not isinstance(text, str) or not 1 <= len(text.encode()) <= MAX_BYTES:
        raise ValueError(f"{what} is a string of 1 to {MAX_BYTES} bytes, got {text!r:.100}")
    words = text.split(".")
    if "" in words:
        raise ValueError(f'{what} is words with dots between them, such as "orders.paid": got {text!r}')
    return words
