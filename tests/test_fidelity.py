"""A run behaves as a fresh interpreter would, and says what is the matter when the code does odd things."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.processes import HANG_GUARD_SECS

METRIC = "class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, a): return 1"


def value_of(executor, code, data=None, **settings):
    result = executor.run(textwrap.dedent(code) if isinstance(code, str) else code, data, **settings)
    assert result.error is None, f"{result.error}\n{result.stderr}"
    assert "isolated_magic" not in result.stderr
    return result.scores[0].value


class TestUsersFilesAndOurs:
    """Files of the user's with names of the standard library's are for the user's code alone."""

    @pytest.mark.parametrize("name", ["token", "traceback", "linecache", "tokenize", "re"])
    def test_an_error_is_described_whatever_the_folder_holds(self, executor, tmp_path, monkeypatch, name):
        (tmp_path / f"{name}.py").write_text("X = 1")
        monkeypatch.chdir(tmp_path)
        answer = executor.execute("x = 1\n1/0", {})
        assert answer["code"] == 400
        assert answer["error"].endswith("ZeroDivisionError: division by zero")
        assert value_of(executor, f"import {name}\n{name}.X") == 1

    def test_a_metric_is_made_whatever_the_folder_holds(self, executor, tmp_path, monkeypatch):
        (tmp_path / "inspect.py").write_text("X = 1")
        monkeypatch.chdir(tmp_path)
        assert value_of(executor, METRIC, {"a": 1}) == 1
        assert value_of(executor, f"import inspect\nassert inspect.X\n{METRIC}", {"a": 1}) == 1

    def test_a_folder_on_pythonpath_cannot_break_a_run(self, executor, tmp_path):
        for name in ("json", "typing", "wire", "run", "outcome", "stdlib"):
            (tmp_path / f"{name}.py").write_text("X = 5")
        env_vars = {"PYTHONPATH": str(tmp_path)}
        code = "import json, typing, wire, run, outcome, stdlib\njson.X + typing.X + wire.X + run.X + outcome.X + stdlib.X"
        assert value_of(executor, code, env_vars=env_vars) == 30

    def test_a_file_gets_its_own_neighbours(self, executor, tmp_path):
        for name in ("json", "enum", "operator"):
            (tmp_path / f"{name}.py").write_text("X = 5")
        file = tmp_path / "main.py"
        file.write_text("import json, operator\njson.X + operator.X")
        assert value_of(executor, file) == 10


class TestInherited:
    """What a child of the caller's would inherit, as it is at the moment of the call."""

    def test_umask_limits_priority_and_processors(self, executor):
        code = """
            import os, resource, json
            print(json.dumps({"value": [
                os.umask(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                os.getpriority(os.PRIO_PROCESS, 0), len(os.sched_getaffinity(0)),
            ]}))
        """
        owner = f"""
            import os, resource
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor()
            code = {textwrap.dedent(code)!r}
            executor.run(code)
            os.umask(0o077)
            resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            os.nice(3)
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            print(executor.execute(code, {{}}))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)], capture_output=True, text=True, check=True
        )
        before = os.getpriority(os.PRIO_PROCESS, 0)
        assert done.stdout.strip() == str({"value": [0o077, 300, before + 3, 1]})

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_a_run_acts_for_whom_the_caller_acts_for_now(self, tmp_path):
        owner = """
            import os
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor()
            assert executor.execute("import os\\nos.getuid()", {})["scores"][0]["value"] == 0
            os.setegid(65534); os.seteuid(65534)
            print(executor.execute("import os\\nos.geteuid()", {}))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)], capture_output=True, text=True, check=True
        )
        assert "'value': 0" not in done.stdout

    def test_sigpipe_at_its_default_kills_nobody(self):
        owner = """
            import signal
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            from isolated_magic import IsolatedSubprocessExecutor
            print(IsolatedSubprocessExecutor().execute("1", {"x": "a" * 10_000_000}, {"PYTHONHOME": "/nonexistent"})["code"])
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)],
            capture_output=True,
            text=True,
            timeout=HANG_GUARD_SECS,
            check=True,
        )
        assert done.stdout == "500\n"


class TestInterpreter:
    @pytest.mark.parametrize(
        "env_vars",
        [
            {"PYTHONDEVMODE": "1"},
            {"PYTHONWARNINGS": "error"},
            {"PYTHONINSPECT": "1"},
            {"PYTHONSAFEPATH": "1"},
            {"PYTHONUNBUFFERED": "1"},
            {"PYTHONOPTIMIZE": "2"},
            {"PYTHONINTMAXSTRDIGITS": "640"},
            {"PYTHONIOENCODING": "latin-1"},
            {"PYTHONHASHSEED": "0"},
            {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        ],
        ids=lambda env_vars: next(iter(env_vars)),
    )
    def test_variables_of_the_interpreter_do_no_harm(self, executor, tmp_path, env_vars):
        data = {"n": 10**1000}
        assert value_of(executor, "len(data) / 2", data, env_vars=env_vars) == 0.5
        folder = tmp_path / "é ü"
        folder.mkdir()
        (folder / "ä.py").write_text("0.25")
        assert value_of(executor, folder / "ä.py", env_vars=env_vars) == 0.25

    @pytest.mark.parametrize(
        "env_vars",
        [{"PYTHONHOME": "/nonexistent"}, {"PYTHONHASHSEED": "bad"}, {"PYTHONIOENCODING": "no-such"}],
        ids=lambda env_vars: next(iter(env_vars)),
    )
    def test_an_interpreter_that_cannot_start_is_said(self, executor, env_vars):
        answer = executor.execute("1", {}, env_vars)
        assert answer["code"] == 500
        assert answer["error"].startswith("The interpreter could not start (exit status 1)")

    def test_error_handlers_of_the_streams_are_the_interpreters(self, executor):
        assert executor.run("import sys\nprint('\\udcff', file=sys.stderr)\n1").stderr == "\\udcff\n"
        result = executor.run("import os\nprint(os.fsdecode(b'\\xff'))\n1", env_vars={"LC_ALL": "C"})
        assert result.ok, result.error

    def test_the_names_of_main(self, executor):
        code = "import json\nprint(json.dumps({'value': sorted(globals())}))"
        plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        ours = executor.execute(code, {})["value"]
        assert str({"value": ours}).replace("'data', ", "").replace("'payload_type', ", "").replace(
            ", 'payload_type'", ""
        ) == (plain.stdout.strip().replace('"', "'"))


class TestOddCode:
    @pytest.mark.parametrize(
        "code",
        [
            "import sys\nfrom dataclasses import dataclass\n@dataclass\nclass Tee:\n    inner: object\n"
            "    def write(self, s): return self.inner.write(s)\n    def flush(self): self.inner.flush()\n"
            "sys.stdout = Tee(sys.stdout)\nprint('hi')\n0.5",
            "import sys\ndel sys.stdout\n0.5",
            "import sys\nsys.stdout = sys.stderr = None\n0.5",
            "import sys\nsys.stdout.close()\n0.5",
            "import os\nos.closerange(3, 4096)\n0.5",
            "import os\nos.close(0)\n0.5",
            "import json\njson.dumps = json.loads = None\n0.5",
            "import sys\nsys.modules.clear()\n0.5",
            "import os\nos.chdir('/')\n0.5",
        ],
    )
    def test_the_result_arrives(self, executor, code):
        assert executor.execute(code, {})["scores"][0]["value"] == 0.5

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("10**5000", "cannot be written as JSON"),
            ("{'scores': [], 'n': 10**5000}", "cannot be written as JSON"),
            ("import os\nos._exit(0)", "ended before its code did"),
        ],
    )
    def test_why_there_is_no_result_is_true(self, executor, code, said):
        answer = executor.execute(code, {})
        assert answer["code"] == 500
        assert said in answer["error"]

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            (
                "e = None\nfor i in range(5000):\n    n = ValueError(i); n.__cause__ = e; e = n\nraise e",
                "ValueError",
            ),
            ("class E(Exception):\n    def __str__(self): raise RuntimeError('no text')\nraise E", "E"),
            ("import sys\nsys.excepthook = lambda *a: sys.exit(3)\n1/0", "ZeroDivisionError"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt"),
            ("e = SyntaxError('bad'); e.add_note('a note'); raise e", "a note"),
        ],
    )
    def test_an_odd_exception_is_still_a_400(self, executor, code, said):
        result = executor.run(code)
        assert result.to_dict()["code"] == 400, (result.error, result.stderr)
        assert said in result.error.text
        assert "isolated_magic" not in result.error.text + result.stderr

    def test_the_users_excepthook_sees_none_of_our_frames(self, executor):
        result = executor.run(
            "import sys, traceback\nsys.excepthook = lambda *a: traceback.print_exception(*a)\n1/0"
        )
        assert "ZeroDivisionError" in result.stderr
        assert "isolated_magic" not in result.stderr

    def test_an_exit_message_that_cannot_be_printed(self, executor):
        result = executor.run("import sys\nclass B:\n    def __str__(self): raise ValueError\nsys.exit(B())")
        assert "cannot be printed" in result.error.text

    def test_data_of_great_depth_is_taken_or_refused(self):
        """Which of them, depends on the version of Python: each has its own limits of depth."""
        owner = """
            import sys
            sys.setrecursionlimit(50_000)
            from isolated_magic import IsolatedSubprocessExecutor
            deep = []
            for _ in range(5_000): deep = [deep]
            answer = IsolatedSubprocessExecutor().execute("0.5", {"deep": deep})
            print(answer.get("code") or answer["scores"][0]["value"])
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)], capture_output=True, text=True, check=True
        )
        assert done.stdout in {"400\n", "0.5\n"}

    @pytest.mark.parametrize("filler", [" ", "\\n", "x\\n", "x", "{\\n"])
    def test_twenty_megabytes_of_anything_pass_quickly(self, executor, filler):
        code = f"import sys\nsys.stdout.write({filler!r}.encode().decode('unicode_escape') * 20_000_000)\nprint()\n0.5"
        result = executor.run(code, timeout_secs=HANG_GUARD_SECS)
        assert result.ok, result.error

    def test_processes_that_ignore_hangups_and_interrupts_are_not_inherited(self, executor):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = "import signal\nsignal.getsignal(signal.SIGINT) is signal.default_int_handler"
            assert value_of(executor, code) == 1
        finally:
            signal.signal(signal.SIGINT, before)


def test_the_limits_of_the_stack_do_not_grow(executor):
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    seen = "import resource, json\nprint(json.dumps({'value': resource.getrlimit(resource.RLIMIT_STACK)}))"
    assert max(executor.execute(seen, {})["value"]) <= 20 * 1024 * 1024 or hard < 20 * 1024 * 1024
    assert resource.getrlimit(resource.RLIMIT_STACK) == (soft, hard)
