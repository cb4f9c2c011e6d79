"""``%%isolated --each``: a dataset scored from one cell."""

import threading

import pytest
from IPython.core.interactiveshell import InteractiveShell

from isolated_magic import EvaluationResult, IsolatedSubprocessExecutor
from isolated_magic.evaluation.report import view_of_evaluation
from isolated_magic.magic import commands
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of_history
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, wait_until

ROWS = [{"tenant": f"t{n % 3}", "n": n} for n in range(6)]
KEYS = {f"t{n}": f"sk-abcdef{n}" for n in range(3)}


@pytest.fixture(scope="module")
def session():
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "isolated_magic")
    yield shell
    shell.run_line_magic("unload_ext", "isolated_magic")


@pytest.fixture
def shell(session):
    session.user_ns.update(rows=[dict(row) for row in ROWS], keys=dict(KEYS))
    yield session
    session.user_ns.pop("scores", None)


def evaluated(shell, line, code="1.0"):
    """The value of a cell, which is bound to -o too."""
    result = shell.run_cell(f"%%isolated {line} -o scores\n{code}")
    assert result.success, result.error_in_exec
    assert result.result is shell.user_ns["scores"]
    assert isinstance(result.result, EvaluationResult)
    return result.result


def refusal(shell, line, code="1.0"):
    """What a cell that cannot run says."""
    result = shell.run_cell(f"%%isolated {line}\n{code}")
    assert type(result.error_in_exec).__name__ == "OptionError"
    return str(result.error_in_exec)


def values(result):
    return [row.scores[0].value if row.ok else row.error.summary for row in result]


def test_the_line_of_the_issue(shell, capsys):
    result = evaluated(
        shell,
        '--each rows --env TENANT_ID={row["tenant"]} --secret API_KEY={keys[row["tenant"]]}',
        "import os\nprint(os.environ['TENANT_ID'], os.environ['API_KEY'])\nassert os.environ['API_KEY'][-1] == "
        "os.environ['TENANT_ID'][-1]\ndata['n'] / 2",
    )
    assert values(result) == [n / 2 for n in range(6)]
    assert [row.stdout for row in result] == [f"t{n % 3} ***\n" for n in range(6)]
    assert "sk-abcdef" not in repr(result.rows) + capsys.readouterr().out


class TestExpressions:
    @pytest.mark.parametrize(
        "option",
        [
            'row["tenant"]',
            "row['tenant']",
            '{row["tenant"]}',
            "tenant",
            "tenant_of",
            "$tenant_of",
            "{row['tenant']}",
        ],
    )
    def test_a_cluster_is_an_expression_a_field_or_a_function(self, shell, option):
        shell.user_ns["tenant_of"] = lambda row: row["tenant"]
        result = evaluated(shell, f"--each rows --cluster {option} --limit 4")
        assert [row.cluster for row in result] == ["t0", "t1", "t2", "t0"]

    def test_a_field_that_is_called_like_the_row_or_a_function(self, shell):
        shell.user_ns["rows"] = [{"row": n, "open": n + 5} for n in range(2)]
        result = evaluated(shell, "--each rows --key row --cluster open")
        assert [(row.key, row.cluster) for row in result] == [("0", "5"), ("1", "6")]
        assert [row.key for row in evaluated(shell, "--each {list('ab')} --key row -d x={row}")] == ["a", "b"]

    def test_a_field_whose_name_is_no_expression(self, shell):
        shell.user_ns["rows"] = [{"user id": n, "class": f"c{n}"} for n in range(2)]
        result = evaluated(shell, '--each rows --key "user id" --cluster class')
        assert [(row.key, row.cluster) for row in result] == [("0", "c0"), ("1", "c1")]

    def test_the_row_has_another_name_and_shadows_a_variable(self, shell):
        shell.user_ns["keys"] = "shadowed"
        result = evaluated(shell, '--each rows --as keys -e N={keys["n"]} --key keys["n"] --limit 2', CODE_OF_N)
        assert values(result) == [0, 1]
        assert [row.key for row in result] == ["0", "1"]

    def test_names_that_an_expression_makes_itself(self, shell):
        line = '-e N={(lambda r: r["n"])(row)} -d all={[x for x in range(row["n"])]} -d t={len(rows)}'
        result = evaluated(shell, f"--each rows {line} --limit 3", f"{CODE_OF_N} + 10 * len(data['all'])")
        assert values(result) == [0, 11, 22]

    def test_data_is_the_row_and_what_is_added_to_it(self, shell):
        assert values(evaluated(shell, "--each rows --limit 2", "data['n']")) == [0, 1]
        line = "--each rows -d row -d t=0.5 -d half={row['n'] / 2} --limit 2"
        assert values(evaluated(shell, line, "data['n'] + data['t'] + data['half']")) == [0.5, 2]
        line = "--each rows -d n={row['n']} --limit 2"
        assert values(evaluated(shell, line, "len(data)")) == [1, 1]

    def test_what_does_not_depend_on_the_row_is_looked_up_once(self, shell):
        calls = shell.user_ns["calls"] = []
        shell.user_ns["count"] = lambda: calls.append(1) or len(calls)
        result = evaluated(shell, "--each rows -e N={count()} -d n={count()} -e T={row['tenant']}", CODE_OF_N)
        assert values(result) == [1] * 6
        assert len(calls) == 2

    def test_a_row_that_is_the_same_object_each_time(self, shell):
        def same():
            row = {}
            for n in range(4):
                row.update(n=n, key=f"sk-secret-{n}")
                yield row

        shell.user_ns["rows"] = same()
        code = f"import os\nassert os.environ['K'][-1] == str(data['n'])\nprint(os.environ['K'])\n{CODE_OF_N}"
        result = evaluated(shell, "--each rows -e N={row['n']} --secret K={row['key']}", code)
        assert values(result) == [0, 1, 2, 3]
        assert {row.stdout for row in result} == {"***\n"}

    def test_an_environment_file_for_each_row(self, shell, tmp_path):
        for n in range(3):
            (tmp_path / f"t{n}.env").write_text(f"N={n}\nBASE=x")
        shell.user_ns["folder"] = str(tmp_path)
        line = "--each rows --env-file {f\"{folder}/{row['tenant']}.env\"} -e BASE=y"
        assert values(evaluated(shell, line, CODE_OF_N)) == [0, 1, 2, 0, 1, 2]

    def test_variables_from_all_items_of_the_row(self, shell):
        shell.user_ns["rows"] = [{"N": 1, "M": 2}, {"N": 3, "M": 4}]
        code = "import os\nint(os.environ['N']) + int(os.environ['M'])"
        assert values(evaluated(shell, "--each rows -e row", code)) == [3, 7]
        assert values(evaluated(shell, "--each rows -e $row", code)) == [3, 7]


CODE_OF_N = "import os\nint(os.environ['N'])"


class TestErrorsOfRows:
    def test_what_an_expression_raises_for_a_row_is_its_error_without_values(self, shell):
        shell.user_ns["rows"] = [{"n": 0, "k": "hunter22"}, {"k": "hunter23"}, {"n": 2, "k": "hunter24"}]
        result = evaluated(shell, "--each rows -e N={row['n']} -d x={1}", CODE_OF_N)
        assert [row.ok for row in result] == [True, False, True]
        assert result.rows[1].error.summary == "--env N: the expression in braces raised KeyError: 'n'."
        result = evaluated(shell, "--each rows -e N={{}[row['k']]} --key k")
        assert values(result) == ["--env N: the expression in braces raised KeyError."] * 3
        result = evaluated(shell, "--each rows -e N={int(row['k'])}")
        assert values(result) == ["--env N: the expression in braces raised ValueError."] * 3

    def test_a_field_that_a_row_lacks(self, shell):
        shell.user_ns["rows"] = [{"n": 0}, {}, {"n": 2}]
        result = evaluated(shell, "--each rows --key n")
        assert values(result) == [1, "--key n: the row has no field of that name.", 1]

    def test_a_secret_that_is_too_short(self, shell):
        shell.user_ns["rows"] = [{"k": "long-enough"}, {"k": "abc"}]
        result = evaluated(shell, "--each rows --secret K={row['k']}")
        assert result.rows[0].ok
        assert "fewer than 4 characters" in result.rows[1].error.summary
        assert "abc" not in result.rows[1].error.text

    def test_rows_that_end_with_an_exception(self, shell):
        def broken(count):
            yield from ({"n": n} for n in range(count))
            raise OSError("disk")

        shell.user_ns["rows"] = broken(2)
        result = evaluated(shell, "--each rows")
        assert len(result) == 2
        assert "OSError: disk" in result.stopped
        shell.user_ns["rows"] = broken(0)
        told = "--each rows: reading the first row raised OSError: disk."
        assert refusal(shell, "--each rows") == told

    def test_a_generator_loses_no_row_to_a_line_that_was_refused(self, shell):
        shell.user_ns["rows"] = ({"n": n} for n in range(3))
        for _ in range(2):
            assert "--key m: neither" in refusal(shell, "--each rows --key m")
        assert [row.key for row in evaluated(shell, "--each rows --key n")] == ["0", "1", "2"]
        assert len(evaluated(shell, "--each rows --key n")) == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--each rovs", "--each rovs: the notebook has no variable of that name, and it is no .jsonl, .csv"),
        ("--each rows[:2]", "--each rows[:2]: put an expression in braces. Write --each {rows[:2]}."),
        ("--each {rovs[:2]}", "--each: the expression in braces raised NameError: name 'rovs' is not defined."),
        ("--each number", "--each number: rows is "),
        ("--each rows -e X={rov['a']}", "--env X: the notebook has no variable rov. Did you mean row"),
        ("--each rows -e X={tenant}", 'no variable tenant. The field of the row is row["tenant"].'),
        ("--each rows -e X={row.tenant}", 'the row is a dict, so write row["tenant"] for row.tenant.'),
        ("--each rows --key row.n", '--key: the row is a dict, so write row["n"] for row.n.'),
        ("--each rows -e X={1+}", "--env X: the text in braces is no Python expression (invalid syntax)."),
        ("--each rows -e X={row[}", "--env X: the text in braces is no Python expression ("),
        ("--each rows --per 3", "--per 3: that is the same for every row. Write an expression with row in it"),
        ("--each rows --per $keys", "--per $keys: that is the same for every row."),
        ("--each rows --key tennant", "--key tennant: neither is that a field of the row nor a function of the"),
        ("--each rows --key tennant", "the first row has tenant, n. Did you mean tenant?"),
        (
            "--each rows --key (row['n'],1)",
            "Or put all of it in braces, --key {...}: without them, quotes may be lost",
        ),
        ("--each rows --cluster {row[}", "is no expression"),
        ("--each rows --rate fast", "--rate fast: rate is 'fast': give a number of runs in a time"),
        ("--each rows --jobs 0", "--jobs 0: give a whole number greater than zero."),
        ("--each rows --fail-on-error 1.5", "--fail-on-error 1.5: give a number of rows, or a share of them"),
        ("--each rows --checkpoint-mode again", "--checkpoint-mode again: give resume or restart."),
        ("--each rows --as class", "--as class: give the name of a variable."),
        ("--each rows --bg", "--bg is for one run, and --each waits for its rows"),
        ("--each rows --no-score", "--no-score is for one run without scores, and --each collects them"),
        ("--each missing.jsonl", "--each missing.jsonl: file not found (looked for from"),
        ("--each rows --compare missing.jsonl", "--compare missing.jsonl: "),
        ("--each rows --compare 3x", "--compare 3x: give the name of a variable, or of a file that an evaluation"),
        ("--each rows --retry-on timeout", "add how often, such as --retries 2."),
        ("--each rows --checkpoint-mode resume", "add --checkpoint FILE."),
        ("--for-each rows", "unknown option --for-each; did you mean --each?"),
        ("--each rows -j 3", "unknown option -j; did you mean --jobs?"),
        ("--each rows --job 3", "unknown option --job; did you mean --jobs?"),
        ("-e X={row['a']}", "name 'row' is not defined. A row is there with --each, such as --each rows."),
        ("--data rows", "or write --each rows in its place, to run the code once for each of its rows"),
        ("--jobs 3", "--jobs is for rows: give them with it, such as --each rows --jobs ..."),
        ("--key n -d row", "--key is for rows"),
    ],
)
def test_a_mistake_for_all_rows_is_one_sentence_before_the_first(shell, line, told, tmp_path):
    shell.user_ns["number"] = 3
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n1.0"
    assert told in refusal(shell, line, code)
    assert not list(tmp_path.iterdir())


def test_code_that_does_not_compile_fails_the_cell_once(shell, tmp_path):
    result = shell.run_cell("%%isolated --each rows -o scores\ndef f(:\n  pass")
    assert type(result.error_in_exec).__name__ == "RunFailedError"
    assert str(result.error_in_exec).startswith("SyntaxError: ")
    assert not shell.user_ns["scores"].ok


def test_hints_of_single_runs_say_what_to_do_for_rows(shell):
    shell.user_ns["limits"] = [0.5]
    rows = [
        evaluated(shell, "--each rows --limit 1", code).rows[0] for code in ("limits[0]", "row['n']", "print(1)")
    ]
    assert "hand it over beside the row, with --data row -d limits=$limits" in rows[0].error.hint
    assert rows[1].error.hint == "The row is called data in the code: row is its name on the magic's line."
    assert rows[2].error.summary == "The cell only printed, and what it printed is no score."
    unscored = evaluated(shell, "--each rows --limit 1", '{"x": 1, "label": "yes"}').rows[0]
    assert unscored.error.hint == "Either line, as the last one, is a score."
    forgotten = evaluated(shell, "--each rows --limit 1", "def half(n): return n / 2")
    assert 'hint: Either line, as the last one, is a score: half or {"scores": [{' in to_text(
        view_of_evaluation(forgotten)
    )
    metric = "def half(number): return number / 2\nhalf"
    for line, row in (("--each rows --limit 1", "row"), ("--each rows --as one --per one['n']", "one")):
        assert evaluated(shell, line, metric).rows[0].error.hint == f'Map it: -d number={{{row}["tenant"]}}'
    single = shell.run_cell("%%isolated\nrows[0]").error_in_exec.result.error
    assert "To run the code once for each of its rows, write --each rows" in single.hint


def test_data_without_the_row(shell, capsys):
    capsys.readouterr()
    result = evaluated(shell, "--each rows -d t=0.5 --limit 2", "data['n']")
    assert "every run gets the same" in capsys.readouterr().err
    assert result.rows[0].error.hint == (
        "The row has that key, but data is what --data says. For the row beside that, add -d row."
    )
    assert "hint: The row has that key" in to_text(view_of_evaluation(result))
    evaluated(shell, "--each rows -d t=0.5 -e N={row['n']} --limit 2", CODE_OF_N)
    assert capsys.readouterr().err == ""
    shell.user_ns["rows"] = ["a", "b"]
    assert values(evaluated(shell, "--each rows"))[0] == (
        "The row is str: give it a name in the data: --data value={row}."
    )
    assert values(evaluated(shell, "--each rows --data value={row}", "len(data['value'])")) == [1, 1]


def test_credentials_by_the_row_are_hidden(shell, capsys):
    shell.user_ns["rows"] = [{"t": n, "api_key": f"sk-hunter-{n}"} for n in range(3)]
    shell.user_ns["api_keys"] = [f"sk-other-{n}" for n in range(3)]
    code = "import os\nprint(data['k'], os.environ['X'], data['api_key'])\nraise ValueError(os.environ['X'])"
    line = "-d row -d k={row['api_key']} -e X={api_keys[row['t']]} --cluster api_key"
    result = evaluated(shell, f"--each rows {line}", code)
    assert {row.stdout for row in result} == {"*** *** ***\n"}
    shown = capsys.readouterr().out + repr(result.rows) + to_text(view_of_evaluation(result))
    shown += repr([(row.row, row.cluster, row.error) for row in result]) + repr(shell.user_ns["In"][-1])
    assert "sk-" not in shown


@pytest.mark.parametrize("options", ["--fresh", "--jobs 1", "--memory 1G"])
def test_ways_to_run(shell, options):
    line = f"--each rows {options} -e N={{row['n']}} --secret K={{keys[row['tenant']]}} --limit 3"
    assert values(evaluated(shell, line, CODE_OF_N)) == [0, 1, 2]


def test_options_of_evaluations_reach_them(shell, tmp_path):
    failing = "1 / (data['n'] - 1)"
    result = evaluated(shell, "--each rows --limit 2 --retries 1 --retry-on ZeroDivisionError", failing)
    assert [len(row.attempts) for row in result] == [1, 2]
    result = evaluated(shell, "--each rows --limit 2 --retries 1 --retry-on timeout", failing)
    assert [len(row.attempts) for row in result] == [1, 1]
    result = evaluated(shell, "--each rows --jobs 1 --fail-on-error 1", failing)
    assert (len(result) < 6, result.not_run, "fail_on_error is 1" in result.stopped) == (
        True,
        6 - len(result),
        True,
    )
    result = evaluated(shell, "--each rows --repeat 2 --sample 2 --rate 600/min --per tenant", "data['n']")
    assert (len(result), result.repeat, len({row.key for row in result})) == (4, 2, 2)
    again = evaluated(shell, "--each rows --repeat 2 --sample 2 --rate 600/min --per tenant", "data['n']")
    assert again == result
    for resumed in (0, 5):
        result = evaluated(shell, f"--each rows --checkpoint {tmp_path / 'done.jsonl'}", failing)
        assert sum(row.is_resumed for row in result) == resumed


def test_workers_take_rows_and_no_environment(shell):
    assert values(evaluated(shell, "--each rows --executor process", "data['n']")) == [*range(6)]
    told = refusal(shell, "--each rows --executor process -e N={row['n']}")
    assert told.startswith("env_vars (-e, --env-file, --secret) cannot be given to ProcessExecutor")


def test_other_options_hold_for_each_row(shell, tmp_path):
    saved = tmp_path / "metric.py"
    code = "import os\nfloat('HOME_OF' in os.environ)"
    evaluated(shell, f"--each rows --clean-env --limit 2 --save {saved}", code)
    assert saved.read_text().endswith(f"{code}\n")
    evaluated(shell, f"--each rows --limit 2 --save {tmp_path / 'other.py'}", "1/0")
    assert not (tmp_path / "other.py").exists()
    for line in (f"run {saved} --each rows --jobs 1", f"--each rows run {saved}"):
        assert values(shell.run_line_magic("isolated", line)) == [0] * 6
    slow = evaluated(shell, "--each rows -t 0.3 --limit 1", "import time\ntime.sleep(100)")
    assert "timed out" in slow.rows[0].error.summary
    strict = evaluated(
        shell, "--each rows --limit 1 --strict", "import numpy\n{'scores': [{'name': 'a', 'value': 1}, {'b': 2}]}"
    )
    assert not strict.ok


class TestComparison:
    def test_with_the_run_before_of_the_cell(self, shell, capsys):
        shell.user_ns["rows"] = [{"id": n, "n": n / 20} for n in range(20)]
        line = "--each rows --key id --compare"
        first = evaluated(shell, line, "data['n'] * 1")
        assert first.comparison is None
        assert first.notes == ("No earlier evaluation to compare with.",)
        same = evaluated(shell, line, "data['n'] * 1")
        assert same.comparison.metrics["score"].delta == 0
        assert same.comparison.notes == ()
        shell.user_ns["rows"][3]["n"] = 0.9
        other = evaluated(shell, line, "data['n'] * 1")
        assert other.comparison.notes == ("That run differs in data.",)
        assert other.comparison.changed[0].key == "3"

    def test_with_a_variable(self, shell):
        shell.user_ns["rows"] = [{"id": n, "n": n / 40} for n in range(20)]
        before = evaluated(shell, "--each rows --key id", "data['n']")
        shell.user_ns["before"] = before
        after = evaluated(shell, "--each rows --key id --compare before -e A=1", "data['n'] + 0.5")
        metric = after.comparison.metrics["score"]
        assert (round(metric.delta, 9), metric.verdict, metric.wins) == (0.5, "better", 20)
        assert after.comparison.label == "before"
        assert after.comparison.notes[0] == "That run differs in environment (A) and code."
        again = evaluated(shell, "--each rows --key id --compare scores", "data['n'] + 0.5")
        assert again.comparison.metrics["score"].ties == 20

    def test_with_a_file(self, shell, tmp_path):
        shell.user_ns["rows"] = [{"id": n, "n": n / 40} for n in range(20)]
        evaluated(shell, "--each rows --key id", "data['n']").save(tmp_path / "before.jsonl")
        after = evaluated(shell, f"--each rows --key id --compare {tmp_path / 'before.jsonl'}", "data['n'] + 0.5")
        assert after.comparison.metrics["score"].wins == 20
        assert refusal(shell, f"--compare {tmp_path / 'before.jsonl'}").endswith("that one run kept with -o.")

    def test_one_run_and_an_evaluation_are_not_compared(self, shell):
        shell.user_ns["many"] = evaluated(shell, "--each rows")
        shell.run_cell("%%isolated -o one\n1.0")
        assert "one is the result of one run, and this is an evaluation" in refusal(
            shell, "--each rows --compare one"
        )
        assert "many is an evaluation of rows, and this is one run" in refusal(shell, "--compare many")
        assert "there is no such variable" in refusal(shell, "--each rows --compare mamy")


def test_the_history_has_one_entry_for_an_evaluation(shell):
    before = len(shell.run_line_magic("isolated", "history"))
    evaluated(shell, "--each rows --secret K={keys['t1']}", "1 / data['n']")
    history = shell.run_line_magic("isolated", "history")
    assert len(history) == before + 1
    run = history.runs[-1]
    assert (run.name, run.told.partition(",")[0]) == ("scores", "scored 5 of 6")
    assert run.told.startswith("scored 5 of 6, score 0.5")
    assert "scored 5 of 6, score 0.5" in to_text(view_of_history(history))
    assert history.to_pandas().iloc[-1]["name"] == "score"


@pytest.fixture(scope="module")
def cells():
    with kernel() as started:
        started.ok("rows = [{'n': n} for n in range(30)]")
        yield started


class TestInterrupt:
    def test_what_is_done_is_the_value_of_the_cell(self, cells, tmp_path):
        cells.ok(f"rows = [{{'n': n, 'path': '{tmp_path}/' + str(n)}} for n in range(1000)]")
        code = "import time\nopen(data['path'], 'w').close()\ntime.sleep(0.05)\n1.0"
        request = cells.start(f"%%isolated --each rows --jobs 2 -o scores\n{code}")
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 8)
        cells.manager.interrupt_kernel()
        shown = cells.collect(request)
        assert (shown.ename, shown.stderr) == (None, "")
        done = int(cells.ok("len(scores)").text)
        assert 4 <= done < 1000
        assert shown.text.startswith(f"Interrupted after {done} of 1,000 rows; {1000 - done} were not run.")
        assert f"scores: score 1 ± 0 · {done} of {done} scored" in shown.text
        assert cells.ok("scores.stopped, bool(scores)").text == "('The evaluation was interrupted.', False)"
        assert f"scored {done} of 1,000" in cells.ok("%isolated history").text

    def test_in_a_loop_it_is_an_interrupt_and_the_result_is_kept(self, cells, tmp_path):
        cells.ok(f"rows = [{{'n': n, 'path': '{tmp_path}/' + str(n)}} for n in range(1000)]")
        code = "import time\\nopen(data['path'], 'w').close()\\ntime.sleep(0.05)\\n1.0"
        magic = f"get_ipython().run_cell_magic('isolated', '--each rows --jobs 2 -o scores', \"{code}\")"
        request = cells.start(f"for n in range(3):\n    begun = n\n    {magic}")
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 8)
        cells.manager.interrupt_kernel()
        shown = cells.collect(request)
        assert shown.ename == "EvaluationInterrupted"
        assert shown.traceback.startswith("EvaluationInterrupted: The evaluation was interrupted.")
        assert cells.ok("begun, 0 < len(scores) < 1000, scores.stopped").text == (
            "(0, True, 'The evaluation was interrupted.')"
        )

    def test_an_evaluation_of_another_thread_of_the_kernel_is_listed_and_stopped(self, cells, tmp_path):
        cells.ok(f"rows = [{{'n': n, 'path': '{tmp_path}/' + str(n)}} for n in range(1000)]")
        subshell = cells.new_subshell()
        code = "import time\nopen(data['path'], 'w').close()\ntime.sleep(0.05)\n1.0"
        request = cells.start(f"%%isolated --each rows --jobs 2 -o scores\n{code}")
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 3)
        assert "evaluation" in cells.collect(cells.start("%isolated status", subshell=subshell)).stdout
        cells.collect(cells.start("%isolated stop", subshell=subshell))
        while cells.client.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != request:
            pass
        assert cells.ok("0 < len(scores) < 1000, scores.stopped").text.startswith(
            "(True, 'The evaluation was stopped"
        )
        assert cells.ok("%isolated status").stdout.startswith("Nothing runs.")


def test_what_is_saved_is_the_same_on_every_run(cells):
    cells.ok("rows = [{'n': n} for n in range(12)]")
    first, second = (cells.run_as("one", "%%isolated --each rows -o s\n1 / data['n']") for _ in range(2))
    for shown in (first, second):
        shown.metadata.pop("isolated_magic_run")
    assert first == second
    assert first.text.startswith("s: score 0.27 ± 0.18 · 11 of 12 scored · 1 failed")


def test_values_that_are_not_the_last_of_their_cell(cells):
    shown = cells.ok(
        "for n in (1, 2):\n    get_ipython().run_cell_magic('isolated', '--each rows --limit 3', '1.0')"
    )
    assert [text.partition(" · ")[2].partition("\n")[0] for text in shown.results] == ["3 of 3 scored"] * 2


@pytest.mark.parametrize("word", ["$file", "{folder / 'scores.jsonl'}"])
def test_the_path_of_a_checkpoint_may_be_a_variable(shell, tmp_path, word):
    shell.user_ns.update(folder=tmp_path, file=str(tmp_path / "scores.jsonl"))
    evaluated(shell, f"--each rows --checkpoint {word}")
    assert (tmp_path / "scores.jsonl").read_text().count("\n") == 1 + len(ROWS)
    assert all(row.is_resumed for row in evaluated(shell, f"--each rows --checkpoint {word}"))


def test_in_a_function_the_rows_and_expressions_are_of_its_variables(shell, tmp_path):
    (tmp_path / "metric.py").write_text(CODE_OF_N)
    line = f"%isolated --each few -e N={{row['n'] + extra}} -o scores run {tmp_path}/metric.py"
    assert shell.run_cell(f"def score(few, extra):\n    {line}\nscore(rows[:2], 5)").success
    assert values(shell.user_ns["scores"]) == [5, 6]


@pytest.mark.parametrize("per", [None, "n"])
def test_an_evaluation_that_is_stopped_counts_as_one_run(shell, capsys, per, monkeypatch):
    monkeypatch.setattr(commands, "STOP_TIMEOUT_SECS", HANG_GUARD_SECS)
    found = []
    with IsolatedSubprocessExecutor() as executor:
        rows = [{"n": n} for n in range(5)]
        thread = threading.Thread(
            target=lambda: found.append(executor.evaluate("import time; time.sleep(1000)", rows, jobs=2, per=per))
        )
        thread.start()
        wait_until(lambda: len(executor.active_pids) == 2)
        capsys.readouterr()
        shell.run_cell("%isolated stop")
        thread.join()
    assert capsys.readouterr().out == "1 run stopped.\n"
    assert found[0].not_run == 5
