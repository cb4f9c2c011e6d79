"""Variables of the notebook in a line: for the environment, as data; files to run."""

import json

import pytest

from tests.kernels import kernel


@pytest.fixture(scope="module")
def cells():
    with kernel(ISOLATED_TEST_SHELL="from the shell") as started:
        yield started


PRINT_ENV = "import json, os\nprint(json.dumps({'value': os.environ.get('NAME')}))"
PRINT_DATA = "import json\nprint(json.dumps({'value': data}))"


def value(shown):
    assert shown.ename is None, shown.traceback
    return shown.metadata["isolated_magic"]["value"]


class TestEnv:
    NASTY = "sp ace 'single' \"double\" {brace} $dollar \\back é \n line"

    @pytest.mark.parametrize(
        "word",
        [
            "NAME=$nasty",
            "NAME={nasty}",
            '"NAME=$nasty"',
            'NAME="$nasty"',
            "NAME={table['a b']}",
            'NAME={table["a b"]}',
            "NAME",
        ],
    )
    def test_values_from_the_notebook_are_exact(self, cells, word):
        cells.ok(f"nasty = {self.NASTY!r}; NAME = nasty; table = {{'a b': nasty}}")
        assert value(cells.run(f"%%isolated -e {word}\n{PRINT_ENV}")) == self.NASTY
        cells.ok("del NAME")

    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("NAME=plain", "plain"),
            ("NAME=", ""),
            ("NAME=a=b", "a=b"),
            ("'NAME=$nasty {x}'", "$nasty {x}"),
            ("NAME='two words'", "two words"),
            ('NAME="two \\"words\\""', 'two "words"'),
            ("NAME=C:\\temp\\new", "C:\\temp\\new"),
            ("'NAME=pa$$word'", "pa$$word"),
            ("NAME=$5", "$5"),
            ("NAME=100%", "100%"),
            ("NAME={1 + 1}", "2"),
            ("NAME={'}'}", "}"),
            ('NAME={"""a"}"""}', 'a"}'),
            ("NAME={None}", None),
        ],
    )
    def test_literals_and_expressions(self, cells, word, expected):
        assert (
            value(
                cells.run(
                    f"%%isolated --env={word}\n{PRINT_ENV}"
                    if " " not in word
                    else f"%%isolated --env {word}\n{PRINT_ENV}"
                )
            )
            == expected
        )

    def test_a_bare_name_is_the_kernels_variable_or_all_items_of_a_mapping(self, cells):
        code = "import json, os\nprint(json.dumps({'value': [os.environ.get(n) for n in ('ISOLATED_TEST_SHELL', 'A', 'B')]}))"
        cells.ok("both = {'A': 'x', 'B': 2}")
        shown = cells.run(f"%%isolated --clean-env -e ISOLATED_TEST_SHELL -e both\n{code}")
        assert value(shown) == ["from the shell", "x", "2"]
        assert value(cells.run(f"%%isolated --clean-env\n{code}")) == [None, None, None]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("-e $both", ["x", "2"]),
            ("-e {both}", ["x", "2"]),
            ("-e {dict(both, A=3)}", ["3", "2"]),
            ('-e {"A": "1"}', ["1", None]),
            ("""-e '{"A": "$x"}'""", ["$x", None]),
            ("-e $both -e A=last", ["last", "2"]),
            ("-e {'A': None}", [None, None]),
            ("-e $A", ["one", None]),
            ("-e {A}", ["one", None]),
            ("--secret $both", ["***", "***"]),
            ("--env-file $env_file", ["from file", None]),
            ("--env-file {str(env_file)}", ["from file", None]),
        ],
    )
    def test_a_reference_without_a_name_sets_all_items_of_a_dict(self, cells, tmp_path, line, expected):
        (tmp_path / "a.env").write_text("A='from file'")
        code = "import json, os\nprint(json.dumps({'value': [os.environ.get(n) for n in ('A', 'B')]}))"
        cells.ok("both = {'A': 'x', 'B': 2}; A = 'one'")
        cells.ok(f"import pathlib; env_file = pathlib.Path({str(tmp_path / 'a.env')!r})")
        if "--secret" in line:
            cells.ok("both = {'A': 'x-is-hidden', 'B': 2222}")
        assert value(cells.run(f"%%isolated {line}\n{code}")) == expected
        cells.ok("del A")

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("-e $nowhere", "--env: the notebook has no variable nowhere."),
            ("-e $bot", "Did you mean both?"),
            ("-e {1 + 1}", "only a dict sets variables by itself. Give it a name: --env NAME={...}."),
            (
                "--secret {['sk-123']}",
                "only a dict sets variables by itself. Give it a name: --secret NAME={...}.",
            ),
            ("-e {nowhere}", "raised NameError"),
            ("-e $both['A']", "has to be the whole value"),
            ("-e {{'A': ['sk-123']}}", "A is list"),
            ("--env-file {5}", "--env-file: the value of the expression is int: give a path."),
        ],
    )
    def test_a_reference_that_sets_nothing(self, cells, line, said):
        cells.ok("both = {'A': 'x', 'B': 2}")
        shown = cells.run(f"%%isolated {line}\n1")
        assert shown.ename == "OptionError"
        assert said in shown.evalue
        assert "sk-123" not in shown.evalue

    def test_an_env_file(self, cells, tmp_path):
        file = tmp_path / "tenant one.env"
        file.write_text("# comment\nexport NAME='from file'\nOTHER=\"a b\"\nISOLATED_TEST_SHELL\n")
        assert value(cells.run(f"%%isolated --env-file '{file}'\n{PRINT_ENV}")) == "from file"
        assert value(cells.run(f"%%isolated -e NAME=over --env-file '{file}'\n{PRINT_ENV}")) == "over"
        file.write_text("A=1\nthis is no line\n")
        assert "line 2" in cells.run(f"%%isolated --env-file '{file}'\n1").evalue

    def test_what_ipykernel_added_is_taken_out_again(self, cells):
        code = "import json, os\nprint(json.dumps({'value': {n: os.environ.get(n) for n in ('JPY_PARENT_PID', 'FORCE_COLOR', 'PAGER', 'MPLBACKEND')}}))"
        seen = value(cells.run(f"%%isolated\n{code}"))
        assert seen == {"JPY_PARENT_PID": None, "FORCE_COLOR": None, "PAGER": None, "MPLBACKEND": "Agg"}
        cells.ok("import os; os.environ['PAGER'] = 'less'")
        assert value(cells.run(f"%%isolated\n{code}"))["PAGER"] == "less"


class TestData:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("row", {"a": 1, "b": [2]}),
            ("$row", {"a": 1, "b": [2]}),
            ("row -d a=5 -d c={row['b']}", {"a": 5, "b": [2], "c": [2]}),
            ("all=$row", {"all": {"a": 1, "b": [2]}}),
            (
                "a=text -d b=3 -d c=true -d d=None -d 'e=two words' -d 'f=\"3\"' -d g=[1,2]",
                {"a": "text", "b": 3, "c": True, "d": None, "e": "two words", "f": "3", "g": [1, 2]},
            ),
            ('{"a": [1, {"b": "}"}]}', {"a": [1, {"b": "}"}]}),
            ("""'{"a": "$x"}'""", {"a": "$x"}),
            ("{row}", {"a": 1, "b": [2]}),
            ('k={"a": true}', {"k": {"a": True}}),
            ('k={"a": row}', {"k": {"a": {"a": 1, "b": [2]}}}),
            ("{'n': len(row)}", {"n": 2}),
            ("point -d y=2", {"x": 1, "y": 2}),
            ("", {}),
        ],
    )
    def test_data(self, cells, words, expected):
        cells.ok("import dataclasses; row = {'a': 1, 'b': [2]}")
        cells.ok("point = dataclasses.make_dataclass('Point', ['x'])(1)")
        words = f"-d {words}" if words else ""
        assert value(cells.run(f"%%isolated {words}\n{PRINT_DATA}")) == expected

    def test_a_json_file(self, cells, tmp_path):
        file = tmp_path / "row.json"
        file.write_text(json.dumps({"from": "file"}))
        assert value(cells.run(f"%%isolated --data {file}\n{PRINT_DATA}")) == {"from": "file"}
        file.write_text("{no")
        assert "holds no JSON" in cells.run(f"%%isolated --data {file}\n1").evalue

    def test_a_pandas_row(self, cells):
        cells.ok("import pandas as pd; frame = pd.DataFrame({'answer': ['x'], 'n': [1]})")
        assert value(cells.run(f"%%isolated -d {{frame.iloc[0]}} -d k=1\n{PRINT_DATA}")) == {
            "answer": "x",
            "n": 1,
            "k": 1,
        }

    def test_trace_thread(self, cells):
        cells.ok("thread = [{'role': 'user'}]")
        shown = cells.run("%%isolated -d thread --payload-type trace_thread\nprint(payload_type)\nlen(data)")
        assert (shown.stdout, shown.text.split()[1]) == ("trace_thread\n", "1")


class TestFile:
    def test_a_file_instead_of_a_body(self, cells, tmp_path):
        file = tmp_path / "a metric.py"
        file.write_text("import os\nprint(os.path.basename(__file__))\ndata['n'] / 10")
        for shown in (
            cells.ok(f"%isolated --file '{file}' -d n=5"),
            cells.ok(f"%%isolated --file '{file}' -d n=5\n# instead of this"),
        ):
            assert (shown.stdout, shown.text) == ("a metric.py\n", "a metric  0.5  █████░░░░░")

    def test_a_cell_without_a_body(self, cells, tmp_path):
        file = tmp_path / "metric.py"
        file.write_text("0.25")
        assert cells.ok(f"%%isolated --file {file}").text.split()[1] == "0.25"
        assert "Examples:" in cells.ok("%%isolated --help\n\n").stdout
        shown = cells.run("%%isolated -t 3\n  ")
        assert (shown.ename, "nothing to run" in shown.evalue) == ("OptionError", True)

    def test_a_missing_file_is_said(self, cells):
        shown = cells.run("%isolated --file missing.py")
        assert "file not found: missing.py" in shown.evalue

    def test_neither_file_nor_body(self, cells):
        assert "--file" in cells.run("%isolated").evalue
