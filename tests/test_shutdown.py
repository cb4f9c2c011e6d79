"""The end of a run's process: what runs at exit, what it may take, what it costs."""

import signal
import tempfile

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from tests.time_limits import time_limit_from

CRASH = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.{})\n"
VALUE = "0.5"
METRIC = "class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, answer): return 0.5"
PRINTED = 'print(\'{"scores": [{"name": "score", "value": 0.5}]}\')'


class TestTheEndOfTheProcess:
    """What happens after the code's last line: the result is known by then, and what goes wrong is said beside it."""

    @pytest.fixture
    def forked(self, request):
        return request.getfixturevalue("_forked")

    @pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGKILL"])
    @pytest.mark.parametrize("code", [VALUE, PRINTED, METRIC])
    def test_a_crash_costs_no_result(self, executor, name, code):
        result = executor.run(CRASH.format(name) + code, {"answer": "yes"})
        assert result.ok, result.error
        assert [score.value for score in result.scores] == [0.5]
        number = getattr(signal, name)
        assert result.exit_status == -number
        assert result.notes == (f"The process died by signal {int(number)} ({name}) after the code had finished.",)
        assert executor.execute(CRASH.format(name) + code, {"answer": "yes"})["scores"][0]["value"] == 0.5

    @pytest.mark.parametrize(
        ("code", "status", "note"),
        [
            ("atexit.register(os._exit, 3)", 3, "The process ended with exit status 3 after the code had finished."),
            ("atexit.register(os._exit, 0)", 0, None),
            ("atexit.register(sys.exit, 3)", 0, None),
            ("atexit.register(lambda: 1 / 0)", 0, None),
            ("sys.stdout.write('lost'); os.close(1)", 120, "The process ended with exit status 120 after the code had "
                "finished: what it printed last could not be written."),
        ],
    )  # fmt: skip
    def test_an_exit_status_of_the_end_costs_no_result(self, executor, code, status, note):
        result = executor.run(f"import atexit, os, sys\n{code}\n0.5", env_vars={"PYTHONUNBUFFERED": None})
        assert result.ok, result.error
        assert (result["score"].value, result.exit_status) == (0.5, status)
        assert result.notes == ((note,) if note else ())

    @pytest.mark.parametrize(
        ("code", "kind", "text"),
        [
            (f"{PRINTED}\nimport sys\nsys.exit(3)", "no_result", "ended with exit status 3"),
            (
                f"{PRINTED}\nimport os, sys\nsys.stdout.flush()\nos._exit(3)",
                "no_result",
                "ended with exit status 3",
            ),
            (f"{PRINTED}\nimport sys\nsys.exit('no good')", "no_result", "no good"),
            (f"{PRINTED}\nimport os, sys\nsys.stdout.flush()\nos.abort()", "died", "SIGABRT"),
            (f"{CRASH.format('SIGABRT')}{PRINTED}\n1 / 0", "user_code", "ZeroDivisionError"),
            (f"{CRASH.format('SIGABRT')}{PRINTED}\nraise SystemExit(4)", "died", "SIGABRT"),
            (f"{CRASH.format('SIGABRT')}x = 1", "no_result", "nothing was printed"),
        ],
    )
    def test_what_goes_wrong_before_is_an_error(self, executor, code, kind, text):
        result = executor.run(code)
        assert result.error.kind == kind
        assert text in result.error.text
        assert not result.scores

    def test_leaving_as_if_all_were_well_is_an_end(self, executor):
        result = executor.run(f"{CRASH.format('SIGABRT')}import sys\n{PRINTED}\nsys.exit()")
        assert result["score"].value == 0.5
        assert "SIGABRT" in result.notes[0]

    @pytest.mark.parametrize(
        "code",
        [
            "import atexit, time\natexit.register(time.sleep, 1000)\n0.5",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n0.5",
            f"import atexit, time\natexit.register(time.sleep, 1000)\n{PRINTED}",
        ],
    )
    def test_a_timeout_says_that_the_code_had_finished(self, executor, code):
        with time_limit_from(secs=2):
            result = executor.run(code, timeout_secs=2)
        assert result.error.kind == "timeout"
        assert result.error.text == (
            "Execution timed out after 2 seconds "
            "(the code had finished; a thread, an exit function or a finalizer of its had not)"
        )

    @pytest.mark.parametrize(
        "last_words",
        [
            "time.sleep(1000)",
            "threading.Event().wait()",
            "while True: pass",
            "pair = socket.socketpair(); pair[0].recv(1)",
        ],
    )
    def test_a_finalizer_of_a_fork_cannot_hold_it_up(self, forked, last_words):
        code = f"import socket, threading, time\nclass Thing:\n    def __del__(self):\n        print('going', end='')\n        {last_words}\nthing, file = Thing(), open(data['path'], 'w')\nfile.write('written')\n0.5"
        forked.run("import socket, threading, time\n1")
        assert forked.warm_up()
        with tempfile.NamedTemporaryFile() as file:
            result = forked.run(code, {"path": file.name}, timeout_secs=20)
            assert file.read() == b"written"
        assert result.ok, result.error
        assert result.launch == "forked"
        assert (result["score"].value, result.stdout, result.exit_status) == (0.5, "going", 0)
        assert result.notes == (
            "A finalizer (such as __del__) took too long after the code had finished: it was cut off.",
        )

    def test_finalizers_have_time(self, executor):
        code = "import time\nclass Thing:\n    def __del__(self):\n        time.sleep(0.1)\n        print('gone', flush=True)\nthing = Thing()\n0.5"
        result = executor.run(code)
        assert (result.ok, result.stdout, result.notes) == (True, "gone\n", ())

    def test_finalizers_have_the_names_of_the_code_when_multiprocessing_is_ahead(self):
        code = "import time\nclass Thing:\n    def __del__(self):\n        time.sleep(0)\n        print('gone', flush=True)\nthing = Thing()\n0.5"
        with IsolatedSubprocessExecutor(timeout_secs=60, preload=["multiprocessing"]) as executor:
            assert executor.warm_up()
            result = executor.run(code)
        assert (result.launch, result.stdout, result.stderr) == ("forked", "gone\n", "")

    def test_an_error_of_the_code_stays_one_when_a_finalizer_is_cut_off(self, forked):
        code = "import sys, time\nclass Thing:\n    def __del__(self):\n        time.sleep(1000)\nthing = Thing()\nsys.exit(4)"
        result = forked.run(code, timeout_secs=20)
        assert (result.error.kind, result.exit_status) == ("no_result", 4)
        assert "exit status 4" in result.error.text
