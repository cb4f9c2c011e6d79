import math

import pytest

from isolated_magic.models import ErrorKind, RunError, RunResult, Score, scores_of
from isolated_magic.render.html import to_html
from isolated_magic.render.text import to_text
from isolated_magic.render.view import bar, view_of


def result_of(payload):
    return RunResult(payload=payload, scores=scores_of(payload))


def text(payload):
    return to_text(view_of(result_of(payload)))


def html(payload):
    return to_html(view_of(result_of(payload)))


def test_one_line_a_score_in_columns_failed_ones_first_and_said_in_a_word():
    payload = {
        "scores": [
            {"name": "relevance", "value": 0.95, "reason": "on topic"},
            {"name": "tone", "value": 0, "scoring_failed": True, "reason": "no model"},
            {"name": "words", "value": 120},
        ]
    }
    assert text(payload).splitlines() == [
        "tone       FAILED              no model",
        "relevance  0.95    █████████░  on topic",
        "words      120",
    ]
    assert "<strong>FAILED</strong>" in html(payload)
    assert html(payload).count("<tr>") == 4


@pytest.mark.parametrize(
    ("value", "drawn"),
    [(0, "░" * 10), (1, "█" * 10), (0.7, "█" * 7 + "░" * 3), (0.95, "█" * 9 + "░"), (0.04, "░" * 10)]
    + [(value, "") for value in (-0.1, 1.01, 7, math.nan, math.inf, True, None, "0.5", [1])],
)
def test_a_bar_stands_for_a_number_between_zero_and_one_alone(value, drawn):
    assert bar(value) == drawn


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[(1 / 3, "0.3333"), (1.0, "1"), (5, "5"), (math.nan, "nan"), ("high", "high"), (True, "true")],
        *[(-math.inf, "-inf"), (10**19, "1" + "0" * 19), (10**400, "1.000e+400"), (-(10**4299), "-1.000e+4299")],
    ],
    ids=str,
)
def test_values_are_short(value, shown):
    assert text({"scores": [{"name": "a", "value": value}]}).split()[1] == shown


def test_a_result_without_scores_is_indented_json():
    assert text({"b": 1, "é": [True]}) == '{\n  "b": 1,\n  "é": [\n    true\n  ]\n}'
    assert "<pre" in html({"b": 1})
    assert text({"scores": []}) == '{\n  "scores": []\n}'
    assert '"scores"' in text({"scores": [{"no": "score"}]})


def test_what_stands_beside_the_scores_is_shown_too():
    shown = text({"scores": [{"name": "a", "value": 1}], "model": "m"})
    assert shown.splitlines()[0].startswith("a  1")
    assert '"model": "m"' in shown


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "a\x1b[31mred", "two\nlines", "$x$ | y", "\u202eabc", "\ud800"]
)
def test_names_and_reasons_cannot_break_out(bad):
    payload = {"scores": [{"name": bad, "value": 1, "reason": bad}]}
    assert "<script" not in html(payload)
    assert "\x1b" not in text(payload) + html(payload)
    assert len(text(payload).splitlines()) == 1
    assert "$x$" not in html(payload)
    text(payload).encode()
    html(payload).encode()


def test_an_error_is_its_text():
    failed = RunResult(error=RunError.of(ErrorKind.TIMEOUT, "Execution timed out after 1 seconds"))
    assert to_text(view_of(failed)) == "Execution timed out after 1 seconds"
    assert "timed out" in to_html(view_of(failed))


def test_results_are_equal_when_all_but_pid_and_timings_are():
    assert RunResult(payload={"a": 1}, pid=1) == RunResult(payload={"a": 1}, pid=2)
    assert RunResult(payload={"a": 1}) != RunResult(payload={"a": 2})
    assert Score("a", 1) == Score.from_json({"name": "a", "value": 1})


def test_what_is_nested_too_deeply_is_left_out():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({"value": deep}, {"value": 1, "reason": deep}):
        assert "too deeply" in text({"scores": [{"name": "a", **value}]})
    assert text({"scores": [{"name": "a", "value": 1}], "x": deep}).splitlines() == [
        "a  1  " + "█" * 10,
        "(nested too deeply to be shown)",
    ]
