"""The magic in a real kernel."""

import json
import os

import pytest

from isolated_magic.magic.option import COMMANDS
from tests.kernels import kernel


@pytest.fixture(scope="module")
def cells():
    with kernel(ISOLATED_TEST_SHELL="from the shell") as started:
        yield started


PRINT_DATA = "import json\nprint(json.dumps({'value': data}))"


def value(shown):
    assert shown.ename is None, shown.traceback
    return shown.metadata["isolated_magic"]["value"]


class TestResult:
    def test_the_line_of_the_readme(self, cells):
        cells.ok("row = {'answer': 'a', 'reference': 'a'}; key = 'k'")
        shown = cells.ok(
            "%%isolated -e TENANT_ID=t1 -e API_KEY=$key --data row --timeout 10 -o result\n"
            "import os\nprint('scoring for', os.environ['TENANT_ID'])\n"
            "{'scores': [{'name': 'exact', 'value': float(data['answer'] == data['reference']), 'reason': 'same text'}]}"
        )
        assert shown.stdout == "scoring for t1\n"
        assert shown.text == "exact  1  ██████████  same text"
        assert "<table" in shown.data["text/html"]
        assert cells.ok("result.scores[0].value, result is _").text == "(1.0, True)"

    def test_what_only_python_calls_json_is_saved_as_text(self, cells):
        values = ["NaN", "-Infinity", "1" + "0" * 400, "1"]
        scores = ", ".join(f'{{"name": "a", "value": {value}}}' for value in values)
        shown = cells.ok(f"%%isolated -o result\nprint('{{\"scores\": [{scores}]}}')")
        saved = shown.metadata["isolated_magic"]["scores"]
        assert [score["value"] for score in saved] == [*values[:3], 1]
        assert [line.split()[1] for line in shown.text.splitlines()] == ["nan", "-inf", "1.000e+400", "1"]
        assert shown.stderr == ""
        assert cells.ok("result.scores[2].value == 10 ** 400").text == "True"

    @pytest.mark.parametrize("depth", [100, 400, 900])
    def test_a_result_of_great_depth_is_shown_without_what_cannot_be(self, cells, depth):
        code = f'print(\'{{"scores": [{{"name": "a", "value": 1}}], "x": \' + \'[\' * {depth} + \']\' * {depth} + \'}}\')'
        shown = cells.ok(f"%%isolated\n{code}")
        assert shown.text.splitlines()[0] == "a  1  " + "█" * 10
        assert shown.stderr == ""
        assert shown.metadata if depth == 100 else True

    def test_the_result_is_the_cells_value(self, cells):
        cells.ok("%%isolated\n0.25")
        assert cells.ok("_.scores[0].value, type(_).__name__").text == "(0.25, 'RunResult')"

    def test_a_cell_is_forked_once_its_template_is_there_unless_it_wants_to_be_fresh(self, cells):
        cells.ok("%%isolated -o result\n1")
        cells.ok("assert get_ipython().magics_manager.registry['IsolatedMagics'].executors.isolated.warm_up()")
        cells.ok("%%isolated -o forked\n1")
        cells.ok("%%isolated --fresh -o cold\n1")
        assert cells.ok("forked.launch, cold.launch, forked == cold").text == "('forked', 'cold', True)"

    def test_output_bytes_are_the_same_on_every_run(self, cells):
        code = "%%isolated --no-raise\nimport sys\nprint('out')\nprint('err', file=sys.stderr)\n{}"
        for ending in ("0.5", "1/0", "undefined", "print('x')", "import os; os.kill(os.getpid(), 9)"):
            first, second = (cells.run(code.format(ending)) for _ in range(2))
            runs = [shown.metadata.pop("isolated_magic_run") for shown in (first, second)]
            assert first == second
            assert runs[0]["pid"] != runs[1]["pid"]
            assert all(run["execution_ms"] >= run["creation_ms"] > 0 for run in runs)

    def test_output_in_pieces_is_one_message_as_ordinary_output_is(self, cells):
        request = cells.start(
            "%%isolated\nimport sys\nfor part in 'abc': sys.stdout.write(part); sys.stdout.flush()\n0.5"
        )
        texts = []
        while True:
            message = cells.client.get_iopub_msg(timeout=30)
            if message["msg_type"] == "stream":
                texts.append(message["content"]["text"])
            if message["msg_type"] == "execute_result":
                break
        assert "".join(texts) == "abc"
        assert len(texts) <= 2
        cells.collect(request)

    def test_output_comes_live_and_the_result_line_does_not_show(self, cells, tmp_path):
        gate = tmp_path / "gate"
        request = cells.start(
            f"%%isolated -d gate={gate}\nimport os, time\nprint('live')\n"
            "while not os.path.exists(data['gate']): time.sleep(0.01)\nprint('{\"scores\": []}')"
        )
        seen = ""
        while seen != "live\n":
            message = cells.client.get_iopub_msg(timeout=30)
            seen += message["content"]["text"] if message["msg_type"] == "stream" else ""
        gate.touch()
        assert cells.collect(request).stdout == ""

    def test_lone_surrogates_are_shown_as_escapes(self, cells):
        scores = '{"scores": [{"name": "a", "value": 1, "reason": "\\\\ud800"}]}'
        shown = cells.ok(f"%%isolated\nprint('{scores}')")
        assert shown.metadata["isolated_magic"]["scores"][0]["reason"] == "\\ud800"
        assert "\\ud800" in cells.run("%%isolated\nraise ValueError('\\ud800')").evalue

    def test_no_raise_shows_the_error_and_returns_the_result(self, cells):
        shown = cells.ok("%%isolated --no-raise\n1/0")
        assert "ZeroDivisionError" in shown.text
        assert cells.ok("_.ok, _.error.code").text == "(False, 400)"


class TestErrors:
    def test_a_failed_run_raises_with_the_childs_traceback_numbered_as_in_the_cell(self, cells):
        shown = cells.run("%%isolated\n\ndef f():\n    raise ValueError('bad')\nf()")
        assert shown.ename == "RunFailedError"
        assert shown.evalue == "ValueError: bad (line 4)"
        assert "line 4, in f\n    raise ValueError('bad')" in shown.traceback
        assert "isolated_magic" not in shown.traceback

    def test_from_future_works_below_the_magic_line(self, cells):
        assert cells.ok("%%isolated\nfrom __future__ import annotations\n0.5").text.startswith("score  0.5")

    def test_a_body_of_one_line_is_never_a_path(self, cells):
        assert cells.ok("%%isolated\n0.5  # as in metrics/relevance.py").text.startswith("score  0.5")

    def test_the_result_of_a_failed_run_is_kept(self, cells):
        cells.run("%%isolated -o failed\nprint('so far')\n1/0")
        assert cells.ok("failed.stdout, failed.error.kind.value").text == "('so far\\n', 'user_code')"

    @pytest.mark.parametrize(
        ("code", "hint"),
        [
            ("mine['a']", "mine is a dict of the notebook: hand it over with --data mine"),
            ("x = 1\nthreshold", "threshold is a variable of the notebook: hand it over in a dict with --data"),
            (
                "def f():\n    return math.pi\nf()",
                "math is a module that the notebook imported: import it in this cell",
            ),
            ("math", "import it in this cell, too: import math."),
            ("plt.plot([1])", "import it in this cell, too: import matplotlib.pyplot as plt."),
            ("utils", "import it in this cell, too: import importlib.util as utils."),
            ("abc", "import it in this cell, too: from collections import abc."),
            (
                "Counter()",
                "Counter is imported by the notebook: import it in this cell, too: from collections import Counter.",
            ),
            ("dumped(1)", "import it in this cell, too: from json import dumps as dumped."),
            ("helper()", "helper is of the notebook: define it in this cell"),
            (
                "get_ipython().run_line_magic('time', '1')",
                "move what needs the notebook to a cell without %%isolated.",
            ),
            ("Out[1]", "Out holds what the notebook has run, of which the run has nothing"),
            ("In[1]", "In holds what the notebook has run"),
            ("_", "_ holds what the notebook has run"),
            ("_ih", "_ih holds what the notebook has run"),
            ("sns.boxplot()", "sns is not imported in this code: import seaborn as sns."),
            ("torch.ones(1)", "torch is not imported in this code: import torch."),
            (
                "def f():\n    await g()",
                "A function that awaits, or has async for or async with in it, begins with async def.",
            ),
            ("x = 1\n!ls", "Lines that begin with ! or % are IPython's"),
            ("%time 1", "Lines that begin with ! or % are IPython's"),
            ("nowhere", None),
            ("del mine", "mine is a dict of the notebook"),
            ("raise NameError('mine')", None),
            ("x = (", None),
            ("if True:\n  x = 5 %\n  2", None),
        ],
    )
    def test_what_works_in_other_cells_has_a_hint(self, cells, code, hint):
        cells.ok(
            "import math, matplotlib.pyplot as plt, importlib.util as utils\nfrom collections import Counter, abc\n"
            "from json import dumps as dumped\n"
            "mine, threshold = {'a': 'not to be shown'}, 'not to be shown'\ndef helper(): pass"
        )
        cells.run(f"%%isolated -o failed\n{code}")
        shown = cells.ok("print(failed.error.hint)").stdout
        assert shown.strip() == "" if hint is None else hint in shown
        assert "not to be shown" not in shown

    def test_a_timeout(self, cells):
        shown = cells.run("%%isolated -t 0.5\nimport time\ntime.sleep(1000)")
        assert shown.evalue == "Execution timed out after 0.5 seconds"

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("--tim 3", "unknown option --tim"),
            ("--secrets sk-123", "unknown option --secrets"),
            ("stray", "belongs to no option"),
            ("stray", "the word 'stray' belongs to no option"),
            ("-o a b", "the word 'b' belongs to no option"),
            ("-e A=1 sk-123", "a word on the line belongs to no option"),
            ("-e A sk-123", "a word on the line belongs to no option"),
            ("sk-123 --secret A", "a word on the line belongs to no option"),
            ("# comment", "a comment cannot stand on the magic's line"),
            ("history", "write %isolated history, with one %"),
            ("run f.py", "write %isolated run, with one %"),
            ("-e", "--env needs a value. `"),
            ("-t", "--timeout needs a value. `"),
            ("--noraise", "did you mean --no-raise? `"),
            ("--memory 500", "did you mean 500M?"),
            ("--memory 1M", "give at least 16M"),
            ("-e A=pre$tenant", "has to be the whole value"),
            ("-e A={tenant}post", "has to be the whole value"),
            ('-d answer=$tenants["bad"]', "{row['answer']}"),
            ("-d answer=$tenants.bad", "has to be the whole value"),
            ("-e A = b", "no spaces around ="),
            ("--no-raise=sk-123", "--no-raise takes no value"),
            ("-e PASSWORD=correct sk-123", "belongs to no option"),
            ("-e K={int('sk-123')}", "raised ValueError."),
            ("-e K={table['eu']}", "raised NameError"),
            ("--env-file ~nobody_here/x.env", "file not found"),
            ("-d ~nobody_here/x.json", "file not found"),
            ("-t soon", "--timeout soon"),
            ("-t 0", "greater than zero"),
            ("-o 1x", "--out 1x"),
            ("-o class", "--out class"),
            ("-e NOWHERE_TO_BE_FOUND", "--env NOWHERE_TO_BE_FOUND"),
            ("-e A=$tennant", "Did you mean tenant"),
            ("-e tennant", "Did you mean tenant"),
            ("-e 'A=b", "never closed"),
            ('-e "A=b', "never closed"),
            ("-e A={b", "never closed"),
            ("-e A={1 +}", "no Python expression"),
            ("-e A={1/0}", "ZeroDivisionError"),
            ("-e A={[1]}", "A is list"),
            ("-e =b", "empty name"),
            ("--env-file missing.env", "file not found"),
            ("-d missing", "--data missing"),
            ("-d tenants_missing.json", "file not found"),
            ("-d [1,", "no JSON"),
            ("-d n={1,2} -d tenant", "cannot be merged"),
            (
                "-d tenant",
                "--data tenant: tenant is str, and data is a dict. Give it a key, such as -d value=$tenant.",
            ),
            (
                "-d rows",
                "-d rows=$rows; or, for a list that the code takes whole, add --payload-type trace_thread.",
            ),
            ("-d {rows}", "-d rows={...}; or"),
            ("-d frame", "frame is DataFrame, and data is a dict. Give it a key, such as -d rows=$frame;"),
            ("-d rows={tenants}", 'data["rows"]["bad"]: set'),
            ("--file missing.py", "this cell has code of its own"),
        ],
    )
    def test_a_wrong_line_is_one_sentence(self, cells, line, said):
        cells.ok(
            "import pandas; tenant = 't1'; tenants = {'bad': {1}}; rows = [1]; frame = pandas.DataFrame({'a': [1]})"
        )
        shown = cells.run(f"%%isolated {line}\n1")
        assert shown.ename == "OptionError"
        assert said in shown.evalue
        assert shown.traceback.replace("\n", " ") == f"OptionError: {shown.evalue}"
        assert "sk-123" not in shown.traceback

    NOTEBOOK = """
import json
import pandas as pd, numpy as np
rows = [{'answer': 'yes', 'tags': {'a': 1}}]; row = rows[0]; frame = pd.DataFrame(rows); extra = {}; answer = 'x'
def f(*given, **named): return row
"""

    @pytest.mark.parametrize(
        ("word", "advice"),
        [
            ("rows[0]", "Write --data {rows[0]}."),
            ("rows[-1]", "Write --data {rows[-1]}."),
            ("frame.iloc[0]", "Write --data {frame.iloc[0]}."),
            ('frame[frame.answer=="yes"].iloc[0]', 'Write --data {frame[frame.answer=="yes"].iloc[0]}.'),
            ("frame[frame.answer != 'a b'].iloc[0]", "Write --data {frame[frame.answer != 'a b'].iloc[0]}."),
            ("row.answer", 'Write -d answer={row["answer"]}.'),
            ('row["answer"]', 'Write -d answer={row["answer"]}.'),
            ("rows[0].answer", 'Write -d answer={rows[0]["answer"]}.'),
            ("row.tags", 'Write --data {row["tags"]}.'),
            ("f(row)", "Write --data {f(row)}."),
            ("f(rows, n=1)", "Write --data {f(rows, n=1)}."),
            ("dict(row)", "Write --data {dict(row)}."),
            ("row|extra", "Write --data {row|extra}."),
        ],
    )
    def test_an_expression_without_braces_is_told_how_to_write_it(self, cells, word, advice):
        cells.ok(self.NOTEBOOK)
        shown = cells.run(f"%%isolated --data {word}\n1")
        assert shown.ename == "OptionError"
        assert shown.evalue.startswith(f"--data {word}: put an expression in braces")
        assert shown.evalue.endswith(advice)
        advised = shown.evalue.split("Write ")[1].removesuffix(".")
        assert value(cells.run(f"%%isolated {advised}\n{PRINT_DATA}"))

    @pytest.mark.parametrize(
        ("word", "names"),
        [
            ("nope", []),  # neither open() nor np
            ("npp", []),  # a module is no data
            ("ff", []),  # nor is a function
            ("exti", []),
            ("Outt", []),
            ("nope[0]", []),
            ("rwo", ["row"]),
            ("Rows", ["rows"]),
            ("fram", ["frame"]),
            ("fram.iloc[0]", ["frame"]),
            ("$answr", ["answer"]),
        ],
    )
    def test_only_close_names_of_data_are_suggested(self, cells, word, names):
        cells.ok(self.NOTEBOOK)
        said = cells.run(f"%%isolated --data {word}\n1").evalue
        assert "the notebook has no variable" in said
        found = said.partition("Did you mean ")[2].partition("?")[0]
        assert found.split(" or ")[0] == (names[0] if names else "")

    def test_a_text_that_names_a_variable_is_told_of(self, cells):
        cells.ok(self.NOTEBOOK)
        line = "-d output=answer -d first=rows[0] -d second=row['answer'] -e ANSWER=answer"
        shown = cells.ok(f"%%isolated {line} -d file=rows.csv -d f=f -d n=np -d other=text\n{PRINT_DATA}")
        assert value(shown)["first"] == "rows[0]"
        assert shown.stderr.replace("\n", " ").split("isolated_magic: ")[1:] == [
            f"{option} is the text {text!r}. For the value in the notebook write {advice}. "
            for option, text, advice in (
                ("--env ANSWER", "answer", "--env ANSWER=$answer"),
                ("--data output", "answer", "--data output=$answer"),
                ("--data first", "rows[0]", "--data first={rows[0]}"),
                ("--data second", "row[answer]", "--data second={row[...]}"),
            )
        ]

    @pytest.mark.parametrize(
        ("content", "line", "said"),
        [
            ('[{"a": 1}]', "", "the file holds a list, and data is a dict"),
            ('[{"a": 1}]', "-d k=1", "the file holds a list, and data is a dict"),
            ('"text"', "", "the file holds a str, and data is a dict"),
        ],
    )
    def test_a_file_that_holds_no_dict(self, cells, tmp_path, content, line, said):
        file = tmp_path / "rows.json"
        file.write_text(content)
        shown = cells.run(f"%%isolated -d {file} {line}\n1")
        assert shown.evalue.startswith(f"--data {file}: {said}")
        name = "rows" if content.startswith("[") else "value"
        cells.ok(f'import json; {name} = json.load(open("{file}"))')
        assert f'{name} = json.load(open("{file}"))' in shown.evalue
        assert f"-d {name}=${name}." in shown.evalue
        assert value(cells.run(f"%%isolated -d {name}=${name}\n{PRINT_DATA}")) == {name: json.loads(content)}
        if name == "rows":
            assert "--data {rows[0]}" in shown.evalue
            assert ("--payload-type trace_thread" in shown.evalue) == (not line)

    def test_a_file_of_another_kind(self, cells, tmp_path):
        (tmp_path / "rows.csv").write_text("a\n1\n")
        assert "only .json files are read" in cells.run(f"%%isolated -d {tmp_path}/rows.csv\n1").evalue

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("histroy", "did you mean history?"),
            ("foo", "'foo' is no command; those are run, history"),
            ("run f.py extra", "the word 'extra' belongs to no option"),
            ("run f.py -e K=1 sk-123", "a word on the line belongs to no option"),
            ("run ''", "takes a file first"),
            ("run {folder}", "is a folder"),
            ("run {folder}/pipe.py", "no regular file"),
            ("run {folder}/loop.py", "a link that leads to itself"),
            ("run /dev/null", "no regular file"),
            ("run f.py --save z.py", "leave --save out"),
        ],
    )
    def test_a_wrong_line_magic(self, cells, tmp_path, line, said):
        os.mkfifo(tmp_path / "pipe.py")
        (tmp_path / "loop.py").symlink_to("loop.py")
        shown = cells.run(f"%isolated {line.replace('{folder}', str(tmp_path))}")
        assert shown.ename == "OptionError"
        assert said in shown.evalue
        assert "sk-123" not in shown.traceback

    @pytest.mark.parametrize("ask", ["-h", "--help"])
    def test_help_of_run(self, cells, ask):
        assert "Examples:" in cells.ok(f"%isolated run {ask}").stdout

    @pytest.mark.parametrize("command", COMMANDS)
    def test_all_commands_are_known(self, cells, command):
        shown = cells.run(f"%isolated {command} two words")
        assert shown.evalue.startswith(f"%isolated {command} ")

    def test_help(self, cells):
        for ask in ("%isolated --help", "%%isolated --help\n1"):
            shown = cells.ok(ask)
            for option in (
                "--env",
                "--env-file",
                "--data",
                "--payload-type",
                "--timeout",
                "--out",
                "--no-raise",
                "--file",
                "--clean-env",
                "--fresh",
            ):
                assert option in shown.stdout
            assert "Examples:" in shown.stdout
            assert "%%isolated --env TENANT_ID=t1 --data row" in shown.stdout
        assert (
            "Examples:"
            in cells.ok("from IPython import get_ipython; get_ipython().find_cell_magic('isolated').__doc__").text
        )


class TestLoading:
    def test_load_twice_reload_and_unload(self, cells):
        cells.ok("%load_ext isolated_magic\n%reload_ext isolated_magic")
        assert cells.ok("%%isolated\n0.5").text.startswith("score")
        cells.ok("%unload_ext isolated_magic")
        assert cells.run("%%isolated\n0.5").stderr
        cells.ok("%load_ext isolated_magic")
        assert cells.ok("%%isolated\n0.5").text.startswith("score")

    @pytest.mark.parametrize(("platform", "said"), [("emscripten", "Pyodide"), ("win32", "WSL")])
    def test_a_platform_without_processes_is_told_so(self, cells, platform, said):
        cells.ok("%unload_ext isolated_magic\nimport sys; real, sys.platform = sys.platform, " + repr(platform))
        shown = cells.run("%load_ext isolated_magic")
        cells.ok("sys.platform = real")
        assert shown.ename == "UnsupportedPlatformError"
        assert said in shown.evalue
        cells.ok("%load_ext isolated_magic")


class TestStrategies:
    def test_a_worker_that_is_used_again(self, cells):
        first = cells.ok("%%isolated --executor process -o first\nimport os\nos.getpid()")
        cells.ok("%%isolated --executor process -o second\nimport os\nos.getpid()")
        cells.ok("assert {first.launch, second.launch} == {'reused'}")
        assert first is not None
        cells.ok("%isolated teardown")

    def test_what_it_refuses(self, cells):
        answer = cells.run("%%isolated --executor process -e A=1\n1")
        assert "OptionError" in str(answer)
        assert "its workers do many runs" in str(answer)

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("--executor thread", "give one of isolated, process, docker"),
            ("--allow-net", "--allow-net is for --executor docker: give that with it"),
            ("--volume /a:/b", "--volume is for --executor docker: give that with it"),
            ("--command sh", "--command is for --executor docker: give that with it"),
            ("--executor docker --volume /a", "--volume /a: give paths here and in the container, such as ./data"),
            ("--executor docker --volume /a:b", "--volume /a:b: give paths here and in the container"),
            ("--executor docker --volume /a:/b --volume /a:/c", "--volume: /a stands there twice"),
            ("--executor docker --volume $nowhere:/b", "--volume: the notebook has no variable nowhere."),
            ("--executor docker --volume {5}:/b", "--volume: the value of the expression is int: give a path"),
            ("--executor docker --cpus many", "--cpus many: give a number of processors, such as 0.5"),
            ("--executor docker --cpus inf", "--executor docker: cpus is inf: give a number of processors"),
            ("--executor docker --network a --allow-net", "--network says which network, and --allow-net means"),
            ("--executor docker --command sh --save a.py", "--save writes a file of Python, and with --command"),
            ("--executor docker --command ''", "--command : give a program of the image with its arguments"),
            ("--image python:3.12 --executor process", "--image is for --executor docker: give that with it"),
        ],
    )
    def test_what_does_not_go_together(self, cells, line, text):
        assert text in str(cells.run(f"%%isolated {line}\n1"))

    def test_no_daemon(self, cells, monkeypatch):
        cells.ok("import os\nos.environ['DOCKER_HOST'] = 'unix:///nowhere/docker.sock'")
        answer = str(cells.run("%%isolated --executor docker\n1"))
        assert "/nowhere/docker.sock" in answer
        assert "Traceback" not in answer
        cells.ok("del os.environ['DOCKER_HOST']")

    def test_the_setting(self, cells):
        cells.ok("%config IsolatedMagic.executor = 'process'")
        cells.ok("%%isolated -o third\n1")
        cells.ok("assert third.launch == 'reused'")
        cells.ok("%config IsolatedMagic.executor = 'isolated'")
        cells.ok("%isolated teardown")
