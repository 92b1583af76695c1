"""The desk's rules, one by one: just below the threshold and just above it."""

from __future__ import annotations

import pytest
from _reading import Reading, plain, size, span, stagger
from desk import NOTE, RULES, URGENT, judge

Figures = dict[str, float]

DISK: Figures = {"used_share": 0.5, "free_bytes": 50e9, "total_bytes": 100e9, "inode_share": 0.1}
FALLING: Figures = {"observed_seconds": 60.0, "lost_per_second": 20e6, "full_in_seconds": 2500.0}

# rule, kind, figures that hold, what they say, figures that don't hold
CASES: list[tuple[str, str, Figures, str, Figures]] = [
    (
        "full",
        "mount",
        {"used_share": 0.91, "free_bytes": 0.9e9, "total_bytes": 10e9},
        "91% full, 900.0 MB of 10.0 GB free",
        {"used_share": 0.91, "free_bytes": 900e9, "total_bytes": 10e12},
    ),
    ("full", "mount", {"used_share": 0.95, "free_bytes": 500e9, "total_bytes": 10e12}, "95% full", DISK),
    ("inodes", "mount", {**DISK, "inode_share": 0.9}, "90% of its inodes used", {**DISK, "inode_share": 0.89}),
    ("filling", "mount", {**DISK, **FALLING}, "full in 42 min", {**DISK, **FALLING, "full_in_seconds": 3600.0}),
    ("filling", "mount", {**DISK, **FALLING}, "1.2 GB a minute", {**DISK, **FALLING, "observed_seconds": 14.0}),
    ("filling", "mount", {**DISK, **FALLING}, "fills by", {**DISK, **FALLING, "lost_per_second": 99e3}),
    ("filling", "mount", {**DISK, **FALLING}, "fills by", DISK),
    ("silent", "mount", {"silent": 1.0}, "does not answer", DISK),
    ("stuck", "process", {"stuck_seconds": 20.0}, "waiting for a disk for 20 s", {"stuck_seconds": 19.0}),
    ("flapping", "process", {"restarts": 3.0}, "restarted 3 times", {"restarts": 2.0}),
    ("hungry", "process", {"memory_share": 0.5, "rss_bytes": 8e9}, "holds 8.0 GB, 50%", {"memory_share": 0.49}),
    ("restarted", "process", {"restarts": 2.0}, "restarted 2 times", {"restarts": 3.0}),
    (
        "ended",
        "process",
        {"gone_seconds": 10.0, "lived_seconds": 259_200.0},
        "ended after 3 days",
        {"gone_seconds": 10.0, "lived_seconds": 599.0},
    ),
    (
        "ended",
        "process",
        {"gone_seconds": 10.0, "lived_seconds": 600.0},
        "not started again",
        {"gone_seconds": 9.0, "lived_seconds": 600.0},
    ),
    (
        "grown",
        "process",
        {"first_rss_bytes": 600e6, "rss_bytes": 1200e6},
        "grew from 600.0 MB to 1.2 GB",
        {"first_rss_bytes": 700e6, "rss_bytes": 1300e6},
    ),
    (
        "grown",
        "process",
        {"first_rss_bytes": 512e6, "rss_bytes": 1024e6},
        "grew",
        {"first_rss_bytes": 1e6, "rss_bytes": 400e6},
    ),
    ("busy", "process", {"busy_seconds": 60.0, "cpu_share": 0.98}, "98% of one core", {"busy_seconds": 59.0}),
    ("zombie", "process", {"zombie_seconds": 30.0}, "its parent", {"zombie_seconds": 29.0}),
    ("errors", "log", {"troubles": 10.0}, "10 error lines in a minute", {"troubles": 9.0}),
    ("error", "log", {"troubles": 1.0}, "1 error line in a minute", {"troubles": 10.0}),
    ("earlier errors", "log", {"old_troubles": 2.0}, "2 error lines from before", {"old_troubles": 0.0}),
    ("flood", "log", {"bytes_per_second": 1e6}, "grows by 60.0 MB a minute", {"bytes_per_second": 0.9e6}),
    (
        "memory",
        "machine",
        {"memory_bytes": 16e9, "available_bytes": 0.5e9},
        "only 500.0 MB of 16.0 GB",
        {"memory_bytes": 16e9, "available_bytes": 1e9},
    ),
    ("load", "machine", {"load": 8.0, "cores": 2.0}, "load 8.0 on 2 cores", {"load": 7.9, "cores": 2.0}),
]


@pytest.mark.parametrize(("rule", "kind", "above", "words", "below"), CASES)
def test_a_rule_holds_above_its_threshold_and_not_below(
    rule: str,
    kind: str,
    above: Figures,
    words: str,
    below: Figures,
) -> None:
    assert words in judge(Reading(kind, "it", above))[rule]
    assert rule not in judge(Reading(kind, "it", below))


def test_every_rule_is_tested_and_has_a_level() -> None:
    assert {case[0] for case in CASES} == set(RULES)
    assert {rule.level for rule in RULES.values()} == {URGENT, NOTE}


@pytest.mark.parametrize("kind", ["mount", "process", "log", "machine", "unheard of"])
def test_a_reading_without_figures_is_no_alarm(kind: str) -> None:
    assert judge(Reading(kind, "it", {})) == {}


def test_a_rule_judges_only_its_own_kind() -> None:
    assert judge(Reading("log", "it", {"used_share": 1.0, "restarts": 9.0})) == {}


def test_a_logs_last_line_is_told() -> None:
    verdicts = judge(Reading("log", "/var/log/x", {"troubles": 1.0}, "error: no such table"))
    assert verdicts == {"error": "1 error line in a minute: error: no such table"}


def test_sizes_and_spans_are_worded_by_their_unit() -> None:
    assert [size(n) for n in (0, 999, 1000, 9.1e9, 2e12)] == ["0 bytes", "999 bytes", "1 KB", "9.1 GB", "2.0 TB"]
    assert [span(n) for n in (0, 119, 120, 7200, 172_800)] == ["0 s", "119 s", "2 min", "2 h", "2 days"]


def test_foreign_text_is_made_harmless_and_short() -> None:
    assert plain("a\x1b[31mb\r\n\tc\x00", 20) == "a [31mb c"
    assert len(plain("x" * 10_000, 50)) == 50


def test_the_checks_are_spread_over_the_period() -> None:
    delays = [stagger(f"process:{n}", 5.0) for n in range(500)]
    assert all(0.1 <= delay <= 5.1 for delay in delays)
    tenths = {int(delay * 10) for delay in delays}
    assert len(tenths) > 40
