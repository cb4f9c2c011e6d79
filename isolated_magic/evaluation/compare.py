"""Compare two evaluations row by row: is the newer one better, or is the difference noise?"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.statistics import SIGNIFICANT, holm, mean_of, paired_test
from isolated_magic.evaluation.values import MINIMIZE, cluster_ids, row_means, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.statistics import PairedTest
    from isolated_magic.evaluation.values import MetricValues, RowMeans

Verdict: TypeAlias = Literal["better", "worse", "no difference shown", "too few to tell"]

FEWEST = 10  # pairs, or clusters of them, from which a verdict is given
MOST_CHANGED = 5  # rows
MOST_NAMED = 10  # metrics, in a line or in notes
NEWER, EARLIER = "newer", "earlier"
NO_PAIRS = (
    "No row is in both evaluations. Rows are paired by their keys, which come from their content: if that has "
    "changed, name the rows in both runs (--key in a notebook, key= in code)."
)
TIE = 1e-9  # relative difference of two values that are the same but for rounding


@dataclass(frozen=True)
class MetricComparison:
    """How one metric differs between two evaluations, over the rows that both have a value of.

    Args:
        name: of the metric.
        before: mean of the earlier evaluation over the pairs; NaN without any.
        after: mean of the newer one over the pairs; likewise.
        delta: after - before, the mean of the differences.
        interval: of delta, with a confidence of 95%, paired; clustered if rows have clusters. None for fewer than
            two pairs or clusters.
        p: of the paired t test, two-sided; None likewise.
        p_adjusted: p adjusted for the number of metrics, as Holm does.
        wins: pairs in which the newer value is better.
        ties: pairs in which both are the same.
        losses: pairs in which the newer value is worse.
        pairs: rows with a value in both evaluations; repetitions of a row are averaged first.
        missing: rows that are in both evaluations, but have no value in one of them or in both.
        clusters: number of independent groups of pairs; as many as pairs if each stands alone.
        lower_is_better: whether a smaller value is the better one.
        verdict: ``"better"`` or ``"worse"`` if p_adjusted is below 0.05; ``"too few to tell"`` below 10 pairs or
            clusters; else ``"no difference shown"``, which does not mean that there is none.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> rows = [{"n": n} for n in range(20)]
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     before = executor.evaluate("{'ratio': data['n'] % 3 / 10}", rows)
        ...     after = executor.evaluate("{'ratio': data['n'] % 3 / 10 + 0.5}", rows)

        >>> ratio = after.compare(before).metrics["ratio"]
        >>> round(ratio.before, 3), round(ratio.after, 3), ratio.wins, ratio.losses, ratio.verdict
        (0.095, 0.595, 20, 0, 'better')
    """

    name: str
    before: float
    after: float
    delta: float
    interval: tuple[float, float] | None
    p: float | None
    p_adjusted: float | None
    wins: int
    ties: int
    losses: int
    pairs: int
    missing: int
    clusters: int
    lower_is_better: bool
    verdict: Verdict


class Change(NamedTuple):
    """A row whose value of a metric has changed.

    Args:
        key: of the row.
        metric: the one that changed most.
        before: its value in the earlier evaluation.
        after: its value in the newer one.
    """

    key: str
    metric: str
    before: float
    after: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """How an evaluation differs from an earlier one.

    Args:
        metrics: by name, those that both have numbers of.
        pairs: rows that are in both, by their keys.
        unpaired: rows that are in one of them alone.
        changed: the five rows that changed most, the largest change first.
        only_before: names of the metrics that the earlier one alone has numbers of.
        only_after: likewise of the newer one.
        notes: what to know before the figures are believed, such as rows that failed in one of them.
        label: what the earlier evaluation is called; empty for nothing.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> rows = [{"n": n} for n in range(20)]
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     before = executor.evaluate("{'ratio': data['n'] % 3 / 10}", rows)
        ...     after = executor.evaluate("{'ratio': data['n'] % 3 / 10 + 0.5}", rows)

        >>> after.compare(before)
        Comparison({ratio: +0.5 (better)}, pairs=20, unpaired=0)
    """

    metrics: Mapping[str, MetricComparison] = field(default_factory=dict)
    pairs: int = 0
    unpaired: int = 0
    changed: tuple[Change, ...] = ()
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""

    __hash__ = None  # type: ignore[assignment]  # it holds a dict

    def __repr__(self) -> str:
        """A line for each metric's verdict."""
        told = [f"{name}: {one.delta:+.4g} ({one.verdict})" for name, one in self.metrics.items()]
        return f"{type(self).__name__}({{{_some(told)}}}, pairs={self.pairs}, unpaired={self.unpaired})"


def _some(texts: Iterable[str]) -> str:
    """The first of the texts, and how many more there are."""
    told = [*texts]
    more = [f"and {len(told) - MOST_NAMED:,} more"] * (len(told) > MOST_NAMED)
    return ", ".join([*told[:MOST_NAMED], *more])


class Side(NamedTuple):
    """One of the two evaluations."""

    rows: Sequence[RowResult]
    label: str = ""
    stopped: str = ""


class _Values(NamedTuple):
    """What one side has."""

    side: Side
    metrics: dict[str, MetricValues]
    means: dict[str, RowMeans]  # of the metrics that have numbers
    keys: set[str]
    failed: set[str]  # keys of rows that have an error in each repetition


class _Pairs(NamedTuple):
    """The values of one metric in the rows that are in both evaluations, by key."""

    keys: list[str]
    before: list[float]
    after: list[float]
    differences: list[float]  # 0 for ties
    test: PairedTest | None  # None without pairs


def compare(after: Side, before: Side, lower_is_better: Iterable[str] = ()) -> Comparison:
    """Compare the newer evaluation with the earlier one.

    Raises:
        InvalidRequestError: ``lower_is_better`` names a metric that neither has.
    """
    newer, earlier = _values(after), _values(before)
    lower = _lower(lower_is_better, {**earlier.metrics, **newer.metrics})
    in_both = len(newer.keys & earlier.keys)
    pairs = {
        name: _pair(means, earlier.means[name]) for name, means in newer.means.items() if name in earlier.means
    }
    p_values = {name: found.test.p for name, found in pairs.items() if found.test and found.test.p is not None}
    adjusted = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    metrics = {
        name: _compared(name, found, adjusted.get(name), in_both, lower_is_better=name in lower)
        for name, found in pairs.items()
    }
    return Comparison(
        metrics=metrics,
        pairs=in_both,
        unpaired=len(newer.keys ^ earlier.keys),
        changed=_most_changed(pairs),
        only_before=tuple(name for name in earlier.means if name not in newer.means),
        only_after=tuple(name for name in newer.means if name not in earlier.means),
        notes=tuple(_notes(newer, earlier)),
        label=before.label,
    )


def _values(side: Side) -> _Values:
    metrics = values_of(side.rows)
    means = {name: found for name, metric in metrics.items() if (found := _means(metric)).keys}
    ok = {row.key for row in side.rows if row.error is None}
    keys = {row.key for row in side.rows}
    return _Values(side, metrics, means, keys, keys - ok)


def _lower(lower_is_better: Iterable[str], known: Mapping[str, MetricValues]) -> frozenset[str]:
    """The metrics of which less is better: those named, and those that say so themselves, as Phoenix's do."""
    lower = frozenset((lower_is_better,) if isinstance(lower_is_better, str) else lower_is_better)
    unknown = sorted(lower - known.keys())
    if unknown and known:
        raise InvalidRequestError(
            f"lower_is_better names {_some(map(reprlib.repr, unknown))}, which is no metric of these evaluations: "
            f"they have {_some(map(reprlib.repr, known))}."
        )
    return lower.union(name for name, metric in known.items() if metric.direction == MINIMIZE)


def _means(metric: MetricValues) -> RowMeans:
    """A number for each row; of a metric whose values are text, 1 or 0 for its verdict, if it has one."""
    usable = metric.usable()
    numbers = usable.numbers()
    if numbers or not usable.rows:
        return row_means(usable.rows, numbers)
    verdicts = [(row, value.passed) for row, value in zip(usable.rows, usable.values, strict=True)]
    judged = [(row, float(passed)) for row, passed in verdicts if passed is not None]
    return row_means([row for row, _ in judged], [number for _, number in judged])


def _pair(after: RowMeans, before: RowMeans) -> _Pairs:
    """The pairs of one metric, in the order of the newer evaluation."""
    earlier = dict(zip(before.keys, zip(before.means, before.clusters, strict=True), strict=True))
    found = [
        (key, earlier[key][0], mean, earlier[key][1] if cluster is None else cluster)
        for key, mean, cluster in zip(after.keys, after.means, after.clusters, strict=True)
        if key in earlier
    ]
    differences = [0.0 if math.isclose(new, old, rel_tol=TIE) else new - old for _, old, new, _ in found]
    test = paired_test(differences, cluster_ids([cluster for *_, cluster in found])) if found else None
    return _Pairs(
        [key for key, *_ in found],
        [old for _, old, *_ in found],
        [new for _, _, new, _ in found],
        differences,
        test,
    )


def _compared(
    name: str, found: _Pairs, p_adjusted: float | None, in_both: int, *, lower_is_better: bool
) -> MetricComparison:
    estimate, p = (None, None) if found.test is None else found.test
    ups = sum(difference > 0 for difference in found.differences)
    downs = sum(difference < 0 for difference in found.differences)
    wins, losses = (downs, ups) if lower_is_better else (ups, downs)
    delta = math.nan if estimate is None else estimate.mean
    clusters = 0 if estimate is None else estimate.clusters
    verdict: Verdict = "no difference shown"
    if min(len(found.keys), clusters) < FEWEST:
        verdict = "too few to tell"
    elif p_adjusted is not None and p_adjusted < SIGNIFICANT:
        verdict = "better" if (delta < 0) is lower_is_better else "worse"
    return MetricComparison(
        name=name,
        before=mean_of(found.before) if found.keys else math.nan,
        after=mean_of(found.after) if found.keys else math.nan,
        delta=delta,
        interval=None if estimate is None else estimate.interval,
        p=p,
        p_adjusted=p_adjusted,
        wins=wins,
        ties=len(found.keys) - wins - losses,
        losses=losses,
        pairs=len(found.keys),
        missing=in_both - len(found.keys),
        clusters=clusters,
        lower_is_better=lower_is_better,
        verdict=verdict,
    )


def _most_changed(pairs: Mapping[str, _Pairs]) -> tuple[Change, ...]:
    """The rows that changed most; each once, with the metric that changed most.

    Metrics of other ranges than from 0 to 1 are measured by theirs, so that one of them does not drown the others.
    """
    largest: dict[str, tuple[float, Change]] = {}
    for name, found in pairs.items():
        values = [*found.before, *found.after]
        if not values:
            continue
        low, high = min(values), max(values)
        scale = 1.0 if low >= 0 and high <= 1 else high - low
        for key, old, new, difference in zip(*found[:4], strict=True):
            size = abs(difference) / scale if difference else 0.0
            if size > largest.get(key, (0.0,))[0]:
                largest[key] = size, Change(key, name, old, new)
    ordered = sorted(largest.values(), key=lambda item: -item[0])
    return tuple(change for _, change in ordered[:MOST_CHANGED])


def _notes(newer: _Values, earlier: _Values) -> Iterator[str]:
    """What the figures do not say: pairs are only those rows that neither evaluation lost."""
    for which, one in (NEWER, newer), (EARLIER, earlier):
        if one.side.stopped:
            yield f"The {which} evaluation ended early: {one.side.stopped}"
    in_both = newer.keys & earlier.keys
    if not in_both and newer.keys and earlier.keys:
        yield NO_PAIRS
        return
    for which, one, other in (NEWER, newer, earlier), (EARLIER, earlier, newer):
        if alone := len(one.keys - other.keys):
            yield f"{_rows(alone)} in the {which} evaluation alone."
    for which, one, other in (NEWER, newer, earlier), (EARLIER, earlier, newer):
        if lost := len(one.failed & in_both - other.failed):
            yield f"{_counted(lost)} failed in the {which} evaluation alone {_in_no_pair(lost)}."
    if lost := len(newer.failed & earlier.failed):
        yield f"{_counted(lost)} failed in both {_in_no_pair(lost)}."
    of_metrics = [note for name in newer.metrics for note in _notes_of_metric(name, newer, earlier)]
    yield from of_metrics[:MOST_NAMED]
    if len(of_metrics) > MOST_NAMED:
        yield f"There are {len(of_metrics) - MOST_NAMED:,} more notes of this kind on other metrics."


def _notes_of_metric(name: str, newer: _Values, earlier: _Values) -> Iterator[str]:
    """Rows that have a value of this metric on one side alone: were they harder, or easier, than the others?"""
    if name not in newer.means or name not in earlier.means:
        if name in earlier.metrics and name not in newer.means and name not in earlier.means:
            yield f"{name} has no numbers: it is not compared."
        return
    for which, one, other in (NEWER, newer, earlier), (EARLIER, earlier, newer):
        values, in_pairs = one.means[name], {*other.means[name].keys}
        alone: list[float] = []
        paired: list[float] = []
        for key, mean in zip(values.keys, values.means, strict=True):
            if key in other.keys:
                (paired if key in in_pairs else alone).append(mean)
        if alone:
            told = f"{_counted(len(alone))} {'has' if len(alone) == 1 else 'have'} a value"
            of_pairs = f", and {mean_of(paired):.4g} in the pairs" if paired else ""
            on_average = f"{mean_of(alone):.4g} on average{of_pairs}"
            yield f"{name}: {told} in the {which} evaluation alone: {on_average}."


def _counted(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _rows(count: int) -> str:
    return f"{_counted(count)} {'is' if count == 1 else 'are'}"


def _in_no_pair(count: int) -> str:
    return f"and {'is' if count == 1 else 'are'} in no pair"
