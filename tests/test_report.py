"""An evaluation as text, HTML and Markdown: nothing without how sure it is, nothing hidden, and a size that ends."""

import dataclasses
import random
import re
from html.parser import HTMLParser

import pytest

from isolated_magic import Attempt, EvaluationResult, RowResult, RunError, Score, Timings
from isolated_magic.evaluation.comparison_report import view_of_comparison
from isolated_magic.evaluation.figures import brief, figure_text, histogram_text, mean_text, p_text, percent_text
from isolated_magic.evaluation.groups_report import view_of_groups
from isolated_magic.evaluation.html_report import to_html_report
from isolated_magic.evaluation.report import view_of_evaluation
from isolated_magic.evaluation.row_report import view_of_row
from isolated_magic.models import ErrorKind
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.text import COLORS, to_text

KEY_ERROR = RunError.from_text(ErrorKind.USER_CODE, "KeyError: 'reference' (line 3)")
TIMEOUT = RunError.from_text(ErrorKind.TIMEOUT, "Execution timed out after 5 seconds.")


def row(index, *scores, error=None, **fields):
    fields = {"key": f"row-{index}", "row": {"n": index}, **fields}
    return RowResult(index=index, scores=scores, error=error, **fields)


def evaluation(count=1000, failures=(), names=("relevance",), shift=0.0, **fields):
    """Rows with values between 0.6 and 1 but for the first ones, which fail."""
    rng = random.Random(0)
    rows = [
        row(index, error=failures[index])
        if index < len(failures)
        else row(index, *(Score(name, rng.uniform(0.6, 0.95) + shift) for name in names))
        for index in range(count)
    ]
    return EvaluationResult(tuple(rows), **fields)


def text_of(result, **settings):
    return to_text(view_of_evaluation(result, **settings))


FORMATS = {"text": to_text, "html": to_html, "markdown": to_markdown}


class TestSummary:
    def test_a_mean_has_its_interval_and_how_many_rows_it_is_of(self):
        result = evaluation(failures=[KEY_ERROR] * 11 + [TIMEOUT] * 2)
        headline, *_ = text_of(result).splitlines()
        assert re.fullmatch(r"relevance 0\.\d+ ± 0\.0\d+ · 987 of 1,000 scored · 13 failed", headline)
        mean, half = map(float, re.findall(r"0\.\d+", headline))
        metric = result.summary["metrics"]["relevance"]
        assert mean == pytest.approx(metric["mean"], abs=0.005)
        assert half == pytest.approx((metric["interval"][1] - metric["interval"][0]) / 2, rel=0.1)

    def test_the_figures_of_each_metric(self):
        lines = text_of(evaluation()).splitlines()
        assert lines[2].split("  ")[0] == "metric"
        heads = ["mean ± 95 %", "std", "min", "p50", "p90", "max", "distribution"]
        assert [head for head in re.split(r"\s{2,}", lines[2])[1:] if head] == heads
        assert re.search(r"[▁▂▃▄▅▆▇█]{10}$", lines[3])

    def test_failures_are_grouped_by_kind_with_the_keys_of_some_rows(self):
        text = text_of(evaluation(failures=[KEY_ERROR] * 11 + [TIMEOUT] * 2))
        assert "13 of 1,000 rows failed: 11 KeyError 'reference', 2 timeouts" in text
        assert re.search(
            r"11 KeyError 'reference' +row-0, row-1, row-2, \.\.\. +KeyError: 'reference' \(line 3\)", text
        )
        assert re.search(r"2 timeouts +row-11, row-12 +Execution timed out after 5 seconds", text)

    def test_a_row_without_a_key_is_called_by_its_place(self):
        text = text_of(
            EvaluationResult((row(0, Score("a", 1.0)), row(1, error=KEY_ERROR, key="0123456789abcdef")))
        )
        assert "rows[1]" in text
        assert "0123456789abcdef" not in text

    def test_scores_that_rows_lack_though_they_did_not_fail(self):
        rows = [
            row(0, Score("a", 0.5), Score("b", 1.0)),
            row(1, Score("a", 0.7)),
            row(2, Score("a", None, "none", scoring_failed=True)),
        ]
        text = text_of(EvaluationResult(tuple(rows)))
        assert "b 1 (too few for an interval) · 1 of 3 scored · 2 failed" in text
        assert re.search(r"2 without b: no score of this name +row-1, row-2", text)
        assert "rows failed" not in text

    def test_verdicts_labels_and_usage(self):
        rows = [
            row(
                n,
                Score("judge", "good" if n % 4 else "bad"),
                Score("ok", n / 20, passed=n > 4, metadata={"usage": {"total_tokens": 1000}}),
            )
            for n in range(20)
        ]
        text = text_of(EvaluationResult(tuple(rows)))
        assert "judge 15 good, 5 bad · 20 of 20 scored" in text
        assert "75 % passed" in text
        assert "75 % (15)" in text
        assert "usage: total_tokens 20,000" in text

    def test_what_was_stopped_is_marked_first(self):
        result = evaluation(312, stopped="The evaluation was interrupted.", not_run=688)
        assert text_of(result).startswith("Interrupted after 312 of 1,000 rows; 688 were not run.\nrelevance ")
        assert "background-color:#c62828" in to_html(view_of_evaluation(result))
        other = evaluation(312, stopped="More than 10 rows failed.", not_run=None)
        assert text_of(other).startswith("More than 10 rows failed. It ended after 312 rows.\n")

    def test_spread_within_rows_and_between_them(self):
        rows = [
            row(n, Score("a", n / 10 + r / 100), key=f"k{n}", repetition=r) for n in range(5) for r in range(3)
        ]
        text = text_of(EvaluationResult(tuple(rows), repeat=3))
        assert "within rows" in text
        assert "between rows" in text

    @pytest.mark.parametrize(
        ("result", "lines"),
        [
            (EvaluationResult(), ["There were no rows: nothing was scored."]),
            (
                EvaluationResult(not_run=5, stopped="The evaluation was interrupted."),
                ["Interrupted after 0 of 5 rows; 5 were not run.", "Nothing was scored."],
            ),
            (evaluation(1), [r"relevance 0\.\d+ \(too few for an interval\) · 1 of 1 scored"]),
            (evaluation(3, [KEY_ERROR] * 3), ["3 rows · 0 scored · 3 failed", "3 of 3 rows failed: 3 KeyError 'reference'"]),
            (EvaluationResult((row(0, Score("tone", "good")),)), ["tone 1 good · 1 of 1 scored"]),
        ],
        ids=["nothing", "interrupted at once", "one row", "none scored", "only labels"],
    )  # fmt: skip
    def test_what_is_hardly_there(self, result, lines):
        first = [line for line in text_of(result).splitlines() if line][: len(lines)]
        for line, expected in zip(first, lines, strict=True):
            assert line == expected or re.fullmatch(expected, line)
        for renderer in FORMATS.values():
            assert renderer(view_of_evaluation(result, has_times=True))

    def test_fifty_metrics_are_one_headline_and_a_table(self):
        names = [f"m{n}" for n in range(50)]
        lines = text_of(evaluation(20, names=names)).splitlines()
        assert lines[0] == "20 rows · 20 scored · 50 metrics"
        assert sum(line.startswith("m") for line in lines) == 21
        assert "... 30 more metrics: result.summary has them" in lines
        assert "30 more metrics</summary>" in to_html(view_of_evaluation(evaluation(20, names=names)))


class TestFigures:
    @pytest.mark.parametrize(
        ("mean", "interval", "text"),
        [
            (0.8123, (0.7923, 0.8323), "0.81 ± 0.02"),
            (0.8123, (0.7983, 0.8263), "0.812 ± 0.014"),
            (0.996, (0.976, 1.016), "0.996 ± 0.020"),
            (1, (1, 1), "1 ± 0"),
            (0.01000000000000001, (0.01000000000000001, 0.010000000000000012), "0.01 ± 0"),
            (1234.5, (1184.5, 1284.5), "1230 ± 50"),
            (-0.31, (-0.36, -0.26), "-0.31 ± 0.05"),
            (0.5, None, "0.5"),
            (0.5, (0.1, 0.6), "0.5 (0.1 to 0.6)"),
            (0.3, (-2.7, 3.3), "0.3 ± 3.0"),
            (1e-20, (0, 2e-20), "1e-20 ± 1e-20"),
        ],
    )
    def test_a_mean_has_the_digits_of_its_interval(self, mean, interval, text):
        assert mean_text(mean, interval) == text

    def test_no_share_is_all_or_none_unless_it_is(self):
        shown = [percent_text(share) for share in (0, 0.00001, 0.5, 0.932, 0.99999, 1)]
        assert shown == ["0 %", "under 0.1 %", "50 %", "93.2 %", "over 99.9 %", "100 %"]

    def test_a_p_value_stands_on_its_side_of_the_limit(self):
        assert [p_text(p) for p in (0.0001, 0.012, 0.04999, 0.05, 0.0501, 0.7)] == [
            "< 0.001",
            "0.012",
            "0.04999",
            "0.050",
            "0.0501",
            "0.700",
        ]

    def test_a_histogram_shows_the_smallest_count_above_none(self):
        assert histogram_text([0, 1, 1000]) == "▁▂█"
        assert figure_text(0.99996) == "0.99996"
        assert figure_text(531.0000000000001) == "531"  # a quantile between two whole numbers
        assert brief("a" * 5000, 10) == "aaaaaaa..."


TEXTS = (
    "<script>alert(1)</script>",
    "a\nb\r\nc",
    "\x1b[31mred\x1b]0;title\x07",
    "k" * 1_000_000,
    "a|b`c`*d*",
    "\u202e\ud800",
)


@pytest.fixture(scope="module")
def result():
    rows = [
        row(n, Score(text, 0.5 + n / 100, text), Score("label", text), key=f"{text}{n}", row={text: text, "n": n}, cluster=text)
        for n, text in enumerate(TEXTS)
    ]  # fmt: skip
    rows += [
        row(n + 50, error=RunError.from_text(ErrorKind.USER_CODE, text), key=text) for n, text in enumerate(TEXTS)
    ]
    return EvaluationResult(tuple(rows), notes=TEXTS, label=TEXTS[0], stopped=TEXTS[2], not_run=3)


class TestHostile:
    @pytest.mark.parametrize("name", FORMATS)
    def test_texts_are_shown_as_what_they_are(self, result, name):
        shown = FORMATS[name](view_of_evaluation(result, has_times=True))
        assert "\x1b" not in shown
        assert len(shown) < 300_000
        if name == "html":
            assert "<script" not in shown
        shown.encode()

    def test_a_line_is_a_line(self, result):
        for line in to_text(view_of_evaluation(result)).splitlines():
            assert len(line) < 4000

    def test_the_whole_page_fetches_nothing_and_runs_nothing(self, result):
        page = to_html_report(result)
        page.encode()
        tags = []

        class Tags(HTMLParser):
            def handle_starttag(self, tag, attrs):
                tags.append(tag)
                assert not {"src", "href", "onclick", "onerror"} & {name for name, _ in attrs}

        Tags().feed(page)
        assert not {"script", "link", "img", "iframe", "object"} & {*tags}
        assert page.count("<html") == page.count("</html>") == 1
        assert 'content="default-src &#x27;none&#x27;' in page


@pytest.fixture(scope="module")
def large():
    return evaluation(100_000, [KEY_ERROR] * 5000)


class TestSize:
    def test_an_output_does_not_grow_with_the_rows(self, large):
        view = view_of_evaluation(large)
        assert {name: len(renderer(view)) < 60_000 for name, renderer in FORMATS.items()} == dict.fromkeys(
            FORMATS, True
        )
        text = to_text(view)
        assert "... 5,000 failed rows, the first 20 of them: result.failures" in text
        assert "... 100,000 rows, the first 20 of them: result.rows" in text
        assert len(text.splitlines()) < 20

    def test_a_report_has_the_first_thousand(self, large):
        page = to_html_report(large)
        assert len(page) < 3_000_000
        assert "100,000 rows, the first 1,000 of them" in page
        assert page.count("row-4999") == 0

    def test_rows_are_folded(self, large):
        page = to_html(view_of_evaluation(large))
        folded = page.partition("<details")[2]
        assert "row-19" in folded
        assert "row-20<" not in page


class TestTimes:
    def test_they_stand_where_nothing_is_saved_with_a_notebook(self):
        rows = [row(n, Score("a", 0.5), timings=Timings(1.0, 1000.0 + n)) for n in range(9)]
        result = EvaluationResult(tuple(rows))
        again = EvaluationResult(tuple(dataclasses.replace(one, timings=Timings(2.0, 7.0)) for one in rows))
        for renderer in FORMATS.values():
            assert renderer(view_of_evaluation(result)) == renderer(view_of_evaluation(again))
        assert re.search(r"row-8 +1,008 ms", text_of(result, has_times=True))
        assert "1,008 ms" in to_html_report(result)

    def test_and_so_do_the_workers_of_a_cluster_those_that_failed_first(self):
        rows = [
            row(n, Score("a", 0.5), timings=Timings(1.0, 1000.0 + n), worker=f"tcp://host:{n % 3}")
            for n in range(30)
        ]
        rows[4:5] = [dataclasses.replace(rows[4], scores=(), error=TIMEOUT, timings=Timings())]
        result = EvaluationResult(tuple(rows))
        elsewhere = EvaluationResult(tuple(dataclasses.replace(one, worker=None) for one in rows))
        for renderer in FORMATS.values():
            assert renderer(view_of_evaluation(result)) == renderer(view_of_evaluation(elsewhere))
        shown = text_of(result, has_times=True)
        assert re.search(r"row-29 +1,029 ms +tcp://host:2\n", shown)
        assert re.search(r"worker +rows +failed +mean time", shown)
        table = [line.split() for line in shown.splitlines() if line.startswith("tcp://host")]
        assert table == [
            ["tcp://host:1", "10", "1", "1,016", "ms"],
            ["tcp://host:0", "10", "1,014", "ms"],
            ["tcp://host:2", "10", "1,016", "ms"],
        ]
        assert "tcp://" not in text_of(elsewhere, has_times=True)
        many = EvaluationResult(tuple(dataclasses.replace(one, worker=f"w{one.index}") for one in rows))
        assert "... 10 more workers" in text_of(many, has_times=True)


@pytest.fixture(scope="module")
def better():
    before = evaluation(200, names=("relevance", "length"), label="before")
    after = evaluation(210, [TIMEOUT], names=("relevance", "length"), shift=0.05)
    return dataclasses.replace(after, comparison=after.compare(before, lower_is_better=["length"]))


class TestComparison:
    def test_it_is_said_in_words(self, better):
        text = text_of(better)
        assert "Compared with before: 200 rows in both, 10 rows in one of them alone" in text
        line = next(line for line in text.splitlines() if line.startswith("relevance") and "better" in line)
        assert re.search(r"\+0\.\d+ ± 0\.\d+ +< 0\.001 +\d+ +\d+ +\d+ +199 +✓ better", line)
        assert "✗ worse (lower is better)" in text
        assert "note: " in text

    def test_colours_say_the_same(self, better):
        view = view_of_comparison(better.comparison)
        painted = to_text(view, COLORS)
        assert "\x1b[32m✓ better\x1b[0m" in painted
        assert "\x1b[31m✗ worse\x1b[0m" in painted
        page = to_html(view)
        assert "background-color:#1b7a3d" in page
        assert "background-color:#c62828" in page
        assert "**" in to_markdown(view)

    def test_few_pairs_tell_nothing(self):
        result = evaluation(6)
        assert "? too few to tell" in to_text(view_of_comparison(result.compare(evaluation(6, shift=0.2))))

    def test_noise_is_no_difference(self):
        assert "= no difference shown" in to_text(view_of_comparison(evaluation(50).compare(evaluation(50))))

    def test_nothing_in_common(self):
        text = to_text(view_of_comparison(evaluation(20).compare(evaluation(20, names=("other",)))))
        assert "There is no metric that both have numbers of." in text
        assert "Only before: other." in text
        assert "Only after: relevance." in text

    def test_the_rows_that_changed_most(self, better):
        text = text_of(better)
        assert "changed most" in text
        assert re.search(r"row-\d+ +relevance +0\.\d+ +[01]\.?\d* +▲ \+0\.\d+", text)


class TestGroups:
    def test_a_line_for_each_with_a_bar(self):
        rows = [row(n, Score("a", n % 4 / 4), row={"tenant": f"t{n % 4}"}) for n in range(40)]
        rows += [row(99, error=KEY_ERROR, row={"tenant": "t3"})]
        groups = EvaluationResult(tuple(rows)).by("tenant")
        lines = to_text(view_of_groups(groups)).splitlines()
        assert lines[0] == "a by tenant: 4 groups"
        assert re.split(r"\s{2,}", lines[5]) == ["t2", "0.5 ± 0", "█████░░░░░", "10", "10"]
        assert re.split(r"\s{2,}", lines[6]) == ["t3", "0.75 ± 0", "███████░░░", "11", "10", "1"]
        assert "width:50%" in to_html(view_of_groups(groups))

    def test_bars_of_larger_values_reach_to_the_largest_mean(self):
        rows = [row(n, Score("a", n % 2 * 50 + 50), row={"g": n % 2}) for n in range(10)]
        text = to_text(view_of_groups(EvaluationResult(tuple(rows)).by("g")))
        assert re.search("50 ± 0 +█████░░░░░", text)
        assert re.search("100 ± 0 +██████████", text)

    def test_thousands_of_groups_are_bounded(self):
        groups = evaluation(5000).by(lambda row: row["n"])
        page = to_html(view_of_groups(groups))
        assert len(page) < 200_000
        assert "4,950 more groups, the first 100 of them" in page
        assert len(to_text(view_of_groups(groups)).splitlines()) < 60


class TestRow:
    def test_its_scores_its_data_and_what_it_printed(self):
        shown = view_of_row(
            row(3, Score("a", 0.5, "half"), stdout="hello\n", notes=("a note",), row={"question": "why"})
        )
        assert to_text(shown).splitlines() == [
            "row-3: scored",
            "",
            "{'question': 'why'}",
            "a  0.5  █████░░░░░  half",
            "note: a note",
            "",
            "hello",
        ]

    def test_its_error_as_that_of_a_run(self):
        text = to_text(view_of_row(row(3, error=KEY_ERROR, failed_attempts=(Attempt(TIMEOUT, Timings()),))))
        assert text.startswith("row-3: failed after 2 attempts\n")
        assert "KeyError: 'reference' (line 3)" in text

    def test_notes_that_many_rows_have_are_told_once(self):
        rows = [
            row(n, Score("a", 0.5), notes=("output is not in the data",) if n < 8 else (f"own {n}",))
            for n in range(12)
        ]
        text = text_of(EvaluationResult(tuple(rows)))
        assert "note of 8 rows: output is not in the data" in text
        assert "note of 1 row: own 8" in text
        assert "2 more notes are in those of the rows." in text
