import asyncio
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from isolated_magic import DockerExecutor, Limits
from isolated_magic.environment import QUIET_DEFAULTS
from tests.daemon import executor_of
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until
from tests.time_limits import time_limit_from

MB = 1 << 20


@pytest.fixture(scope="module")
def executor(daemon):
    with executor_of(daemon, standby=2) as made:
        yield made


def payload(executor, code, data=None, env_vars=None, **settings):
    result = executor.run(code, data, env_vars, **settings)
    assert result.error is None, result.error.text
    return result.payload


def seen(executor, expression, **settings):
    code = f"import json, os, sys\nprint(json.dumps({{'value': {expression}}}))"
    return payload(executor, code, **settings)["value"]


class TestProtocol:
    def test_scores_output_and_data(self, executor):
        result = executor.run("print('hello', data); len(data['answer']) / 10", {"answer": "yes"})
        assert (result["score"].value, result.stdout, result.stderr) == (0.3, "hello {'answer': 'yes'}\n", "")
        assert executor.execute("1", {})["scores"][0]["value"] == 1

    def test_every_run_has_a_container_of_its_own_that_waited(self, executor):
        assert executor.warm_up()
        runs = [executor.run("open('/tmp/mark', 'x'); import os; os.uname().nodename; 1") for _ in range(4)]
        assert [run.ok for run in runs] == [True] * 4
        assert len({run.pid for run in runs}) == 4
        assert {run.launch for run in runs} == {"forked"}

    def test_errors_are_those_of_any_run(self, executor):
        failed = executor.run("def f():\n    return 1 / 0\nf()")
        assert (failed.error.code, failed.error.kind) == (400, "user_code")
        assert failed.error.summary == "ZeroDivisionError: division by zero (line 2)"
        assert "isolated_magic" not in failed.error.text
        assert executor.execute("def", {})["code"] == 400
        assert executor.run("import yaml").error.hint.endswith("add PyYAML to the image.")
        assert "exit status 3" in executor.execute("raise SystemExit(3)", {})["error"]
        assert "signal 11" in executor.execute("import os; os.kill(os.getpid(), 11)", {})["error"]
        assert "Invalid JSON response" in executor.execute("print('x')", {})["error"]

    def test_a_metric_class_of_a_volume(self, daemon):
        import _opik

        where = "/usr/lib/python3/dist-packages/_opik"
        code = (
            "from _opik import BaseMetric, ScoreResult\n"
            "class Mine(BaseMetric):\n"
            "    def score(self, answer, **ignored):\n"
            "        return ScoreResult(name='mine', value=float(len(answer)))\n"
        )
        with executor_of(daemon, volumes={str(Path(_opik.__file__).parent): where}) as executor:
            assert executor.run(code, {"answer": "yes"})["mine"].value == 3.0
            assert "Read-only" in executor.execute(f"open('{where}/x', 'w')", {})["error"]

    def test_large_data_large_output_and_a_large_result(self, executor):
        text = "x" * (8 * MB)
        result = executor.run(
            "print(data['t'])\nimport sys; sys.stderr.write(data['t'])\n{'n': data['t'], 'scores': []}",
            {"t": text},
        )
        assert result.ok, result.error
        assert (len(result.stdout), len(result.stderr), len(result.payload["n"])) == (8 * MB + 1, 8 * MB, 8 * MB)

    def test_output_comes_as_it_is_printed(self, executor):
        run = executor.start("print('first', flush=True)\nimport time\ntime.sleep(1000)")
        wait_until(lambda: "first" in run.stdout)
        run.kill()
        assert run.result(HANG_GUARD_SECS).error.kind == "killed"

    def test_what_was_printed_before_a_metric_class_is_known_when_it_is_asked_for(self, executor):
        code = (
            "print('y' * 3_000_000)\n"
            'print(\'{"scores": [{"name": "printed", "value": 1}]}\')\n'
            "class BaseMetric: pass\n"
            "class Mine(BaseMetric):\n"
            "    def score(self, **ignored): return 0.5\n"
        )
        result = executor.run(code, on_output=lambda *_: time.sleep(0.001))
        assert [(score.name, score.value) for score in result.scores] == [("printed", 1)]

    def test_what_it_displays_comes_in_order_with_what_it_prints(self, executor):
        code = (
            "import sys\nfor n in range(20):\n    print(n)\n    print(n, file=sys.stderr)\n    display(n)\n"
            "display({'text/html': 'x' * 3_000_000}, raw=True)\n0.5"
        )
        result = executor.run(code)
        *numbers, large = result.displays
        assert [one.text for one in numbers] == [str(n) for n in range(20)]
        places = [len("".join(f"{k}\n" for k in range(n + 1))) for n in range(20)]
        assert [(one.stdout_at, one.stderr_at) for one in numbers] == list(zip(places, places, strict=True))
        assert len(large.data["text/html"]) == 3_000_000

    def test_a_reader_that_takes_its_time_gets_all_of_it(self, executor):
        pieces = []

        def slow(_stream, text):
            time.sleep(0.001)
            pieces.append(text)

        assert executor.run("print('y' * 3_000_000); 1", on_output=slow).ok
        assert sum(map(len, pieces)) == 3_000_001

    def test_a_file_is_sent_as_source(self, executor, tmp_path):
        (tmp_path / "metric.py").write_bytes(
            "# -*- coding: latin-1 -*-\nword = 'é'\nlen(word) / data['by']\n".encode("latin-1")
        )
        assert executor.execute(tmp_path / "metric.py", {"by": 2})["scores"][0]["value"] == 0.5
        assert (
            f'File "{tmp_path}/metric.py", line 3' in executor.execute(tmp_path / "metric.py", {"by": 0})["error"]
        )

    def test_secrets_are_hidden(self, executor):
        result = executor.run(
            "import os; print(os.environ['API_KEY']); 1", None, {"API_KEY": "s3cr3t-value"}, secrets=["API_KEY"]
        )
        assert result.stdout == "***\n"

    def test_aexecute(self, executor):
        assert asyncio.run(executor.aexecute("2", {}))["scores"][0]["value"] == 2

    def test_from_many_threads(self, executor):
        with ThreadPoolExecutor(8) as pool:
            values = list(
                pool.map(lambda n: executor.execute("data['n']", {"n": n})["scores"][0]["value"], range(24))
            )
        assert values == list(range(24))


class TestEnvironment:
    def test_it_is_the_images_and_env_vars(self, executor, monkeypatch):
        monkeypatch.setenv("ISOLATED_TEST_HOST", "of this machine")
        names = seen(executor, "dict(os.environ)", env_vars={"MINE": "x y'$\n", "HOME": None})
        assert names["MINE"] == "x y'$\n"
        assert set(names) - {"MINE"} <= {
            "PATH",
            "HOSTNAME",
            "LC_CTYPE",
            *QUIET_DEFAULTS,
        }
        assert names["PATH"].startswith("/usr/local/sbin")

    def test_what_acts_at_start_gets_a_new_interpreter(self, executor):
        result = executor.run("import sys; sys.flags.optimize", None, {"PYTHONOPTIMIZE": "2"})
        assert (result["score"].value, result.launch) == (2, "cold")
        assert executor.run("1", fresh=True).launch == "cold"
        failed = executor.run("1 / 0", fresh=True)
        assert failed.error.summary == "ZeroDivisionError: division by zero (line 1)"

    def test_nothing_of_a_run_shows_to_those_who_inspect(self, daemon, executor):
        code = "code_of_mine = print('on', flush=True)\nimport time; time.sleep(1000)"
        run = executor.start(code, {"data_of_mine": 1}, {"TENANT": "value_of_mine"})
        wait_until(lambda: "on" in run.stdout)
        told = []
        with daemon.api() as api:
            for each in daemon.containers():
                with suppress(docker.errors.NotFound):  # of an earlier run
                    told.append(api.inspect_container(each["Id"]))
        run.kill()
        run.result(HANG_GUARD_SECS)
        assert run.pid in [each["State"]["Pid"] for each in told]
        assert "of_mine" not in json.dumps(told)

    def test_preload(self, daemon):
        with executor_of(daemon, preload=["decimal"]) as executor:
            assert seen(executor, "'decimal' in sys.modules") is True
        with executor_of(daemon, preload=["no_such_module_here"]) as executor:
            assert "has no module no_such_module_here: add it" in executor.execute("1", {})["error"]


class TestIsolation:
    def test_what_a_run_is(self, executor):
        status = seen(executor, "open('/proc/self/status').read()")
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert found["Uid"].split()[:2] == ["65534", "65534"]
        assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert found["NoNewPrivs"] == "1"
        assert found["Seccomp"] == "2"

    def test_there_is_no_network(self, executor):
        assert seen(executor, "sorted(os.listdir('/sys/class/net'))") == ["lo"]

    def test_the_network_is_a_setting(self, daemon):
        with executor_of(daemon, network="host") as executor:
            assert seen(executor, "sorted(os.listdir('/sys/class/net'))") == sorted(
                path.name for path in Path("/sys/class/net").iterdir()
            )

    def test_files_are_read_only_but_for_scratch_space_of_a_size(self, executor):
        assert "Read-only file system" in executor.execute("open('/etc/x', 'w')", {})["error"]
        assert "No space left" in executor.execute("open('/tmp/x', 'wb').write(bytes(80 << 20))", {})["error"]

    def test_processes_are_limited(self, executor):
        code = "import os, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0: time.sleep(1000)\n        n += 1\nexcept OSError: pass\nn"
        assert 10 < executor.run(code)["score"].value < 64

    def test_a_limit_of_processes_of_one_run(self, executor):
        code = "import os, time\nfor _ in range(9):\n    if os.fork() == 0: time.sleep(1000)"
        for processes in (5, 40):
            result = executor.run(code.replace("9", str(processes + 4)), limits=Limits(processes=processes))
            assert result.error.summary.startswith(f"process limit {processes} exceeded")

    def test_few_processes(self, daemon):
        code = "import os, time\nn = 1\ntry:\n    while n < 50:\n        if os.fork() == 0: time.sleep(1000)\n        n += 1\nexcept OSError: pass\nn"
        with executor_of(daemon, pids=7) as executor:
            assert executor.run(code)["score"].value == 7

    def test_open_files_are_limited(self, executor):
        assert seen(executor, "__import__('resource').getrlimit(7)") == [1024, 1024]

    @pytest.mark.alone  # runs that die at the same time are taken for victims of the OOM killer too
    def test_memory_of_all_processes_is_limited(self, daemon):
        with executor_of(daemon, memory_bytes=100 * MB) as executor:
            result = executor.run("x = bytearray(400 << 20)\n1")
            assert (result.error.kind, result.error.code) == ("limit", 500)
            assert result.error.text == "memory limit 100 MB exceeded: the system's OOM killer ended the run."
            assert 90 * MB < result.peak_memory_bytes <= 100 * MB
            assert 0 < executor.run("1").peak_memory_bytes < 90 * MB

    def test_memory_of_one_run(self, executor):
        result = executor.run("x = bytearray(400 << 20)", limits=Limits(memory_bytes=128 * MB))
        assert result.error.summary == "memory limit 128 MB exceeded (MemoryError (line 1))"

    def test_the_first_process_is_closed_to_the_run(self, executor):
        code = """
import os, signal
refused = []
for what in (lambda: os.listdir('/proc/1/fd'), lambda: open('/proc/1/environ').read(), lambda: open('/proc/1/mem'),
             lambda: open('/proc/1/fd/600', 'wb')):
    try:
        what()
    except OSError as problem:
        refused.append(type(problem).__name__)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
    os.kill(1, number)
own = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')]
{'refused': refused, 'pipes': sum(link.startswith('pipe') for link in own), 'scores': []}
"""
        found = payload(executor, code)
        assert found["refused"] == ["PermissionError"] * 4
        assert found["pipes"] == 2  # its stdout and its stderr

    def test_bytes_on_the_channel_that_are_no_message(self, executor):
        code = "import os\nfor n in range(3, 1024):\n    try: os.write(n, b'\\x00' * 7 + b'\\xff' + b'junk' * 99)\n    except OSError: pass\n1"
        result = executor.run(code)
        assert (result.error.kind, result.error.code) == ("no_result", 500)


class TestEnds:
    def test_time_is_up_and_the_container_is_gone(self, daemon, executor):
        begun = time.monotonic()
        with time_limit_from():
            result = executor.run("import time\ndef wait():\n    time.sleep(1000)\nwait()", timeout_secs=1)
        assert result.error.text.startswith("Execution timed out after 1 seconds")
        assert "time.sleep(1000)" in result.error.excerpt
        assert result.error.stack.count("File") == 2
        assert time.monotonic() - begun < HANG_GUARD_SECS
        wait_until(lambda: not is_alive(result.pid))

    def test_a_flood_is_cut_off(self, executor):
        result = executor.run("while True: print('z' * 100_000)", timeout_secs=1, limits=Limits(output_bytes=MB))
        assert result.error.kind == "timeout"

    def test_all_that_a_run_starts_ends_with_it(self, executor):
        code = "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(1000)\n1"
        assert executor.run(code, timeout_secs=HANG_GUARD_SECS).ok

    def test_it_kills_all_that_it_can(self, executor):
        result = executor.run("import os, signal\nos.kill(-1, signal.SIGKILL)\n1")
        assert result.error.summary.startswith("ProcessLookupError")  # itself aside (kill(2)), there is nobody

    def test_interrupt(self, executor):
        run = executor.start(
            "import time\ntry:\n    print('on', flush=True)\n    time.sleep(1000)\nfinally:\n    print('put away')"
        )
        wait_until(lambda: "on" in run.stdout)
        run.interrupt()
        result = run.result(HANG_GUARD_SECS)
        assert (result.error.kind, result.stdout) == ("interrupted", "on\nput away\n")

    def test_killed_by_its_pid(self, executor):
        run = executor.start("print('on', flush=True)\nimport time; time.sleep(1000)")
        wait_until(lambda: "on" in run.stdout)
        assert run.pid in executor.active_pids
        assert executor.kill_process(run.pid, HANG_GUARD_SECS)
        assert run.result(HANG_GUARD_SECS).error.text == "The run was killed before it ended."

    @pytest.mark.parametrize("order", ["kill", "interrupt", "teardown"])
    def test_while_it_waits_for_a_container(self, tmp_path, order):
        with socket.socket(socket.AF_UNIX) as mute:  # never answers
            mute.bind(str(tmp_path / "mute.sock"))
            mute.listen()
            with DockerExecutor(base_url=f"unix://{tmp_path}/mute.sock", timeout_secs=1000) as executor:
                run = executor.start("1")
                wait_until(lambda: executor.live_runs)
                executor.teardown(0.1) if order == "teardown" else getattr(run, order)()
                error = run.result(HANG_GUARD_SECS).error
                mute.close()
        assert error.code == 500
        assert error.kind == ("interrupted" if order == "interrupt" else "killed")
        assert error.text == "The run was stopped while it waited for a container."

    def test_its_container_is_killed_from_outside(self, daemon, executor):
        run = executor.start("print('on', flush=True)\nimport time; time.sleep(1000)")
        wait_until(lambda: "on" in run.stdout)
        os.kill(run.pid, signal.SIGKILL)
        error = run.result(HANG_GUARD_SECS).error
        assert (error.code, error.kind) == (500, "launch")
        assert error.text == "The run was lost: its container was killed from outside."

    def test_containers_that_wait_are_killed_from_outside(self, daemon, executor):
        assert executor.warm_up()
        with daemon.api() as api:
            for each in daemon.containers():
                api.remove_container(each["Id"], force=True)
        assert executor.run("1").ok

    def test_teardown_leaves_none_and_calls_back(self, daemon):
        called = []
        with executor_of(daemon, standby=2) as executor:
            before = {each["Id"] for each in daemon.containers()}
            executor.register_teardown_callback(lambda: called.append(1))
            assert executor.warm_up()
            run = executor.start("print('on', flush=True)\nimport time; time.sleep(1000)")
            wait_until(lambda: "on" in run.stdout)
            executor.teardown()
            assert run.result(HANG_GUARD_SECS).error.kind == "killed"
            assert {each["Id"] for each in daemon.containers()} <= before
            assert called == [1]
            assert executor.run("1").ok

    def test_containers_end_by_themselves_when_nobody_needs_them(self, daemon):
        with executor_of(daemon, idle_secs=0.5) as executor:
            pid = executor.run("1").pid
            ready = executor._launcher._pools[0]._waiting
            waiting = wait_until(lambda: executor.warm_up() and [container.pid for container in ready])[0]
            wait_until(lambda: not is_alive(waiting))
            assert executor.run("1").pid not in {pid, waiting}

    def test_a_fork_of_the_owner_uses_its_own(self, daemon, executor):
        assert executor.warm_up()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if executor.run("1").ok else 1
                executor.teardown()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert executor.run("1").launch == "forked"
