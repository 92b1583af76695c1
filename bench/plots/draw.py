"""Draws what a day's benchmarks measured: draw.py DIRECTORY.

Writes an SVG for each plot whose figures are there, and its name to stdout.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

OURS, FLOOR, EVENT = "#1b6ca8", "#999999", "#c0392b"


def callers(axes: Axes, figures: dict[str, Any]) -> None:
    """Draw calls per second by callers, beside the floor."""
    rows = figures["load"]
    for key, label, colour in [("ours_per_s", "Pyre", OURS), ("floor_per_s", "floor (C behind the same path)", FLOOR)]:
        found = [(row["callers"], row[key]) for row in rows if row[key]]
        axes.plot([at for at, _ in found], [told["median"] for _, told in found], "o-", label=label, color=colour)
        low, high = [told["min"] for _, told in found], [told["max"] for _, told in found]
        axes.fill_between([at for at, _ in found], low, high, color=colour, alpha=0.15, linewidth=0)
    at = [row["callers"] for row in rows]
    axes.set_xscale("log")
    axes.set_xticks(at, [str(count) for count in at])
    axes.set_xticks([], minor=True)
    axes.set(title="Throughput by callers, one worker", xlabel="callers", ylabel="calls/s", ylim=0)


def latency(axes: Axes, figures: dict[str, Any]) -> None:
    """Draw the latencies of one caller by percentile, on a scale that shows both ends."""
    for style, row in zip(["-", "--"], figures["alone"], strict=False):
        shares = [percent / 100 for percent in row["percents"]]
        for key, label, colour in [("ours", "Pyre", OURS), ("floor", "floor", FLOOR)]:
            told = row[f"{key}_distribution_us"]
            if told:
                axes.plot(shares, told, style, label=f"{label}, {row['placement']}", color=colour)
    axes.set_xscale("logit")
    axes.set_yscale("log")
    shown = [0.01, 0.1, 0.5, 0.9, 0.99, 0.999]
    axes.set_xticks(shown, [f"{at * 100:g} %" for at in shown])
    axes.set_xticks([], minor=True)
    axes.set(title="Latency of one caller", xlabel="of all calls", ylabel="µs at most")


def memory(axes: Axes, figures: list[dict[str, Any]]) -> None:
    """Draw what everything holds by the number of agents."""
    agents = [row["agents"] for row in figures]
    axes.plot(agents, [row["total_mb"] for row in figures], "o-", color=OURS, label="everything (PSS)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(agents, [f"{count:,}" for count in agents])
    axes.set_xticks([], minor=True)
    axes.set_yticks([100, 300, 1_000, 3_000], ["100", "300", "1,000", "3,000"])
    axes.set_yticks([], minor=True)
    for row in figures:
        at = (row["agents"], row["total_mb"])
        axes.annotate(f"{row['idle_bytes'] / 1000:.2f} KB each", at, (0, 9), textcoords="offset points", ha="center")
    axes.set(title="Memory by agents", xlabel="agents", ylabel="MB", xlim=(500, 2.2e6), ylim=(80, 5_000))


def recovery(axes: Axes, figures: dict[str, Any]) -> None:
    """Draw the answers from moment to moment while an interpreter is lost."""
    names = {"kill": "kill -9 of the only worker", "sleep_on_loop": "a handler blocks the loop for ever"}
    for colour, (event, told) in zip([OURS, "#e08e0b"], sorted(figures["timelines"].items()), strict=True):
        bucket = told["bucket_ms"]
        at = [n * bucket - told["at_ms"] for n in range(len(told["answers"]))]
        axes.plot(at, [count * 1000 / bucket for count in told["answers"]], color=colour, label=names[event], lw=1)
    axes.axvline(0, color=EVENT, lw=1, ls=":")
    axes.set(title="Answers around a loss, a spare being there", xlabel="ms", ylabel="calls/s", ylim=0)


def peers(axes: Axes, figures: list[dict[str, Any]]) -> None:
    """Draw each peer's throughput and latency."""
    rows = [row for row in figures if row.get("calls_256") and row.get("p50_us")]
    for row in rows:
        ours = row["name"] == "Pyre"
        axes.plot(row["p50_us"], row["calls_256"], "o", color=OURS if ours else FLOOR)
        axes.annotate(row["name"], (row["p50_us"], row["calls_256"]), (5, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(title="Peers: up and left is faster", xlabel="one caller, p50, µs", ylabel="calls/s of 256 callers")


PLOTS: list[tuple[str, str, Callable[[Axes, Any], None]]] = [
    ("callers", "bridge", callers),
    ("latency", "bridge", latency),
    ("memory", "scale", memory),
    ("recovery", "recovery", recovery),
    ("peers", "peers", peers),
]


def main(directory: pathlib.Path) -> None:
    """Draw what there is."""
    # The same figures give the same file.
    mpl.rcParams.update({"svg.hashsalt": "pyre", "svg.fonttype": "none", "font.size": 9})
    for name, source, draw in PLOTS:
        path = directory / f"{source}.json"
        if path.exists():
            figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
            draw(axes, json.loads(path.read_text())["figures"])
            axes.grid(visible=True, alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False)
            figure.savefig(directory / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
