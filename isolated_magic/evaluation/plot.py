"""The distribution of each metric as a figure of matplotlib, for all rows or for groups of them."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.errors import InvalidRequestError, MissingLibraryError
from isolated_magic.evaluation.figures import brief, mean_text
from isolated_magic.evaluation.statistics import counts_in_bins, histogram_range
from isolated_magic.evaluation.values import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

    from isolated_magic.evaluation.evaluated import Evaluated
    from isolated_magic.evaluation.summary import MetricSummary

NO_MATPLOTLIB = (
    "plot() needs matplotlib, which is not installed: pip install 'isolated-magic[notebooks]', "
    "or matplotlib by itself: pip install matplotlib"
)
# On white and on the black of dark themes, each has a contrast of at least 4 (text) or 3.
TEXT, GRID = "#7b7b7b", "#8080804d"
HUES = ("#2f86c9", "#d1701f", "#2f9960", "#b1579f", "#8a7a1f", "#6b74d6")
WIDTH_INCHES, ROW_INCHES, PANEL_INCHES, EDGE_INCHES = 7.0, 0.42, 2.1, 1.15
NARROW_ROW_INCHES, MOST_WIDE = 0.26, 15  # of many groups; and how many are not many
DOTS_PER_INCH = 100
BINS = 20
HIGHEST = 0.7  # of the histogram of a group: part of the room between two groups
MOST_METRICS, MOST_GROUPS, MOST_LABELS = 8, 60, 6  # in one figure
LONGEST_NAME = 32  # characters


class Shown(NamedTuple):
    """A group in a panel: its name, and what is known of one metric."""

    name: str
    numbers: list[float]
    labels: Counter[str]
    figures: MetricSummary | None


def plot(result: Evaluated, by: str = "", groups: Mapping[object, Evaluated] | None = None) -> Figure:
    """A figure with a panel for each metric: its distribution, its mean and the 95% interval of that.

    Args:
        result: all rows.
        by: what the groups are by.
        groups: the evaluation of each group; None for all rows together.

    Raises:
        InvalidRequestError: no row has a value.
        MissingLibraryError: matplotlib is not installed.
    """
    metrics = [name for name, figures in result.summary["metrics"].items() if figures["scored"]]
    if not metrics:
        raise InvalidRequestError("There is nothing to plot: no row has a usable score.")
    shown = metrics[:MOST_METRICS]
    parts = {"": result} if groups is None else dict(islice(groups.items(), MOST_GROUPS))
    panels = {name: _panel(name, parts) for name in shown}
    row_inches = ROW_INCHES if len(parts) <= MOST_WIDE else NARROW_ROW_INCHES
    heights = [PANEL_INCHES if groups is None else EDGE_INCHES + row_inches * len(parts) for _ in shown]
    figure = _figure_class()(figsize=(WIDTH_INCHES, sum(heights)), dpi=DOTS_PER_INCH, layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, panel) in zip(axes, panels.items(), strict=True):
        _draw(axis, panel, has_groups=groups is not None)
        _dress(axis, name, result.summary["metrics"][name], len(result.rows))
    left_out = [f"{len(metrics) - len(shown)} more metrics"] * (len(metrics) > len(shown))
    if groups is not None:
        axes[0].set_ylabel(_name(by))
        left_out += [f"{len(groups) - len(parts)} more groups"] * (len(groups) > len(parts))
    if left_out:
        figure.supxlabel(f"not shown: {', '.join(left_out)}", fontsize="small", color=TEXT)
    _as_plain_text(figure)
    return figure


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - most of a second, and not installed everywhere
    except ImportError:
        raise MissingLibraryError(NO_MATPLOTLIB) from None

    class EvaluationFigure(Figure):
        """A figure that a notebook shows without pyplot, and once."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", metadata={"Software": None})
            return file.getvalue()

        def draw(self, renderer: RendererBase) -> None:
            with _no_word_of_glyphs():
                super().draw(renderer)

        def get_tightbbox(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in matplotlib
            with _no_word_of_glyphs():
                return super().get_tightbbox(*args, **kwargs)

    EvaluationFigure.__name__ = EvaluationFigure.__qualname__ = "Figure"
    return EvaluationFigure


@contextmanager
def _no_word_of_glyphs() -> Iterator[None]:
    """Names may be in any script; a box is drawn for what the font does not have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def _panel(metric: str, parts: Mapping[Any, Evaluated]) -> list[Shown]:
    panel = []
    for name, part in parts.items():
        found = values_of(part.rows).get(metric)
        usable = [] if found is None else found.usable().values
        panel.append(
            Shown(
                _name(str(name)),
                [value.number for value in usable if value.number is not None],
                Counter(label for value in usable for label in value.labels if value.number is None),
                part.summary["metrics"].get(metric),
            )
        )
    return panel


def _draw(axis: Axes, panel: Sequence[Shown], *, has_groups: bool) -> None:
    numbers = [number for shown in panel for number in shown.numbers]
    if not numbers:
        _draw_labels(axis, panel, has_groups=has_groups)
    elif has_groups:
        _draw_groups(axis, panel, _edges(numbers))
    else:
        _draw_histogram(axis, panel[0], _edges(numbers))


def _edges(numbers: Sequence[float]) -> list[float]:
    """Where bins begin and end."""
    low, high = histogram_range(min(numbers), max(numbers))
    if low == high:
        low, high = low - 0.5, high + 0.5
    return [low + (high - low) * n / BINS for n in range(BINS + 1)]


def _draw_histogram(axis: Axes, shown: Shown, edges: Sequence[float]) -> None:
    counts = counts_in_bins(shown.numbers, edges[0], edges[-1], BINS)
    axis.bar(edges[:-1], counts, width=edges[1] - edges[0], align="edge", color=HUES[0], linewidth=0)
    axis.set_ylabel("rows")
    _count_whole_rows(axis.yaxis)
    figures = shown.figures
    if figures is not None and figures["mean"] is not None:
        axis.axvline(figures["mean"], color=HUES[1], linewidth=1.5)
        if figures["interval"] is not None:
            axis.axvspan(*figures["interval"], color=HUES[1], alpha=0.25, linewidth=0)


def _count_whole_rows(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - of the library that is there by now

    axis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_groups(axis: Axes, panel: Sequence[Shown], edges: Sequence[float]) -> None:
    """A row for each group, the first on top: its histogram, and on its line the mean with its interval."""
    for place, shown in enumerate(panel):
        counts = counts_in_bins(shown.numbers, edges[0], edges[-1], BINS)
        most = max(counts)
        if most:
            tops = [place - HIGHEST * count / most for count in counts]
            axis.stairs(tops, edges, baseline=place, fill=True, color=HUES[0], alpha=0.7, linewidth=0)
        figures = shown.figures
        if figures is None or figures["mean"] is None:
            continue
        mean, interval = figures["mean"], figures["interval"] or [figures["mean"]] * 2
        error = [[max(0.0, mean - interval[0])], [max(0.0, interval[1] - mean)]]
        axis.errorbar(mean, place, xerr=error, fmt="o", color=HUES[1], markersize=5, capsize=3, linewidth=1.5)
    _name_groups(axis, panel, [len(shown.numbers) for shown in panel])


def _draw_labels(axis: Axes, panel: Sequence[Shown], *, has_groups: bool) -> None:
    """The share of each label in each group; for all rows together how often there is each."""
    total: Counter[str] = Counter()
    for shown in panel:
        total.update(shown.labels)
    labels = [label for label, _ in total.most_common(MOST_LABELS)]
    if not has_groups:
        axis.barh([_name(label) for label in labels], [total[label] for label in labels], color=HUES[0])
        axis.invert_yaxis()
        _count_whole_rows(axis.xaxis)
        axis.set_xlabel("rows" if len(total) <= MOST_LABELS else f"rows; {len(total) - MOST_LABELS} more labels")
        return
    for place, shown in enumerate(panel):
        count, left = sum(shown.labels.values()), 0.0
        for hue, label in zip(HUES, labels, strict=False):
            share = shown.labels[label] / count if count else 0.0
            axis.barh(place, share, left=left, color=hue, label=_in_legend(label) if place == 0 else None)
            left += share
    legend = axis.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor=TEXT, fontsize="small"
    )
    legend.set_in_layout(True)
    axis.set_xlabel("share")
    axis.set_xlim(0, 1)
    _name_groups(axis, panel, [sum(shown.labels.values()) for shown in panel])


def _in_legend(label: str) -> str:
    name = _name(label)
    return f" {name}" if name.startswith("_") else name  # which would hide it


def _name_groups(axis: Axes, panel: Sequence[Shown], counts: Sequence[int]) -> None:
    axis.set_yticks(
        range(len(panel)), [f"{shown.name}  n={count:,}" for shown, count in zip(panel, counts, strict=True)]
    )
    axis.set_ylim(len(panel) - 0.6, -0.9)


def _dress(axis: Axes, name: str, figures: MetricSummary, rows: int) -> None:
    """The title, and colours that are read on white and on black."""
    mean = "" if figures["mean"] is None else f"{mean_text(figures['mean'], figures['interval'])}, "
    axis.set_title(
        f"{_name(name)}  {mean}{figures['scored']:,} of {rows:,} scored", color=TEXT, loc="left", fontsize="medium"
    )
    axis.patch.set_alpha(0.0)
    axis.tick_params(colors=TEXT, labelcolor=TEXT, labelsize="small")
    axis.xaxis.label.set_color(TEXT)
    axis.yaxis.label.set_color(TEXT)
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(TEXT)


def _name(text: str) -> str:
    return brief(text, LONGEST_NAME)


def _as_plain_text(figure: Figure) -> None:
    """A dollar sign begins no formula."""
    from matplotlib.text import Text  # noqa: PLC0415 - likewise

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
