import dataclasses
import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import strategies as st

from isolated_magic.history import CellKey, History
from isolated_magic.magic.display import bundle
from isolated_magic.models import ErrorKind, RunError, RunResult, Score, parse_scores
from isolated_magic.render.blocks import Line
from isolated_magic.render.formatting import bar, change_text, mean_of, number_in, number_text
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of, view_of_history


def result_of(payload):
    return RunResult(payload=payload, scores=parse_scores(payload))


def text(payload):
    return to_text(view_of(result_of(payload)))


def html(payload):
    return to_html(view_of(result_of(payload)))


def markdown(payload):
    return to_markdown(view_of(result_of(payload)))


def scored(*scores):
    return {"scores": list(scores)}


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
    assert markdown(payload).splitlines() == [
        "| score | value |  | reason |",
        "| --- | --- | --- | --- |",
        "| tone | **FAILED** |  | no model |",
        "| relevance | 0.95 | █████████░ | on topic |",
        "| words | 120 |  |  |",
    ]


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
        *[(0.99996, "0.99996"), (1.00004, "1.00004"), (0.00004, "4e-05"), (-0.00004, "-4e-05"), (-0.0, "0")],
        *[(0.49996, "0.49996"), (0.5000000001, "0.5000000001"), (1e-9, "1e-09"), (12345.678, "12345.7")],
        *[(1234.5, "1234.5"), (12345.0, "12345"), (1.5e22, "1.5e+22"), (10**400 + 1, "~1.000e+400")],
        *[(0.1 + 0.2, "0.30000000000000004"), (2 / 3, "0.6667"), (123.456, "123.5"), (1e-300 / 3, "3.333e-301")],
        *[(1 / 3, "0.3333"), (1.0, "1"), (5, "5"), (math.nan, "nan"), ("high", "high"), (True, "1")],
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


FLOATS = st.floats(-1e299, 1e299)
NEAR = st.builds(
    lambda round_one, off, power: round_one + off * 10.0**power,
    st.one_of(st.integers(-2000, 2000), st.decimals(-100, 100, places=2).map(float)),
    st.floats(-1, 1),
    st.integers(-12, 0),
)
NUMBERS = st.one_of(FLOATS, NEAR, st.integers(), st.integers(10**15, 10**25))
ROUND = st.builds(lambda digits, power: Decimal(digits).scaleb(power), st.integers(-999, 999), st.integers(-6, 20))


def side(value, of):
    return (value > of) - (value < of)


@hypothesis.given(NUMBERS, st.one_of(ROUND, st.integers().map(Decimal)))
def test_rounding_passes_no_whole_number_and_no_threshold(value, threshold):
    exact = Decimal(repr(value))
    said = number_text(value)
    if said.startswith("~"):
        assert abs(exact) >= 10**20
        return
    seen = Decimal(said)
    for limit in (threshold, exact.to_integral_value(ROUND_FLOOR), exact.to_integral_value(ROUND_CEILING)):
        assert side(seen, limit) == side(exact, limit)
    assert abs(seen - exact) <= abs(exact) / 1000
    assert number_text(seen) == said


@hypothesis.given(NUMBERS, NUMBERS)
def test_a_difference_is_shown_where_there_is_one(now, before):
    change = change_text(Score("a", now), Score("a", before))
    if Decimal(repr(now)) == Decimal(repr(before)):
        assert change == "same"
    else:
        sign, difference, *_ = change.split(" ", 2)
        assert sign == ("▲" if now > before else "▼")
        assert not re.match(r"[+-]?0(\.0*)?(e|,|$)", difference)


@hypothesis.given(st.floats(0, 1))
def test_a_bar_is_full_at_one_alone_and_never_shows_more_than_there_is(value):
    filled = bar(value).count("█")
    assert len(bar(value)) == 10
    assert filled <= Decimal(repr(value)) * 10 < filled + 1


@hypothesis.given(st.lists(st.one_of(FLOATS, st.floats(0, 1)), min_size=1))
def test_a_mean_is_that_of_the_numbers_as_they_are_written(values):
    exact = sum(Fraction(Decimal(repr(value))) for value in values) / len(values)
    said = number_text(mean_of([number_in(value) for value in values]))
    if not said.startswith("~"):
        seen = Fraction(Decimal(said))
        assert side(seen, math.floor(exact)) == side(exact, math.floor(exact))
        assert abs(seen - exact) <= abs(exact) / 1000


def test_numbers_are_the_same_wherever_they_are_shown():
    near_one = Score("a", 0.99996)
    result = RunResult(payload={}, scores=(near_one,))
    listed = History().with_result("", "", CellKey(None, 1, 1), result)
    compared_one = dataclasses.replace(result, compared_with=(Score("a", 0.99998),))
    for view in (view_of(result), view_of_history(listed), view_of(compared_one)):
        for shown in (to_text(view), to_html(view), to_markdown(view)):
            assert "0.99996" in shown
    assert "▼ -2e-05, was 0.99998" in to_text(view_of(compared_one))
    assert "0.99996" in repr(result)
    assert "0.99996" in repr(near_one)
    assert text({"nested": [0.99996]}).count("0.99996") == 1


BAD = [
    "<script>alert(1)</script>",
    "a\x1b[31mred",
    "two\nlines",
    "$x$ | y",
    "\u202eabc",
    "\ud800",
    "a\x1b]0;t\x07b",
]
BAD += [
    "`code` **bold** [link](javascript:alert(1)) ![](x)",
    "\r\x08\x00\x7f",
    "| a | b |",
    "&lt;b&gt;",
    "~~x~~ __y__ \\",
]


@pytest.mark.parametrize("bad", BAD)
def test_names_values_and_reasons_cannot_break_out(bad):
    payload = scored({"name": bad, "value": bad, "reason": bad})
    assert "<script" not in html(payload) + markdown(payload)
    assert "\x1b" not in text(payload) + html(payload) + markdown(payload)
    assert len(text(payload).splitlines()) == 1
    assert len(markdown(payload).splitlines()) == 3
    assert "$x$" not in html(payload) + markdown(payload)
    assert len(re.findall(r"(?<!\\)\|", markdown(payload).splitlines()[2])) == 4
    for shown in (text(payload), html(payload), markdown(payload)):
        shown.encode()


def test_colours_of_a_reason_are_taken_out_and_its_words_stay():
    assert text(scored({"name": "a", "value": 1, "reason": "\x1b[1;31mred\x1b[0m and \x1b[4mmore"})).endswith(
        "red and more"
    )


HEBREW = "שלום (עולם) 5"


def test_text_from_right_to_left_turns_nothing_around():
    payload = scored({"name": "a", "value": 1, "reason": HEBREW}, {"name": "b", "value": 1, "reason": "plain"})
    assert text(payload).splitlines()[0].endswith("\u2068" + HEBREW + "\u2069")
    assert f"<bdi>{HEBREW}</bdi>" in html(payload)
    assert "<bdi>" not in html(payload).split("plain")[0].rpartition("<tr>")[2]
    assert "<bdi>" in markdown(payload)


def test_wide_characters_keep_the_columns():
    lines = text(
        scored({"name": "漢字", "value": 1}, {"name": "abcd", "value": 0}, {"name": "é", "value": 0.5})
    ).splitlines()
    assert lines == ["漢字  1    ██████████", "abcd  0    ░░░░░░░░░░", "é     0.5  █████░░░░░"]


def test_emoji_stay_whole():
    assert "👩\u200d💻" in text(scored({"name": "👩\u200d💻", "value": 1}))


@pytest.mark.parametrize("length", [241, 10_000, 1_000_000])
def test_a_long_reason_is_cut_and_unfolds(length):
    reason = "because " * (length // 8 + 1)
    payload = scored({"name": "a", "value": 1, "reason": reason})
    count = f"[{len(' '.join(reason.split())):,} characters]"
    for shown in (text(payload), markdown(payload).replace("\\", "")):
        assert count in shown
        assert len(shown) < 600
    page = html(payload)
    assert count in page.split("</summary>")[0]
    assert page.count("<details") == 1
    assert len(page) < 25_000
    assert page.count("because") >= min(length // 8, 2400)


def test_a_long_name_or_value_is_cut():
    payload = scored({"name": "n" * 1000, "value": "v" * 1000})
    assert len(text(payload)) < 200
    assert len(markdown(payload)) < 700
    assert html(payload).count("<details") == 2


class TestMany:
    def scores(self, count):
        return [{"name": f"score {n}", "value": n / 100} for n in range(count)]

    def test_up_to_twenty_are_shown(self):
        assert len(text(scored(*self.scores(20))).splitlines()) == 20
        assert "<details" not in html(scored(*self.scores(20)))

    def test_more_than_twenty_fold_with_a_summary_line(self):
        failed = {"name": "bad", "value": 0, "scoring_failed": True}
        payload = scored(*self.scores(40), failed)
        lines = text(payload).splitlines()
        assert lines[0] == "41 scores; 1 FAILED"
        assert lines[2].split() == ["bad", "FAILED"]
        assert lines[-1] == "... 21 more scores"
        assert len(lines) == 2 + 20 + 1
        before, fold = html(payload).split("<details")
        assert before.count("<tr>") == 21
        assert fold.count("<tr>") == 22
        assert "<summary>21 more scores</summary>" in fold
        assert "open" not in fold.split(">")[0]
        assert "<strong>41 scores; 1 FAILED" in before
        assert markdown(payload).count("\n| ") == 22
        assert markdown(payload).endswith("... 21 more scores")

    def test_hundreds_of_thousands_are_not_written_out(self):
        payload = scored(*self.scores(300_000))
        assert len(html(payload)) < 2_000_000
        assert "299,980 more scores, the first 1,000 of them" in html(payload)

    def test_values_that_are_no_numbers_have_no_mean(self):
        payload = scored(
            *[{"name": "a", "value": value} for value in ["x", {}, math.nan, math.inf, "0.5", [1]] * 5]
        )
        assert text(payload).splitlines()[0] == "30 scores; not averaged: 10 text, 10 JSON, 5 NaN, 5 infinite"
        payload = scored(*[{"name": "a", "value": value} for value in [*range(25), math.nan, 10**400]])
        assert text(payload).splitlines()[0] == (
            "27 scores; mean 12, from 0 to 24; not averaged: 1 NaN, 1 too large"
        )

    def test_scores_of_one_name_have_a_mean(self):
        failed = {"name": "a", "value": 9, "scoring_failed": True}
        payload = scored(*[{"name": "a", "value": n / 100} for n in range(40)], failed)
        assert text(payload).splitlines()[0] == "41 scores; mean 0.195, from 0 to 0.39; 1 FAILED"
        assert "<strong>41 scores; mean" in html(payload)

    def test_each_name_has_a_summary_line_of_its_own(self):
        rows = [
            [("words", n), ("has_digit", n % 2), ("label", "yes"), ("p", math.nan if n else 0.5)]
            for n in range(30)
        ]
        items = [{"name": name, "value": value} for row in rows for name, value in row]
        items[5]["scoring_failed"] = True
        lines = text(scored(*items, {"name": "once", "value": 0.99996})).splitlines()
        assert lines[:8] == [
            "121 scores; 1 FAILED",
            "",
            "name       count  mean     min      max      failed    not averaged",
            "words      30     14.5     0        29",
            "has_digit  30     0.4828   0        1        1 FAILED",
            "label      30                                          30 text",
            "p          30     0.5      0.5      0.5                29 NaN",
            "once       1      0.99996  0.99996  0.99996",
        ]
        assert lines[8:10] == ["", "has_digit  FAILED"]
        page = html(scored(*items))
        assert '<th scope="col"' in page.split("<details")[0]
        assert ">not averaged</th>" in page.split("<details")[0]
        assert "| words | 30 | 14.5 | 0 | 29 |" in markdown(scored(*items))

    def test_the_lines_of_a_summary_are_bounded(self):
        items = [{"name": f"{n}", "value": 1} for n in range(500)] * 2
        lines = text(scored(*items)).splitlines()
        assert lines[0] == "1,000 scores"
        assert lines[23] == "... 480 more names"

    def test_how_many_is_a_matter_of_choice(self):
        view = view_of(result_of(scored(*self.scores(5))), most_rows=2)
        assert to_text(view).splitlines()[-1] == "... 3 more scores"


def compared(now, before):
    result = dataclasses.replace(result_of(scored(*now)), compared_with=parse_scores(scored(*before)))
    return {line.split()[0]: " ".join(line.split()[1:]) for line in to_text(view_of(result)).splitlines()}


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        (0.75, 0.5, "0.75 ▲ +0.25, was 0.5 ███████░░░"),
        (2, 3.5, "2 ▼ -1.5, was 3.5"),
        (1, 1.0, "1 same ██████████"),
        ("high", "low", "high was low"),
        ("high", "high", "high same"),
        (math.nan, math.nan, "nan same"),
        (math.nan, 0.5, "nan was 0.5"),
        (5, math.inf, "5 was inf"),
        (True, False, "1 ▲ +1, was 0 ██████████"),
        (10**400, 1, "1.000e+400 was 1"),
        ([1], [2], "[1] was [2]"),
    ],
)
def test_what_changed(now, before, shown):
    assert compared([{"name": "a", "value": now}], [{"name": "a", "value": before}]) == {"a": shown}


def test_what_failed_before_or_now():
    ok, failed = {"name": "a", "value": 0.5}, {"name": "a", "value": 0, "scoring_failed": True}
    assert compared([ok], [failed]) == {"a": "0.5 was FAILED █████░░░░░"}
    assert compared([failed], [ok]) == {"a": "FAILED was 0.5"}
    assert compared([failed], [failed]) == {"a": "FAILED same"}


def test_scores_of_one_name_are_compared_in_order():
    now = [{"name": "a", "value": 1}, {"name": "a", "value": 5}, {"name": "a", "value": 9}]
    result = dataclasses.replace(result_of(scored(*now)), compared_with=parse_scores(scored(*now[1:])))
    changes = [" ".join(line.split()[2:6]) for line in to_text(view_of(result)).splitlines()]
    assert changes == ["▼ -4, was 5", "▼ -4, was 9", "new"]


def test_an_error_is_its_text():
    failed = RunResult(error=RunError.from_text(ErrorKind.TIMEOUT, "Execution timed out after 1 seconds"))
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


@pytest.mark.parametrize("text", ["# head", "- item", "+ item", "1. item", "12) item", "---", "===", "> quote"])
def test_a_line_begins_no_block_of_markdown(text):
    shown = to_markdown((Line(f"before\n{text}"),))
    assert f"\n{text}" not in shown


def test_a_large_result_is_cut_where_it_is_shown():
    result = RunResult(payload={"text": "x" * 2_000_000})
    formats, metadata = bundle(result)
    assert all(len(text) < 30_000 for text in formats.values())
    assert "more characters of it are in result.payload" in formats["text/plain"]
    assert len(str(metadata)) < 1000


def noted(*notes, error=None):
    payload = scored({"name": "a", "value": 1})
    return RunResult(payload=payload, scores=parse_scores(payload), notes=notes, error=error)


def test_notes_stand_beneath_the_scores():
    view = view_of(noted("x is None", "y is | <b>"))
    assert to_text(view).splitlines()[1:] == ["note: x is None", "note: y is | <b>"]
    assert "note: y is | &lt;b&gt;" in to_html(view)
    assert to_markdown(view).splitlines()[-1] == "note: y is \\| &lt;b&gt;"
    assert bundle(noted("x is None"))[1]["isolated_magic_notes"] == ["x is None"]
    assert "isolated_magic_notes" not in bundle(noted())[1]


def test_notes_stand_beneath_an_error_unless_they_are_its_text():
    failed = RunError.from_text(ErrorKind.USER_CODE, "ValueError: bad")
    assert to_text(view_of(noted("x is None", error=failed))) == "ValueError: bad\nnote: x is None"
    strict = noted("one", "two").with_notes((), strict=True)
    assert to_text(view_of(strict)).splitlines() == ["one", "two"]


def test_many_notes_are_counted():
    shown = to_text(view_of(noted(*["n"] * 30))).splitlines()
    assert len(shown) == 22
    assert shown[-1] == "10 more notes are in result.notes."
