"""Means with intervals, paired tests and distributions, as pure functions of numbers.

Without scipy, whose import takes a second, and without numpy; the tests compare every figure with them.

Values that belong together (of one document, of repetitions of one row) are clusters: the standard error is that
of clustered data, so that more of the same never looks like more evidence. See Miller (2024), "Adding Error Bars
to Evals" (arXiv 2411.00640), and Cameron and Miller (2015), "A Practitioner's Guide to Cluster-Robust Inference".
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

LEVEL = 0.95  # of all intervals
SIGNIFICANT = 0.05  # p values below are
BINS = 10  # of a histogram

_LARGE = 25  # from here on the series for the gamma functions is exact to the last digits
_TINY = 1e-300
_MOST_STEPS = 100_000  # of the continued fraction: it takes about as many as the square root of df
_PRECISION = 4e-16


class MeanEstimate(NamedTuple):
    """A mean, and how sure it is.

    Args:
        mean: of the values.
        standard_error: of the mean; None if there are not two clusters to tell it from.
        interval: with a confidence of 95%; None likewise.
        clusters: how many independent groups the values are of.
    """

    mean: float
    standard_error: float | None
    interval: tuple[float, float] | None
    clusters: int


class PairedTest(NamedTuple):
    """A paired t test: the mean of the differences, and the p value of there being none (two-sided)."""

    difference: MeanEstimate
    p: float | None  # None if there are not two clusters


def mean_of(values: Sequence[float]) -> float:
    """The mean; the same in whatever order the values are, and between them in spite of rounding."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def estimate_mean(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> MeanEstimate:
    """The mean of values with its interval, from the t distribution.

    Args:
        values: at least one.
        clusters: for each value the cluster it belongs to; None if each stands alone.

    Returns:
        With clusters the standard error is ``sqrt(G / (G - 1) * sum(s ** 2)) / n``, where ``s`` is the sum of the
        residuals of a cluster and G the number of clusters; G - 1 are the degrees of freedom. Where each value is
        a cluster, these are the classical ones.
    """
    mean = mean_of(values)
    sums = _residual_sums(values, mean, clusters)
    count = len(sums)
    if count < 2:
        return MeanEstimate(mean, None, None, count)
    error = math.hypot(*sums) * math.sqrt(count / (count - 1)) / len(values)
    margin = t_quantile((1 + LEVEL) / 2, count - 1) * error
    return MeanEstimate(mean, error, (mean - margin, mean + margin), count)


def _residual_sums(values: Sequence[float], mean: float, clusters: Sequence[Hashable] | None) -> list[float]:
    """The sum of the residuals of each cluster."""
    if clusters is None:
        return [value - mean for value in values]
    residuals: defaultdict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster].append(value - mean)
    return [math.fsum(some) for some in residuals.values()]


def paired_test(differences: Sequence[float], clusters: Sequence[Hashable] | None = None) -> PairedTest:
    """The paired t test of differences, at least one; with clusters from their standard error.

    Differences that are all the same leave no doubt: p is 1 if they are 0, and 0 if not.
    """
    difference = estimate_mean(differences, clusters)
    if difference.standard_error is None:
        return PairedTest(difference, None)
    if difference.mean == 0:
        return PairedTest(difference, 1.0)
    if difference.standard_error == 0:
        return PairedTest(difference, 0.0)
    t = difference.mean / difference.standard_error
    return PairedTest(difference, t_two_sided(t, difference.clusters - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for there being several tests (Holm 1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def sample_std(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample (n - 1); None for fewer than two values."""
    if len(values) < 2:
        return None
    return math.hypot(*_residual_sums(values, mean_of(values), None)) / math.sqrt(len(values) - 1)


def pooled_std(groups: Iterable[Sequence[float]]) -> float | None:
    """The standard deviation within groups, pooled; None if no group has two values."""
    residuals: list[float] = []
    freedom = 0
    for values in groups:
        if len(values) > 1:
            residuals += _residual_sums(values, mean_of(values), None)
            freedom += len(values) - 1
    return math.hypot(*residuals) / math.sqrt(freedom) if freedom else None


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, interpolated between two as numpy does by default ("linear")."""
    place = share * (len(ordered) - 1)
    index = min(int(place), len(ordered) - 1)
    low, high = ordered[index], ordered[min(index + 1, len(ordered) - 1)]
    part = place - index
    # From the nearer end, as numpy has it: then no result is beyond either of them.
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part


def histogram_range(low: float, high: float) -> tuple[float, float]:
    """From where to where a histogram goes: [0, 1] if all values are in it, else from the least to the largest."""
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def histogram(values: Sequence[float]) -> list[int]:
    """How many values are in each of ten bins of equal width over :func:`histogram_range`."""
    return counts_in_bins(values, *histogram_range(min(values), max(values)), BINS)


def counts_in_bins(values: Iterable[float], low: float, high: float, bins: int) -> list[int]:
    """How many values, none of them beyond low and high, are in each of so many bins of equal width."""
    counts = [0] * bins
    width = high - low
    for value in values:
        # The same place for a value as for the edge of its bin: 0.3 belongs to the bin that begins there.
        place = int(round((value - low) / width * bins, 9)) if width else 0
        counts[min(place, bins - 1)] += 1
    return counts


def t_two_sided(t: float, df: float) -> float:
    """The probability that a variable with Student's t distribution is at least so far from 0.

    Args:
        t: the distance.
        df: degrees of freedom, more than 0.
    """
    square = t * t
    if math.isinf(square):
        return 0.0
    # P = I(x; df / 2, 1 / 2), the regularized incomplete beta function.
    a, b = df / 2, 0.5
    x, rest = df / (df + square), square / (df + square)
    if rest == 0:
        return 1.0
    # Its logarithm by that of the smaller one, so that nothing is lost where x is near 1.
    log_x = math.log1p(-rest) if rest < 0.5 else math.log(x)
    log_rest = math.log1p(-x) if x < 0.5 else math.log(rest)
    front = math.exp(a * log_x + b * log_rest - _log_beta_half(a))
    if x < (a + 1) / (a + b + 2):
        return min(1.0, front * _fraction(x, a, b) / a)
    return max(0.0, 1 - front * _fraction(rest, b, a) / b)


@lru_cache(maxsize=1024)
def t_quantile(share: float, df: float) -> float:
    """The value below which a variable with Student's t distribution is with this probability.

    Args:
        share: the probability, between 0 and 1.
        df: degrees of freedom, more than 0.
    """
    if share == 0.5:
        return 0.0
    if share < 0.5:
        return -_t_beyond(2 * share, df)
    return _t_beyond(2 * (1 - share), df)


def _t_beyond(both_tails: float, df: float) -> float:
    """The t whose two tails hold this probability: bracketed, then halved until nothing is between."""
    low, high = 0.0, 1.0
    while t_two_sided(high, df) > both_tails:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        if t_two_sided(middle, df) > both_tails:
            low = middle
        else:
            high = middle
    return high


def _log_beta_half(a: float) -> float:
    """The logarithm of the beta function of ``a`` and 1 / 2."""
    return math.log(math.pi) / 2 - _log_gamma_ratio(a)


def _log_gamma_ratio(a: float) -> float:
    """``lgamma(a + 1/2) - lgamma(a)``, whose digits would be lost in the difference of large numbers."""
    if a < _LARGE:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    square = a * a
    series = 1 / 8 - (1 / 192 - (1 / 640 - 17 / 14336 / square) / square) / square
    return math.log(a) / 2 - series / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    d = 1 / _not_zero(1 - (a + b) * x / (a + 1))
    c, value = 1.0, d
    for m in range(1, _MOST_STEPS):
        for coefficient in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + coefficient * d)
            c = _not_zero(1 + coefficient / c)
            step = c * d
            value *= step
        if abs(step - 1) < _PRECISION:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
