"""Results and notes where IPython shows nothing, and where it does."""

import json

import pytest

from tests.kernels import kernel


@pytest.fixture(scope="module")
def cells():
    with kernel(ISOLATED_TEST_SHELL="from the shell") as started:
        yield started


class TestWhereIPythonShowsNothing:
    """IPython shows the last expression of a cell alone; a line magic elsewhere shows what it came to itself."""

    LINE = "%isolated run metric.py --data row"
    CALL = "get_ipython().run_line_magic('isolated', 'run metric.py --data row')"

    @pytest.fixture
    def rows(self, cells, tmp_path):
        (tmp_path / "metric.py").write_text("print('scoring', data['n'])\ndata['n'] / 10")
        cells.ok(f"%cd -q {tmp_path}")
        cells.ok("rows = [{'n': 1}, {'n': 2}]; row = rows[0]")

    @pytest.mark.parametrize(
        ("code", "values"),
        [
            ("{line}", ["0.1"]),
            ("for row in rows:\n    {line}", ["0.1", "0.2"]),
            ("for row in rows:\n    {call}", ["0.1", "0.2"]),
            ("for row in rows:\n    result = {line}", []),
            ("for row in rows:\n    result = {line}\nresult", ["0.2"]),
            ("for row in rows:\n    {line};", []),
            ("{line};", []),
            ("{line} ;", []),
            ("result = {line};\nresult", ["0.1"]),
            ("{line}\nrow = rows[1]\n{line}", ["0.1", "0.2"]),
            ("{line};\nrow = rows[1]\n{line}", ["0.2"]),
            ("if True:\n    {line}", ["0.1"]),
            ("def f(row):\n    {line}\nf(rows[1])", ["0.2"]),
            ("def f(row):\n    return {call}\nf(rows[0])", ["0.1"]),
            ("def f(row):\n    return {call}\nf(rows[0])\nNone", []),
            ("kept = []\nfor row in rows: kept.append({call})", []),
            ("with open('x', 'w'):\n    {line} -o result\nresult", ["0.1", "0.1"]),
            ("for _ in 'ab':\n    get_ipython().run_cell_magic('isolated', '', '0.5')", ["0.5", "0.5"]),
            ("%time {line}", ["0.1"]),
            ("await __import__('asyncio').sleep(0)\nfor row in rows:\n    {line}", ["0.1", "0.2"]),
        ],
    )
    def test_each_result_is_shown_once(self, cells, rows, code, values):
        shown = cells.ok(code.format(line=self.LINE, call=self.CALL))
        assert [text.split()[1] for text in shown.results] == values

    def test_a_function_hands_over_its_own_variables(self, cells, rows, tmp_path):
        (tmp_path / "show.py").write_text(
            "import json, os\nprint(json.dumps([data, os.environ['TENANT'], os.environ['KEY']]))\n1"
        )
        cells.ok("tenant = 'notebook'; my_api_key = 'sk-of-the-notebook'")
        shown = cells.ok(
            "def f(row, tenant, my_api_key):\n"
            "    %isolated run show.py --data row -d n={row['n'] + 1} -e TENANT=$tenant -e KEY=$my_api_key\n"
            "f({'n': 7}, 'of the function', 'sk-of-the-function')"
        )
        assert json.loads(shown.stdout) == [{"n": 8}, "of the function", "***"]
        assert cells.ok("tenant, row['n']").text == "('notebook', 1)"

    def test_output_and_results_take_turns(self, cells, rows):
        request = cells.start(f"for row in rows:\n    {self.LINE}")
        seen = []
        while seen.count("score") < 2:
            message = cells.client.get_iopub_msg(timeout=30)
            if message["msg_type"] == "stream":
                seen += message["content"]["text"].split()
            elif message["msg_type"] == "display_data":
                seen.append("score")
        cells.collect(request)
        assert seen == ["scoring", "1", "score", "scoring", "2", "score"]

    def test_a_failed_run_ends_the_loop(self, cells, rows):
        shown = cells.run(f"for row in [rows[0], {{}}, rows[1]]:\n    {self.LINE}")
        assert (len(shown.results), shown.ename) == (1, "RunFailedError")

    def test_a_history_and_the_handle_of_a_run(self, cells, rows):
        assert len(cells.ok("for _ in 'ab':\n    %isolated history").results) == 2
        shown = cells.ok(f"for row in rows:\n    {self.LINE} --bg -o handle\nhandle.result(60)")
        assert [text.split()[0] for text in shown.results] == ["BackgroundRun", "BackgroundRun", "handle"]

    @pytest.mark.parametrize(("setting", "count"), [("all", 2), ("none", 0), ("last_expr", 2)])
    def test_the_setting_of_ipython(self, cells, rows, setting, count):
        cells.ok(f"%config InteractiveShell.ast_node_interactivity = {setting!r}")
        try:
            assert len(cells.ok(f"{self.LINE}\n{self.LINE}").results) == count
        finally:
            cells.ok("%config InteractiveShell.ast_node_interactivity = 'last_expr'")

    def test_a_semicolon_is_no_part_of_a_command(self, cells, rows):
        assert cells.ok("%isolated teardown;").stdout.startswith("Torn down")
        assert cells.ok("%isolated history;").results == []


class TestNotes:
    KEYS = (
        "class BaseMetric: pass\nclass M(BaseMetric):\n    name = 'm'\n"
        "    def score(self, output, reference, **kw): return float(output is None)"
    )
    NOTE = (
        'output is not in the data (answer, reference, tenant): None was passed. Map it: -d output={row["answer"]}'
    )

    @pytest.fixture(autouse=True)
    def row(self, cells):
        cells.ok("row = {'answer': 'a', 'reference': 'r', 'tenant': 't'}; rows = [row]")

    def test_keys_that_do_not_fit_are_told_beneath_the_score(self, cells):
        shown = cells.ok(f"%%isolated --data row -o result\n{self.KEYS}")
        assert shown.text.splitlines()[1] == f"note: {self.NOTE}"
        assert "note: output is not in the data" in shown.data["text/html"]
        assert "note: output is not in the data" in shown.data["text/markdown"]
        assert shown.metadata["isolated_magic_notes"] == [self.NOTE]
        assert cells.ok("result.notes if result.ok else None").text == repr((self.NOTE,))

    def test_what_it_says_to_write_is_right(self, cells):
        mapping = self.NOTE.partition("Map it: ")[2]
        shown = cells.ok(f"%%isolated --data row {mapping}\n{self.KEYS}")
        assert shown.text.split()[:2] == ["m", "0"]
        assert "isolated_magic_notes" not in shown.metadata

    @pytest.mark.parametrize(
        ("line", "name"),
        [("-d $row", "row"), ("-d {rows[0]}", "rows[0]"), ("-d {dict(row)}", "row"), ("-d answer=x", "row")],
    )
    def test_it_names_what_the_line_names(self, cells, line, name):
        shown = cells.ok(f"%%isolated {line}\n{self.KEYS}")
        assert f'-d output={{{name}["answer"]}}' in shown.text

    def test_strict(self, cells):
        failed = cells.run(f"%%isolated --data row --strict\n{self.KEYS}")
        assert (failed.ename, failed.evalue) == ("RunFailedError", self.NOTE)
        assert cells.ok(f"%%isolated --data row --strict --no-raise\n{self.KEYS}").text == self.NOTE
        cells.ok("%config IsolatedMagic.strict = True")
        try:
            assert cells.run(f"%%isolated --data row\n{self.KEYS}").evalue == self.NOTE
            assert cells.ok(f"%%isolated --data row --no-strict\n{self.KEYS}").text.split()[:2] == ["m", "1"]
        finally:
            cells.ok("%config IsolatedMagic.strict = False")

    def test_an_error_on_the_none_has_it_as_its_hint(self, cells):
        failed = cells.run(f"%%isolated --data row\n{self.KEYS.replace('float(output is None)', 'len(output)')}")
        assert self.NOTE in failed.traceback.replace("\n", " ")

    def test_a_run_in_the_background_names_the_line_too(self, cells):
        cells.ok(f"%%isolated --bg -o run --data row\n{self.KEYS}")
        assert cells.ok("run.result(60).notes").text == repr((self.NOTE,))
