"""Runs in processes of their own: environment, code, data, errors, output, teardown."""

import asyncio
import math
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor
from tests.processes import HANG_GUARD_SECS, wait_until


def run_ok(executor, code, data=None, **settings):
    """The JSON object that the code prints or comes to."""
    result = executor.run(textwrap.dedent(code) if isinstance(code, str) else code, data, **settings)
    assert result.error is None, result.error.text
    return result.payload


def printed(expression: str) -> str:
    return f"import json, os, sys\nprint(json.dumps({{'value': {expression}}}))"


class TestProcess:
    def test_every_run_is_a_new_process(self, executor):
        pids = [run_ok(executor, printed("os.getpid()"))["value"] for _ in range(3)]
        assert len({*pids, os.getpid()}) == 4

    def test_environment_is_the_callers_at_the_moment_of_the_call_plus_env_vars(self, executor, monkeypatch):
        for value in ("first", "second"):
            monkeypatch.setenv("ISOLATED_TEST_OWN", value)
            seen = run_ok(
                executor,
                printed("dict(os.environ)"),
                env_vars={"ISOLATED_TEST_SET": "x y'\"$\n", "N": 5, "F": 0.25},
            )
            assert seen["value"]["ISOLATED_TEST_OWN"] == value
            assert seen["value"]["ISOLATED_TEST_SET"] == "x y'\"$\n"
            assert (seen["value"]["N"], seen["value"]["F"]) == ("5", "0.25")

    def test_environment_is_the_interpreters_own_not_only_os_environ(self, executor):
        code = (
            printed("open('/proc/self/environ').read()") if sys.platform == "linux" else printed("os.environ['A']")
        )
        assert "exact" in run_ok(executor, code, env_vars={"A": "exact"})["value"]
        flags = run_ok(executor, printed("sys.flags.optimize"), env_vars={"PYTHONOPTIMIZE": "2"})
        assert flags["value"] == 2

    def test_none_removes_a_variable(self, executor, monkeypatch):
        monkeypatch.setenv("ISOLATED_TEST_GONE", "here")
        assert run_ok(
            executor, printed("'ISOLATED_TEST_GONE' in os.environ"), env_vars={"ISOLATED_TEST_GONE": None}
        ) == {"value": False}

    def test_nothing_a_run_does_to_its_environment_reaches_anybody(self, executor):
        before = dict(os.environ)
        run_ok(
            executor,
            "import os; os.environ['LEAK'] = '1'; os.putenv('LEAK2', '1'); os.environ.pop('PATH', None)\n1",
        )
        assert dict(os.environ) == before
        assert run_ok(executor, printed("'LEAK' in os.environ or 'LEAK2' in os.environ")) == {"value": False}

    def test_quiet_defaults_hold_unless_the_caller_says_otherwise(self, executor, monkeypatch):
        names = ["OPIK_ANALYTICS_ENABLE", "OPIK_SENTRY_ENABLE", "LITELLM_LOCAL_MODEL_COST_MAP"]
        names += ["DEEPEVAL_TELEMETRY_OPT_OUT", "RAGAS_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"]
        for name in names:
            monkeypatch.delenv(name, raising=False)
        code = printed(f"[os.environ.get(name) for name in {names}]")
        assert run_ok(executor, code)["value"] == ["false", "false", "True", "YES", "true", "true"]
        monkeypatch.setenv(names[0], "true")
        changed = run_ok(executor, code, env_vars={names[1]: "true", names[2]: None})
        assert changed["value"][:3] == ["true", "true", None]

    def test_clean_environment_inherits_only_what_an_interpreter_needs(self, executor, monkeypatch):
        monkeypatch.setenv("ISOLATED_TEST_SECRET", "s3cret")
        names = run_ok(executor, printed("sorted(os.environ)"), inherit_env=False, env_vars={"MINE": "1"})["value"]
        assert "ISOLATED_TEST_SECRET" not in names
        assert {"PATH", "MINE"} <= set(names)

    def test_the_stack_is_limited(self, executor):
        code = "import resource\n" + printed("resource.getrlimit(resource.RLIMIT_STACK)[0]")
        assert run_ok(executor, code)["value"] <= 20 * 1024 * 1024

    def test_runaway_recursion_is_an_error_of_the_code(self, executor):
        answer = executor.execute("def down():\n    down()\ndown()", {})
        assert answer["code"] == 400
        assert "RecursionError" in answer["error"]

    def test_descriptors_of_the_caller_do_not_leak_into_a_run(self, executor, tmp_path):
        with (tmp_path / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)  # what a careless library does
            links = run_ok(
                executor,
                printed(
                    "[os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')]"
                ),
            )
        assert not any(str(tmp_path) in link for link in links["value"])

    def test_signals_are_those_of_a_fresh_process(self, executor):
        code = "import signal\n" + printed(
            "[signal.getsignal(signal.SIGINT) is signal.default_int_handler,"
            " signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]"
        )
        assert run_ok(executor, code)["value"] == [True, True, 0]


class TestCode:
    def test_a_string_runs_as_python_c_would(self, executor, tmp_path, monkeypatch):
        (tmp_path / "sibling_of_cwd.py").write_text("WORD = 'found'")
        monkeypatch.chdir(tmp_path)
        code = """
            import sibling_of_cwd, json, sys, os
            print(json.dumps([__name__, sys.argv, sys.path[0], os.getcwd(), sibling_of_cwd.WORD, "__file__" in globals()]
                and {"seen": [__name__, sys.argv, sys.path[0], os.getcwd(), sibling_of_cwd.WORD, "__file__" in globals()]}))
        """
        seen = run_ok(executor, code)["seen"]
        assert seen == ["__main__", ["-c"], "", str(tmp_path), "found", False]

    @pytest.mark.parametrize("as_path", [str, Path])
    def test_a_file_runs_as_python_file_would(self, executor, tmp_path, as_path):
        (tmp_path / "metrics").mkdir()
        (tmp_path / "metrics" / "helper.py").write_text("WORD = 'found'")
        file = tmp_path / "metrics" / "relevance.py"
        file.write_text(
            "import helper, json, sys\n"
            "print(json.dumps({'seen': [__name__, __file__, sys.argv, sys.path[0], helper.WORD, data]}))\n"
        )
        seen = run_ok(executor, as_path(file), {"a": 1})["seen"]
        assert seen == ["__main__", str(file), [str(file)], str(file.parent), "found", {"a": 1}]

    def test_a_relative_path_is_relative_to_the_working_directory(self, executor, tmp_path, monkeypatch):
        (tmp_path / "metric.py").write_text("0.25")
        monkeypatch.chdir(tmp_path)
        assert executor.execute("metric.py", {})["scores"][0]["value"] == 0.25
        assert executor.execute("./metric.py", {})["scores"][0]["value"] == 0.25

    def test_a_file_without_py_is_run_when_its_path_has_a_separator(self, executor, tmp_path):
        (tmp_path / "metric").write_text("0.5")
        assert executor.execute(f"{tmp_path}/metric", {})["scores"][0]["value"] == 0.5

    def test_a_file_honours_its_encoding_cookie(self, executor, tmp_path):
        file = tmp_path / "latin.py"
        file.write_bytes("# -*- coding: latin-1 -*-\nword = 'é'\nlen(word)\n".encode("latin-1"))
        assert executor.execute(str(file), {})["scores"][0]["value"] == 1

    @pytest.mark.parametrize("code", ["missing.py", "nowhere/missing.py", Path("missing"), "missing.py\n"])
    def test_a_missing_file_is_a_400(self, executor, code):
        answer = executor.execute(code, {})
        assert answer["code"] == 400
        assert "file not found" in answer["error"]
        assert "missing" in answer["error"]

    def test_a_division_is_source(self, executor):
        assert executor.execute("1/4", {})["scores"][0]["value"] == 0.25

    def test_code_is_compiled_as_it_stands(self, executor):
        code = 'from __future__ import annotations\ndef f(x: no_such_name): pass\ntext = """a\n  b\n\tc"""\nif True:\n\ttext += "\\t!"\ntext == "a\\n  b\\n\\tc\\t!"'
        assert executor.execute(code, {})["scores"][0]["value"] == 1

    def test_future_features_reach_the_last_expression(self, executor):
        code = "from __future__ import annotations\nisinstance((lambda: 0).__annotations__, dict) and 1"
        assert executor.execute(code, {})["scores"][0]["value"] == 1

    def test_line_numbers_survive(self, executor):
        answer = executor.execute("\n\nx = 1\n\nraise ValueError('here')", {})
        assert 'File "<string>", line 5' in answer["error"]

    @pytest.mark.parametrize("code", ["def broken(:", "'\\ud800'.encode()\nx = '\ud800'", "x = 1\0", "await f()"])
    def test_what_does_not_compile_is_a_400(self, executor, code):
        answer = executor.execute(code, {})
        assert answer["code"] == 400, answer

    @pytest.mark.parametrize("code", [None, 5, b"1"])
    def test_what_is_no_code_is_a_400(self, executor, code):
        assert executor.execute(code, {})["code"] == 400

    def test_a_megabyte_of_code(self, executor):
        code = "\n".join(f"name_{n} = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'" for n in range(20_000)) + "\n0.5"
        assert len(code) > 1_000_000
        assert executor.execute(code, {})["scores"][0]["value"] == 0.5

    def test_multiprocessing_works_in_a_run(self, executor, tmp_path):
        file = tmp_path / "parallel.py"
        file.write_text(
            "import multiprocessing\ndef double(x): return 2 * x\n"
            "if __name__ == '__main__':\n"
            "    with multiprocessing.get_context('spawn').Pool(2) as pool: found = pool.map(double, [1, 2])\n"
            "    import json; print(json.dumps({'found': found}))\n"
        )
        assert run_ok(executor, str(file)) == {"found": [2, 4]}


class TestData:
    def test_data_and_payload_type_are_names_and_json_on_stdin(self, executor):
        code = "import json, sys\nprint(json.dumps({'name': [data, payload_type], 'stdin': json.load(sys.stdin)}))"
        seen = run_ok(executor, code, {"a": [1, None, "é"]}, payload_type="span")
        assert seen["name"] == [{"a": [1, None, "é"]}, "span"]
        assert seen["stdin"] == {"data": {"a": [1, None, "é"]}, "payload_type": "span"}

    def test_stdin_can_be_handed_to_a_child_process(self, executor):
        code = "import subprocess, sys\nsubprocess.run(['cat'], stdin=sys.stdin)"
        assert run_ok(executor, code, {"a": 1}) == {"data": {"a": 1}, "payload_type": None}

    def test_nan_and_infinities_arrive_as_such(self, executor):
        code = "import math\nprint(__import__('json').dumps({'ok': [math.isnan(data['n']), data['p'], data['m']] == [True, math.inf, -math.inf]}))"
        assert run_ok(executor, code, {"n": math.nan, "p": math.inf, "m": -math.inf}) == {"ok": True}

    def test_data_of_100_megabytes(self, executor):
        text = "x" * 100_000_000
        assert executor.execute("len(data['text'])", {"text": text})["scores"][0]["value"] == len(text)

    def test_the_callers_data_is_untouched(self, executor):
        data = {"rows": [1, {"a": 2}]}
        executor.execute("data['rows'].append(3)\n1", data)
        assert data == {"rows": [1, {"a": 2}]}

    def test_what_json_cannot_hold_is_a_400_with_its_path(self, executor):
        answer = executor.execute("1", {"rows": [0, 1, 2, {1, 2}]})
        assert answer["code"] == 400
        assert 'data["rows"][3]: set' in answer["error"]


class TestErrors:
    def test_an_exception_is_its_traceback_without_our_frames(self, executor):
        answer = executor.execute("def inner():\n    return {}['k']\n\ndef outer():\n    inner()\n\nouter()", {})
        assert answer["code"] == 400
        assert answer["error"].splitlines()[0] == "Traceback (most recent call last):"
        for line in ("return {}['k']", "inner()", "outer()", "KeyError: 'k'"):
            assert line in answer["error"]
        assert "isolated_magic" not in answer["error"]

    @pytest.mark.parametrize("code", ["1/0", "1/0\n", "\n1/0", 'x = "a\x0cb\u2028c"\r\n1/0'])
    def test_the_carets_stand_below_the_expression(self, executor, code):
        lines = executor.execute(code, {})["error"].splitlines()
        assert lines[-3:-1] == ["    1/0", "    ~^~"]

    def test_chained_exceptions_and_groups_are_without_our_frames(self, executor):
        code = "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ExceptionGroup('both', [ValueError('a'), e]) from e"
        answer = executor.execute(code, {})
        assert "direct cause" in answer["error"]
        assert "ValueError: a" in answer["error"]
        assert "isolated_magic" not in answer["error"]

    def test_a_timeout_is_a_500(self, executor):
        assert executor.execute("import time\ntime.sleep(1000)", {}, timeout_secs=1) == {
            "code": 500,
            "error": "Execution timed out after 1 seconds",
        }

    def test_a_timeout_in_what_runs_after_the_code_is_a_500(self, executor):
        code = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n0.5"
        assert executor.execute(code, {}, timeout_secs=1)["code"] == 500

    @pytest.mark.parametrize("timeout_secs", [0, -1, math.nan, "5", True, [1], -math.inf])
    def test_what_is_no_timeout_is_refused(self, executor, timeout_secs):
        answer = executor.execute("1", {}, timeout_secs=timeout_secs)
        assert answer["code"] == 400
        assert "timeout_secs" in answer["error"]
        with pytest.raises(InvalidRequestError, match="timeout_secs"):
            IsolatedSubprocessExecutor(timeout_secs=timeout_secs)

    @pytest.mark.parametrize("timeout_secs", [math.inf, 10**400, 1e300])
    def test_no_timeout(self, executor, timeout_secs):
        assert executor.execute("0.5", {}, timeout_secs=timeout_secs)["scores"]

    @pytest.mark.parametrize(
        ("number", "name"), [(6, "SIGABRT"), (9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM")]
    )
    def test_death_by_a_signal_is_a_500_that_names_it(self, executor, number, name):
        result = executor.run(f"import os\nos.kill(os.getpid(), {number})")
        assert result.to_dict()["code"] == 500
        assert name in result.error.text
        assert result.exit_status == -number

    @pytest.mark.parametrize(
        "leaving", ["import os\nos._exit(3)", "import sys\nsys.exit(3)", "raise SystemExit(3)"]
    )
    def test_an_exit_status_other_than_zero_is_a_500(self, executor, leaving):
        result = executor.run(leaving)
        assert result.to_dict()["code"] == 500
        assert "3" in result.error.text
        assert result.exit_status == 3

    def test_sys_exit_with_a_message_says_it(self, executor):
        result = executor.run("import sys\nsys.exit('no key given')")
        assert "no key given" in result.error.text
        assert result.stderr == "no key given\n"
        assert result.exit_status == 1

    def test_a_result_printed_before_sys_exit_counts(self, executor):
        assert executor.execute("import sys\nprint('{\"scores\": []}')\nsys.exit()", {}) == {"scores": []}

    def test_an_interpreter_that_cannot_be_started_is_a_500(self, executor, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        fresh = IsolatedSubprocessExecutor()
        answer = fresh.execute("1", {})
        assert answer["code"] == 500
        assert "No such file" in answer["error"]

    def test_an_interpreter_lost_after_the_first_run_is_a_500(self, executor, monkeypatch):
        assert executor.run("1").ok
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        answer = executor.execute("1", {})
        assert answer["code"] == 500
        assert "/no/such/python" in answer["error"]

    def test_a_working_directory_that_is_gone_is_an_error(self, executor, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        answer = executor.execute("1", {})
        assert answer["code"] == 400
        assert "working directory" in answer["error"]

    def test_an_environment_too_large_for_the_system_is_a_400_that_names_the_largest(self, executor):
        env_vars = {f"SMALL_{n}": "x" * 100_000 for n in range(80)} | {"LARGEST": "y" * 120_000}
        answer = executor.execute("1", {}, env_vars)
        assert answer["code"] == 400
        assert "LARGEST" in answer["error"]
        assert "yyyy" not in answer["error"]

    def test_the_users_excepthook_is_called(self, executor):
        result = executor.run("import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1/0")
        assert result.stdout == "hook ZeroDivisionError\n"
        assert "ZeroDivisionError" in result.error.text


class TestOutput:
    def test_output_is_what_stands_before_the_result(self, executor):
        result = executor.run(
            "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('{\"scores\": []}')\n"
        )
        assert (result.stdout, result.stderr, result.payload) == ("one\n", "two\n", {"scores": []})

    def test_output_comes_live(self, executor, tmp_path):
        gate = tmp_path / "gate"
        seen = []

        def on_output(name, text):
            seen.append((name, text))
            gate.touch()

        code = "import os, time\nprint('first')\nwhile not os.path.exists(data['gate']): time.sleep(0.01)\n0.5"
        result = executor.run(code, {"gate": str(gate)}, on_output=on_output)
        assert result.ok, result.error
        assert {name for name, _ in seen} == {"stdout"}
        assert "".join(text for _, text in seen) == "first\n"

    def test_output_of_descendants_and_of_native_code_counts(self, executor):
        result = executor.run(
            "import os, subprocess\nos.write(1, b'raw\\n')\nsubprocess.run(['echo', '{\"a\": 1}'])"
        )
        assert (result.stdout, result.payload) == ("raw\n", {"a": 1})

    def test_utf8_whatever_the_locale(self, executor):
        for env_vars in ({"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
            assert executor.run("print('é ✓')\n1", env_vars=env_vars).stdout == "é ✓\n"

    def test_a_daemon_that_keeps_stdout_open_holds_nothing_up(self, executor):
        code = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n0.5"
        assert executor.run(code, timeout_secs=HANG_GUARD_SECS).ok

    def test_a_flood_of_output_before_a_result(self, executor):
        result = executor.run("import sys\nfor _ in range(200): sys.stdout.write('x' * 99_999 + '\\n')\n0.5")
        assert result.ok
        assert len(result.stdout) == 20_000_000

    def test_the_result_survives_code_that_closes_every_descriptor(self, executor):
        answer = executor.execute("import os\nprint('{\"scores\": []}', flush=True)\nos.closerange(3, 4096)", {})
        assert answer == {"scores": []}

    def test_a_fork_of_the_run_sends_no_second_result(self, executor):
        result = executor.run("import os\nif os.fork() == 0:\n    pass\nelse:\n    os.wait()\n0.5")
        assert result.payload["scores"][0]["value"] == 0.5


class TestManyThreads:
    def test_200_runs_from_16_threads_each_see_their_own_value(self, executor):
        def run(number):
            return executor.execute(printed("os.environ['MINE']"), {}, {"MINE": f"value-{number}"})

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(run, range(200)))
        assert answers == [{"value": f"value-{number}"} for number in range(200)]
        assert executor.active_pids == ()


class TestTeardown:
    def test_callbacks_run_once_in_order_each_even_when_another_raised(self, executor, caplog):
        def cancelled():
            raise asyncio.CancelledError

        seen = []
        executor.register_teardown_callback(lambda: seen.append(1))
        executor.register_teardown_callback(lambda: 1 / 0)
        executor.register_teardown_callback(sys.exit)
        executor.register_teardown_callback(cancelled)
        executor.register_teardown_callback(lambda: seen.append(3))
        executor.teardown()
        executor.teardown()
        assert seen == [1, 3]
        assert "teardown callback failed" in caplog.text

    def test_an_executor_can_be_used_again_after_teardown(self, executor):
        for _ in range(3):
            assert executor.run("1").ok
            executor.teardown()

    def test_runs_beside_a_teardown_are_done_or_killed_and_nothing_else(self, executor):
        stop = threading.Event()
        kinds = set()

        def work():
            while not stop.is_set():
                result = executor.run("1")
                kinds.add(result.error.kind if result.error else "done")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            wait_until(lambda: executor.active_pids)
            executor.teardown()
        stop.set()
        for thread in threads:
            thread.join(HANG_GUARD_SECS)
        assert kinds <= {"done", "killed"}

    def test_the_context_manager_tears_down(self):
        seen = []
        with IsolatedSubprocessExecutor() as executor:
            executor.register_teardown_callback(lambda: seen.append(1))
            assert seen == []
        assert seen == [1]

    def test_callbacks_run_when_the_program_ends_without_teardown(self, tmp_path):
        code = (
            "import os\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "e = IsolatedSubprocessExecutor()\ne.register_teardown_callback(lambda: print('torn down', os.getpid()))\n"
            "assert e.run('1').ok\ndel e\n"
            "if os.fork() == 0: raise SystemExit\n"  # its exit tears nothing down
            "os.wait()\nprint('main', os.getpid())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_GUARD_SECS, check=True
        )
        main, torn = done.stdout.splitlines()
        assert torn.replace("torn down", "main") == main

    def test_kill_process_ends_the_run_with_a_500(self, executor):
        results = []
        thread = threading.Thread(target=lambda: results.append(executor.run("import time\ntime.sleep(1000)")))
        thread.start()
        wait_until(lambda: executor.active_pids)
        (pid,) = executor.active_pids
        assert executor.kill_process(pid)
        thread.join(HANG_GUARD_SECS)
        assert results[0].to_dict()["code"] == 500
        assert "killed" in results[0].error.text
        assert executor.active_pids == ()
        assert not executor.kill_process(pid)

    def test_kill_all_processes_and_teardown_end_every_run(self, executor):
        for stop in (executor.kill_all_processes, executor.teardown):
            with ThreadPoolExecutor(4) as pool:
                futures = [pool.submit(executor.run, "import time\ntime.sleep(1000)") for _ in range(4)]
                wait_until(lambda: len(executor.active_pids) == 4)
                stop()
                assert executor.active_pids == ()
                assert all(future.result(HANG_GUARD_SECS).to_dict()["code"] == 500 for future in futures)

    def test_a_teardown_from_the_thread_of_a_run_does_not_wait_for_itself(self, executor):
        def on_output(*_):
            executor.teardown(timeout=10 * HANG_GUARD_SECS)

        result = executor.run("import time\nprint('now')\ntime.sleep(1000)", on_output=on_output)
        assert result.to_dict()["code"] == 500

    def test_an_interpreter_that_forks_keeps_working_on_both_sides(self):
        code = textwrap.dedent("""
            import os, threading, warnings
            warnings.simplefilter("ignore")  # 3.12 and later warn of a fork with threads: that is what is tried here
            from isolated_magic import IsolatedSubprocessExecutor
            e = IsolatedSubprocessExecutor()
            assert e.run("1").ok
            running = threading.Thread(target=lambda: print("long", e.run("import time; time.sleep(1)\\n1").ok))
            running.start()
            while not e.active_pids: pass
            pid = os.fork()
            if pid == 0:
                assert e.active_pids == ()
                ok = e.run("1").ok
                e.teardown()
                os._exit(0 if ok else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            running.join()
            print("after", e.run("1").ok)
        """)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_GUARD_SECS, check=False
        )
        assert done.stdout.splitlines() == ["long True", "after True"], done.stderr


class TestAsync:
    def test_many_runs_from_asyncio(self, executor):
        async def main():
            return await asyncio.gather(*(executor.aexecute("data['n']", {"n": n}) for n in range(10)))

        answers = asyncio.run(main())
        assert [answer["scores"][0]["value"] for answer in answers] == list(range(10))

    def test_a_cancelled_task_kills_its_run(self, executor):
        async def main():
            task = asyncio.create_task(executor.aexecute("import time\ntime.sleep(1000)", {}))
            while not executor.active_pids:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return executor.active_pids

        assert asyncio.run(main()) == ()
