"""Rows with one value of `per` stream through one process; those of another never see it."""

import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from isolated_magic import Limits, create_executor
from isolated_magic.executors import lane, retries
from isolated_magic.executors.lane import Lanes
from tests import daemon as daemons
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until
from tests.time_limits import time_limit_from

STRATEGIES = ["isolated", "cold", "process", "docker"]


def by_tenant(row):
    return row["tenant"]


@pytest.fixture(scope="module", params=STRATEGIES)
def executor(request):
    settings = {}
    if request.param == "docker":
        daemon = request.getfixturevalue("daemon")
        settings = {"image": daemons.IMAGE, "base_url": daemon.url, "standby": 1}
    elif request.param == "cold":
        settings = {"launch": "cold"}
    name = "isolated" if request.param == "cold" else request.param
    with create_executor(name, timeout_secs=300, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def isolated():
    with create_executor("isolated", timeout_secs=300) as made:
        yield made


METRIC = """
import builtins, ctypes, os, signal, subprocess, sys, time
builtins.code_runs = getattr(builtins, "code_runs", 0) + 1

class Faulty:
    made = 0

    def __init__(self):
        Faulty.made += 1
        self.rows = 0

    def score(self, n, do="", **_):
        self.rows += 1
        if do:
            builtins.exec(do)  # by name it would count as something that may use the data
        if do.endswith("return"):
            return object()
        return {"scores": [
            {"name": "n", "value": n},
            {"name": "rows", "value": self.rows},
            {"name": "made", "value": Faulty.made},
            {"name": "pid", "value": os.getpid()},
            {"name": "code", "value": builtins.code_runs},
        ]}

Faulty
"""
# As above, but run for each row.
CODE = METRIC.replace("\nFaulty\n", "\nFaulty().score(**data)\n")

FAULTS = {
    "exception": "raise KeyError('reference')",
    "exit": "sys.exit(3)",
    "exit with a message": "sys.exit('no more')",
    "hard exit": "os._exit(7)",
    "segfault": "ctypes.string_at(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "no result": "1; return",
}


def rows_with(fault, count=12, at=(3, 4, 9)):
    return [{"tenant": "a", "n": n, **({"do": fault} if n in at else {})} for n in range(count)]


def values(row):
    return {score.name: score.value for score in row.scores}


def told_of(error):
    """What is said of an error, but for the lines of code and their numbers."""
    return error.kind, error.text.splitlines()[-1], error.hint


@pytest.mark.parametrize("code", [METRIC, CODE], ids=["metric", "code"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_fails_takes_only_itself(isolated, fault, code):
    rows = rows_with(FAULTS[fault])
    result = isolated.evaluate(code, rows, per=by_tenant)
    alone = isolated.run(code, {**rows[3]})
    assert alone.error is not None
    assert [row.index for row in result.failures] == [3, 4, 9]
    for row in result.failures:
        assert told_of(row.error) == told_of(alone.error)
    assert [values(row)["n"] for row in result if row.ok] == [0, 1, 2, 5, 6, 7, 8, 10, 11]


def test_a_row_that_closes_what_is_ours_keeps_its_result(isolated):
    result = isolated.evaluate(METRIC, rows_with("os.closerange(3, 1000)"), per=by_tenant)
    assert [values(row)["n"] for row in result] == list(range(12))
    assert [values(row)["rows"] for row in result] == [1, 2, 3, 4, 1, 1, 2, 3, 4, 5, 1, 2]


def test_a_metric_is_made_once_and_other_code_runs_for_each_row(executor):
    rows = [{"tenant": f"t{n % 2}", "n": n} for n in range(10)]
    once = [values(row) for row in executor.evaluate(METRIC, rows, per=by_tenant)]
    assert [found["n"] for found in once] == list(range(10))
    assert [found["rows"] for found in once] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {(found["made"], found["code"]) for found in once} == {(1, 1)}
    each = [values(row) for row in executor.evaluate(CODE, rows, per=by_tenant)]
    assert [found["code"] for found in each] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {(found["made"], found["rows"]) for found in each} == {(1, 1)}


def test_rows_of_different_values_never_meet(isolated):
    rows = [{"tenant": f"t{n % 7}", "n": n} for n in range(350)]
    result = isolated.evaluate(METRIC, rows, per=by_tenant, env_vars=lambda row: {"TENANT": row["tenant"]})
    pids = {}
    for row in result:
        pids.setdefault(row.row["tenant"], set()).add(values(row)["pid"])
    assert [len(found) for found in pids.values()] == [1] * 7
    assert len(set.union(*pids.values())) == 7


def test_a_row_that_hangs_is_timed_out_and_says_where(isolated):
    with time_limit_from(secs=4):
        result = isolated.evaluate(METRIC, rows_with("time.sleep(1000)", at=(2, 5)), per=by_tenant, timeout_secs=1)
    assert [row.index for row in result.failures] == [2, 5]
    for row in result.failures:
        assert row.error.text.startswith("Execution timed out after 1 seconds")
        assert "time.sleep(1000)" in row.error.stack or "in score" in row.error.stack
    assert [values(row)["rows"] for row in result if row.ok] == [1, 2, 1, 2, 1, 2, 3, 4, 5, 6]


OUTPUT = """
import os, subprocess, sys

def f(n, do="", **_):
    print("before", n)
    os.write(1, b"raw %d\\n" % n)
    subprocess.run(["sh", "-c", f"echo child {n}; echo error {n} >&2"])
    sys.stderr.write(f"no newline {n}")
    if n % 3 == 0:
        print("x" * n, end="")
    if n % 5 == 0:
        print("y" * 200_000)
    return n
f
"""


def test_what_a_row_prints_is_its_own(executor):
    rows = [{"tenant": f"t{n % 2}", "n": n} for n in range(20)]
    for row in executor.evaluate(OUTPUT, rows, per=by_tenant, jobs=2):
        n = row.row["n"]
        more = "x" * n * (n % 3 == 0) + ("y" * 200_000 + "\n") * (n % 5 == 0)
        assert row.stdout == f"before {n}\nraw {n}\nchild {n}\n{more}"
        assert row.stderr == f"error {n}\nno newline {n}"
        assert row.scores[0].value == n


def test_rows_that_print_nothing_among_those_that_do(isolated):
    code = "if data['n'] % 7 == 3: print('seven', data['n'])\ndata['n']"
    rows = [{"tenant": "a", "n": n} for n in range(1000)]
    result = isolated.evaluate(code, rows, per=by_tenant)
    assert [row.stdout for row in result] == [f"seven {n}\n" if n % 7 == 3 else "" for n in range(1000)]
    assert [row.scores[0].value for row in result] == list(range(1000))


@pytest.mark.parametrize(
    "code",
    [
        "import json\nprint('first')\nprint(json.dumps({'scores': [{'name': 'a', 'value': data['n']}]}))",
        "import json\nprint(json.dumps({'any': data['n']}))",
        "import json\nprint(json.dumps({'any': 1}))\ndata['n']",
        "class BaseMetric:\n    pass\nclass M(BaseMetric):\n    def score(self, n, **_):\n        return n\n"
        'print(\'{"scores": [{"name": "printed", "value": 1}]}\')',
        "display({'n': data['n']})\ndata['n']",
        "print('a')\ndisplay(1)\nprint('b')\ndata['n']",
        "data",
        "import atexit\natexit.register(print, 'late')\n{'scores': [{'name': 'a', 'value': data['n']}]}",
        "class BaseMetric:\n    pass\nclass M(BaseMetric):\n    def score(self, n, other, **_):\n        return n\n",
        "def f(answer, **_):\n    return answer\nf",
        "import sys, json\njson.load(sys.stdin)['data']['n']",
        "import os, json\njson.loads(os.read(0, 10000))['data']['n']",
        "input()",
        "lambda n: n",
        "1 +",
        "async def f(n, **_):\n    return n\nf",
        "await __import__('asyncio').sleep(0, data['n'])",
        "import math\n{'scores': [{'name': 'a', 'value': math.nan}]}",
        "[]",
        "print(end='no newline')\ndata['n']",
        "import os\nif os.fork() == 0: os._exit(1)\ndata['n']",
        "import os\nos.fork()\ndata['n']",
        "import os\nfound = os.getcwd(), dict(os.environ)\nos.chdir('/')\nos.environ['N'] = '1'\nprint(*found)\n1",
        "import sys, io\nsys.stdout = io.StringIO()\nprint('lost')\ndata['n']",
        "import threading\nthreading.Thread(target=print, args=('thread',)).run()\ndata['n']",
    ],
)
def test_a_row_is_what_a_run_of_its_own_would_be(isolated, code):
    rows = [{"tenant": "a", "n": n} for n in range(3)]
    for row in isolated.evaluate(code, rows, per=by_tenant):
        alone = isolated.run(code, dict(row.row))
        assert row.error == alone.error
        assert row.scores == alone.scores or repr(row.scores) == repr(alone.scores)
        assert (row.stderr, row.notes) == (alone.stderr, alone.notes)
        assert row.stdout == alone.stdout.replace("late\n", "")
        assert [shown.data for shown in row.displays] == [shown.data for shown in alone.displays]


def test_secrets_are_hidden_in_rows_and_their_errors(isolated):
    code = "import os\nprint(os.environ['API_KEY'])\nif data['n'] == 1: raise ValueError(os.environ['API_KEY'])\n1"
    rows = [{"tenant": f"t{n % 2}", "n": n} for n in range(4)]
    result = isolated.evaluate(
        code,
        rows,
        per=by_tenant,
        env_vars=lambda row: {"API_KEY": f"very secret of {row['tenant']}"},
        secrets=["API_KEY"],
    )
    assert "very secret" not in repr([(row, row.stdout, row.stderr, row.error) for row in result])
    assert [row.stdout for row in result] == ["***\n"] * 4
    assert [row.ok for row in result] == [True, False, True, True]


def test_a_variable_that_differs_within_a_value_is_the_error_of_its_row(isolated):
    rows = [{"tenant": "a", "n": n} for n in (1, 2, 1)]
    result = isolated.evaluate("1", rows, per=by_tenant, env_vars=lambda row: {"REGION": f"hidden {row['n']}"})
    assert [row.ok for row in result] == [True, False, True]
    assert result.rows[1].error.text == (
        "per: REGION differs from what the first row with the same value has, and rows that share a process share "
        "its environment: add what it depends on to per, such as (row['tenant'], row['region'])."
    )


def test_limits_hold_and_take_one_row(isolated):
    faults = {3: "x = bytearray(500 << 20)", 6: "print('z' * 3_000_000)"}
    rows = [{"tenant": "a", "n": n, "do": faults.get(n, "")} for n in range(12)]
    rows[8]["do"] = "kept = [open('/dev/null') for _ in range(200)]"
    limits = Limits(memory_bytes=200 << 20, output_bytes=1 << 20, open_files=100)
    result = isolated.evaluate(METRIC, rows, per=by_tenant, limits=limits)
    assert [row.index for row in result.failures] == [3, 8]
    assert "memory limit 200 MB exceeded" in result.rows[3].error.text
    assert "limit of open files 100 exceeded" in result.rows[8].error.text
    assert "stdout is cut here: more than 1 MB" in result.rows[6].stdout
    assert len(result.rows[6].stdout) < 1_100_000
    assert result.rows[7].stdout == ""


def test_data_that_cannot_be_sent_is_the_error_of_its_row(isolated):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    rows = [{"tenant": "a", "n": n} for n in range(6)]
    rows[1]["more"], rows[2]["more"], rows[4]["more"] = object(), deep, "x" * (20 << 20)
    result = isolated.evaluate("data['n']", rows, per=by_tenant)
    assert [row.index for row in result.failures] == [1, 2]


def test_nothing_is_left_and_processes_end_in_order(isolated, tmp_path, monkeypatch):
    monkeypatch.setattr(lane, "END_SECS", HANG_GUARD_SECS)  # on a busy machine a hundred of them take a while
    code = """
import atexit, os, pathlib
folder = pathlib.Path(os.environ["FOLDER"])
atexit.register(lambda: (folder / f"{os.getpid()} ended").touch())
def f(n, **_):
    (folder / str(os.getpid())).touch()
    return n
f
"""
    rows = [{"tenant": n % 100, "n": n} for n in range(300)]  # more values than processes that may wait
    result = isolated.evaluate(code, rows, per=by_tenant, env_vars={"FOLDER": str(tmp_path)})
    assert [row.scores[0].value for row in result] == list(range(300))
    names = sorted(file.name for file in tmp_path.iterdir())
    pids = {int(name.split()[0]) for name in names}
    assert len(pids) >= 100
    assert sorted(names) == sorted([*map(str, pids), *(f"{pid} ended" for pid in pids)])
    assert not any(map(is_alive, pids))
    assert isolated.active_pids == ()


WAITS = """
import os, pathlib, time
folder = pathlib.Path(os.environ["FOLDER"])
def f(n, **_):
    (folder / str(os.getpid())).touch()
    if n >= 20:
        (folder / "waits").touch()
        time.sleep(1000)
    return n
f
"""


def rows_that_wait(folder):
    """Rows of ten values, each of which has a process, and then one or two that never end."""
    yield from ({"tenant": f"t{n % 10}", "n": n} for n in range(20))
    wait_until(lambda: len(pids_of(folder)) == 10)
    yield from ({"tenant": f"t{n % 10}", "n": n} for n in range(20, 22))


def waiting_evaluation(executor, folder):
    found, told = [], []
    options = {"per": by_tenant, "env_vars": {"FOLDER": str(folder)}, "jobs": 2, "progress": told.append}
    thread = threading.Thread(
        target=lambda: found.append(executor.evaluate(WAITS, rows_that_wait(folder), **options))
    )
    thread.start()
    wait_until((folder / "waits").exists)
    wait_until(lambda: told and told[-1].done == 20)
    wait_until(lambda: len(executor.active_pids) == 10)
    return thread, found


def pids_of(folder):
    return [int(file.name) for file in folder.iterdir() if file.name.isdecimal()]


def test_a_teardown_ends_processes_that_run_and_those_that_wait(tmp_path):
    with create_executor("isolated", timeout_secs=300) as executor:
        thread, found = waiting_evaluation(executor, tmp_path)
        executor.teardown()
        thread.join()
        assert executor.active_pids == ()
    assert not any(map(is_alive, pids_of(tmp_path)))
    assert found[0].stopped
    assert len(found[0].rows) == 20


def test_a_process_killed_by_its_pid_fails_the_row_that_runs_and_no_other(tmp_path):
    with create_executor("isolated", timeout_secs=300) as executor:
        thread, found = waiting_evaluation(executor, tmp_path)
        while thread.is_alive():
            for pid in executor.active_pids:
                executor.kill_process(pid)
            thread.join(0.1)
        assert [row.index for row in found[0].failures] == [20, 21]
        assert {str(row.error.kind) for row in found[0].failures} == {"killed"}
        assert executor.active_pids == ()
    assert not any(map(is_alive, pids_of(tmp_path)))


OWNER = """
import sys
import textwrap
from isolated_magic import IsolatedSubprocessExecutor
from pathlib import Path
from tests.test_row_stream import WAITS, by_tenant, rows_that_wait
with IsolatedSubprocessExecutor(timeout_secs=300) as executor:
    rows = rows_that_wait(Path(sys.argv[1]))
    executor.evaluate(WAITS, rows, per=by_tenant, env_vars={"FOLDER": sys.argv[1]}, jobs=2)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_nothing_outlives_the_owner(tmp_path, number):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE
    )
    wait_until((tmp_path / "waits").exists)
    owner.send_signal(number)
    _, said = owner.communicate()
    wait_until(lambda: not any(map(is_alive, pids_of(tmp_path))))
    assert (b"EvaluationInterrupted" in said) == (number == signal.SIGINT)


def test_a_row_that_failed_is_run_again_in_its_lane(isolated):
    code = METRIC.replace("if do:", "if do and self.rows < 3:")
    result = isolated.evaluate(code, rows_with("raise OSError('busy')", 4, at=(1,)), per=by_tenant, retries=3)
    assert result.ok
    assert [len(row.attempts) for row in result] == [1, 2, 1, 1] or len(result.rows[1].attempts) == 3


def test_a_row_that_waits_for_its_next_attempt_holds_back_none_that_comes_later(isolated, monkeypatch):
    monkeypatch.setattr(retries, "_wait_secs", lambda _: 1000.0)
    has_nothing_to_do, waits = threading.Event(), Lanes.waits

    def noted(lanes, lane):
        waits(lanes, lane)
        has_nothing_to_do.set()

    monkeypatch.setattr(Lanes, "waits", noted)
    done = []

    def rows():
        yield {"n": 0}
        assert has_nothing_to_do.wait(HANG_GUARD_SECS)
        has_nothing_to_do.clear()
        yield {"n": 1}
        done.append(has_nothing_to_do.wait(HANG_GUARD_SECS))
        isolated.kill_all_processes()

    result = isolated.evaluate("1 / data['n']", rows(), per=lambda row: 1, retries=1)
    assert done == [True]
    assert [row.ok for row in result] == [False, True]


def test_each_value_has_a_rate_of_its_own(isolated):
    rows = [{"tenant": f"t{n % 2}", "n": n} for n in range(8)]
    begun = time.monotonic()
    result = isolated.evaluate("import time\ntime.monotonic()", rows, per=by_tenant, rate="10/s", jobs=2)
    for tenant in ("t0", "t1"):
        times = [row.scores[0].value for row in result if row.row["tenant"] == tenant]
        assert all(at - begun >= nth * 0.1 for nth, at in enumerate(times))


def test_an_event_loop_lasts_as_long_as_the_metric(isolated):
    code = """
import asyncio
class M:
    def __init__(self):
        self.loops = set()
    async def score(self, n, **_):
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return n if len(self.loops) == 1 else -1
M
"""
    rows = [{"tenant": "a", "n": n} for n in range(20)]
    assert [row.scores[0].value for row in isolated.evaluate(code, rows, per=by_tenant)] == list(range(20))


def test_faults_of_every_kind_among_good_rows(executor):
    faults = {
        5: ("sys.exit(3)", "no_result"),
        6: ("time.sleep(1000)", "timeout"),
        9: ("ctypes.string_at(0)", "died"),
        12: ("os.kill(os.getpid(), signal.SIGKILL)", "died"),
        13: ("x = bytearray(400 << 20)", "limit"),
        16: ("raise OSError('busy')", "user_code"),
        19: ("os._exit(0)", "no_result"),
    }
    rows = [{"tenant": f"t{n % 2}", "n": n, "do": faults.get(n, ("", ""))[0]} for n in range(24)]
    limits = Limits(memory_bytes=200 << 20)
    with time_limit_from(secs=6):
        result = executor.evaluate(METRIC, rows, per=by_tenant, timeout_secs=1, limits=limits)
    kinds = {row.index: str(row.error.kind) for row in result.failures}
    assert kinds == {n: kind for n, (_, kind) in faults.items()}, {row.index: row.error for row in result.failures}
    assert [values(row)["n"] for row in result if row.ok] == [n for n in range(24) if n not in faults]
    assert executor.active_pids == ()


def test_a_row_that_exceeds_a_limit_leaves_nothing_to_the_next_one(isolated):
    code = """
        import json
        kept = json.kept = getattr(json, "kept", [])
        kept.append(bytearray(60 << 20))
        len(kept) + 0 * data["n"]
    """
    rows = [{"n": n} for n in range(10)]
    result = isolated.evaluate(textwrap.dedent(code), rows, per=lambda _: 1, limits=Limits(memory_bytes=256 << 20))
    failed = [row.index for row in result.failures]
    assert failed
    assert all(result.failures[0].error == row.error for row in result.failures)
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(failed)), failed


def test_the_oom_killer_takes_one_row_in_containers(daemon):
    settings = {"image": daemons.IMAGE, "base_url": daemon.url, "standby": 1, "memory_bytes": 128 << 20}
    rows = rows_with("x = b'1' * (400 << 20)", 6, at=(2,))
    with create_executor("docker", timeout_secs=300, **settings) as executor:
        result = executor.evaluate(METRIC, rows, per=by_tenant)
    assert [row.index for row in result.failures] == [2]
    assert result.rows[2].error.text == "memory limit 128 MB exceeded: the system's OOM killer ended the run."
    assert [values(row)["rows"] for row in result if row.ok] == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("rest", "is_run_once"),
    [
        ("def f(data): return builtins.runs\nf", True),
        ("def f(n, **_):\n    x = builtins\n    x.data = 1\n    return builtins.runs\nf", True),
        ("from functools import partial\npartial(lambda k, **_: builtins.runs, k=1)", True),
        ("class M:\n    data = 1\n    def score(self, n, **_): return builtins.runs\n{'m': M()}", True),
        ("def f(n, **_): return builtins.runs + 0 * len(data)\nf", False),
        ("def f(n, **_):\n    def g(): return data\n    return builtins.runs + 0 * len(g())\nf", False),
        ("first = data['n']\ndef f(n, **_): return builtins.runs\nf", False),
        ("lambda **_: builtins.runs + 0 * len(globals()['data'])", False),
        ("import sys\nsys.stdin.read()\nlambda **_: builtins.runs", False),
        ("import fileinput\nlist(fileinput.input())\nlambda **_: builtins.runs", False),
        ("import __main__\nlambda **_: builtins.runs + 0 * len(__main__.data)", False),
        ("builtins.runs", False),
    ],
)
def test_code_that_uses_its_data_runs_for_each_row(isolated, rest, is_run_once):
    code = f"import builtins\nbuiltins.runs = getattr(builtins, 'runs', 0) + 1\n{rest}"
    rows = [{"tenant": "a", "n": n} for n in range(4)]
    found = [row.scores[0].value for row in isolated.evaluate(code, rows, per=by_tenant)]
    assert found == ([1, 1, 1, 1] if is_run_once else [1, 2, 3, 4])
