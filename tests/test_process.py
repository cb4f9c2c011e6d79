"""Workers that do one run after the other: what a run finds as new, what it may find, and when a worker goes."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from isolated_magic import (
    InvalidRequestError,
    Limits,
    ProcessExecutor,
    create_executor,
    recommend,
)
from tests.processes import wait_until


@pytest.fixture
def one():
    """A single worker: whatever a run leaves, the next one would find."""
    with ProcessExecutor(60, workers=1) as executor:
        yield executor


def workers_of(pid):
    below = psutil.Process(pid).children(recursive=True)
    return [p for p in below if p.is_running() and "worker" in p.cmdline()]


def pid_of_next(executor):
    return executor.run("1").pid


class TestReuse:
    def test_a_worker_does_many_runs(self, one):
        results = [one.run(f"{number}") for number in range(5)]
        assert [result["score"].value for result in results] == [0, 1, 2, 3, 4]
        assert len({result.pid for result in results}) == 1
        assert {result.launch for result in results} == {"reused"}

    @pytest.mark.parametrize("read", ["sys.stdin.read()", "os.read(0, 1 << 20)"])
    def test_each_run_of_the_same_code_reads_its_own_data(self, one, read):
        code = f"import json, os, sys\nlen(json.loads({read})['data']['text'])"
        lengths = [3, 30_000, 1, 700, 0, 3]
        results = [one.run(code, {"text": "x" * length}) for length in lengths]
        assert [result["score"].value for result in results] == lengths
        assert len({result.pid for result in results}) == 1

    def test_each_run_has_its_own_names_and_options(self, one):
        code = "found = 'left' in globals()\nleft = True\nraise ValueError(found)"
        named = ["<one>", "<one>", "<other>", "<one>"]
        errors = [one.run(code, source_name=name).error for name in named]
        assert {error.summary.partition(" (")[0] for error in errors} == {"ValueError: False"}
        assert [name in error.text for name, error in zip(named, errors, strict=True)] == [True] * 4

    def test_workers_are_there_before_the_first_run(self):
        before = set(workers_of(os.getpid()))  # of kernels that other tests have
        with ProcessExecutor(workers=2):
            wait_until(lambda: len(set(workers_of(os.getpid())) - before) == 2)

    def test_as_many_as_processors(self):
        with ProcessExecutor() as executor:
            assert executor.workers == len(os.sched_getaffinity(0))

    def test_it_is_replaced_after_so_many_runs_and_calls_exit_functions_then(self):
        with ProcessExecutor(60, workers=1, max_runs=2) as executor:
            code = "import atexit\natexit.register(print, 'over')\n1"
            first, second, third = (executor.run(code) for _ in range(3))
        assert first.pid == second.pid != third.pid
        assert first.stdout == ""
        assert second.stdout.count("over") == 2

    def test_it_is_replaced_when_it_has_grown(self):
        with ProcessExecutor(60, workers=1, max_memory_bytes=200 << 20) as executor:
            before = pid_of_next(executor)
            assert pid_of_next(executor) == before
            executor.run(
                "import builtins, json\njson.kept = bytearray(300 << 20)\nfor i in range(0, 300 << 20, 4096): json.kept[i] = 1\n1"
            )
            assert pid_of_next(executor) != before

    def test_what_one_run_may_leave_for_the_next(self, one):
        """The documented price: modules and what is in them."""
        one.run("import json, sys\njson.left = 'here'\nimport colorsys\n1")
        result = one.run("import json, sys\nprint(getattr(json, 'left', None), 'colorsys' in sys.modules)\n1")
        assert result.stdout == "here True\n"


LEAVES = {
    "names": ("x = 1", "'x' in globals()", "False"),
    "names of main": ("import __main__\n__main__.y = 1", "import __main__\nhasattr(__main__, 'y')", "False"),
    "builtins": (
        "import builtins\nbuiltins.z = 1\nbuiltins.hex = None",
        "hex(10) == '0xa' and 'z' not in dir(__builtins__)",
        "True",
    ),
    "the working directory": ("import os\nos.chdir('/')", "import os\nos.getcwd() == '/'", "False"),
    "umask": ("import os\nos.umask(0o777)", "import os\nos.umask(0) == 0o777", "False"),
    "a variable": (
        "import os\nos.environ['LEFT'] = '1'",
        "import os\n'LEFT' in os.environ or bool(os.popen('echo $LEFT').read().strip())",
        "False",
    ),
    "a variable of C": (
        "import os\nos.putenv('LEFT', '1')",
        "import subprocess\nsubprocess.run('test -z \"$LEFT\"', shell=True).returncode",
        "0",
    ),
    "a variable removed": ("import os\ndel os.environ['PATH']", "import os\n'PATH' in os.environ", "True"),
    "all variables": (
        "import os\nos.environ.clear()",
        "import os, subprocess\n'PATH' in os.environ and b'PATH' in subprocess.check_output('env')",
        "True",
    ),
    "another environ": ("import os\nos.environ = {}", "import os\n'PATH' in os.environ", "True"),
    "sys.stdout": ("import sys, io\nsys.stdout = io.StringIO()", "import sys\nsys.stdout.fileno()", "1"),
    "stdout closed": ("import sys\nsys.stdout.close()", "import sys\nsys.stdout.closed", "False"),
    "descriptor 1": ("import os\nos.dup2(os.open('/dev/null', os.O_WRONLY), 1)", "1", "1"),
    "descriptor 1 closed": ("import os\nos.close(1)", "1", "1"),
    "settings of stdout": (
        "import sys\nsys.stdout.reconfigure(encoding='utf-16', errors='ignore')",
        "import sys\nsys.stdout.encoding + sys.stdout.errors",
        "utf-8",
    ),
    "a signal handler": (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
        "import signal\nsignal.getsignal(signal.SIGTERM) is signal.SIG_DFL and signal.getsignal(signal.SIGINT) is signal.default_int_handler",
        "True",
    ),
    "a signal mask": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
        "import signal\nlen(signal.pthread_sigmask(signal.SIG_BLOCK, ()))",
        "0",
    ),
    "an alarm": (
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)",
        "import time\ntime.sleep(0.2)\n1",
        "1",
    ),
    "sys.path": ("import sys\nsys.path.insert(0, '/nowhere')", "import sys\n'/nowhere' in sys.path", "False"),
    "arguments": ("import sys\nsys.argv.append('x')", "import sys\nlen(sys.argv)", "1"),
    "a hook": (
        "import sys\nsys.excepthook = print\nsys.settrace(lambda *_: None)\nsys.setprofile(lambda *_: None)",
        "import sys\nsys.excepthook is sys.__excepthook__ and sys.gettrace() is None and sys.getprofile() is None",
        "True",
    ),
    "the recursion limit": (
        "import sys\nsys.setrecursionlimit(123)",
        "import sys\nsys.getrecursionlimit() == 123",
        "False",
    ),
    "a limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
        "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)[0] > 50",
        "True",
    ),
    "its priority": ("import os\nos.nice(3)", "import os\nos.nice(0)", "0"),
    "its processors": (
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        "import os\nlen(os.sched_getaffinity(0)) == len(os.sched_getaffinity(os.getppid()))",
        "True",
    ),
    "the locale": (
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
        "import locale\nlocale.setlocale(locale.LC_CTYPE) != 'C'",
        "True",
    ),
    "digits of integers": (
        "import sys\nsys.set_int_max_str_digits(700)",
        "import sys\nsys.get_int_max_str_digits()",
        "4300",
    ),
    "the size of stacks": (
        "import threading\nthreading.stack_size(1 << 20)",
        "import threading\nthreading.stack_size()",
        "0",
    ),
    "hooks of threads": (
        "import threading\nthreading.excepthook = print\nthreading.settrace(print)",
        "import threading\nthreading.excepthook is threading.__excepthook__ and threading.gettrace() is None",
        "True",
    ),
    "a timeout of sockets": (
        "import socket\nsocket.setdefaulttimeout(1)",
        "import socket\nsocket.getdefaulttimeout()",
        "None",
    ),
    "tracing of memory": (
        "import tracemalloc\ntracemalloc.start()",
        "import tracemalloc\ntracemalloc.is_tracing()",
        "False",
    ),
    "short tracebacks": (
        "import sys\nsys.tracebacklimit = 0",
        "import sys\nhasattr(sys, 'tracebacklimit')",
        "False",
    ),
    "chatter of the collector": ("import gc\ngc.set_debug(gc.DEBUG_STATS)", "import gc\ngc.get_debug()", "0"),
    "finders": ("import sys\nsys.meta_path.clear()\nsys.path_hooks.clear()", "import chunk, colorsys\n1", "1"),
    "a stdout that does not wait": (
        "import os\nos.set_blocking(1, False)\nos.set_blocking(2, False)",
        "import os\nos.get_blocking(1) and os.get_blocking(2)",
        "True",
    ),
    "no stdin": (
        "import sys\nsys.stdin = sys.__stdin__ = None",
        "import sys\nrepr(sys.stdin)[:47] + sys.stdin.mode",
        "<_io.TextIOWrapper name='<stdin>' mode='r' enco",
    ),
    "a signal that waits": (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nos.kill(os.getpid(), signal.SIGUSR1)",
        "1",
        "1",
    ),
    "a dump of faults": (
        "import faulthandler\nfaulthandler.enable()",
        "import faulthandler\nfaulthandler.is_enabled()",
        "False",
    ),
    "garbage collection": ("import gc\ngc.disable()", "import gc\ngc.isenabled()", "True"),
    "a context variable": (
        "import decimal\ndecimal.getcontext().prec = 3",
        "import decimal\ndecimal.getcontext().prec",
        "28",
    ),
    "another descriptor 0": (
        "import os\nos.dup2(os.open(os.devnull, os.O_RDONLY), 0)",
        "import os\nos.read(0, 7).decode().replace('\"', '')",
        "{data",
    ),
    "no descriptor 0": ("import os\nos.close(0)", "import os\nos.read(0, 7).decode().replace('\"', '')", "{data"),
    "the end of its input": (
        "import os\nos.lseek(0, 0, os.SEEK_END)",
        "import os\nos.read(0, 7).decode().replace('\"', '')",
        "{data",
    ),
    "what it did not read": ("1", "import sys\nlen(sys.stdin.read()) < 60", "True"),
    "a process": (
        "import subprocess\nsubprocess.Popen(['sleep', '1000'])",
        "import os\nlen(os.popen('ps -o pid= --ppid ' + str(os.getpid())).read().split())",
        "1",
    ),
    "a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(0.1,)).start()",
        "import threading\nthreading.active_count()",
        "1",
    ),
}


@pytest.mark.parametrize("left", LEAVES)
def test_what_no_run_leaves_for_the_next(one, left):
    code, question, expected = LEAVES[left]
    first = one.run(f"{code}\nNone", {"long": "x" * 100})
    assert first.error is None or "Invalid JSON" in first.error.text, first.error
    body, _, last = question.rpartition("\n")
    result = one.run(
        f"{body}\nanswer = {last}\nprint({{'answer': str(answer)}} and '{{\"answer\": \"' + str(answer) + '\"}}')"
    )
    assert result.error is None, result.error.text
    assert result.payload["answer"].startswith(expected)


def test_a_run_finds_its_environment_whatever_this_process_changes(one, monkeypatch):
    before = pid_of_next(one)
    monkeypatch.setenv("SET_LATER", "yes")
    result = one.run("import os\nprint(os.environ['SET_LATER'])\n1")
    assert result.stdout == "yes\n"
    assert result.pid != before


def test_a_module_of_the_users_that_was_edited_is_imported_anew(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edited.py").write_text("value = 1\n")
    assert one.run("import edited\nedited.value")["score"].value == 1
    assert one.run("import edited\nedited.value")["score"].value == 1
    (tmp_path / "edited.py").write_text("value = 22\n")
    assert one.run("import edited\nedited.value")["score"].value == 22


@pytest.mark.parametrize("value", ["1", None])
def test_streams_are_buffered_as_the_interpreter_has_them(one, value, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1") if value else monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = "import sys\n{'scores': [], 'told': [[s.write_through, s.line_buffering] for s in (sys.stdout, sys.stderr)]}"
    told = [one.run(code).payload["told"] for _ in range(3)]
    assert told[0] == told[1] == told[2]
    assert told[0][0] == [bool(value), True]


LAST_WORDS = "class A:\n    def __del__(self): print('last words')\na = A()\ndef f(): pass\n1"


class TestTheEndOfARun:
    """What the code made ends with its own run, not in the middle of another one."""

    def test_finalizers_print_where_they_belong(self, one):
        assert one.run(LAST_WORDS).stdout == "last words\n"
        assert one.run("x = [[] for _ in range(10_000)]\n2").stdout == ""

    def test_a_stream_over_ours_is_closed_with_its_run(self, one):
        for made in (
            "io.TextIOWrapper(sys.stdout.buffer, 'utf-8')",
            "os.fdopen(1, 'w')",
            "os.fdopen(1, 'w', closefd=False)",
        ):
            code = f"import io, os, sys\nout = {made}\ndef say(text): out.write(text)\nsay('hi')\n1"
            assert one.run(code).stdout == "hi"
            for _ in range(3):
                assert one.run("x = [[] for _ in range(10_000)]\nprint('on')\n2").stdout == "on\n"

    def test_files_are_written(self, one, tmp_path):
        assert one.run(f"f = open({str(tmp_path / 'file')!r}, 'w')\nf.write('abc')\ndef g(): pass\n1").ok
        assert (tmp_path / "file").read_text() == "abc"

    def test_what_modules_hold_still_works(self, one):
        one.run("import json\nnumber = 5\ndef left(): return number\njson.left = left\n1")
        assert one.run("import json\njson.left()")["score"].value == 5


class TestShortRuns:
    """What is done to make them fast is not to be seen."""

    def test_what_the_compiler_warns_of_is_printed_by_each_run(self, one):
        results = [one.run("if 1 is 1:\n    score = 1\nscore") for _ in range(5)]
        assert len({result.pid for result in results}) == 1
        assert all(result.stderr.count("SyntaxWarning") == 1 for result in results)

    def test_code_is_known_by_its_text_and_its_name(self, one):
        for number in [*range(100), *range(100)]:
            assert one.run(f"{number}")["score"].value == number
        for name in ["<first>", "<second>"] * 2:
            assert name in one.run("1/0", source_name=name).error.text

    def test_code_that_cannot_be_compiled_fails_each_time(self, one):
        assert {one.run("1 +").error.summary for _ in range(4)} == {one.run("1 +").error.summary}

    @pytest.mark.parametrize(
        "end",
        [
            "os.kill(os.getpid(), 9)",
            "os._exit(0)",
            "os._exit(3)",
            "import ctypes\nctypes.string_at(0)",
            "os.fork() or time.sleep(1000)\nos.kill(os.getpid(), 9)",
            "os.close(500)\nos.kill(os.getpid(), 9)",
        ],
    )
    def test_what_ends_its_worker_has_run_once(self, one, end, tmp_path):
        pid_of_next(one)
        code = f"import os, time\nwith open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\n{end}"
        assert one.run(code, timeout_secs=20).error is not None
        assert (tmp_path / "runs").read_text() == "x"

    @pytest.mark.parametrize(
        "code",
        [
            "import os, sys\nsys.kept = []\ntry:\n    while True: sys.kept.append(os.open('/dev/null', 0))\nexcept OSError: pass",
            "import json\njson._default_decoder = None",
            "import os\ndef fail(*a): raise RuntimeError\nos.pwrite = fail",
            "import sys\nsys.modules['warnings'] = None",
            "import os, socket, sys\nsys.kept = socket.socketpair()\nos.dup2(sys.kept[0].fileno(), 500)",
        ],
        ids=["descriptors", "json", "os", "warnings", "the channel"],
    )
    def test_a_worker_that_was_taken_apart_costs_no_run(self, one, code):
        for _ in range(3):
            one.run(f"{code}\n1", timeout_secs=20)
            result = one.run("2")
            assert result.error is None, result.error.text
            assert result.stderr == ""

    def test_a_path_that_cannot_be_encoded(self, one):
        odd = "importlib.machinery.ModuleSpec('odd', None, origin='/tmp/\\ud800.py')"
        one.run("1")
        one.run(
            f"import sys, types, importlib.machinery\nm = types.ModuleType('odd')\nm.__spec__ = {odd}\nsys.modules['odd'] = m\n1"
        )
        assert one.run("2").ok

    @pytest.mark.parametrize("size", [0, 10_000_000], ids=["small", "large"])
    def test_what_ends_before_it_runs_is_run_by_another(self, one, size, tmp_path):
        before = psutil.Process(pid_of_next(one))
        before.suspend()
        run = one.start(
            f"with open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\n2", {"d": "." * size}
        )
        wait_until(lambda: run.pid == before.pid)
        before.kill()
        assert run.result(30)["score"].value == 2
        assert (tmp_path / "runs").read_text() == "x"

    def test_much_is_printed_in_a_moment(self, one):
        for _ in range(3):
            result = one.run("print('x' * 1_000_000)\nimport sys\nsys.stderr.write('y' * 300_000)\n1")
            assert (len(result.stdout), len(result.stderr)) == (1_000_001, 300_000)

    def test_output_comes_while_the_code_runs(self, one):
        came = []
        for _ in range(2):
            code = (
                "import time\nprint('on')\nwhile not __import__('os').path.exists(data['go']): time.sleep(0.01)\n1"
            )
            go = Path(tempfile.mkdtemp()) / "go"
            result = one.run(code, {"go": str(go)}, on_output=lambda *said, go=go: came.append(said) or go.touch())
            assert result.ok
        assert "".join(text for _, text in came) == "on\n" * 2

    def test_a_metric_is_scored_each_time(self, one):
        code = "class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, answer): return len(answer)"
        for length in range(4):
            assert one.run(code, {"answer": "x" * length})["score"].value == length
        printed = one.run(f"{code}\nprint('{{\"scores\": []}}')", {"answer": ""})
        assert printed.payload == {"scores": []}

    def test_a_timeout_shorter_than_a_moment(self, one):
        pid_of_next(one)
        result = one.run("while True: pass", timeout_secs=0.002)
        assert str(result.error.kind) == "timeout"
        assert one.run("2")["score"].value == 2


class TestReplacement:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "died"),
            ("import os\nos._exit(3)", "no_result"),
            ("import time\ntime.sleep(1000)", "timeout"),
            ("while True: pass", "timeout"),
        ],
    )
    def test_a_worker_that_failed(self, one, code, kind):
        before = pid_of_next(one)
        result = one.run(code, timeout_secs=0.5 if kind == "timeout" else None)
        assert str(result.error.kind) == kind
        assert result.pid == before
        assert not psutil.pid_exists(before) or psutil.Process(before).status() == psutil.STATUS_ZOMBIE
        assert one.run("2")["score"].value == 2

    def test_a_failed_run_alone_replaces_nothing(self, one):
        before = pid_of_next(one)
        assert "ZeroDivisionError" in one.run("1/0").error.text
        assert one.run("import sys\nsys.exit(3)").exit_status == 3
        assert pid_of_next(one) == before

    def test_a_worker_that_was_killed_while_it_waited(self, one):
        before = pid_of_next(one)
        process = psutil.Process(before)
        process.kill()
        assert one.run("2")["score"].value == 2

    def test_one_that_was_killed_from_here(self, one):
        run = one.start("import time\ntime.sleep(1000)")
        assert one.kill_process(run.pid)
        assert str(run.result(30).error.kind) == "killed"
        assert pid_of_next(one) != run.pid

    def test_one_that_was_interrupted(self, one):
        run = one.start("print('on', flush=True)\nimport time\ntime.sleep(1000)")
        wait_until(lambda: "on" in run.stdout)
        run.interrupt()
        assert str(run.result(30).error.kind) == "interrupted"
        assert pid_of_next(one) != run.pid

    def test_output_after_a_timeout_is_not_in_the_next_run(self, one):
        one.run("import time\nprint('late')\ntime.sleep(1000)", timeout_secs=0.5)
        assert one.run("1").stdout == ""


class TestTurns:
    def test_runs_that_wait_for_a_worker_get_theirs(self, one):
        with ThreadPoolExecutor(8) as pool:
            values = list(pool.map(lambda n: one.run(f"{n}")["score"].value, range(100)))
        assert values == list(range(100))

    def test_waiting_is_not_counted_as_time_of_the_run(self, one):
        long = one.start("import time\ntime.sleep(5.5)\n1")
        assert one.run("2", timeout_secs=5).ok
        assert long.result(30).ok

    def test_a_run_that_waits_can_be_stopped(self, one):
        long = one.start("import time\ntime.sleep(1000)")
        assert long.pid
        waiting = one.start("1")
        assert waiting.kill(30)
        assert "while it waited for a worker" in waiting.result().error.text
        assert long.kill(30)
        assert one.run("2").ok

    def test_teardown_ends_those_that_wait_too(self, one):
        runs = [one.start("import time\ntime.sleep(1000)") for _ in range(3)]
        assert runs[0].pid or runs[1].pid or runs[2].pid
        one.teardown()
        assert all(run.result(30).error for run in runs)
        assert one.run("2").ok
        one.teardown()
        one.teardown()

    def test_no_output_of_one_run_is_in_another(self):
        with ProcessExecutor(60, workers=2) as executor, ThreadPoolExecutor(4) as pool:
            results = list(
                pool.map(
                    lambda n: executor.run(f"print({n})\nimport sys\nprint({n}, file=sys.stderr)\n1"), range(200)
                )
            )
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(200)]
        assert [result.stderr for result in results] == [f"{n}\n" for n in range(200)]


class TestSignalsOfTheOwner:
    @pytest.mark.parametrize("millisecs", [1, 2, 4, 6])
    def test_a_fast_timer_holds_nothing_up(self, one, millisecs):
        for _ in range(2):
            one.run("1")
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, millisecs / 1000, millisecs / 1000)
        try:
            assert str(one.run("while True: pass", timeout_secs=0.5).error.kind) == "timeout"
            assert len(one.run("print('x' * 200_000)\n1").stdout) == 200_001
            one.run("1")
            assert len(one.run("print('x' * 200_000)\n1").stdout) == 200_001
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class TestLifetime:
    def test_teardown_leaves_no_worker(self):
        executor = ProcessExecutor(workers=2)
        pids = {executor.run("1").pid for _ in range(3)}
        executor.teardown()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))

    def test_workers_end_with_their_owner(self):
        code = "from isolated_magic import ProcessExecutor\nimport time\ne = ProcessExecutor(workers=1)\nprint(e.run('1').pid, flush=True)\ntime.sleep(1000)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
            worker = psutil.Process(int(owner.stdout.readline()))
            owner.kill()
        psutil.wait_procs([worker], timeout=30)
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE

    def test_a_fork_of_this_process_has_workers_of_its_own(self, one):
        before = pid_of_next(one)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, str(one.run("1").pid).encode())
                one.teardown()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert int(os.read(read, 100)) != before
        assert pid_of_next(one) == before

    def test_many_threads_and_a_teardown_at_once(self):
        with ProcessExecutor(60, workers=2) as executor, ThreadPoolExecutor(4) as pool:
            done = threading.Event()
            futures = [pool.submit(lambda: [executor.run("1") for _ in range(30)]) for _ in range(4)]
            executor.teardown()
            done.set()
            results = [result for future in futures for result in future.result(120)]
        assert all(result.ok or result.error.kind in {"killed", "launch"} for result in results)


class TestSettings:
    def test_variables_are_refused_with_what_to_use(self, one):
        answer = one.execute("1", {}, env_vars={"TENANT": "secret-value"})
        assert answer["code"] == 400
        assert "IsolatedSubprocessExecutor" in answer["error"]
        assert "secret-value" not in answer["error"]

    def test_a_run_with_limits_has_a_process_of_its_own(self, one):
        before = pid_of_next(one)
        result = one.run("x = bytearray(1 << 30)", limits=Limits(memory_bytes=100 << 20))
        assert "memory limit" in result.error.text
        assert result.pid != before
        assert pid_of_next(one) == before

    @pytest.mark.parametrize(
        "settings", [{"workers": 0}, {"max_runs": 0}, {"max_memory_bytes": True}, {"workers": "2"}]
    )
    def test_a_setting_that_cannot_be(self, settings):
        with pytest.raises(InvalidRequestError, match="greater than zero"):
            ProcessExecutor(**settings)

    def test_by_name(self):
        with create_executor("process", workers=1) as executor:
            assert isinstance(executor, ProcessExecutor)
        with pytest.raises(InvalidRequestError, match="'isolated', 'process', 'docker'"):
            create_executor("thread")
        with pytest.raises(InvalidRequestError, match="did you mean workers"):
            create_executor("process", worker=1)


def test_which_to_choose():
    assert recommend(trusted=False).executor == "docker"
    assert recommend(own_environment=True).executor == "isolated"
    assert recommend(own_environment=False, clean_state=True).executor == "isolated"
    assert recommend(own_environment=False, clean_state=False, many_runs=True).executor == "process"
    assert str(recommend(own_environment=False, clean_state=False)).startswith("isolated: ")
    with pytest.raises(InvalidRequestError, match="trusted is 'no': answer True or False"):
        recommend(trusted="no")
