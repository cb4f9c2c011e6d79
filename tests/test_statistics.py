"""Figures of numbers, compared with scipy and numpy, with formulas written out, and with cases worked by hand."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isolated_magic.evaluation import statistics
from isolated_magic.evaluation.statistics import estimate_mean, holm, paired_test, quantile

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))
SAMPLES = st.lists(NUMBERS, min_size=2, max_size=40)
DFS = [1, 2, 3, 4, 5, 9, 30, 49, 50, 51, 60, 100, 999, 10_000, 1_000_000]


def normal(count, seed=1, *, mean=0.7, spread=0.1):
    source = random.Random(seed)
    return [source.gauss(mean, spread) for _ in range(count)]


class TestStudent:
    @pytest.mark.parametrize("df", DFS)
    def test_the_distribution_is_that_of_scipy(self, df):
        for t in [0, 1e-3, 0.1, 0.5, 1, 1.5, 1.96, 2, 3, 5, 8, 12.7, 40, 1e3, 1e8]:
            assert statistics.t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9, abs=1e-300)
            assert statistics.t_two_sided(-t, df) == statistics.t_two_sided(t, df)

    @pytest.mark.parametrize("df", DFS)
    def test_so_are_its_quantiles(self, df):
        for share in [1e-12, 0.001, 0.025, 0.3, 0.5, 0.6, 0.9, 0.975, 0.995, 0.9999]:
            assert statistics.t_quantile(share, df) == pytest.approx(stats.t.ppf(share, df), rel=1e-9, abs=1e-12)

    @settings(max_examples=300, deadline=None)
    @given(t=st.floats(0, 1e4), df=st.floats(0.5, 1e5))
    def test_anywhere(self, t, df):
        # scipy itself loses digits near t = 0, where the answer is near 1
        expected = 2 * stats.t.sf(t, df)
        assert statistics.t_two_sided(t, df) == pytest.approx(expected, rel=1e-8, abs=1e-300 if t > 1e-3 else 1e-6)

    def test_cases_that_are_known(self):
        assert statistics.t_two_sided(1, 1) == pytest.approx(0.5)  # of Cauchy's distribution, half is beyond 1
        assert statistics.t_quantile(0.975, 1) == pytest.approx(math.tan(math.pi * 0.475))
        assert statistics.t_quantile(0.975, 9) == pytest.approx(2.262157, abs=1e-6)  # of every textbook's table
        assert statistics.t_two_sided(math.inf, 3) == 0
        assert statistics.t_two_sided(1e200, 3) == 0


class TestMean:
    def test_a_case_worked_by_hand(self):
        # 1, 2, 3, 4, 5: variance 2.5, standard error sqrt(2.5 / 5), t of 4 degrees of freedom 2.776445
        found = estimate_mean([1, 2, 3, 4, 5])
        assert found.mean == 3
        assert found.standard_error == pytest.approx(math.sqrt(0.5))
        assert found.interval == pytest.approx((3 - 2.776445 * 0.707107, 3 + 2.776445 * 0.707107), abs=1e-5)
        assert found.clusters == 5

    @settings(max_examples=200, deadline=None)
    @given(SAMPLES)
    def test_the_interval_is_that_of_scipy(self, values):
        found = estimate_mean(values)
        error = stats.sem(values)
        assert found.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)
        assert found.standard_error == pytest.approx(error, rel=1e-9, abs=1e-9)
        if len(set(values)) > 1:
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
            assert found.interval == pytest.approx((low, high), rel=1e-7, abs=1e-7)

    def test_one_value_has_no_interval_and_equal_ones_have_one_of_no_width(self):
        assert estimate_mean([0.3]) == (0.3, None, None, 1)
        assert all(
            estimate_mean([value] * n) == (value, 0, (value, value), n)
            for value in (0.1, 1 / 3, 7e20)
            for n in range(2, 50)
        )

    @pytest.mark.parametrize("scale", [1e-200, 1e-12, 1, 1e12, 1e200])
    def test_no_digits_are_lost_for_small_large_and_shifted_values(self, scale):
        values = [value * scale for value in normal(50)]
        assert estimate_mean(values).standard_error / scale == pytest.approx(stats.sem(normal(50)))
        assert statistics.sample_std(values) / scale == pytest.approx(np.std(normal(50), ddof=1))
        assert statistics.sample_std([1e9 + value for value in (1, 2, 3)]) == 1

    @settings(max_examples=100, deadline=None)
    @given(SAMPLES, st.randoms())
    def test_the_order_does_not_matter(self, values, source):
        mixed = values[:]
        source.shuffle(mixed)
        assert estimate_mean(mixed).mean == estimate_mean(values).mean
        assert estimate_mean(mixed).interval == pytest.approx(estimate_mean(values).interval, rel=1e-12, abs=1e-9)


class TestClusters:
    def test_a_case_worked_by_hand(self):
        # Mean 3. Residuals of the clusters: (-2, -1) = -3, (0, 3) = 3, (0) = 0. Their squares: 18.
        # G / (G - 1) = 3 / 2; standard error sqrt(1.5 * 18) / 5; t of 2 degrees of freedom 4.302653.
        found = estimate_mean([1, 2, 3, 6, 3], ["a", "a", "b", "b", "c"])
        assert found.mean == 3
        assert found.standard_error == pytest.approx(math.sqrt(27) / 5)
        assert found.interval == pytest.approx((3 - 4.302653 * 1.039230, 3 + 4.302653 * 1.039230), abs=1e-5)
        assert found.clusters == 3

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(NUMBERS, st.integers(0, 5)), min_size=2, max_size=30))
    def test_the_standard_error_is_the_sum_over_all_pairs_within_clusters(self, pairs):
        values, clusters = zip(*pairs, strict=True)
        count = len(set(clusters))
        mean = np.mean(values)
        total = sum(
            (values[i] - mean) * (values[j] - mean)
            for i in range(len(values))
            for j in range(len(values))
            if clusters[i] == clusters[j]
        )
        found = estimate_mean(values, clusters)
        if count == 1:
            assert found.interval is None
        else:
            expected = math.sqrt(max(0, total) * count / (count - 1)) / len(values)
            assert found.standard_error == pytest.approx(expected, rel=1e-6, abs=1e-2)
            assert (found.interval[1] - found.mean) == pytest.approx(
                stats.t.ppf(0.975, count - 1) * found.standard_error, rel=1e-6, abs=1e-6
            )

    def test_a_cluster_of_each_value_changes_nothing(self):
        values = normal(30)
        assert estimate_mean(values, range(30)) == estimate_mean(values)

    @pytest.mark.parametrize("times", [2, 5])
    def test_more_of_the_same_is_no_more_evidence(self, times):
        values = normal(20)
        once, often = estimate_mean(values), estimate_mean(values * times, [*range(20)] * times)
        assert often.clusters == 20
        assert often.interval == pytest.approx(once.interval)
        assert (
            estimate_mean(values * times).standard_error < 0.8 * once.standard_error
        )  # as extra samples it would be

    def test_one_cluster_is_not_enough_for_an_interval(self):
        assert estimate_mean([1, 2, 3], ["a"] * 3) == (2, None, None, 1)


class TestPairs:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40))
    def test_the_test_is_that_of_scipy(self, pairs):
        after, before = (list(values) for values in zip(*pairs, strict=True))
        differences = [new - old for new, old in pairs]
        found = paired_test(differences)
        if max(differences) - min(differences) < 1e-6:
            return
        expected = stats.ttest_rel(after, before)
        interval = expected.confidence_interval()
        assert found.p == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-9)
        assert found.difference.interval == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)

    def test_differences_that_are_all_the_same(self):
        assert paired_test([0.0] * 12).p == 1
        assert paired_test([0.25] * 12).p == 0
        assert paired_test([0.25]).p is None
        assert paired_test([1, 2, 4], ["a"] * 3).p is None

    def test_clusters_make_it_less_sure(self):
        differences = [value for value in normal(8, mean=0.05) for _ in range(5)]
        clustered = paired_test(differences, [index // 5 for index in range(40)])
        assert clustered.p == pytest.approx(stats.ttest_1samp(normal(8, mean=0.05), 0).pvalue)
        assert clustered.p > paired_test(differences).p

    def test_differences_that_cancel_out(self):
        assert paired_test([1, -1, 2, -2]).p == 1


class TestHolm:
    def test_a_case_worked_by_hand(self):
        # 0.01 * 4, then 0.02 * 3, then 0.03 * 2 (no less than the one before), then 0.5
        assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
        assert holm([0.6, 0.7]) == [1, 1]
        assert holm([0.03]) == [0.03]
        assert holm([]) == []

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0, 1), max_size=8))
    def test_it_is_between_the_p_value_and_bonferroni(self, p_values):
        adjusted = holm(p_values)
        assert all(p <= found <= min(1, p * len(p_values)) for p, found in zip(p_values, adjusted, strict=True))
        order = sorted(range(len(p_values)), key=p_values.__getitem__)
        assert [adjusted[index] for index in order] == sorted(adjusted)


class TestDistribution:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(NUMBERS, min_size=1, max_size=40), st.floats(0, 1))
    def test_quantiles_and_spread_are_those_of_numpy(self, values, share):
        assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-9)
        if len(values) > 1:
            assert statistics.sample_std(values) == pytest.approx(np.std(values, ddof=1), rel=1e-7, abs=1e-7)
        else:
            assert statistics.sample_std(values) is None

    def test_a_histogram_of_shares_spans_0_to_1(self):
        assert statistics.histogram([0, 0.05, 0.3, 0.95, 1]) == [2, 0, 0, 1, 0, 0, 0, 0, 0, 2]
        assert statistics.histogram([index / 10 for index in range(10)]) == [1] * 10  # 0.3 is not in the bin below
        assert statistics.histogram([0.5] * 3) == [0, 0, 0, 0, 0, 3, 0, 0, 0, 0]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(-50, 50), min_size=1, max_size=40))
    def test_a_histogram_counts_each_value_once(self, values):
        found = statistics.histogram(values)
        assert sum(found) == len(values)
        low, high = statistics.histogram_range(min(values), max(values))
        assert low <= min(values) <= max(values) <= high

    def test_a_histogram_of_others_spans_from_the_least_to_the_largest(self):
        values = normal(200, mean=300, spread=50)
        assert statistics.histogram(values) == np.histogram(values)[0].tolist()
        assert statistics.histogram([7, 7]) == [2, *[0] * 9]

    def test_spread_within_groups(self):
        # residuals (-1, 1), (-1, 0, 1) and none: squares 4, degrees of freedom 1 + 2
        assert statistics.pooled_std([[1, 3], [4, 5, 6], [9]]) == pytest.approx(math.sqrt(4 / 3))
        assert statistics.pooled_std([[1], [2]]) is None
