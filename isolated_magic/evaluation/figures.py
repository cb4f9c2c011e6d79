"""Figures of an evaluation as text: means with their intervals, shares, histograms."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.statistics import SIGNIFICANT
from isolated_magic.render.formatting import EIGHTHS, EXACTLY, number_in, number_text, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from isolated_magic.evaluation.summary import MetricSummary, Summary

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
FIGURE_DIGITS = 4
MOST_LABELS = 8  # of one metric
LONGEST_KEY = 60  # characters of a key or a name
LONGEST_READ = 2000  # of a text that are looked at
MOST_METRICS, LONGEST_NAME = 3, 40  # in the repr of an evaluation
MOST_DECIMALS = 12  # of a mean that has an interval
ROUNDING_ERROR = 1e-13  # of a mean, relative to it: an interval no wider is none


def mean_text(mean: float, interval: Sequence[float] | None) -> str:
    """A mean with as many digits as its interval allows, and half that interval.

    An interval that is not the same on both sides is written out.
    """
    if interval is None or not all(map(math.isfinite, (mean, *interval))):
        return number_text(mean)
    below, above = mean - interval[0], interval[1] - mean
    half = max(below, above)
    if half <= abs(mean) * ROUNDING_ERROR:
        return f"{number_text(float(f'{mean:.14g}'))} {PLUS_MINUS} 0"
    decimals = _decimals(half)
    number = number_in(mean)
    if number is None or not -MOST_DECIMALS < decimals <= MOST_DECIMALS:
        return f"{number_text(mean)} {PLUS_MINUS} {half:.1g}"
    while (shown := _rounded(number, decimals)) != number and shown in {0, 1} and decimals < MOST_DECIMALS:
        decimals += 1  # 0.996 is not shown as 1
    places = max(decimals, 0)
    if abs(above - below) > 0.1 * half:
        low, high = (f"{round(bound, decimals):.{places}f}" for bound in interval)
        return f"{shown:.{places}f} ({low} to {high})"
    return f"{shown:.{places}f} {PLUS_MINUS} {round(half, decimals):.{places}f}"


def short_text(summary: Summary) -> str:
    """A summary in one line: the first metrics, and how many rows they are of."""
    metrics = [*summary["metrics"].items()]
    told = [_metric_text(name, metric) for name, metric in metrics[:MOST_METRICS]]
    told += [f"and {len(metrics) - MOST_METRICS:,} more metrics"] * (len(metrics) > MOST_METRICS)
    told.append(f"{summary['scored']:,} of {summary['rows']:,} scored")
    for what in ("failed", "unscored", "not_run"):
        if count := summary[what]:
            told.append(f"{count:,} {what.replace('_', ' ')}")
    return ", ".join(told + ["stopped early"] * bool(summary["stopped"]))


def _metric_text(name: str, metric: MetricSummary) -> str:
    shown = brief(name, LONGEST_NAME)
    if metric["mean"] is not None:
        return f"{shown} {mean_text(metric['mean'], metric['interval'])}"
    labels = [f"{count:,} {brief(label, LONGEST_NAME)}" for label, count in metric["labels"].items()]
    return f"{shown} {' / '.join(labels[:MOST_METRICS]) or 'without values'}"


def _decimals(half: float) -> int:
    """To one significant digit; to two where the first is 1, or rounding would change it by up to a half."""
    exponent = math.floor(math.log10(half))
    return -exponent + int(half / 10.0**exponent < 1.95)


def _rounded(number: Decimal, decimals: int) -> Decimal:
    unit = EXACTLY.scaleb(EXACTLY.create_decimal(1), -decimals)
    return number.quantize(unit, ROUND_HALF_UP, EXACTLY)  # as readers do


def figure_text(value: float) -> str:
    """A figure with four digits, or as many more as it takes not to be taken for a whole number."""
    value = float(f"{value:.14g}")  # without the rounding errors of what is computed
    number = number_in(value)
    if number is None or not 1e-4 <= abs(value) < 1e6:
        return number_text(value)
    digits = FIGURE_DIGITS
    while (rounded := Context(prec=digits).plus(number)) != number and rounded == rounded.to_integral_value():
        digits += 1
    return f"{rounded.normalize(EXACTLY):f}"


def amount_text(value: float) -> str:
    """A sum that may be large."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.2f}"


def percent_text(share: float) -> str:
    """A share in percent; 100 % and 0 % are exactly that."""
    text = f"{share * 100:.1f}".removesuffix(".0")
    if text == "100" and share < 1:
        return "over 99.9 %"
    if text == "0" and share > 0:
        return "under 0.1 %"
    return f"{text} %"


def histogram_text(counts: Sequence[int]) -> str:
    """A column of eighths for each count; what is empty has the lowest, and nothing else has."""
    most = max(counts, default=0)
    if not most:
        return ""
    levels = len(EIGHTHS) - 1
    return "".join(EIGHTHS[math.ceil(count / most * levels)] for count in counts)


def time_text(secs: float) -> str:
    """How long something takes, in its two largest units."""
    whole = round(secs)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min"


def difference_text(difference: float, interval: Sequence[float] | None) -> str:
    """A difference with its sign, and with half its interval."""
    text = mean_text(difference, interval) if interval is not None else figure_text(difference)
    return f"+{text}" if difference > 0 else text


def p_text(p: float) -> str:
    """A p value with three decimals, or as many more as it takes to see on which side of 0.05 it is."""
    if p < 0.001:
        return "< 0.001"
    decimals = 3
    while f"{p:.{decimals}f}" == f"{SIGNIFICANT:.{decimals}f}" and p != SIGNIFICANT:
        decimals += 1
    return f"{p:.{decimals}f}"


def brief(text: object, most: int = LONGEST_KEY) -> str:
    """The beginning of a text on one line, without looking at all of a long one."""
    whole = str(text)
    line = one_line(whole[:LONGEST_READ])
    if len(line) > most:
        return f"{line[: most - 3].rstrip()}..."
    return f"{line}..." if len(whole) > LONGEST_READ else line


def plural(noun: str, count: int) -> str:
    """The noun as it stands behind a count."""
    return noun if count == 1 else f"{noun}s"


def labels_text(labels: Mapping[str, int]) -> str:
    """The most frequent labels with their counts."""
    told = [f"{count:,} {brief(label, 30)}" for label, count in islice(labels.items(), MOST_LABELS)]
    told += [f"{len(labels) - MOST_LABELS:,} more labels"] * (len(labels) > MOST_LABELS)
    return ", ".join(told)
