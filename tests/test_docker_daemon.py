"""The Docker daemon: what it is told, over TLS, its faults, and what is left in it when an owner ends."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from isolated_magic import DockerExecutor, InvalidRequestError, Limits
from isolated_magic.launch.containers import client
from tests import daemon as daemons
from tests.daemon import executor_of
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

MB = 1 << 20


THREADS = "import threading, time\nfor _ in range(300): threading.Thread(target=time.sleep, args=(3,), daemon=True).start()"

OLD_PYTHON = """#!/bin/sh
exec /usr/bin/python3.11 -I -S -c 'import sys
sys.version_info, sys.version = (3, 9, 2), "3.9.2 (default)"
exec(sys.argv[1])' "$4"
"""


@pytest.fixture(scope="module")
def executor(daemon):
    with executor_of(daemon, standby=2) as made:
        yield made


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

    def test_the_environment_may_change_in_another_thread(self, daemon):
        over = threading.Event()

        def change():
            while not over.is_set():
                os.environ["TRANSIENT"] = "1"
                del os.environ["TRANSIENT"]

        thread = threading.Thread(target=change)
        talk = client.DaemonClient(daemon.url)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # so that the threads take turns in the middle of what they do
        thread.start()
        try:
            for _ in range(200):
                assert talk.state("no-such-container") is None
        finally:
            over.set()
            thread.join()
            sys.setswitchinterval(interval)
            talk.close()

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
