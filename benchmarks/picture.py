"""Draw the medians of a benchmark, and the memory of a soak."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import candidates
from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from measure import Series

NAMES = {
    candidates.FORKED: "isolated_magic,\nforked",
    candidates.COLD: "isolated_magic,\ncold",
    candidates.WORKERS: "isolated_magic,\nworkers",
    candidates.PLAIN: "plain recipe:\nnew interpreter",
    candidates.POOL_APART: "process pool:\nthe same as workers",
    candidates.POOL: "process pool:\nnothing restored",
    candidates.NAIVE: "naive fork:\nthe floor",
    candidates.FLOOR: 'spawning "true"',
}
OURS, SECOND, OTHERS, INK = "#1668c7", "#7fb2ea", "#a3a8ad", "#24292f"
COLORS = {candidates.FORKED: OURS, candidates.COLD: SECOND, candidates.WORKERS: SECOND}
LINES, SMALLEST_MS, LARGEST_MS = "#d8dee4", 0.1, 20_000.0


def draw(panels: Mapping[str, Mapping[str, Series]], file: Path) -> None:
    """Draw the medians of every candidate as PNG, one panel for each workload."""
    with rc_context({"font.size": 10.5, "text.color": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(9, 4.7), layout="constrained")
        all_axes = figure.subplots(1, len(panels), sharey=True)
        for axes, (title, taken) in zip(all_axes, panels.items(), strict=True):
            _panel(axes, title, taken)
        all_axes[0].invert_yaxis()  # the first candidate on top
        figure.supxlabel("median of one run, from call to result, in ms (logarithmic)", fontsize=10)
        figure.savefig(file, dpi=100, facecolor="white")  # a Figure of its own draws with Agg


def draw_memory(sampled: Mapping[str, Sequence[tuple[float, float]]], file: Path) -> None:
    """Draw the memory of some processes over time as PNG.

    Args:
        sampled: by name, pairs of seconds since the begin and megabytes.
    """
    with rc_context({"font.size": 10.5, "text.color": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        for (name, samples), color in zip(sampled.items(), cycle((OURS, SECOND, OTHERS)), strict=False):
            axes.plot(*zip(*samples, strict=True), label=name, color=color, linewidth=1.8)
        axes.set_xlabel("seconds", fontsize=10)
        axes.set_ylabel("resident memory, MB", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.grid(color=LINES, linewidth=0.8)
        axes.legend(frameon=False)
        figure.savefig(file, dpi=100, facecolor="white")


def _panel(axes: Axes, title: str, taken: Mapping[str, Series]) -> None:
    names = [NAMES[key] for key in taken]
    medians = [series.median for series in taken.values()]
    bars = axes.barh(names, medians, color=[COLORS.get(key, OTHERS) for key in taken], height=0.62)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no line of the grid through a number
    labels = axes.bar_label(bars, [_text(value) for value in medians], padding=4, bbox=behind)
    for label, key in zip(labels, taken, strict=True):
        label.set_fontweight("bold" if key == candidates.FORKED else "normal")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xscale("log")
    axes.set_xlim(min(SMALLEST_MS, *medians), max(LARGEST_MS, *medians))
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"], fontsize=9)
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.grid(axis="x", color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(OTHERS)


def _text(milliseconds: float) -> str:
    digits = 2 if milliseconds < 1 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:,.{digits}f} ms"
