"""Two evaluations compared row by row: against scipy, and with cases worked by hand."""

import math
import pickle
import random
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isolated_magic import Comparison, EvaluationResult, InvalidRequestError, RowResult
from isolated_magic.models import ErrorKind, RunError, Score

ERROR = RunError(ErrorKind.USER_CODE, "KeyError: 'x'", "KeyError: 'x' (line 1)")


def evaluation(values, *, clusters=None, name="relevance", repetitions=1, **more):
    """An evaluation of rows k0, k1, ...: of numbers, dicts of them by metric, None for a row that failed."""
    rows = []
    for index, value in enumerate(values):
        named = value if isinstance(value, dict) else {name: value}
        scores = tuple(Score(metric, one) for metric, one in named.items()) if value is not None else ()
        cluster = None if clusters is None else clusters[index]
        row = RowResult(
            index, f"k{index}", {}, scores=scores, error=None if value is not None else ERROR, cluster=cluster
        )
        rows += [replace(row, repetition=repetition) for repetition in range(repetitions)]
    return EvaluationResult(tuple(rows), repeat=repetitions, **more)


def noise(count, seed, *, mean=0.6, spread=0.1):
    source = random.Random(seed)
    return [source.gauss(mean, spread) for _ in range(count)]


BEFORE = noise(60, 1)
BETTER = [value + change for value, change in zip(BEFORE, noise(60, 2, mean=0.05, spread=0.05), strict=True)]
SAME = [value + change for value, change in zip(BEFORE, noise(60, 4, mean=0, spread=0.05), strict=True)]


def only(comparison):
    (metric,) = comparison.metrics.values()
    return metric


class TestFigures:
    @pytest.mark.parametrize("after", [BETTER, SAME], ids=["better", "same"])
    def test_they_are_those_of_scipy(self, after):
        found = only(evaluation(after).compare(evaluation(BEFORE)))
        expected = stats.ttest_rel(after, BEFORE)
        interval = expected.confidence_interval()
        assert found.p == found.p_adjusted == pytest.approx(expected.pvalue)
        assert found.interval == pytest.approx((interval.low, interval.high))
        assert found.before == pytest.approx(sum(BEFORE) / 60)
        assert found.after == pytest.approx(sum(after) / 60)
        assert found.delta == pytest.approx(found.after - found.before)
        assert (found.pairs, found.missing, found.clusters) == (60, 0, 60)

    def test_a_case_worked_by_hand(self):
        # Differences 1, 2, 3, 0: mean 1.5, variance 5/3, standard error sqrt(5/12) = 0.645497, t 2.323790;
        # of 3 degrees of freedom the 97.5% quantile is 3.182446.
        found = only(evaluation([2, 4, 6, 4]).compare(evaluation([1, 2, 3, 4])))
        assert (found.before, found.after, found.delta) == (2.5, 4, 1.5)
        assert found.interval == pytest.approx((1.5 - 3.182446 * 0.645497, 1.5 + 3.182446 * 0.645497), abs=1e-5)
        assert found.p == pytest.approx(0.1027, abs=1e-4)
        assert (found.wins, found.ties, found.losses) == (3, 1, 0)
        assert found.verdict == "too few to tell"

    def test_the_order_of_rows_does_not_matter(self):
        after, before = evaluation(BETTER), evaluation(BEFORE)
        mixed = replace(before, rows=tuple(random.Random(5).sample(before.rows, 60)))
        assert only(after.compare(mixed)) == only(after.compare(before))

    @settings(max_examples=50, deadline=None)
    @given(
        pairs=st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=30),
        by=st.floats(-5, 5),
    )
    def test_a_shift_shifts_delta_and_interval(self, pairs, by):
        after, before = [new for new, _ in pairs], [old for _, old in pairs]
        plain = only(evaluation(after).compare(evaluation(before)))
        moved = only(evaluation([value + by for value in after]).compare(evaluation(before)))
        assert moved.delta == pytest.approx(plain.delta + by, abs=1e-7)
        assert moved.interval == pytest.approx([edge + by for edge in plain.interval], abs=1e-6)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=30))
    def test_the_other_way_round_all_signs_change(self, pairs):
        after, before = (evaluation(values) for values in zip(*pairs, strict=True))
        one, other = only(after.compare(before)), only(before.compare(after))
        assert other.delta == -one.delta
        assert (other.wins, other.ties, other.losses) == (one.losses, one.ties, one.wins)
        assert other.p == one.p
        assert {one.verdict, other.verdict} in ({"better", "worse"}, {one.verdict})


class TestVerdict:
    @pytest.mark.parametrize(
        ("after", "lower_is_better", "verdict"),
        [
            (BETTER, (), "better"),
            (BETTER, ["relevance"], "worse"),
            (BETTER, "relevance", "worse"),
            (SAME, (), "no difference shown"),
            (BEFORE, (), "no difference shown"),
            (BETTER[:9], (), "too few to tell"),
            ([value + 1 for value in BEFORE[:10]], (), "better"),
            ([value + 1 for value in BEFORE[:9]], (), "too few to tell"),
        ],
    )
    def test_it_is_of_the_adjusted_p_value_and_the_direction(self, after, lower_is_better, verdict):
        found = only(evaluation(after).compare(evaluation(BEFORE), lower_is_better=lower_is_better))
        assert found.verdict == verdict
        assert found.delta >= 0 or after is SAME

    def test_lower_is_better_turns_wins_round_and_not_delta(self):
        after, before = evaluation(BETTER), evaluation(BEFORE)
        plain, turned = (only(after.compare(before, lower_is_better=names)) for names in ((), ["relevance"]))
        assert (turned.delta, turned.interval, turned.p) == (plain.delta, plain.interval, plain.p)
        assert (turned.wins, turned.losses) == (plain.losses, plain.wins)
        assert plain.wins > plain.losses
        assert turned.lower_is_better

    def test_a_metric_that_says_that_less_is_better(self):
        rows = [
            [
                RowResult(
                    index, f"k{index}", {}, scores=(Score("toxicity", value, metadata={"direction": "minimize"}),)
                )
                for index, value in enumerate(values)
            ]
            for values in (BETTER, BEFORE)
        ]
        after, before = (EvaluationResult(tuple(some)) for some in rows)
        assert only(after.compare(before)).verdict == "worse"

    def test_holm_goes_over_all_metrics(self):
        """One metric of which p is just below 0.05 is no finding among five others of noise."""
        changes = next(
            some
            for seed in range(1000)
            if 0.02 < stats.ttest_1samp(some := noise(30, seed, mean=0.02), 0).pvalue < 0.04
        )
        after = [
            {"best": change, **{f"noise{n}": noise(30, 50 + n)[index] for n in range(5)}}
            for index, change in enumerate(changes)
        ]
        before = [
            {"best": 0.0, **{f"noise{n}": noise(30, 80 + n)[index] for n in range(5)}} for index in range(30)
        ]
        found = evaluation(after).compare(evaluation(before)).metrics
        alone = evaluation(changes, name="best").compare(evaluation([0.0] * 30, name="best")).metrics["best"]
        assert alone.p == found["best"].p < 0.05
        assert alone.verdict == "better"
        assert found["best"].p_adjusted == pytest.approx(6 * found["best"].p)
        assert found["best"].verdict == "no difference shown"

    def test_noise_is_rarely_called_a_difference(self):
        """Of 400 comparisons of the same thing with itself, one in twenty may be wrong."""
        wrong = sum(
            only(evaluation(noise(20, seed)).compare(evaluation(noise(20, 1000 + seed)))).verdict
            in {"better", "worse"}
            for seed in range(400)
        )
        assert 5 <= wrong <= 36


class TestRepetitionsAndClusters:
    def test_identical_repetitions_change_nothing(self):
        once = only(evaluation(BETTER).compare(evaluation(BEFORE)))
        often = only(evaluation(BETTER, repetitions=4).compare(evaluation(BEFORE, repetitions=3)))
        assert often.interval == pytest.approx(once.interval)
        assert often.p == pytest.approx(once.p)
        assert (often.pairs, often.wins, often.ties, often.losses) == (60, once.wins, once.ties, once.losses)

    def test_repetitions_are_averaged_first(self):
        def rows(values):
            return tuple(
                RowResult(index, f"k{index}", {}, scores=(Score("s", value),), repetition=repetition)
                for index, some in enumerate(values)
                for repetition, value in enumerate(some)
            )

        after, before = EvaluationResult(rows([[1, 3], [5]])), EvaluationResult(rows([[1], [2, 4]]))
        found = only(after.compare(before))
        assert (found.before, found.after, found.delta, found.pairs) == (2, 3.5, 1.5, 2)

    def test_equal_but_for_rounding_is_a_tie(self):
        once, often = evaluation([0.1] * 12), evaluation([0.1] * 12, repetitions=3)
        found = only(often.compare(once))
        assert (found.ties, found.p, found.verdict) == (12, 1, "no difference shown")

    def test_clusters_are_one_piece_of_evidence_each(self):
        clusters = [f"doc{index // 6}" for index in range(60)]
        change = [1.0 + cluster / 10 for cluster in noise(10, 4, mean=0, spread=5) for _ in range(6)]
        after = [value + one for value, one in zip(BEFORE, change, strict=True)]
        plain = only(evaluation(after).compare(evaluation(BEFORE)))
        for which in (evaluation(BEFORE), evaluation(BEFORE, clusters=clusters)):
            clustered = only(evaluation(after, clusters=clusters).compare(which))
            assert (clustered.clusters, clustered.pairs) == (10, 60)
            assert clustered.delta == plain.delta
            # The means of clusters of one size are what the evidence is.
            assert clustered.p == pytest.approx(stats.ttest_1samp(change[::6], 0).pvalue, rel=1e-6)
            assert clustered.p > plain.p

    def test_few_clusters_are_too_few_to_tell(self):
        clusters = [f"doc{index % 9}" for index in range(60)]
        after = evaluation([value + 1 for value in BEFORE], clusters=clusters)
        assert only(after.compare(evaluation(BEFORE))).verdict == "too few to tell"


class TestRowsThatAreInNoPair:
    def test_unpaired_missing_and_failed_rows_are_counted_and_said(self):
        after = evaluation([*BETTER[:50], None, None, math.nan, 0.5, None])  # k50 to k54
        before = evaluation([*BEFORE[:50], 0.1, 0.2, 0.3, None, None, 0.4, 0.5])  # and k55, k56
        found = after.compare(before)
        after_mean, before_mean = (f"{sum(values[:50]) / 50:.4g}" for values in (BETTER, BEFORE))
        assert (found.pairs, found.unpaired) == (55, 2)
        assert (only(found).pairs, only(found).missing) == (50, 5)
        assert found.notes == (
            "2 rows are in the earlier evaluation alone.",
            "2 rows failed in the newer evaluation alone and are in no pair.",
            "1 row failed in the earlier evaluation alone and is in no pair.",
            "1 row failed in both and is in no pair.",
            f"relevance: 1 row has a value in the newer evaluation alone: 0.5 on average, and {after_mean} in the pairs.",
            f"relevance: 3 rows have a value in the earlier evaluation alone: 0.2 on average, and {before_mean} in "
            "the pairs.",
        )
        assert only(found).before == pytest.approx(sum(BEFORE[:50]) / 50)  # without the rows that are in no pair

    def test_no_row_in_both(self):
        after = evaluation([0.5] * 12)
        before = EvaluationResult(tuple(replace(row, key=f"other{row.index}") for row in after.rows))
        found = after.compare(before)
        assert (found.pairs, found.unpaired) == (0, 24)
        assert only(found).verdict == "too few to tell"
        assert math.isnan(only(found).delta)
        assert (only(found).p, only(found).interval) == (None, None)
        assert "name the rows in both runs (--key" in found.notes[0]

    def test_an_evaluation_that_ended_early(self):
        found = evaluation(BETTER[:20], stopped="The evaluation was interrupted.").compare(evaluation(BEFORE))
        assert found.notes[0] == "The newer evaluation ended early: The evaluation was interrupted."
        assert found.unpaired == 40

    def test_metrics_of_one_side_alone(self):
        after = evaluation([{"both": 1.0, "new": 2.0, "tone": "kind"}] * 3)
        before = evaluation([{"both": 1.0, "old": 2.0, "tone": "rude"}] * 3)
        found = after.compare(before)
        assert [*found.metrics] == ["both"]
        assert (found.only_before, found.only_after) == (("old",), ("new",))
        assert found.notes == ("tone has no numbers: it is not compared.",)

    def test_verdicts_of_a_metric_without_numbers(self):
        def judged(*verdicts):
            scores = [(Score("grade", "CI"[not passed], passed=passed),) for passed in verdicts]
            return EvaluationResult(
                tuple(RowResult(index, f"k{index}", {}, scores=some) for index, some in enumerate(scores))
            )

        found = only(judged(*[True] * 12).compare(judged(*[True] * 3, *[False] * 9)))
        assert (found.before, found.after, found.wins, found.verdict) == (0.25, 1, 9, "better")

    def test_nothing_at_all(self):
        assert EvaluationResult().compare(EvaluationResult()) == Comparison()
        found = evaluation([None, None]).compare(evaluation([0.5, 0.6]))
        assert found.metrics == {}
        assert found.only_before == ("relevance",)

    def test_of_many_metrics_a_few_are_named(self):
        after = evaluation([{f"m{n}": 0.5 for n in range(500)}] * 2 + [{"m0": 0.5}])
        before = evaluation([{f"m{n}": 0.5 for n in range(500)}] * 3)
        found = after.compare(before)
        assert len(found.notes) == 11
        assert found.notes[-1] == "There are 489 more notes of this kind on other metrics."
        assert len(repr(found)) < 600
        with pytest.raises(InvalidRequestError) as caught:
            after.compare(before, lower_is_better=["m500"])
        assert "'m9', and 490 more." in str(caught.value)


class TestChanged:
    def test_the_rows_that_changed_most_come_first_each_once(self):
        before = [{"a": 0.5, "b": 0.5} for _ in range(10)]
        after = [{"a": 0.5 + index / 20, "b": 0.5 - index / 40} for index in range(10)]
        found = evaluation(after).compare(evaluation(before)).changed
        assert [tuple(one) for one in found] == [
            (f"k{index}", "a", 0.5, 0.5 + index / 20) for index in (9, 8, 7, 6, 5)
        ]

    def test_a_metric_of_large_numbers_does_not_drown_the_others(self):
        before = [{"relevance": 0.5, "length": 300.0 + 10 * index} for index in range(10)]
        after = [{**row, "length": row["length"] + 1} for row in before]
        after[4]["relevance"] = 1.0
        assert evaluation(after).compare(evaluation(before)).changed[0] == ("k4", "relevance", 0.5, 1.0)

    def test_rows_that_did_not_change_are_none(self):
        assert evaluation(BEFORE).compare(evaluation(BEFORE)).changed == ()


class TestValue:
    def test_repr_equality_and_pickle(self):
        found = evaluation(BETTER, label="new").compare(evaluation(BEFORE, label="old"))
        assert found == evaluation(BETTER).compare(evaluation(BEFORE, label="old"))
        assert found != evaluation(SAME).compare(evaluation(BEFORE, label="old"))
        assert pickle.loads(pickle.dumps(found)) == found
        assert found.label == "old"
        assert repr(found) == f"Comparison({{relevance: {only(found).delta:+.4g} (better)}}, pairs=60, unpaired=0)"
        with pytest.raises(FrozenInstanceError):
            found.pairs = 3

    def test_bad_input_gets_a_sentence(self):
        after = evaluation(BETTER)
        with pytest.raises(
            InvalidRequestError, match="lower_is_better names 'latency', which is no metric of these evaluations"
        ):
            after.compare(after, lower_is_better=["latency"])
        with pytest.raises(
            InvalidRequestError, match="needs another EvaluationResult, and got a value of type dict"
        ):
            after.compare({"relevance": 0.5})


ODD_VALUES = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.just(10**400),
    st.text(max_size=5),
    st.lists(st.none(), max_size=1),
    st.just({"usage": {"cost": 10**400, "x": math.inf}, "direction": "minimize"}),
)
ODD_SCORES = st.builds(
    Score,
    st.sampled_from(["a", "b", "", "\N{SNOWMAN}"]),
    ODD_VALUES,
    metadata=ODD_VALUES,
    passed=st.sampled_from([None, True, False]),
    threshold=st.sampled_from([None, math.nan, math.inf, 0.5, 10**400]),
    scoring_failed=st.booleans(),
)
ODD_ROWS = st.builds(
    RowResult,
    st.just(0),
    st.sampled_from(["k0", "k1", "k2", ""]),
    st.none(),
    scores=st.lists(ODD_SCORES, max_size=3).map(tuple),
    error=st.sampled_from([None, None, ERROR]),
    cluster=st.sampled_from([None, "c", "d"]),
)


@settings(max_examples=100, deadline=None)
@given(after=st.lists(ODD_ROWS, max_size=8), before=st.lists(ODD_ROWS, max_size=8))
def test_odd_scores_are_summed_up_and_compared_all_the_same(after, before):
    newer, earlier = (EvaluationResult(tuple(rows)) for rows in (after, before))
    for metric in newer.summary["metrics"].values():
        assert metric["scored"] + metric["failed"] == len(after)
        assert metric["mean"] is None or metric["min"] <= metric["mean"] <= metric["max"]
    for found in newer.compare(earlier).metrics.values():
        assert found.wins + found.ties + found.losses == found.pairs
        assert found.p is None or 0 <= found.p <= found.p_adjusted <= 1
        assert found.interval is None or found.interval[0] <= found.delta <= found.interval[1]
