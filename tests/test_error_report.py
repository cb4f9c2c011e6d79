"""Errors like the notebook's own: the place in the code, marked and numbered as in the cell, and no frame of ours."""

import re
import sys
from html.parser import HTMLParser

import pytest

from isolated_magic.child import error_report
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.view import view_of
from tests.kernels import kernel
from tests.runs import OURS, as_text, run_cell
from tests.time_limits import time_limit_from


class TestPlace:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (
                "def ratio(a, b):\n    return len(a) / len(b)\n\nratio('a', '')",
                [
                    "ZeroDivisionError: division by zero (line 3)",
                    "",
                    "Cell, line 3, in ratio",
                    "      2 def ratio(a, b):",
                    "----> 3     return len(a) / len(b)",
                    "                   ^^^^^^^^^^^^^^^",
                    "      4",
                    "      5 ratio('a', '')",
                ],
            ),
            ("1/0", ["ZeroDivisionError: division by zero (line 2)", "", "Cell, line 2", "----> 2 1/0"]),
            (
                "x = 1\n\n\nx.nothing",
                [
                    "AttributeError: 'int' object has no attribute 'nothing' (line 5)",
                    "",
                    "Cell, line 5",
                    "----> 5 x.nothing",
                ],
            ),
            ("é = 'ü' * 3; raise KeyError(é)", None),
            ("if True:\n\tx = [1, 2][5]", None),
            (
                "x = (1,\n  2\nprint(x)",
                [
                    "SyntaxError: '(' was never closed (line 2)",
                    "",
                    "Cell, line 2",
                    "----> 2 x = (1,",
                    "            ^",
                    "      3   2",
                    "      4 print(x)",
                ],
            ),
            ("def f(:\n    pass", None),
            ("'abc", None),
        ],
    )
    def test_the_failing_line_is_marked_and_numbered_as_in_the_cell(self, executor, code, expected):
        result = run_cell(executor, code)
        shown = as_text(result).splitlines()
        if expected is not None:
            assert shown[: len(expected)] == expected
        (marked,) = [line for line in shown if line.startswith("---->")]
        number = int(re.match(r"----> +(\d+)", marked)[1])
        assert f"(line {number})" in result.error.summary
        assert code.split("\n")[number - 2].expandtabs(4).strip() in marked
        assert not any(name in as_text(result) for name in OURS)

    @pytest.mark.parametrize(
        ("code", "marked"),
        [
            ("é = 'ü' * 3; raise KeyError(é)", "raise KeyError(é)"),
            ("if True:\n\tx = [1, 2][5]", "[1, 2][5]"),
            ("x = {}; y = x['ü'] + 1", "x['ü']"),
        ],
    )
    def test_the_marks_stand_under_the_place(self, executor, code, marked):
        lines = run_cell(executor, code).error.excerpt.splitlines()
        index = next(index for index, line in enumerate(lines) if line.startswith("---->"))
        marks = lines[index + 1]
        start = marks.index("^")
        assert lines[index][start : start + marks.count("^")] == marked

    def test_the_innermost_line_of_the_cell_is_shown_for_an_error_in_a_library(self, executor):
        result = run_cell(executor, "import json\n\njson.loads('{')")
        assert "----> 4 json.loads('{')" in result.error.excerpt
        assert "json/decoder.py" in result.error.text

    def test_a_file(self, executor, tmp_path):
        file = tmp_path / "metric.py"
        file.write_text("x = 1\n\n1/0\n")
        error = executor.run(file).error
        assert error.excerpt.splitlines()[0] == f"{file}, line 3"
        assert "----> 3 1/0" in error.excerpt

    def test_a_metric(self, executor):
        code = (
            "class BaseMetric:\n    def __init__(self): self.name = 'a'\n"
            "class Mine(BaseMetric):\n    def score(self, **data):\n        return data['nothing']\n"
        )
        result = run_cell(executor, code)
        assert "Cell, line 6, in score" in result.error.excerpt
        assert not any(name in result.error.text for name in OURS)

    def test_long_lines_are_cut(self):
        lines = ["x = '" + "y" * 1000 + "'"]
        shown = error_report.around(lines, error_report.Place(1, "", (4, 900)), "<cell>").splitlines()
        assert max(map(len, shown)) < 250

    def test_a_line_that_is_not_there(self):
        assert error_report.around(["a"], error_report.Place(5), "<cell>") == ""
        assert error_report.around([], error_report.Place(0), "<cell>") == ""


class TestWhole:
    def test_chained_exceptions_notes_and_groups(self, executor):
        code = (
            "try:\n    1/0\nexcept ZeroDivisionError as problem:\n    problem.add_note('a note')\n"
            "    raise ExceptionGroup('several', [problem, ValueError('two')]) from problem"
        )
        shown = as_text(run_cell(executor, code))
        for part in (
            "ZeroDivisionError: division by zero\na note",
            "direct cause",
            "ExceptionGroup: several",
            "ValueError: two",
        ):
            assert part in shown
        assert "----> 6     raise ExceptionGroup" in shown

    def test_an_error_in_a_task_group(self, executor):
        code = (
            "import asyncio\nasync def bad():\n    raise ValueError('in a task')\n"
            "async def main():\n    async with asyncio.TaskGroup() as group:\n        group.create_task(bad())\n"
            "asyncio.run(main())"
        )
        shown = as_text(run_cell(executor, code))
        assert "ValueError: in a task" in shown
        assert not any(name in shown for name in OURS)

    @pytest.mark.parametrize("escape", ["\\x1b[31m", "\\x1b]0;title\\x07", "\\x1b[2J"])
    def test_what_steers_a_terminal_is_taken_out(self, executor, escape):
        result = run_cell(executor, f"raise ValueError('{escape}red')")
        for shown in (as_text(result), to_html(view_of(result)), to_markdown(view_of(result))):
            assert "\x1b" not in shown
            assert "red" in shown


class TestOneFrame:
    @pytest.mark.parametrize(
        ("code", "marked"),
        [
            ("1/0", "1/0"),
            ("x = [\n1,\nundefined]", "undefined]"),
            ("x = (1,\n  2\nprint(x)", "x = (1,"),
            ("import nothing_of_this_name", "import nothing_of_this_name"),
        ],
    )
    def test_no_line_of_the_code_and_no_message_stands_twice(self, executor, code, marked):
        result = run_cell(executor, code)
        for shown in (as_text(result), to_html(view_of(result)), to_markdown(view_of(result))):
            plain = shown.replace("\\_", "_")
            assert plain.count(marked) == 1 + (marked in result.error.hint)
            assert plain.count(result.error.summary.partition(":")[0]) == 1
            assert "Traceback" not in plain
        assert result.error.text.count(marked) == 1

    def test_more_lines_of_the_message_are_shown(self, executor):
        shown = as_text(
            run_cell(
                executor, "problem = ValueError('one\\n    two\\nthree')\nproblem.add_note('four')\nraise problem"
            )
        )
        assert shown.splitlines()[:6] == ["ValueError: one (line 4)", "", "    two", "three", "four", ""]
        assert "Traceback" not in shown

    @pytest.mark.parametrize(
        "code",
        [
            "def f():\n    1/0\nf()",
            "try:\n    1/0\nexcept ZeroDivisionError as problem:\n    raise KeyError('k') from problem",
            "raise ExceptionGroup('g', [ValueError(1)])",
            "exec('x = (')",
            "import json\njson.loads('{')",
        ],
    )
    def test_a_traceback_that_says_more_is_shown(self, executor, code):
        assert "Traceback (most recent call last):" in as_text(run_cell(executor, code))

    def test_a_timeout(self, executor):
        with time_limit_from():
            shown = as_text(run_cell(executor, "import time\ntime.sleep(1000)", timeout_secs=1))
            assert shown.count("time.sleep(1000)") == 1
            shown = as_text(run_cell(executor, "import time\ndef f():\n    time.sleep(1000)\nf()", timeout_secs=1))
            assert shown.count("time.sleep(1000)") == 2


class TestWidth:
    def test_sentences_break_between_words_and_commands_do_not(self, cells):
        shown = cells.run("%%isolated\nimport nothing_of_this_name")
        assert max(len(line) for line in shown.traceback.splitlines() if "pip install" not in line) <= 80
        assert f"{sys.executable} -m pip install nothing_of_this_name" in shown.traceback
        assert "%pip install nothing_of_this_name" in shown.traceback
        shown = cells.run("%%isolated --data rows --payload-type\n1")
        cells.ok("rows = [1]")
        lines = cells.run("%%isolated --data rows\n1").traceback.splitlines()
        assert len(lines) > 1
        assert max(map(len, lines)) <= 80

    def test_the_users_own_message_stays_as_it_is(self, cells):
        message = "a sentence of the user's own " * 10
        assert message in cells.run(f"%%isolated\nraise ValueError({message!r})").traceback


class TestHtml:
    def test_the_whole_text_is_in_a_closed_fold_and_the_place_is_not(self, executor):
        result = run_cell(executor, "def f():\n    raise ValueError('<b>&</b>')\nf()")
        page = to_html(view_of(result))
        before, fold = page.split("<details")
        assert "open" not in fold.split(">")[0]
        assert "<summary>Traceback</summary>" in fold
        assert "<strong>ValueError: &lt;b&gt;&amp;&lt;/b&gt; (line 3)</strong>" in before
        assert "----&gt; 3     raise ValueError(" in before
        assert "Traceback (most recent call last)" in fold
        assert "<b>" not in page
        assert is_well_formed(page)

    def test_a_single_sentence_has_no_fold(self, executor):
        page = to_html(view_of(run_cell(executor, "import os; os.kill(os.getpid(), 9)")))
        assert "<details" not in page
        assert "SIGKILL" in page


class Wellformed(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def is_well_formed(page):
    parser = Wellformed()
    parser.feed(page)
    return not parser.open


class TestNoResult:
    """In a notebook: what the cell ended with, two lines that would be a score, and no failure where it only looked."""

    ENDINGS = (
        ("'yes'", "The cell ended with a str, which is no score."),
        ("answer = data['answer']\nanswer", "The cell ended with a str, which is no score."),
        ("data", "The cell ended with a dict without the key 'scores', which is no score."),
        (
            "{'accuracy': 0.5, 'model': 'm'}",
            "The cell ended with a dict without the key 'scores', which is no score.",
        ),
        (
            "{'name': 'a', 'value': 1, 'city': 'b'}",
            "The cell ended with a dict without the key 'scores', which is no score.",
        ),
        ("{'n': 1, 'what': 'a'}", "The cell ended with a dict without the key 'scores', which is no score."),
        ("{}", "The cell ended with a dict without the key 'scores', which is no score."),
        ("[0.5, 0.7]", "The cell ended with a list whose item 0 is a float, not a score."),
        ("values = [1, 2]\nvalues", "The cell ended with a list whose item 0 is an int, not a score."),
        (
            "[{'name': 'a', 'value': 1, 'city': 'b'}]",
            "The cell ended with a list whose item 0 is a dict, not a score.",
        ),
        ("['a', 'b', 'c']", "The cell ended with a list whose item 0 is a str, not a score."),
        ("[0.5, 'because']", "The cell ended with a list whose item 0 is a float, not a score."),
        ("(0.5, 0.7)", "The cell ended with a tuple whose item 0 is a float, not a score."),
        ("0.5, 0.7", "The cell ended with a tuple whose item 0 is a float, not a score."),
        ("['a', 0.5]", "The cell ended with a list whose item 0 is a str, not a score."),
        ("[]", "The cell ended with an empty list."),
        ("{1, 2}", "The cell ended with a set, which is no score."),
        ("import numpy as np\nx = np.array([1, 2])\nx", "The cell ended with a ndarray, which is no score."),
        ("import pandas as pd\npd.Series([1, 2])", "The cell ended with a Series, which is no score."),
        ("object()", "The cell ended with an object, which is no score."),
        ("async def f():\n    yield 0.5\nf()", "The cell ended with an async_generator, which is no score."),
        (
            "import sys\nprint('a', file=sys.stderr)",
            "The cell printed nothing on stdout and did not end with a value.",
        ),
        ("def f(answer, reference):\n    return 0.5", "The cell printed nothing and did not end with a value."),
        ("async def f(**data):\n    return 0.5", "The cell printed nothing and did not end with a value."),
        ("x = 0.5", "The cell printed nothing and did not end with a value."),
        ("x: float = 0.5", "The cell printed nothing and did not end with a value."),
        ("import json", "The cell printed nothing and did not end with a value."),
        ("", "The cell printed nothing and did not end with a value."),
        ("print({'scores': [{'name': 'a', 'value': 1}]})", "The cell printed a Python dict, which is no JSON."),
        ("print('{\"scores\": [')", "The last line printed begins like a JSON object, but ends in the middle"),
    )

    @pytest.mark.parametrize(("code", "said"), ENDINGS)
    def test_two_lines_that_would_be_a_score_follow_what_it_ended_with(self, cells, code, said):
        cells.ok("row = {'answer': 'yes', 'reference': 'no'}")
        shown = cells.run(f"%%isolated --data row\n# nothing\n{code}")
        first, blank, *lines = shown.traceback.split("\n")
        assert shown.ename == "RunFailedError"
        assert shown.evalue == first
        assert first.startswith(said)
        assert blank == lines[2] == ""
        assert lines[3] == "Either line, as the last one, is a score. To look at something without one,"
        assert "isolated_magic" not in shown.traceback
        for line in lines[:2]:
            assert cells.ok(f"%%isolated --data row -o result\n{code}\n{line}").results[0]
            assert cells.ok("len(result.scores) > 0").text == "True"

    def test_the_value_is_shown_and_the_library_says_what_it_always_said(self, cells):
        shown = cells.run("%%isolated -d a=1 -o result\ndata")
        assert shown.traceback.split("\n")[-2:] == ["What it ended with:", "{'a': 1}"]
        text = cells.ok("print(result.error.code, result.error.text)").stdout
        assert text.startswith(
            "500 Invalid JSON response from subprocess: the value of the last line is a dict without"
        )

    def test_a_value_that_cannot_be_shown(self, cells):
        code = "class Odd:\n    def __repr__(self): raise ValueError('no')\nOdd()"
        assert "<Odd that cannot be printed>" in cells.run(f"%%isolated\n{code}").traceback

    @pytest.mark.parametrize("code", ["object()", "[object()]", "[print, 0]", "str", "async def f(): yield\nf()"])
    def test_a_value_is_shown_without_what_differs_from_run_to_run(self, cells, code):
        first, second = (cells.run(f"%%isolated\n{code}") for _ in range(2))
        assert first == second
        assert "0x" not in first.traceback
        assert "What it ended with:" in first.traceback
        assert first.stderr == ""

    def test_an_address_that_is_data_is_shown(self, cells):
        assert "crash at 0xdeadbeef" in cells.run("%%isolated\n'crash at 0xdeadbeef'").traceback

    def test_a_long_value_is_cut(self, cells):
        shown = cells.run("%%isolated\n[('a' * 1000)] * 1000")
        assert "characters left out" in shown.traceback
        assert len(shown.traceback) < 25_000

    @pytest.mark.parametrize("returned", ["'yes'", "[1, 2]", "{'a': 'b'}"])
    def test_a_metric_whose_score_is_none(self, cells, returned):
        code = "class BaseMetric: pass\nclass Mine(BaseMetric):\n    def score(self, **data):\n        {}"
        shown = cells.run("%%isolated\n" + code.format(f"return {returned}"))
        first, _, *lines = shown.traceback.split("\n")
        assert first.startswith("Mine.score() returned a ")
        assert lines[3] == "Either line, at the end of score(), is a score."
        for line in lines[:2]:
            assert cells.ok("%%isolated\n" + code.format(line)).results[0]

    LOOKS = (
        ("print(data)", "{'a': 1}\n", ""),
        ("print('a\\nb')", "a\nb\n", ""),
        ("import sys\nprint('a')\nsys.exit()", "a\n", ""),
        ("print('a')\ndata", "a\n{'a': 1}\n", ": the cell ended with a dict without the key 'scores'"),
        ("print(data)\n'b'", "{'a': 1}\n'b'\n", ": the cell ended with a str"),
    )

    @pytest.mark.parametrize(("code", "output", "found"), LOOKS)
    @pytest.mark.parametrize("line", ["", "--fresh", "--executor process"])
    def test_a_cell_that_only_looks_is_no_failure(self, cells, code, output, found, line):
        shown = cells.ok(f"%%isolated -d a=1 {line}\n{code}")
        assert shown.stdout == output
        assert shown.text == f"note: no score{found}. If none is meant, --no-score leaves this note out."
        assert cells.ok("_.ok, _.scores, _.to_dict()").text == "(True, (), {})"
        assert cells.ok("%isolated history").text.splitlines()[-1].endswith("no scores")

    @pytest.mark.parametrize("option", ["-o kept", "--compare", "--strict", "--save looked.py"])
    def test_where_scores_are_asked_for_it_is_one(self, cells, tmp_path, option):
        cells.ok(f"%cd -q {tmp_path}")
        shown = cells.run(f"%%isolated {option}\nprint('a')")
        assert shown.evalue == "The cell only printed, and what it printed is no score."
        assert "To do without one, add --no-score." in shown.traceback
        assert not (tmp_path / "looked.py").exists()

    @pytest.mark.parametrize("option", ["", "-o kept", "--compare", "--strict", "--save looked.py"])
    @pytest.mark.parametrize(
        "code", ["print('a')", "x = 1", "print('a')\ndata", "print('{\"half\": ')", "def f(x): return 1"]
    )
    def test_no_score_is_meant(self, cells, tmp_path, option, code):
        cells.ok(f"%cd -q {tmp_path}")
        shown = cells.ok(f"%%isolated --no-score {option}\n{code}")
        assert shown.results == ["No earlier run to compare with."] * (option == "--compare")
        assert (tmp_path / "looked.py").exists() == ("--save" in option)

    def test_in_the_background(self, cells):
        cells.ok("%%isolated --bg -o looked -d a=1\nprint('a')\ndata")
        assert cells.ok("looked.result(60).ok, looked.state, looked.result() is looked.result()").text == (
            "(True, 'done', True)"
        )
        assert cells.ok("looked").text.splitlines()[2:5] == ["a", "{'a': 1}", ""]
        cells.ok("%%isolated --bg -o failed\n'a'")
        assert (
            cells.ok("failed.result(60).error.summary").text == "'The cell ended with a str, which is no score.'"
        )
        cells.ok("%%isolated --bg -o hinted\nnp.mean([1])")
        assert cells.ok("hinted.result(60).error.hint").text.endswith("import numpy as np.'")
        assert "looked is done: no scores" in cells.ok("%isolated status").stdout

    def test_with_scores_the_option_changes_nothing(self, cells):
        assert cells.ok("%%isolated --no-score\n0.5").text.startswith("score  0.5")
        assert cells.run("%%isolated --no-score\n1/0").ename == "RunFailedError"
        assert cells.run("%%isolated --no-score\nimport sys\nsys.exit(3)").ename == "RunFailedError"

    def test_a_file(self, cells, tmp_path):
        (tmp_path / "look.py").write_text("print('a')")
        (tmp_path / "value.py").write_text("'a'")
        assert cells.ok(f"%isolated run {tmp_path}/look.py").text.startswith("note: no score.")
        assert (
            cells.run(f"%isolated run {tmp_path}/value.py").evalue
            == "The file ended with a str, which is no score."
        )
        assert cells.ok(f"kept = %isolated run {tmp_path}/look.py --no-score\nkept.ok").text == "True"

    @pytest.mark.parametrize(
        "code", ["print(value)\nvalue", "value", "value + 'x' * 20_000", "[value]", "'sk-looked-at-1'"]
    )
    def test_no_secret_is_shown(self, cells, code):
        cells.ok("LOOKED_AT_KEY = 'sk-looked-at-1'")
        shown = cells.run(f"%%isolated -e LOOKED_AT_KEY\nimport os\nvalue = os.environ['LOOKED_AT_KEY']\n{code}")
        assert "sk-looked" not in f"{shown}"
        assert "***" in f"{shown}"

    def test_in_the_library_it_is_an_error(self, executor):
        for code in ("print('a')", "'a'", "x = 1"):
            answer = executor.execute(code)
            assert answer["code"] == 500
            assert answer["error"].startswith("Invalid JSON response from subprocess: ")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SyntaxError('odd', ('<string>', 'abc', 1, 'x'))", "odd"),
        ("raise SyntaxError('odd', ('<string>', 1, 'z', 'x'))", "odd"),
        ("raise SyntaxError('odd', ('<string>', 1, 10**20, 'x', 1, -3))", "odd"),
        ("raise ImportError('odd', name=5)", "ImportError: odd"),
        (
            "class Odd(Exception):\n    @property\n    def __cause__(self): raise KeyError\nraise Odd('odd')",
            "Odd: odd",
        ),
    ],
)
def test_an_exception_with_odd_details_still_says_what_it_says(executor, code, text):
    error = executor.run(code).error
    assert error.code == 400
    assert text in error.text
    assert text in error.summary


class TestColours:
    """A front end shows the colours of a traceback, as it does IPython's own; nothing else has them."""

    def test_in_the_traceback_alone(self, cells):
        shown = cells.run("%%isolated\ndef f():\n    raise ValueError('bad')\nf()")
        lines = shown.painted.split("\n")
        assert lines[0] == f"\x1b[31m{shown.evalue}\x1b[0m"
        assert "\x1b[31m----> 3     raise ValueError('bad')\x1b[0m" in lines
        assert "\x1b[32mCell, line 3, in f\x1b[0m" in lines
        assert shown.evalue == "ValueError: bad (line 3)"
        assert shown.traceback.count("Traceback (most recent call last)") == 1
        kept = cells.ok("%%isolated --no-raise\ndef f():\n    raise ValueError('bad')\nf()")
        assert "\x1b" not in str(kept.data)
        assert cells.run("%%isolated\ndef f():\n    raise ValueError('bad')\nf()").painted == shown.painted

    def test_a_run_that_timed_out(self, cells):
        cells.ok("%%isolated\nimport time\n1")  # its launch is no part of what the next cell has
        shown = cells.run("%%isolated -t 4\nimport time\ntime.sleep(1000)")
        assert "\x1b[31m----> 3 time.sleep(1000)\x1b[0m" in shown.painted

    @pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {}])
    def test_none_for_who_wants_none(self, env):
        with kernel(**env) as started:
            if not env:
                started.ok("%colors nocolor")
            shown = started.run("%%isolated\n1/0")
            assert shown.painted == shown.traceback
            assert shown.traceback
