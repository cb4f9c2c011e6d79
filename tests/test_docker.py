import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest

from isolated_magic import DockerExecutor, InvalidRequestError, Limits
from isolated_magic.launch.containers import client
from tests import daemon as daemons
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

MB = 1 << 20


THREADS = "import threading, time\nfor _ in range(300): threading.Thread(target=time.sleep, args=(3,), daemon=True).start()"

OLD_PYTHON = """#!/bin/sh
exec /usr/bin/python3.11 -I -S -c 'import sys
sys.version_info, sys.version = (3, 9, 2), "3.9.2 (default)"
exec(sys.argv[1])' "$4"
"""


@contextmanager
def executor_of(daemon, **settings):
    settings = {"image": daemons.IMAGE, "base_url": daemon.url, "timeout_secs": 60, "standby": 1} | settings
    with DockerExecutor(**settings) as made:
        yield made


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
            "OPIK_ANALYTICS_ENABLE",
            "OPIK_SENTRY_ENABLE",
            "LITELLM_LOCAL_MODEL_COST_MAP",
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
            assert executor.warm_up()
            waiting = executor._launcher._pools[0]._waiting[0].pid
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


OWNER = """
import sys, time
from isolated_magic import DockerExecutor
executor = DockerExecutor(image=sys.argv[1], base_url=sys.argv[2])
run = executor.start("print('on', flush=True)\\nimport time; time.sleep(1000)")
while "on" not in run.stdout:
    time.sleep(0.01)
executor.warm_up()
print(run.pid, flush=True)
time.sleep(1000)
"""


class TestOwners:
    def test_containers_end_with_an_owner_that_is_killed(self, daemon):
        command = [sys.executable, "-c", OWNER, daemons.IMAGE, daemon.url]

        def own():
            labels = [each["Labels"].get(client.LABEL, "{}") for each in daemon.containers()]
            return [label for label in labels if json.loads(label).get("pid") == process.pid]

        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            pid = int(process.stdout.readline())
            assert len(own()) == 3
            process.kill()
        wait_until(lambda: not is_alive(pid))
        wait_until(lambda: not own())

    def test_the_next_start_takes_away_what_is_left(self, daemon):
        gone = subprocess.run(
            [
                sys.executable,
                "-c",
                "from isolated_magic.launch.containers.client import *\nprint(this_process().label)",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        of_this = client.this_process().label
        elsewhere = json.dumps(json.loads(gone) | {"host": "another-machine"})
        with daemon.api() as api:
            left, kept, foreign = (
                api.create_container(daemons.IMAGE, command=["true"], labels={client.LABEL: label})["Id"]
                for label in (gone, of_this, elsewhere)
            )
            with executor_of(daemon) as executor:
                assert executor.run("1").ok
            found = {each["Id"] for each in daemon.containers()}
            assert left not in found
            assert {kept, foreign} <= found
            for one in (kept, foreign):
                api.remove_container(one, force=True)


class TestWhatTheDaemonIsTold:
    def test_a_runtime_that_is_not_there_is_not_passed_over(self, daemon):
        with executor_of(daemon, runtime="runsc") as executor:
            error = executor.run("1").error
            assert (error.kind, "runsc" in error.text) == ("launch", True)
        with executor_of(daemon, runtime="runc") as executor:
            assert executor.run("1").ok

    def test_a_volume_that_is_not_there_is_not_made(self, daemon, tmp_path):
        with executor_of(daemon, volumes={tmp_path / "none": Path("/there")}) as executor:
            assert f"{tmp_path}/none" in executor.run("1").error.text
        assert not (tmp_path / "none").exists()

    def test_a_network_that_is_not_there(self, daemon):
        with executor_of(daemon, network="nowhere") as executor:
            text = executor.run("1").error.text
        assert "No container could be started" in text
        assert "nowhere not found" in text

    def test_the_context_of_the_docker_command(self, daemon, tmp_path, monkeypatch):
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text("{}")  # the SDK finds no context without it
        subprocess.run(["docker", "context", "create", "mine", "--docker", f"host={daemon.url}"], check=True)
        for choose in ("variable", "file"):
            if choose == "variable":
                monkeypatch.setenv("DOCKER_CONTEXT", "mine")
            else:
                monkeypatch.delenv("DOCKER_CONTEXT")
                subprocess.run(["docker", "context", "use", "mine"], check=True)
            with executor_of(daemon, base_url=None) as executor:
                assert executor.run("1").ok

    @pytest.mark.parametrize(
        ("limits", "code", "said"),
        [
            (Limits(processes=500), THREADS, "process limit 20 exceeded"),
            (Limits(memory_bytes=900 * MB), "bytearray(800 << 20)", "memory limit 128 MB exceeded"),
            (
                Limits(open_files=900),
                "files = [open('/dev/null') for _ in range(500)]",
                "limit of open files 200 exceeded",
            ),
        ],
        ids=["processes", "memory", "files"],
    )
    def test_a_limit_is_named_as_it_is_held(self, daemon, limits, code, said):
        with executor_of(daemon, pids=20, memory_bytes=128 * MB, nofile=200, standby=0) as executor:
            assert executor.run(code, limits=limits).error.summary.startswith(said)

    @pytest.mark.parametrize(
        ("code", "setting"),
        [
            (THREADS, "pids"),
            ("files = [open('/dev/null') for _ in range(5000)]", "nofile"),
            ("open('/tmp/large', 'wb').write(bytes(100 << 20))", "tmpfs_bytes"),
            ("open('/usr/new', 'w')", "read_only, volumes"),
            ("import urllib.request\nurllib.request.urlopen('http://192.0.2.1')", "--allow-net"),
            ("import socket\nsocket.getaddrinfo('example.org', 80)", "--allow-net"),
            ("1/0", None),
        ],
    )
    def test_errors_name_the_setting_that_they_come_from(self, executor, code, setting):
        hint = executor.run(code).error.hint
        assert (setting in hint) if setting else hint == ""


class TestOverTls:
    @pytest.fixture(autouse=True)
    def usual_environment(self, monkeypatch):
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)

    def test_it_is_as_over_the_socket(self, daemon, monkeypatch):
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(daemon.certificates / "known"))
        monkeypatch.setenv("DOCKER_HOST", daemon.tls_url)
        with executor_of(daemon, base_url=None) as executor:
            assert executor.run("len(data['text'])", {"text": "x" * 10 * MB})["score"].value == 10 * MB
            result = executor.run(
                "import sys\nprint('y' * 5_000_000, file=sys.stderr)\n{'scores': [], 'z': 'z' * 5_000_000}"
            )
            assert (len(result.stderr), len(result.payload["z"])) == (5_000_001, 5_000_000)
            assert executor.run("import time\ntime.sleep(1000)", timeout_secs=1).error.kind == "timeout"
            run = executor.start("print('on', flush=True)\nimport time; time.sleep(1000)")
            wait_until(lambda: "on" in run.stdout)
            run.interrupt()
            assert run.result(HANG_GUARD_SECS).error.kind == "interrupted"
            executor.warm_up(HANG_GUARD_SECS)
            used = {run.pid, result.pid}
        wait_until(lambda: not any(map(is_alive, used)))

    def test_without_certificates(self, daemon):
        with executor_of(daemon, base_url=daemon.tls_url) as executor:
            assert "it wants TLS: set DOCKER_TLS_VERIFY=1" in executor.run("1").error.text

    def test_with_certificates_of_somebody_else(self, daemon, monkeypatch):
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(daemon.certificates / "unknown"))
        with executor_of(daemon, base_url=daemon.tls_url) as executor:
            assert "TLS failed, " in executor.run("1").error.text


class TestFaults:
    """Each is a typed 500 with one sentence, and none hangs."""

    def error(self, executor, **settings):
        result = executor.run("1", **settings)
        assert result.error is not None
        assert (result.error.code, result.error.kind) == (500, "launch")
        assert "\n" not in result.error.text
        assert "Traceback" not in result.error.text
        return result.error.text

    def test_there_is_no_socket(self, tmp_path):
        with DockerExecutor(base_url=f"unix://{tmp_path}/none.sock") as executor:
            assert "nothing is there: start the daemon" in self.error(executor)

    def test_the_socket_refuses(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "old.sock"))
        with DockerExecutor(base_url=f"unix://{tmp_path}/old.sock") as executor:
            assert "the connection was refused" in self.error(executor)

    def test_a_daemon_that_says_nothing(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "mute.sock"))
            listener.listen()
            with DockerExecutor(base_url=f"unix://{tmp_path}/mute.sock", timeout_secs=1) as executor:
                assert "within the 10 seconds" in self.error(executor)
                listener.close()

    def test_no_permission(self, daemon):
        daemon.socket.chmod(0o600)
        daemon.folder.chmod(0o755)
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                os.write(writable, str(DockerExecutor(base_url=daemon.url).run("1").error).encode())
            finally:
                os._exit(0)
        os.close(writable)
        with os.fdopen(readable) as file:
            said = file.read()
        os.waitpid(pid, 0)
        assert "no permission: have your user added to the group" in said

    def test_the_image_is_missing(self, daemon):
        with executor_of(daemon, image="isolated-magic") as executor:
            text = self.error(executor)
        said, _, command = text.rpartition(": ")
        assert said == "There is no image isolated-magic here, and none is pulled unasked. Build it"
        words = shlex.split(command)
        assert words[:-1] == ["docker", "-H", daemon.url, "build", "-t", "isolated-magic", "-", "<"]
        assert Path(words[-1]).is_file()

    def test_an_image_of_a_registry_is_missing(self, daemon, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", daemon.url)
        with executor_of(daemon, image="registry.example/other:1", base_url=None) as executor:
            assert self.error(executor).endswith("Get it: docker pull registry.example/other:1")

    def test_an_image_without_python(self, daemon):
        with executor_of(daemon, image=daemons.EMPTY_IMAGE) as executor:
            assert f"The image {daemons.EMPTY_IMAGE} has no python3 on its PATH" in self.error(executor)

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("#!/bin/sh\necho it is broken >&2; exit 3", "ended before it was ready: it is broken"),
            ("#!/bin/sh\nexec yes", "ended before it was ready"),
            ("#!/bin/sh\nexec sleep 1000", "No container was ready within the 10 seconds"),
            (OLD_PYTHON, "has Python 3.9.2: give one with Python 3.11 or later"),
        ],
        ids=["ends", "floods", "hangs", "is old"],
    )
    def test_an_image_whose_python_is_none(self, daemon, script, words):
        image = daemon.derive(daemons.BROKEN_IMAGE, script)
        with executor_of(daemon, image=image, timeout_secs=3, standby=0) as executor:
            assert words in self.error(executor)

    def test_the_disk_is_full_and_then_it_is_not(self, daemon):
        with executor_of(daemon, standby=0) as executor:
            filler = daemon.disk / "filler"
            with filler.open("wb") as file, suppress(OSError):
                while True:
                    file.write(bytes(MB))
            try:
                assert "disk is full" in self.error(executor)
            finally:
                filler.unlink()
            assert executor.run("1").ok

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
    def test_the_daemon_goes_and_comes_back(self, daemon, how):
        with executor_of(daemon) as executor:
            assert executor.warm_up()
            run = executor.start("print('on', flush=True)\nimport time; time.sleep(1000)")
            wait_until(lambda: "on" in run.stdout)
            daemon.stop(how)
            error = run.result(HANG_GUARD_SECS).error
            assert (error.code, error.kind) == (500, "launch")
            assert error.text.startswith("The run was lost: ")
            assert "cannot be reached" in self.error(executor)
            daemon.start()
            assert executor.run("1").ok
            # A daemon that is killed leaves its containers running, until it is back or their time is up.
            wait_until(lambda: not is_alive(run.pid))


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"image": ""},
            {"standby": -1},
            {"memory_bytes": 1.5},
            {"cpus": 0},
            {"pids": True},
            {"network": 1},
            {"user": 0},
            {"read_only": 1},
            {"volumes": {"data": "/data"}},
            {"volumes": {"/data": "/data:rwx"}},
            {"volumes": ["/data:/data"]},
            {"preload": "json"},
            {"capabilities": [1]},
            {"base_url": 1},
            {"idle_secs": 0},
        ],
        ids=str,
    )
    def test_one_that_cannot_be_is_refused(self, settings):
        with pytest.raises(InvalidRequestError, match=next(iter(settings))):
            DockerExecutor(**settings)

    def test_a_missing_sdk_says_how_to_install_it(self):
        code = "import sys; sys.modules['docker'] = None\nfrom isolated_magic import DockerExecutor\ntry:\n    DockerExecutor()\nexcept ImportError as problem:\n    print(problem)"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert "pip install 'isolated-magic[docker]'" in said

    def test_importing_it_imports_no_sdk(self):
        code = (
            "import sys\nfrom isolated_magic import DockerExecutor\nDockerExecutor\nprint('docker' in sys.modules)"
        )
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            == "False\n"
        )
