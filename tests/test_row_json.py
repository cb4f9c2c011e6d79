"""Row results as JSON, and back."""

import json
import math

import pytest

from isolated_magic.evaluation.row_json import NotARowError, row_from_json, row_to_json
from isolated_magic.evaluation.row_result import Attempt, RowResult
from isolated_magic.models import DisplayData, ErrorKind, Found, RunError, Score, Timings

ERROR = RunError(
    ErrorKind.NO_RESULT, "a\nb", "a", "-> 1", "a hint", "a stack", "a str", Found.VALUE, "'\N{SNOWMAN}'"
)
ROW = RowResult(
    index=3,
    key="k\n\ud800",
    row={"n": 1},
    scores=(
        Score("nan", math.nan, "why", "category", {"deep": [-math.inf, None, 1]}, scoring_failed=True),
        Score("verdict", 0.0, passed=False, threshold=0.0),
        Score("label", "good"),
        Score("many", [1, {"a": 2**70}]),
        Score("none", None, ""),
    ),
    error=ERROR,
    notes=("first", "second"),
    stdout="out\u2028\x00",
    stderr="err",
    payload={"other": [1.0, 1]},
    displays=(DisplayData({"text/plain": "x", "application/json": {"a": 1}}, {"width": 2}, 3, 4, "id"),),
    repetition=2,
    cluster="c",
    failed_attempts=(
        Attempt(ERROR, Timings(1.5, 2.0)),
        Attempt(RunError.from_text(ErrorKind.TIMEOUT, "t"), Timings()),
    ),
    timings=Timings(math.nan, 3.25),
)


@pytest.mark.parametrize("row", [ROW, RowResult(0, "k", {"n": 1})], ids=["full", "empty"])
def test_a_row_result_is_the_same_after_json(row):
    text = json.dumps(row_to_json(row))
    read = row_from_json(json.loads(text), row.row)
    assert read == row
    assert repr(read._told()) == repr(row._told())
    for name in ("index", "row", "payload", "displays", "repetition", "cluster"):
        assert getattr(read, name) == getattr(row, name)
    assert repr(read.attempts) == repr(row.attempts)  # in which NaN is equal to itself
    assert "\n" not in text
    assert text.isascii()


def test_the_row_itself_is_not_written():
    assert "secret" not in json.dumps(row_to_json(RowResult(0, "k", {"api_key": "secret"})))


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ([1], "it is not a JSON object"),
        ({"index": 1}, "it has no key"),
        ({"key": "k", "index": True}, "its index is bool, not int"),
        ({"key": "k", "scores": [{"value": 1}]}, "it has no name"),
        ({"key": "k", "scores": [1]}, "an element of its scores is not a JSON object"),
        ({"key": "k", "error": {"kind": "new", "text": "", "summary": ""}}, "its error is of no kind"),
        ({"key": "k", "timings": "soon"}, "its timings are not two numbers"),
        ({"key": "k", "timings": [1, 2, 3]}, "its timings are not two numbers"),
    ],
)
def test_json_that_is_no_row_result(told, problem):
    with pytest.raises(NotARowError, match=problem):
        row_from_json(told)
