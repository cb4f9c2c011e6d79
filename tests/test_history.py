"""What changed from run to run: --compare, %isolated history."""

import ast
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest

from isolated_magic import DistributedExecutor, IsolatedSubprocessExecutor
from isolated_magic.history import MOST_RUNS, CellKey, History, Inputs
from isolated_magic.magic.display import bundle
from isolated_magic.models import ErrorKind, RunError, RunResult, Score
from isolated_magic.render.html import to_html
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of_history
from tests.kernels import kernel


@pytest.fixture
def cells():
    with kernel() as started:
        yield started


def score(**values):
    scores = [{"name": name, "value": value} for name, value in values.items()]
    return f"{{'scores': {scores!r}}}"


NOTHING_BEFORE = "No earlier run to compare with."


class TestCompare:
    def test_value_arrow_and_difference(self, cells):
        first = cells.run_as("one", f"%%isolated --compare\n{score(a=0.5, b=3, c=1)}")
        assert first.text.splitlines()[-1] == NOTHING_BEFORE
        shown = cells.run_as("one", f"%%isolated --compare -o kept\n{score(a=0.75, b=2, c=1, d='high')}")
        assert shown.text.splitlines() == [
            "a  0.75  ▲ +0.25, was 0.5  ███████░░░",
            "b  2     ▼ -1, was 3",
            "c  1     same              ██████████",
            "d  high  new",
            "Compared with a run that differs in code.",
        ]
        assert '<th scope="col"' in shown.data["text/html"]
        assert ">change</th>" in shown.data["text/html"]
        assert "| a | 0.75 | ▲ +0.25, was 0.5 |" in shown.data["text/markdown"]
        assert cells.ok("[score.name for score in kept.compared_with], kept.differs_in").text == (
            "(['a', 'b', 'c'], ('code',))"
        )
        assert "gone, was high" in cells.run_as("one", f"%%isolated --compare\n{score(a=0.75)}").text

    def test_what_differs_is_said(self, cells):
        cells.ok("row = {'n': 1}")
        cell = "%%isolated -d row -e TENANT={tenant} --secret KEY={key} --compare\nlen(data) / (data['n'] + 1)"
        cells.ok("tenant, key = 't1', 'abcd-1'")
        cells.run_as("one", cell)
        assert cells.run_as("one", cell).text.splitlines() == ["score  0.5  same  █████░░░░░"]
        cells.ok("row['n'] = 3")
        assert cells.run_as("one", cell).text.splitlines() == [
            "score  0.25  other data: -0.25, was 0.5  ██░░░░░░░░",
            "Compared with a run that differs in data.",
        ]
        cells.ok("row['n'], tenant, key = 1, 't2', 'abcd-2'")
        assert cells.run_as("one", f"{cell} + 0").text.splitlines() == [
            "score  0.5  other data: +0.25, was 0.25  █████░░░░░",
            "Compared with a run that differs in data, environment (KEY, TENANT) and code.",
        ]
        assert "other data: same" in cells.run_as("one", cell.replace("-d row", "-d n=1.0")).text
        cells.ok("import os; os.environ.update({f'NAME{n}': 'x' for n in range(5)})")
        assert (
            "environment (NAME0, NAME1, NAME2, 2 more)."
            in cells.run_as("one", cell.replace("-d row", "-d n=1.0")).text
        )

    def test_a_run_whose_scores_all_failed_is_nothing_to_compare_with(self, cells):
        cells.run_as("failing", "%%isolated --compare\n{'a': 0.5}")
        failed = cells.run_as(
            "failing", "%%isolated --compare\n{'scores': [{'name': 'a', 'value': None, 'reason': 'no key'}]}"
        )
        assert failed.evalue == "The score could not be computed: a: no value: no key."
        assert "a  FAILED  no value: no key" in failed.traceback
        assert "error: The score could not be computed" in cells.ok("%isolated history").text
        assert "▲ +0.25, was 0.5" in cells.run_as("failing", "%%isolated --compare\n{'a': 0.75}").text

    def test_after_an_edit_of_the_line_or_of_the_code(self, cells):
        cells.ok("row = {}")
        cells.run_as("one", "%%isolated -d row\n0.5")
        assert "▲ +0.1, was 0.5" in cells.run_as("one", "%%isolated -d row --compare\n0.6").text
        assert "other data: same" in cells.run_as("one", "%%isolated -d n=1 --compare\n0.6").text

    def test_without_ids_the_same_text_is_the_same_cell(self, cells):
        cells.ok("row = {'n': 0.5}")
        cells.ok("%%isolated -d row\ndata['n']")
        cells.ok("row = {'n': 0.75}")
        assert "other data: +0.25, was 0.5" in cells.ok("%%isolated -d row --compare\ndata['n']").text

    def test_without_ids_other_text_is_another_cell(self, cells):
        cells.ok("row = {'n': 1}")
        cells.ok("%%isolated -d row --compare\ndata['n'] / 2")
        assert NOTHING_BEFORE in cells.ok("%%isolated -d row --compare\ndata['n'] / 4").text
        assert NOTHING_BEFORE in cells.ok("%%isolated -d n=2 --compare\ndata['n'] / 2").text

    def test_cells_of_a_notebook_that_is_executed_are_not_taken_for_one(self, tmp_path):
        """As nbconvert and papermill do it, which give no ids."""
        import nbformat  # loads for seconds, as nbclient does
        from nbclient import NotebookClient

        sources = [
            *("%load_ext isolated_magic", "row = {'answer': 'two words', 'reference': 'one'}"),
            "%%isolated -d row --compare\nlen(data['answer'])",
            "%%isolated -d row --compare\nlen(data['reference'])",
            "%config IsolatedMagic.compare = True",
            "%%isolated -d row\nlen(data['answer'].split())",
            "%isolated history",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
        shown = [one.outputs[0].data["text/plain"] for one in notebook.cells if one.source.startswith("%%")]
        assert shown == [
            *(f"score  {value}\n{NOTHING_BEFORE}" for value in (9, 3)),
            "score  2",
        ]
        assert "was" not in json.dumps([one.outputs for one in notebook.cells])
        assert "changed" not in notebook.cells[-1].outputs[0].data["text/plain"]

    def test_the_magic_called_by_python_for_several_bodies_of_one_cell(self, cells):
        code = (
            "for body in ('0.5', '0.25', '0.5'):\n"
            "    display(get_ipython().run_cell_magic('isolated', '--compare -o kept', body))\n"
            "    print(kept.compared_with)"
        )
        assert cells.run_as("one", code).stdout.splitlines() == ["()", "()", "(Score('score', 0.5),)"]

    def test_after_a_failed_run_against_the_one_before(self, cells):
        cells.run_as("one", "%%isolated\n0.5")
        cells.run_as("one", "%%isolated --compare\n1/0")
        assert "was 0.5" in cells.run_as("one", "%%isolated --compare\n0.6").text

    def test_another_cell_is_not_compared_with(self, cells):
        cells.ok("%%isolated -d n=1\n0.5")
        assert NOTHING_BEFORE in cells.ok("%%isolated -d n=2 --compare\n0.6").text
        cells.ok(f"%%isolated\n{score(a=1)}")
        assert NOTHING_BEFORE in cells.ok(f"%%isolated --compare\n{score(b=1)}").text

    def test_the_front_end_says_which_cell_it_is(self, cells):
        cells.run_as("one", "%%isolated -d n=1 --compare\n0.5")
        cells.run_as("two", "%%isolated -d n=1 --compare\n0.9")
        shown = cells.run_as("one", "%%isolated -d n=2 --compare\n0.6")
        assert "other data: +0.1, was 0.5" in shown.text
        assert NOTHING_BEFORE in cells.run_as("three", "%%isolated -d n=1 --compare\n0.9").text

    def test_line_magics_of_one_cell_are_told_apart(self, cells, tmp_path):
        for name, value in (("a", 0.1), ("b", 0.2)):
            (tmp_path / f"{name}.py").write_text(f"{value}")
        cell = f"a = %isolated run {tmp_path}/a.py --compare\nb = %isolated run {tmp_path}/b.py --compare\na, b"
        cells.run_as("one", cell)
        (tmp_path / "a.py").write_text("0.4")
        cells.run_as("one", cell)
        assert "▲ +0.3, was 0.1" in cells.ok("a").text
        assert cells.ok("a.differs_in, b.differs_in").text == "(('code',), ())"
        assert "same" in cells.ok("b").text

    def test_against_a_result_that_was_kept(self, cells):
        cells.ok("%%isolated -o before\n0.5")
        cells.ok("%%isolated\n0.9")
        assert cells.ok("%%isolated --compare before\n0.4").text.splitlines() == [
            *("score  0.4  ▼ -0.1, was 0.5  ████░░░░░░", "Compared with a run that differs in code."),
        ]
        assert "other data: -0.1, was 0.5" in cells.ok("%%isolated --compare before -d n=1\n0.4").text

    def test_against_a_run_in_the_background(self, cells):
        cells.ok("%%isolated -o before --bg -d n=1\n0.5")
        cells.ok("before.result(60)")
        assert "other data: +0.25, was 0.5" in cells.ok("%%isolated --compare before\n0.75").text
        cells.ok("%%isolated -o before --bg\nimport time\ntime.sleep(1000)")
        said = cells.run("%%isolated --compare before\n0.75").evalue
        assert said == "--compare before: before is still running: before.result() waits for it."
        cells.ok("before.kill()")

    def test_against_a_result_of_the_library(self, cells):
        cells.ok("from isolated_magic import IsolatedSubprocessExecutor")
        cells.ok("with IsolatedSubprocessExecutor() as executor: before = executor.run('0.5')")
        assert cells.ok("%%isolated --compare before\n0.75").text == "score  0.75  ▲ +0.25, was 0.5  ███████░░░"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("--compare nothing", "there is no such variable"),
            ("--compare number", "it is int"),
            ("--compare failed", "failed is a failed run and has no scores to compare with."),
            ("--compare 5", "give the name of a variable"),
            ("--compare --bg", "does not wait for"),
        ],
    )
    def test_a_wrong_line(self, cells, line, said):
        cells.ok("number = 5")
        cells.run("%%isolated -o failed\n1/0")
        assert said in cells.run(f"%%isolated {line}\n1").evalue

    def test_a_file_is_compared_whatever_else_the_line_says(self, cells, tmp_path):
        cells.ok(f"%cd -q {tmp_path}")
        (tmp_path / "metric.py").write_text("0.5")
        assert cells.ok("%isolated run metric.py --compare").text.splitlines()[-1] == NOTHING_BEFORE
        (tmp_path / "metric.py").write_text("0.6")
        assert (
            "other data: +0.1, was 0.5"
            in cells.ok(f"%isolated run {tmp_path}/metric.py -d n=1 -t 20 --compare").text
        )
        assert "this cell" not in NOTHING_BEFORE

    def test_as_a_setting(self, cells):
        cells.ok("%config IsolatedMagic.compare = True")
        assert NOTHING_BEFORE not in cells.run_as("one", "%%isolated\n0.5").text
        assert "was 0.5" in cells.run_as("one", "%%isolated\n0.6").text
        assert "was" not in cells.run_as("one", "%%isolated --no-compare\n0.7").text


class TestListing:
    def test_the_runs_of_the_kernel_with_their_scores(self, cells, tmp_path):
        (tmp_path / "metric.py").write_text("0.25")
        assert cells.ok("%isolated history").text == "No cell has been run yet."
        first = int(cells.ok("len(In)").text)
        cells.ok(f"%%isolated\n{score(a=0.5, b=2)}")
        cells.run("%%isolated\n1/0")
        cells.run("%%isolated -t -1\n1")  # never ran
        cells.ok(f"%isolated run {tmp_path}/metric.py")
        cells.ok('%%isolated -o kept\nprint(\'{"no": "scores"}\')')
        cells.ok("%%isolated --bg -o run\n0.75")
        cells.ok("run.result(60)")
        shown = cells.ok("%isolated history")
        lines = [" ".join(line.split()) for line in shown.text.splitlines()]
        assert lines == [
            "run cell result",
            "[1] {'scores': [{'name': 'a', 'va... a 0.5, b 2",
            "[2] 1/0 error: ZeroDivisionError: division by zero (line 2)",
            "[3] metric.py metric 0.25",
            "[4] kept no scores",
            "[5] run run 0.75",
        ]
        assert shown.data["text/html"].count("<tr>") == 6
        assert shown.metadata == {}
        columns = "run cell prompt outcome error launch execution_ms ended_at"
        columns += " name value reason scoring_failed passed threshold"
        assert cells.ok("frame = _.to_pandas(); ' '.join(frame.columns)").text == repr(columns)
        assert (
            cells.ok("frame.ended_at.is_monotonic_increasing, str(frame.ended_at.dt.tz)").text == "(True, 'UTC')"
        )
        assert cells.ok("' '.join(frame.prompt[1:3])").text == f"'In [{first}] In [{first + 1}]'"
        assert cells.ok("list(frame.run), list(frame.name.dropna())").text == (
            "([1, 1, 2, 3, 4, 5], ['a', 'b', 'score', 'score'])"
        )
        wide = cells.ok("float(frame.pivot_table(index='run', columns='name', values='value').loc[1, 'a'])")
        assert wide.text == "0.5"

    def test_what_was_changed_since_the_run_of_the_cell_before(self, cells):
        for cell in ("-d n=1\n0.5", "-d n=2\n0.75", "-d n=2\n0.75"):
            cells.run_as("one", f"%%isolated {cell}")
        cells.run_as("two", "%%isolated -d n=1\n0.5")
        lines = [" ".join(line.split()) for line in cells.ok("%isolated history").text.splitlines()]
        assert lines == [
            "run cell result changed",
            *("[1] 0.5 score 0.5", "[2] 0.75 score 0.75 data, code", "[3] 0.75 score 0.75", "[4] 0.5 score 0.5"),
        ]

    def test_an_interrupted_run_is_listed(self, cells):
        request = cells.start("%%isolated\nprint('begun', flush=True)\nimport time; time.sleep(1000)")
        while cells.client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
            pass
        cells.manager.interrupt_kernel()
        assert cells.collect(request).ename == "RunInterrupted"
        last = cells.ok("%isolated history").text.splitlines()[-1]
        assert last.split()[0] == "[1]"
        assert last.endswith("error: The run was stopped before it ended.")

    def test_a_long_error_is_shortened(self, cells):
        cells.run("%%isolated\nraise ValueError('x' * 500)")
        assert max(map(len, cells.ok("%isolated history").text.splitlines())) < 140
        assert len(cells.ok("_.to_pandas().error[0]").text) > 400

    def test_it_takes_no_words(self, cells):
        assert "takes no words" in cells.run("%isolated history all").evalue


def run(value):
    return RunResult(payload={}, scores=(Score("a", value, reason="x" * 5000, metadata={"large": [1] * 1000}),))


def key(cell_id=None, line=1, body=1):
    return CellKey(cell_id, line, body)


def test_a_long_history_forgets_its_beginning_and_what_is_large():
    history = History()
    for value in range(MOST_RUNS + 10):
        history = history.with_result("", "In [1]", key(), run(value))
    assert len(history) == MOST_RUNS
    assert (history.runs[0].number, history.runs[-1].number) == (11, MOST_RUNS + 10)
    assert history.runs[0].scores[0].metadata is None
    assert len(history.runs[0].scores[0].reason) == 1000
    assert repr(history) == f"History({MOST_RUNS} runs)"


def test_runs_without_scores_have_a_row_too():
    failed = RunResult(error=RunError.from_text(ErrorKind.TIMEOUT, "Execution timed out after 1 seconds"))
    frame = (
        History().with_result("a", "In [1]", key(), failed).with_result("b", "In [2]", key(), run(1)).to_pandas()
    )
    assert list(frame.outcome) == ["timeout", "success"]
    assert frame.name.isna().tolist() == [True, False]
    assert list(History().to_pandas().columns) == list(frame.columns)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (key("x", 1, 1), key("x", 2, 2), True),
        (key("x", 1, 1), key("y", 1, 1), False),
        (key(None, 1, 1), key(None, 1, 1), True),
        (key(None, 1, 1), key(None, 1, 2), False),
        (key(None, 1, 1), key(None, 2, 1), False),
        (key("x", 1, 1), key(None, 1, 1), False),
        (key(None, 1, 1), key("x", 1, 1), False),
        (key(None, 1, 1), key(None, 2, 2), False),
        (key("x", 1, None), key("x", 1, None), True),
        (key("x", 1, None), key("x", 2, None), False),
        (key(None, 1, None), key(None, 1, 1), False),
    ],
)
def test_which_cells_are_the_same(one, other, same):
    assert one.is_same_cell(other) == same


@pytest.mark.parametrize("mode", ["", "--bg"])
def test_the_name_of_a_run_holds_no_secret(cells, mode):
    cells.ok("key = 'xyzzy-4711-plugh'")
    cells.ok(f"%%isolated --secret KEY=$key {mode}\nk = 'xyzzy-4711-plugh' + '{'x' * 40}'\n1")
    if mode:
        cells.ok("_.result(60)")
    shown = cells.ok("%isolated history")
    assert "k = '***" in shown.text
    assert "xyzzy" not in str(shown.data)
    assert "xyzzy" not in cells.ok("_.to_pandas().to_string()").text


def test_digests_tell_nothing_of_what_was_given():
    """Without the key of the process, a digest of a short secret would be found by trying."""
    inputs = "next(iter(get_ipython().magics_manager.registry['IsolatedMagics'].history.runs)).inputs"
    code = "%%isolated --secret KEY={key} -d n=1\n0.5"
    seen = []
    for _ in range(2):
        with kernel() as other:
            other.ok("key = 'abcd'")
            other.ok(code)
            seen.append(other.ok(f"{inputs}.environment['KEY'], {inputs}.data, {inputs}.code").text)
    assert not {*ast.literal_eval(seen[0])} & {*ast.literal_eval(seen[1])}
    assert all(len(one) == 16 for one in ast.literal_eval(seen[0]))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("import os\nimport re\n# a comment\n\nwhere = os.getcwd()\n1", "where = os.getcwd()"),
        ("import os\nclass Helper: pass\nclass Brevity(Helper):\n    def score(self): pass", "class Brevity"),
        ('"""Text."""\nfrom re import sub\n@staticmethod\ndef ratio(a, b): return 1', "def ratio(a, b): return 1"),
        ("import os", "import os"),
        ("\n  \nnot python at all\n", "not python at all"),
        ("x = (\n  1)", "x = ("),
    ],
)
def test_cells_are_told_apart_by_more_than_their_imports(cells, body, name):
    cells.run(f"%%isolated --no-raise\n{body}")
    row = cells.ok("%isolated history").text.splitlines()[-1]
    assert row.split("  ")[1] == name


def test_a_run_has_one_line_whatever_it_gave():
    wide = RunResult(payload={}, scores=tuple(Score("n" * 100, {"k": [1] * 500}, passed=n > 2) for n in range(20)))
    (table,) = view_of_history(History().with_result("a", "In [1]", key(), wide))
    row = to_text((table,)).splitlines()[1]
    assert len(row) < 400
    assert row.count("✗ FAIL") == 3
    page = to_html((table,))
    assert "<details" not in page
    assert [head for head in ("run", "cell", "result", "when", "changed") if f">{head}</th>" in page] == [
        *("run", "cell", "result"),
    ]


def test_how_long_ago_it_was_is_told_where_nothing_is_saved():
    history = History().with_result("a", "In [1]", key(), run(1))
    at = history.runs[0].ended_at
    for secs, said in (
        (0, "0 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (7200, "2 h ago"),
        (86_400 * 3, "3 d ago"),
    ):
        assert said in to_text(view_of_history(history, at + timedelta(seconds=secs)))
    assert "ago" not in str(bundle(history))


def test_scores_without_a_name_have_that_of_their_cell_or_file(cells, tmp_path):
    (tmp_path / "closeness.py").write_text("0.25")
    assert cells.ok("%%isolated -o mine\n0.5").text == "mine  0.5  █████░░░░░"
    assert cells.ok("mine['score'].value, mine['mine'].value, 'mine' in mine").text == "(0.5, 0.5, True)"
    assert cells.ok(f"%isolated run {tmp_path}/closeness.py").text == "closeness  0.25  ██░░░░░░░░"
    assert cells.ok(f"%isolated run {tmp_path}/closeness.py -o kept --compare mine").text.startswith(
        "kept  0.25  ▼"
    )
    assert cells.ok("%%isolated\n0.5").text == "score  0.5  █████░░░░░"
    cells.ok("%%isolated --bg -o later\n0.75")
    assert cells.ok("later.result(60)").text == "later  0.75  ███████░░░"
    shown = cells.ok("%isolated history").text.splitlines()
    assert [" ".join(line.split()) for line in shown[1:]] == [
        *("[1] mine mine 0.5", "[2] closeness.py closeness 0.25", "[3] kept kept 0.25"),
        *("[4] 0.5 score 0.5", "[5] later later 0.75"),
    ]


class TestInputs:
    @pytest.fixture
    def prepared(self):
        def inputs(executor, **env_vars):
            return Inputs.of(executor.prepare("1", env_vars=env_vars))

        with (
            ThreadPoolExecutor(1) as pool,
            DistributedExecutor(pool) as distributed,
            IsolatedSubprocessExecutor() as local,
        ):
            yield partial(inputs, local), partial(inputs, distributed)

    def test_of_the_environment_of_another_machine_what_was_given_counts(self, prepared):
        here, there = prepared
        assert there(TENANT="a").differences(here(TENANT="a")) == ()
        assert here(TENANT="a").differences(there(TENANT="a")) == ()
        assert here(TENANT="a").differences(there(TENANT="b")) == ("environment (TENANT)",)

    def test_on_other_machines_twice_a_variable_less_is_a_difference(self, prepared):
        _, there = prepared
        assert there(TENANT="a").differences(there()) == ("environment (TENANT)",)
