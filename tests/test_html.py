"""Scores as HTML: one format a column, bars, marks of colour, and what is left where styles are dropped."""

import dataclasses
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from isolated_magic.models import ErrorKind, RunError, RunResult, Score, parse_scores
from isolated_magic.render.formatting import bar, in_one_format, number_of, number_text, verdict_text
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.text import COLORS, to_text
from isolated_magic.render.view import view_of

RED, GREEN = "background-color:#c62828", "background-color:#1b7a3d"


def result_of(*scores, before=None, label=""):
    payload = {"scores": list(scores)}
    compared = None if before is None else parse_scores({"scores": before})
    return RunResult(payload, parse_scores(payload), compared_with=compared, score_label=label)


def scored(value, name="a", **fields):
    return {"name": name, "value": value, **fields}


def html(*scores, **settings):
    return to_html(view_of(result_of(*scores, **settings)))


def text(*scores, **settings):
    return to_text(view_of(result_of(*scores, **settings)))


def without_styles(page):
    """The page as GitHub shows it: no styles, and so nothing hidden by them."""
    return re.sub(r' style="[^"]*"', "", page)


def cells_of(page):
    """The text of each cell of each row of the body."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2])
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows
    ]


def formatted(*values):
    return in_one_format([number_text(value) for value in values], [number_of(value) for value in values])


class TestNumbers:
    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            ([0.9333, 0.8, 1, 0], ["0.9333", "0.8000", "1.0000", "0.0000"]),
            ([120, 3, -7], ["120", "3", "-7"]),
            ([0.5, 120], ["0.5", "120.0"]),
            ([12345.678, 2 / 3], ["12345.6780", "0.6667"]),
            ([2 / 3, 0.99996], ["0.66667", "0.99996"]),
            ([0.5, 4e-05], ["0.5  ", "4e-05"]),
            ([0.25, float("nan"), float("inf")], ["0.25", "nan   ", "inf   "]),
            ([0.1 + 0.2, 0.25], ["0.30000000000000004", f"0.25{' ' * 15}"]),
            ([], []),
        ],
        ids=str,
    )
    def test_one_column_has_one_format_and_its_points_line_up(self, values, shown):
        assert [one.replace("\N{NO-BREAK SPACE}", " ") for one in formatted(*values)] == shown

    @hypothesis.given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(-1000, 1000)), min_size=1, max_size=9))
    def test_points_line_up_whatever_the_numbers(self, values):
        ends = {len(re.sub(r"^-?\d+", "", one)) for one in formatted(*values)}
        assert len(ends) == 1

    @hypothesis.given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
    def test_no_number_is_shown_as_a_round_one_that_it_is_not(self, values):
        for value, shown in zip(values, formatted(*values), strict=True):
            seen = float(shown)
            assert (seen == round(seen, 2)) <= (value == seen or abs(seen - value) > 1e-3), (value, shown)

    def test_numbers_stand_right_and_texts_left(self):
        page = html(scored(0.25), scored("high"), scored(12))
        assert [row[1] for row in cells_of(page)] == ["0.25", "high", "12.00"]
        assert page.count('align="right"') == 2

    def test_a_summary_has_one_format_a_column_too(self):
        page = html(*[scored(n / 8, name) for n in range(20) for name in ("a", "b")], scored(1, "c"))
        assert [row[:3] for row in cells_of(page)][:3] == [
            ["a", "20", "1.188"],
            ["b", "20", "1.188"],
            ["c", "1", "1.000"],
        ]


class TestBars:
    def test_a_bar_is_smooth_to_a_hundredth_and_has_no_column_of_its_own(self):
        page = html(scored(0.37, reason="why"), scored(7))
        assert "width:37%" in page
        assert page.count("width:100px") == 1
        heads = re.findall(r"<th scope=\"col\"([^>]*)>([^<]*)<", page)
        assert [head for _, head in heads] == ["score", "value", "reason"]
        assert 'colspan="2"' in heads[1][0]

    @pytest.mark.parametrize(("value", "percent"), [(0, 0), (1, 100), (0.9999, 99), (0.005, 0), (0.126, 13)])
    def test_it_is_full_at_one_alone(self, value, percent):
        assert f"width:{percent}%" in html(scored(value))

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, float])
    @pytest.mark.parametrize("value", [0, 0.1, 0.3, 0.37, 0.7, 0.9, 0.95, 0.999, 1])
    def test_a_value_has_the_same_bar_whatever_its_type(self, value, kind):
        assert bar(float(kind(value))) == bar(value)
        percent = re.search(r"width:(\d+)%", html(scored(float(kind(value)))))[1]
        assert f"width:{percent}%" in html(scored(value))

    @hypothesis.given(st.floats(0, 1, width=32))
    def test_a_bar_of_a_number_of_few_bits_is_full_at_one_alone(self, value):
        assert bar(value).count("█") == int(10 * float(str(np.float32(value))) + 1e-12)
        assert ("#3b82f6;width:100%" in html(scored(value))) == (value == 1)

    def test_text_bars_are_left_where_styles_are_dropped(self):
        page = html(scored(0.37))
        assert '<span style="display:none">███░░░░░░░</span>' in page
        assert "███░░░░░░░" in without_styles(page)

    def test_without_a_bar_the_value_spans_one_column(self):
        assert "colspan" not in html(scored(7), scored("high"))


class TestVerdicts:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"passed": True}, "✓ PASS"),
            ({"passed": False}, "✗ FAIL"),
            ({"passed": True, "threshold": 0.5}, "✓ PASS ≥ 0.5"),
            ({"passed": False, "threshold": 0.75}, "✗ FAIL ≥ 0.75"),
            ({"passed": False, "threshold": 0.5}, "✗ FAIL ≤ 0.5"),
            ({"passed": True, "threshold": 0.75}, "✓ PASS ≤ 0.75"),
            ({"passed": True, "threshold": 0.6}, "✓ PASS ≥ 0.6"),
            ({"threshold": 0.5}, "≥ 0.5"),
            ({}, ""),
        ],
    )
    def test_a_mark_and_the_threshold(self, fields, said):
        assert verdict_text(Score("a", 0.6, **fields)) == said

    def test_a_failed_score_has_none(self):
        assert verdict_text(Score("a", 0.6, scoring_failed=True, passed=False, threshold=0.5)) == ""

    def test_in_each_form_beside_the_value(self):
        scores = scored(0.6, "a", passed=True, threshold=0.5), scored(0.25, "b", passed=False), scored(1, "c")
        assert text(*scores).splitlines() == [
            "a  0.6   ✓ PASS ≥ 0.5  ██████░░░░",
            "b  0.25  ✗ FAIL        ██░░░░░░░░",
            "c  1                   ██████████",
        ]
        assert to_markdown(view_of(result_of(*scores))).splitlines() == [
            "| score | value | pass |  |",
            "| --- | --- | --- | --- |",
            "| a | 0.6 | ✓ PASS ≥ 0.5 | ██████░░░░ |",
            "| b | 0.25 | **✗ FAIL** | ██░░░░░░░░ |",
            "| c | 1 |  | ██████████ |",
        ]
        page = html(*scores)
        assert re.search(rf'<span style="[^"]*{GREEN}[^"]*"><strong>✓ PASS</strong></span> ≥ 0.5', page)
        assert re.search(rf'<span style="[^"]*{RED}[^"]*"><strong>✗ FAIL</strong></span>', page)
        assert "pass" not in html(scored(1), scored(0.5))
        assert repr(result_of(*scores)).startswith("RunResult(scores={'a': 0.6 ✓ PASS, 'b': 0.25 ✗ FAIL, 'c': 1}")

    def test_a_change_says_when_a_pass_has_become_a_fail(self):
        def change(now, before):
            return text(scored(**now), before=[scored(**before)]).split("  ")[3]

        passing, failing = {"value": 0.6, "passed": True}, {"value": 0.4, "passed": False}
        assert change(failing, passing) == "▼ -0.2, was 0.6 ✓ PASS"
        assert change(passing, failing) == "▲ +0.2, was 0.4 ✗ FAIL"
        assert change(passing, passing) == "same"
        assert change(failing, {"value": 0.4, "passed": True}) == "same, was 0.4 ✓ PASS"
        assert change(failing, {"value": 0.4}) == "same"


class TestColours:
    def chips(self, page):
        return re.findall(r"background-color:(#\w{6})[^>]*><strong>([^<]*)</strong>", page)

    def test_of_words_that_tell_good_from_bad_alone(self):
        page = html(
            *(scored(0.75, "up"), scored(0.25, "down"), scored(0.5, "same"), scored(1, "new"), scored("b", "was")),
            scored(0, "bad", scoring_failed=True),
            before=[scored(0.5, name) for name in ("up", "down", "same", "gone")] + [scored("a", "was")],
        )
        assert sorted(self.chips(page)) == [
            ("#1b7a3d", "▲ +0.25"),
            *(("#c62828", "FAILED"), ("#c62828", "▼ -0.25")),
        ]
        assert {">same<", ">new<", ">was a<", ">gone, was 0.5<"} <= set(re.findall(r">[^<>]+<", page))

    def test_the_same_in_a_terminal(self):
        view = view_of(
            result_of(scored(0.75, passed=True), scored(0.25, "b"), before=[scored(0.5), scored(0.5, "b")])
        )
        painted = to_text(view, COLORS)
        for code, words in (("32", "✓ PASS"), ("32", "▲ +0.25"), ("31", "▼ -0.25")):
            assert f"\x1b[{code}m{words}\x1b[0m" in painted
        assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == to_text(view)

    def test_an_error_is_red(self):
        error = RunError(ErrorKind.USER_CODE, "trace", "ValueError: bad", "Cell, line 2\n----> 2 bad()")
        page = to_html(view_of(RunResult(error=error)))
        assert self.chips(page) == [("#c62828", "ValueError: bad")]
        assert '<strong style="background-color:rgba(198,40,40,0.2)">----&gt; 2 bad()</strong>' in page
        painted = to_text(view_of(RunResult(error=error)), COLORS).split("\n")
        assert painted[0] == "\x1b[31mValueError: bad\x1b[0m"
        assert painted[2:4] == ["\x1b[32mCell, line 2\x1b[0m", "\x1b[31m----> 2 bad()\x1b[0m"]


def test_marks_stand_below_what_they_mark_whatever_the_font_of_the_page():
    excerpt = "Cell, line 2\n----> 2 bad()\n          ^^^"
    shown = to_html(view_of(RunResult(error=RunError(ErrorKind.USER_CODE, "text", "ValueError: bad", excerpt))))
    (style,) = re.findall(r'<pre style="([^"]*)">', shown)
    assert "font-family:monospace,monospace" in style


class TestErrorsWithScores:
    FAILED = RunError(ErrorKind.NO_SCORE, "No score can be used.", "No score can be used.")

    def test_the_scores_follow_the_error_that_they_are(self):
        failed = dataclasses.replace(
            result_of(scored(0, "tone", scoring_failed=True, reason="no model")), error=self.FAILED, payload=None
        )
        assert to_text(view_of(failed)).split() == [
            "No",
            "score",
            "can",
            "be",
            "used.",
            "tone",
            "FAILED",
            "no",
            "model",
        ]
        page = to_html(view_of(failed))
        assert page.index("No score") < page.index("<table") < page.index("no model")


class TestLabels:
    def test_scores_without_a_name_of_their_own_have_the_label(self):
        result = result_of(scored(0.5, "score"), scored(1, "tone"), label="closeness")
        shown = (to_text(view_of(result)), to_markdown(view_of(result)), to_html(view_of(result)))
        assert all("closeness" in one for one in shown)
        assert result["score"] == result["closeness"]
        assert "closeness" in result
        assert "closeness" not in result_of(scored(0.5, "score"))
        assert result["tone"].value == 1

    def test_a_comparison_goes_by_the_name(self):
        shown = text(scored(0.75, "score"), before=[scored(0.5, "score"), scored(1, "score")], label="mine")
        assert [line.split()[0] for line in shown.splitlines()] == ["mine", "mine"]
        assert "▲ +0.25, was 0.5" in shown

    def test_many_of_them_have_a_mean_of_that_name(self):
        shown = text(*[scored(n, "score") for n in range(30)], scored(1, "b"), label="mine")
        assert re.search(r"^mine +30 +14\.5", shown, re.MULTILINE)


def test_a_wide_table_scrolls_in_a_box_of_its_own():
    page = html(scored(1))
    assert re.search(r'<div style="[^"]*overflow-x:auto;max-width:100%">\s*<table', page)


def test_the_same_bytes_each_time():
    scores = [scored(n / 7, f"m{n % 3}", passed=n % 2 == 0, threshold=0.5) for n in range(30)]
    assert html(*scores) == html(*scores)
