"""One contract: what every strategy does alike. What each does by itself stands in its own tests."""

import asyncio
import inspect
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from isolated_magic import InvalidRequestError, Secret, create_executor
from isolated_magic.request import RunOptions
from tests import daemon as daemons
from tests.processes import wait_until
from tests.time_limits import time_limit_from

STRATEGIES = ["isolated", "cold", "process", "docker", "distributed"]


@pytest.fixture(scope="module", params=STRATEGIES)
def strategy(request):
    """The name of a strategy, and what makes an executor of it."""
    settings = {}
    if request.param == "docker":
        daemon = request.getfixturevalue("daemon")
        settings = {"image": daemons.IMAGE, "base_url": daemon.url, "standby": 1}
    elif request.param == "process":
        settings = {"workers": 2}
    elif request.param == "cold":
        settings = {"launch": "cold"}
    elif request.param == "distributed":
        settings = {"client": request.getfixturevalue("dask_client")}
    name = "isolated" if request.param == "cold" else request.param
    return request.param, lambda **more: create_executor(name, timeout_secs=300, **settings, **more)


@pytest.fixture(scope="module")
def executor(strategy):
    with strategy[1]() as made:
        yield made


METRIC = """
class BaseMetric:
    pass

class Length(BaseMetric):
    def score(self, answer, missing, **ignored):
        return {"scores": [{"name": "length", "value": len(answer), "reason": repr(missing)}]}
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('print(\'{"scores": [{"name": "a", "value": 1}]}\')', {"scores": [{"name": "a", "value": 1}]}),
        ("print('before')\nprint('{\"any\": [1, null]}')", {"any": [1, None]}),
        ("{'scores': [{'name': 'a', 'value': 0.5}]}", {"scores": [{"name": "a", "value": 0.5}]}),
        ("print('{\"printed\": 1}')\n5", {"scores": [{"name": "score", "value": 5}]}),
        (METRIC, {"scores": [{"name": "length", "value": 3, "reason": "None"}]}),
    ],
)
def test_results(executor, code, expected):
    answer = executor.execute(code, {"answer": "yes", "other": 1})
    for score in answer.get("scores", ()):
        if score.get("reason") is None:
            score.pop("reason", None)
    assert answer == expected


def test_no_usable_score(executor):
    code = "{'scores': [{'name': 'a', 'value': None, 'reason': 'no key'}, {'name': 'b', 'scoring_failed': True}]}"
    answer = executor.execute(code)
    assert answer["code"] == 400
    assert "a: no value: no key" in answer["error"]
    result = executor.run(code)
    assert (result.error.kind, [score.name for score in result.scores]) == ("no_score", ["a", "b"])
    assert "1 of 2" in executor.run("{'a': 1, 'b': None}").notes[0]


PRINTED = """print('{"scores": [{"name": "printed", "value": 1}]}')\n"""
LOGGED = """print('{"level": "info"}')\n"""
TWO = """
class BaseMetric: pass
class A(BaseMetric):
    def score(self, answer, **ignored): return 0.1
class B(BaseMetric):
    def __init__(self, value=0.2): self.name, self.value = "b", value
    def score(self, answer, **ignored): print('{"scores": []}'); return self.value
"""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (LOGGED + "0.5", [("score", 0.5)]),
        (PRINTED + LOGGED, [("printed", 1)]),
        (PRINTED + LOGGED + "{'scores': [{'name': 'value', 'value': 2}]}", [("value", 2)]),
        (
            'import subprocess\nsubprocess.call([\'echo\', \'{"scores": [{"name": "e", "value": 1}]}\'])',
            [("e", 1)],
        ),
        (LOGGED + TWO, [("A", 0.1), ("b", 0.2)]),
        (PRINTED + TWO, [("printed", 1)]),
        (PRINTED + TWO + "B(0.3)", [("b", 0.3)]),
        (
            'import threading\nthreading.Timer(0.1, lambda: print(\'{"scores": [{"name": "t", "value": 1}]}\')).start()\n0.5',
            [("t", 1)],
        ),
    ],
)
def test_what_has_scores_goes_before_what_has_none_and_the_later_before_the_earlier(executor, code, found):
    result = executor.run(code, {"answer": "yes"})
    assert [(score.name, score.value) for score in result.scores] == found
    printed = [line for line in (PRINTED, LOGGED) if line in code and found[0][0] not in line]
    assert all(line[7:-3] in result.stdout for line in printed)


def test_notes_stand_beside_the_scores_and_are_an_error_when_one_wants_it(executor):
    note = 'missing is not in the data (other, answer): None was passed. Map it: data={"missing": row["other"]}'
    result = executor.run(METRIC, {"answer": "yes", "other": 1})
    assert (result["length"].value, result.notes) == (3, (note,))
    assert executor.execute(METRIC, {"answer": "yes", "other": 1}, strict=True) == {"code": 400, "error": note}
    assert executor.start(METRIC, {"answer": "yes", "other": 1}, strict=True).result(60).error.kind == "strict"
    assert executor.execute(METRIC, {"answer": "yes", "missing": 1}, strict=True)["scores"][0]["value"] == 3


def test_a_key_that_score_does_not_take(executor):
    answer = executor.execute(
        "class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, a): return 1", {"a": 1, "b": 2}
    )
    assert answer["code"] == 400
    assert answer["error"].startswith("TypeError: M.score() got an unexpected keyword argument 'b': it takes a.")
    assert "**ignored" in answer["error"]


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("def f(:", 400, "SyntaxError"),
        ("def f():\n    return 1/0\nf()", 400, "line 2, in f\n    return 1/0"),
        (
            "raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])",
            400,
            "ExceptionGroup: two (2 sub-exceptions)",
        ),
        ("import no_such_module", 400, "No module named 'no_such_module'"),
        ("x = 1", 500, "Invalid JSON response from subprocess"),
        ("print('{\"half\": ')", 500, "Invalid JSON response from subprocess"),
        ("import sys\nsys.exit(3)", 500, "exit status 3"),
        ("import sys\nsys.exit('no good')", 500, "no good"),
        ("import os\nos._exit(0)", 500, "Invalid JSON response from subprocess"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", 500, "SIGSEGV"),
    ],
)
def test_errors(executor, code, status, text):
    answer = executor.execute(code, {})
    assert answer["code"] == status
    assert text in answer["error"]
    assert "isolated_magic/" not in answer["error"]
    assert executor.execute("1", {})["scores"][0]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("missing.py", {}), "file not found"),
        (("1", {"a": object()}), 'data["a"]'),
        (("1", [1]), "payload_type"),
        (("1", {}, None, -1), "timeout_secs"),
    ],
)
def test_arguments_that_cannot_be(executor, arguments, text):
    answer = executor.execute(*arguments)
    assert answer["code"] == 400
    assert text in answer["error"]


def test_data_may_be_left_out(executor):
    code = "len(data) + 0.5"
    assert executor.execute(code)["scores"][0]["value"] == 0.5
    assert executor.run(code)["score"].value == 0.5
    assert executor.start(code).result(60)["score"].value == 0.5
    assert asyncio.run(executor.aexecute(code))["scores"][0]["value"] == 0.5


def test_execute_run_start_and_aexecute_take_the_same_options(executor):
    code = "import sys\nprint(sys._getframe().f_code.co_filename, flush=True)\n0.5"
    options = {"source_name": "<mine>", "strict": True, "fresh": True}
    assert executor.run(code, **options).stdout == "<mine>\n"
    assert executor.start(code, **options).result(60).stdout == "<mine>\n"
    assert executor.execute(code, **options)["scores"][0]["value"] == 0.5
    assert asyncio.run(executor.aexecute(code, **options))["scores"][0]["value"] == 0.5


def test_an_unknown_option_is_a_type_error_that_names_it(executor):
    for call in (executor.execute, executor.run, executor.start, executor.prepare):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'secret'.*secrets"):
            call("1", secret=["A_KEY"])
    with pytest.raises(TypeError, match="'secret'"):
        asyncio.run(executor.aexecute("1", secret=["A_KEY"]))


def test_the_options_are_in_the_signatures(executor):
    for call in (executor.execute, executor.run, executor.start, executor.aexecute, executor.prepare):
        assert set(RunOptions.__annotations__) <= set(inspect.signature(call).parameters)


def test_a_prepared_request_runs_any_number_of_times(executor):
    request = executor.prepare("print('shown', flush=True)\ndata['n']", {"n": 0.5})
    heard = []
    assert executor.run_request(request, on_output=lambda *part: heard.append(part))["score"].value == 0.5
    assert executor.start_request(request, label="mine").result(60)["score"].value == 0.5
    assert "".join(text for _, text in heard) == "shown\n"
    with pytest.raises(InvalidRequestError, match="timeout_secs"):
        executor.prepare("1", timeout_secs=0)


def test_data_is_a_name_and_on_stdin(executor):
    code = (
        "import json, sys\nprint(json.dumps({'same': json.load(sys.stdin)['data'] == data, 'type': payload_type}))"
    )
    data = {"text": "é\u2028\U0001f600", "rows": [1, 2.5, None, True], "big": "x" * 300_000}
    assert executor.execute(code, data, payload_type="row") == {"same": True, "type": "row"}


LARGE = {
    "numbers": [n / 7 for n in range(2000)],
    "integers": list(range(-1000, 1000)),
    "texts": ["é\u2028\U0001f600\ud800", ""] * 1000,
    "rows": [
        {"n": n, "answer": "yes", "vector": [0.1, float(n)], "more": {"tags": [None, True]}} for n in range(1000)
    ],
    "matrix": [[0.5] * 40] * 40,
    "mixed": [1, 2.5, None, "x"] * 500,
    "small": {"deep": [1, [2.5, {"a": None}]]},
}


@pytest.mark.parametrize("read", ["json.load(sys.stdin)", "json.load(sys.stdin.buffer)", "json.load(open(0))"])
def test_large_data_is_a_name_and_on_stdin(executor, read):
    code = f"import json, sys\nbefore = repr(data)\ndata['numbers'].clear()\nsame = repr({read}['data']) == before\nprint(json.dumps({{'same': same, 'repr': before}}))"
    answer = executor.execute(code, LARGE)
    assert answer["same"] is True
    assert answer["repr"] == repr(LARGE)


def test_the_next_run_reads_its_own_data(executor):
    code = "import json, sys\nprint(json.dumps({'sum': sum(json.load(sys.stdin)['data']['n'])}))"
    for numbers in ([1.5] * 2000, [1.5], [2.5] * 3000, [2.5]):
        assert executor.execute(code, {"n": numbers}) == {"sum": sum(numbers)}
        assert executor.execute("sum(data['n'])", {"n": numbers})["scores"][0]["value"] == sum(numbers)


@pytest.mark.parametrize("megabytes", [5, 50])
def test_megabytes_pass_in_both_directions(executor, megabytes):
    rows = 2000 * megabytes
    data = {
        "numbers": [n / 7 for n in range(10 * rows)],
        "rows": [{"id": n, "answer": "é some text of a row " * 5, "score": n / 3} for n in range(rows)],
        "text": "y" * (100_000 * 2 * megabytes),
    }
    answer = executor.execute("import json\nprint(json.dumps({'back': data}))", data)
    assert answer == {"back": data}
    assert len(json.dumps(answer)) > megabytes * 900_000


@pytest.mark.parametrize(
    "code",
    [
        "input()",
        "input('name? ')",
        "import getpass\ngetpass.getpass()",
        "import json\njson.loads(input())",
        "breakpoint()\n1",
        "import pdb\npdb.set_trace()",
        "import code\ncode.interact()",
    ],
)
def test_a_run_has_no_keyboard(executor, code):
    result = executor.run(code, {"row": "private"})
    assert result.error.kind == "user_code"
    assert result.error.summary.startswith("RuntimeError: An isolated run has no keyboard")
    for option in ("--data", "data=", "--secret", "env_vars="):
        assert option in result.error.text
    assert "---->" in result.error.excerpt
    assert "isolated_magic/" not in result.error.text
    assert "private" not in result.stdout + result.stderr + result.error.text


def test_children_have_an_empty_stdin(executor):
    code = (
        "import json, os, subprocess, sys\nasks = [sys.executable, '-S', '-c', 'print(input())']\n"
        "seen = [subprocess.run(asks, capture_output=True, text=True).stderr.strip().split('\\n')[-1][:9], os.system('cat')]\n"
        "print(json.dumps({'seen': [*seen, json.load(sys.stdin)['data']]}))"
    )
    assert executor.execute(code, {"row": "private"}) == {"seen": ["EOFError:", 0, {"row": "private"}]}


@pytest.mark.parametrize("source_name", ["<string>", "Cell In[3]"])
def test_the_source_is_where_tracebacks_warnings_and_inspect_look(executor, source_name):
    code = (
        "import inspect, json, linecache, sys, traceback, warnings\n"
        "def f(x):\n    return x / 0\n"
        "linecache.checkcache()\ntry:\n    f(1)\nexcept ZeroDivisionError:\n    shown = traceback.format_exc()\n"
        "warnings.warn('look here')\n"
        "print(json.dumps({'source': inspect.getsource(f), 'shown': shown}))"
    )
    result = executor.run(code, {}, source_name=source_name)
    assert result.ok, result.error
    assert result.payload["source"] == "def f(x):\n    return x / 0\n"
    assert f'File "{source_name}", line 6, in <module>\n    f(1)\n' in result.payload["shown"]
    assert f"{source_name}:9: UserWarning: look here\n  warnings.warn('look here')\n" in result.stderr


def test_every_run_has_a_main_of_its_own(executor):
    executor.execute("left = 1\nimport builtins\nbuiltins.left_too = 1\n1", {})
    code = "import json\nprint(json.dumps({'names': [name for name in ('left', 'left_too') if name in dir() or hasattr(__builtins__, name)], 'main': __name__}))"
    assert executor.execute(code, {}) == {"names": [], "main": "__main__"}


def test_output_comes_as_it_is_printed_and_without_the_result(executor):
    heard = []
    result = executor.run(
        "import sys\nprint('one')\nprint('two', file=sys.stderr)\nsys.stderr.flush()\nprint('{\"scores\": []}')",
        on_output=lambda *part: heard.append(part),
    )
    assert (result.stdout, result.stderr, result.payload) == ("one\n", "two\n", {"scores": []})
    streams = {name: "".join(text for stream, text in heard if stream == name) for name in ("stdout", "stderr")}
    assert streams == {"stdout": "one\n", "stderr": "two\n"}


def test_a_flood(executor):
    result = executor.run("for i in range(100_000): print('line', i)\n1")
    assert result.stdout.count("\n") == 100_000
    assert result.stdout.endswith("line 99999\n")


def test_a_large_result(executor):
    answer = executor.execute("import json\nprint(json.dumps({'text': 'x' * 3_000_000}))", {})
    assert len(answer["text"]) == 3_000_000


def test_time_is_up_and_where_the_code_was(executor):
    on = threading.Event()
    code = "import time\nprint('on', flush=True)\ndef rest():\n    time.sleep(1000)\nrest()"
    with time_limit_from(on.is_set):
        result = executor.run(code, timeout_secs=1, on_output=lambda *_: on.set())
    assert result.to_dict() == {"code": 500, "error": "Execution timed out after 1 seconds"}
    assert "time.sleep(1000)" in result.error.excerpt
    assert executor.run("1").ok


def test_a_run_that_is_killed(executor):
    run = executor.start("print('on', flush=True)\nimport time\ntime.sleep(1000)")
    wait_until(lambda: "on" in run.stdout)
    assert run.pid in executor.active_pids
    assert executor.kill_process(run.pid, timeout=30)
    assert run.result(30).to_dict() == {"code": 500, "error": "The run was killed before it ended."}
    assert executor.active_pids == ()
    assert not executor.kill_process(2**22 + 1)


def test_a_run_that_is_interrupted_ends_its_own_way(executor):
    code = "import time\ntry:\n    print('on', flush=True)\n    time.sleep(1000)\nfinally:\n    print('tidy')"
    run = executor.start(code)
    wait_until(lambda: "on\n" in run.stdout)
    run.interrupt()
    result = run.result(30)
    assert "stopped before it ended" in result.error.text
    assert result.stdout == "on\ntidy\n"


def test_from_asyncio_and_cancelled(executor):
    async def both():
        answers = await asyncio.gather(*(executor.aexecute(str(number), {}) for number in range(3)))
        task = asyncio.create_task(executor.aexecute("import time\ntime.sleep(1000)", {}))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return answers

    answers = asyncio.run(both())
    assert [answer["scores"][0]["value"] for answer in answers] == [0, 1, 2]
    assert executor.active_pids == ()


def test_from_many_threads(executor):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: executor.execute(f"print({number})\n{number}", {}), range(8)))
    assert [answer["scores"][0]["value"] for answer in answers] == list(range(8))


def test_secrets_are_hidden(executor, strategy, monkeypatch):
    if strategy[0] == "process":  # which has no variables for one run
        monkeypatch.setenv("CONTRACT_KEY", "s3cret-value")
        result = executor.run("import os\nprint(os.environ['CONTRACT_KEY'])\n1", secrets=["CONTRACT_KEY"])
    else:
        code = "import os\nprint(os.environ['CONTRACT_KEY'])\n1"
        result = executor.run(code, None, {"CONTRACT_KEY": "s3cret-value"}, secrets=["*_KEY"])
    assert result.stdout == "***\n"


def test_a_secret_that_stands_in_other_words_is_refused(executor, strategy, monkeypatch):
    monkeypatch.setenv("CONTRACT_DIGIT", "7")
    if strategy[0] == "docker":
        return  # it has nothing of our environment
    given = {"CONTRACT_DIGIT": "7"} if strategy[0] == "distributed" else None  # it has that of its worker
    for secrets in (["CONTRACT_DIGIT"], [Secret("7")]):
        error = executor.run("print('total 77')\n1", None, given, secrets=secrets).error
        assert error.code == 400
        assert "fewer than 4 characters" in error.text
        assert "7" not in error.text
    assert executor.run("print('total 77')\n1", secrets=["CONTRACT_*", "CONTRACT_NONE"]).stdout == "total 77\n"


def test_a_file(executor, tmp_path):
    path = tmp_path / "metric.py"
    path.write_text("print('from a file')\nlen(data['answer'])\n")
    assert executor.execute(str(path), {"answer": "yes"})["scores"][0]["value"] == 3
    path.write_text("\n\n1/0\n")
    result = executor.run(path, {})
    assert result.error.summary == "ZeroDivisionError: division by zero (line 3)"
    assert f'File "{path}", line 3' in result.error.text


def test_teardown_calls_back_once_and_the_executor_can_be_used_again(strategy):
    called = []
    with strategy[1]() as executor:
        executor.register_teardown_callback(lambda: called.append(1))
        run = executor.start("import time\ntime.sleep(1000)")
        executor.teardown()
        assert run.result(30).error is not None
        assert called == [1]
        assert executor.execute("2", {})["scores"][0]["value"] == 2
        executor.teardown()
        executor.teardown()
    assert called == [1]


def test_the_result_says_how_it_went(executor):
    result = executor.run("1")
    assert result.timings.execution_ms >= result.timings.creation_ms >= 0
    assert result.exit_status == 0
    assert result.pid is not None
    assert result == executor.run("1")
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_no_thread_is_left_by_a_run(executor):
    executor.run("1")
    before = threading.active_count()
    for _ in range(3):
        executor.run("1")
    assert threading.active_count() <= before + 2  # of a container that is just being removed


class TestEvaluation:
    """The same for each row as for a single run."""

    FAILING = """
import os, signal, sys, time
if data['n'] == 1: 1 / 0
if data['n'] == 2: os.kill(os.getpid(), signal.SIGSEGV)
if data['n'] == 3: sys.exit(3)
if data['n'] == 4: x = 1
elif data['n'] == 5: time.sleep(1000)
elif data['n'] == 6: {'scores': [{'name': 'score', 'value': None}]}
else: print('row', data['n'])
data['n'] * 2 if data['n'] > 6 or not data['n'] else None
"""

    def test_a_row_takes_only_itself(self, executor):
        told = []
        with time_limit_from(lambda: told and told[-1].done == 8):
            rows = [{"n": n} for n in range(9)]
            result = executor.evaluate(self.FAILING, rows, timeout_secs=1, jobs=3, progress=told.append)
        assert [(row.index, row.scores[0].value) for row in result if row.ok] == [(0, 0), (7, 14), (8, 16)]
        assert [row.stdout for row in result if row.ok] == ["row 0\n", "row 7\n", "row 8\n"]
        kinds = [str(row.error.kind) for row in result.failures]
        assert kinds == ["user_code", "died", "no_result", "no_result", "timeout", "no_result"]
        assert (len(result), result.not_run, result.stopped) == (9, 0, "")
        assert executor.live_runs == ()

    def test_rows_come_lazily_in_order_and_from_asyncio(self, executor, strategy):
        read = []
        results = executor.map("data['n']", (read.append(n) or {"n": n} for n in range(10_000)), jobs=1)
        assert [next(results).scores[0].value for _ in range(3)] == [0, 1, 2]
        results.close()
        assert len(read) < (5000 if strategy[0] == "distributed" else 50)  # rows that fill chunks for all workers
        result = asyncio.run(executor.aevaluate("data['n']", [{"n": n} for n in range(3)]))
        assert [row.scores[0].value for row in result] == [0, 1, 2]

    def test_an_environment_for_each_row(self, executor, strategy):
        code = "import os\nprint(os.environ['TENANT_ID'], os.environ['KEY'])\n1"
        rows = [{"tenant": f"t{n}"} for n in range(3)]

        def variables(row):
            return {"TENANT_ID": row["tenant"], "KEY": f"key of {row['tenant']}"}

        if strategy[0] == "process":
            with pytest.raises(InvalidRequestError, match="cannot be given to ProcessExecutor"):
                executor.evaluate(code, rows, env_vars=variables)
            return
        result = executor.evaluate(code, rows, env_vars=variables, secrets=["KEY"])
        assert [row.stdout for row in result] == ["t0 ***\n", "t1 ***\n", "t2 ***\n"]

    def test_failed_rows_run_again(self, executor):
        code = "import random\nif random.random() < 0.5: raise ConnectionError\n1"
        result = executor.evaluate(code, [{"n": n} for n in range(4)], retries=1)
        assert all(len(row.attempts) == 2 for row in result.failures)
        assert {len(row.attempts) for row in result} <= {1, 2}

    def test_a_teardown_ends_it(self, strategy):
        with strategy[1]() as executor:
            told = []

            def stop():
                wait_until(lambda: told and told[-1].done == 1 and executor.active_pids)
                executor.teardown()

            thread = threading.Thread(target=stop)
            thread.start()
            code = "import time\nif data['n']: time.sleep(1000)\n1"
            result = executor.evaluate(code, [{"n": n} for n in range(20)], jobs=2, progress=told.append)
            thread.join(60)
            assert (len(result), result.not_run) == (1, 19)
            assert result.stopped == "The evaluation was stopped: all runs of its executor were."
            assert executor.live_runs == ()
