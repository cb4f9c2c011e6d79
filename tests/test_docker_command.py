"""Programs of other languages in containers: `DockerExecutor(image=..., command=[...])`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import docker
import pytest

from isolated_magic import DockerExecutor, InvalidRequestError, Limits
from isolated_magic.launch.containers import client
from tests import daemon as daemons
from tests.conftest import NOTEBOOKS
from tests.daemon import executor_of
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until
from tests.time_limits import time_limit_from

MB = 1 << 20
FOREVER = "echo on; while :; do sleep 1000; done"

SH = """
echo "for $TENANT_ID"
echo trouble >&2
read -r row < "$ISOLATED_MAGIC_DATA"
echo "$row"
echo '{"scores": [{"name": "s", "value": 0.5}]}'
"""
PERL = """
use strict;
open(my $file, '<', $ENV{ISOLATED_MAGIC_DATA}) or die;
my $n = () = <$file> =~ /a/g;
print "for $ENV{TENANT_ID}\\n";
print STDERR "trouble\\n";
print "{\\"scores\\": [{\\"name\\": \\"s\\", \\"value\\": $n}]}\\n";
"""
NODE = """
const { data, payload_type } = JSON.parse(require("fs").readFileSync(process.env.ISOLATED_MAGIC_DATA));
console.log("for", process.env.TENANT_ID);
console.error("trouble");
console.log(JSON.stringify({ scores: [{ name: "s", value: data.answer.length / data.by, reason: payload_type }] }));
"""


@pytest.fixture(scope="module")
def image(daemon):
    return daemon.make_image(daemons.NODE_IMAGE)


@pytest.fixture(scope="module")
def executor(daemon):
    with executor_of(daemon, command=["sh"]) as made:
        yield made


def started(executor, code=FOREVER, *args, **settings):
    run = executor.start(code, *args, **settings)
    wait_until(lambda: "on" in run.stdout or run.done())
    assert not run.done(), run.result().error
    return run


class TestLanguages:
    @pytest.mark.parametrize(
        ("command", "code", "value"),
        [
            (["sh"], SH, 0.5),
            (["perl", "-"], PERL, 9),
            (["node", "-"], NODE, 0.4),
            (["node", "{file}"], NODE, 0.4),
            (["node", "{file}.js"], NODE.replace("process.env.ISOLATED_MAGIC_DATA", "0"), 0.4),
        ],
    )
    def test_it_scores(self, daemon, image, command, code, value):
        with executor_of(daemon, image=image, command=command) as executor:
            result = executor.run(code, {"answer": "aaaa", "by": 10}, {"TENANT_ID": "t1"}, payload_type="x")
        assert result.ok, result.error
        assert result["s"].value == value
        assert result.stdout.startswith("for t1\n")
        assert result.stderr == "trouble\n"

    def test_an_exception_of_node_is_named(self, daemon, image):
        with executor_of(daemon, image=image, command=["node", "-"]) as executor:
            error = executor.run("\nconst f = () => {\n  throw new TypeError('no answer');\n};\nf();").error
        assert (error.code, error.text) == (500, "The process ended with exit status 1: TypeError: no answer")


class TestProtocol:
    def test_data_and_program_arrive_as_they_are(self, executor):
        data = {"text": "é'\"$`\\\n\0 ✓", "nan": float("nan"), "rows": [[float(n), n] for n in range(2000)]}
        result = executor.run('cat "$ISOLATED_MAGIC_DATA"', data)
        received = json.loads(result.stdout or json.dumps(result.payload))
        assert received == {"data": data | {"nan": None}, "payload_type": None}

    def test_there_is_room_for_large_data_and_large_output(self, daemon, executor):
        result = executor.run('cat "$ISOLATED_MAGIC_DATA"; echo; echo "{}"', {"text": "x" * (8 * MB)})
        assert len(result.stdout) == 8 * MB + len('{"data": {"text": ""}, "payload_type": null}\n')
        with executor_of(daemon, command=["sh"], tmpfs_bytes=MB) as small:
            error = small.run("echo '{}'", {"text": "x" * (7 * MB)}).error
        assert error.text == (
            "The run could not be started: there is no room for its program and data in the container: raise "
            "tmpfs_bytes or memory_bytes."
        )

    def test_variables_are_exact(self, executor):
        value = "x y'$(id)\n\\ \"é"
        result = executor.run(
            'printf %s "$MINE"; echo "${HOME-none}"; echo "{}"', None, {"MINE": value, "HOME": None}
        )
        assert result.stdout == value + "none\n"
        assert "a shell, whose names are" in executor.run("1", None, {"a.b": "1"}).error.text

    def test_a_row_each(self, executor):
        code = 'read -r row < $ISOLATED_MAGIC_DATA\nn=${row#*: *: }\necho \'{"scores": [{"name": "n", "value": \'${n%%\\}*}\'}]}\''
        result = executor.evaluate(code, [{"n": n} for n in range(3)])
        assert [row.scores[0].value for row in result] == [0, 1, 2]
        with pytest.raises(InvalidRequestError, match="with a command each row has its own"):
            executor.evaluate(code, [{"n": 1}], per="n")

    def test_a_file(self, executor, tmp_path):
        (tmp_path / "score.sh").write_text("echo '{\"é\": 1}'")
        assert executor.execute(tmp_path / "score.sh") == {"é": 1}

    def test_secrets_are_hidden(self, executor):
        code = 'echo "$API_KEY"; echo "$API_KEY" >&2; exit 3'
        result = executor.run(code, None, {"API_KEY": "s3cr3t-value"}, secrets=["API_KEY"])
        assert (result.stdout, result.stderr) == ("***\n", "***\n")
        assert result.error.text == "The process ended with exit status 3: ***"

    def test_nothing_of_a_run_shows_to_those_who_inspect(self, daemon, executor):
        run = started(executor, f"code=of_mine; {FOREVER}", {"data": "of_mine"}, {"TENANT": "of_mine"})
        told = []
        with daemon.api() as api:
            for each in daemon.containers():
                with suppress(docker.errors.NotFound):  # of an earlier run
                    told.append(api.inspect_container(each["Id"]))
                    told += [api.exec_inspect(one) for one in told[-1]["ExecIDs"] or ()]
        logs = (daemon.folder / "log").read_text()
        run.kill()
        run.result(HANG_GUARD_SECS)
        assert run.pid in [each["State"]["Pid"] for each in told if "State" in each]
        assert "of_mine" not in json.dumps(told) + logs

    def test_what_the_program_is(self, executor):
        result = executor.run("cat /proc/self/status; ulimit -n; ls -l /proc/1/fd; echo x > /etc/x; echo '{}'")
        found = dict(line.split(":\t", 1) for line in result.stdout.splitlines() if ":\t" in line)
        assert found["Uid"].split()[:2] == ["65534", "65534"]
        assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        assert result.stdout.splitlines()[-1] == "1024"
        assert result.stderr.count("Permission denied") == 1  # the first process is not theirs
        assert "Read-only file system" in result.stderr


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "text"),
        [
            ("exit 3", "The process ended with exit status 3"),
            ("echo no answer >&2; exit 4", "The process ended with exit status 4: no answer"),
            ("no_such_thing", "The process ended with exit status 127: sh: 1: no_such_thing: not found"),
            ("kill -SEGV $$", "The process died by signal 11 (SIGSEGV): a segmentation fault"),
            (
                "echo hello",
                "Invalid JSON response from subprocess: the last line printed is 'hello', which is no JSON object.\n"
                "The result of a program is a JSON object on one line, printed to stdout as the last line.",
            ),
            (":", "Invalid JSON response from subprocess: the program printed nothing on stdout.\n"),
            ("echo '{'", "Invalid JSON response from subprocess: the last line"),
        ],
    )
    def test_they_say_what_happened(self, executor, code, text):
        error = executor.run(code).error
        assert error.code == 500
        assert error.text.startswith(text), error.text

    def test_the_image_lacks_something(self, daemon):
        with executor_of(daemon, command=["ruby", "-"]) as executor:
            assert executor.run("1").error.text == (
                f"The run could not be started: the image {daemons.IMAGE} has no command ruby on its PATH."
            )
        with executor_of(daemon, image=daemons.EMPTY_IMAGE, command=["ruby", "-"]) as executor:
            assert f"The image {daemons.EMPTY_IMAGE} has no sh on its PATH" in executor.run("1").error.text

    def test_limits_are_named(self, executor):
        burns = executor.run("while :; do :; done", limits=Limits(cpu_secs=1))
        assert burns.error.text == "CPU time limit 1 s exceeded: the system ended the run."
        writes = executor.run("head -c 9000 /dev/zero > /tmp/x; exit $?", limits=Limits(file_size_bytes=4096))
        assert "file size limit 4 KB exceeded" in writes.error.text
        fills = executor.run("head -c 150000000 /dev/zero | tail", limits=Limits(memory_bytes=32 * MB))
        assert fills.error.text == "memory limit 32 MB exceeded: the system's OOM killer ended the run."
        forks = executor.run("for n in 1 2 3 4 5 6 7 8; do sleep 9 & done", limits=Limits(processes=4))
        assert "Cannot fork" in forks.stderr
        assert executor.execute("echo '{}'", limits=Limits(processes=1)) == {}

    @pytest.mark.parametrize("command", ["node -", [""], [1], ["a\0b"]])
    def test_no_command(self, command):
        with pytest.raises(InvalidRequestError, match="command is "):
            DockerExecutor(command=command)

    def test_modules_are_for_python(self):
        with pytest.raises(InvalidRequestError, match="preload is "):
            DockerExecutor(command=["sh"], preload=["json"])


OWNER = """
import sys, time
from isolated_magic import DockerExecutor
executor = DockerExecutor(image=sys.argv[1], base_url=sys.argv[2], command=["sh"])
run = executor.start("trap '' INT TERM HUP; echo on; sleep 1000")
while "on" not in run.stdout:
    time.sleep(0.01)
print(run.pid, flush=True)
time.sleep(1000)
"""


class TestEnds:
    def own(self, daemon, pid):
        labels = [each["Labels"].get(client.LABEL, "{}") for each in daemon.containers()]
        return [label for label in labels if json.loads(label).get("pid") == pid]

    def test_time_is_up(self, daemon, executor):
        with time_limit_from():
            result = executor.run("sleep 1000 & trap '' TERM; sleep 1000", timeout_secs=1)
        assert result.error.text == "Execution timed out after 1 seconds"
        assert not is_alive(result.pid)
        wait_until(lambda: not self.own(daemon, os.getpid()))

    def test_what_holds_its_streams_delays_nothing(self, daemon, executor):
        result = executor.run("setsid sleep 1000 & echo '{\"a\": 1}'", timeout_secs=HANG_GUARD_SECS)
        assert result.payload == {"a": 1}
        assert not is_alive(result.pid)

    def test_it_closes_its_streams_and_goes_on(self, executor):
        result = executor.run("echo '{\"a\": 1}'; exec >&- 2>&-; sleep 3; exit 4")
        assert (result.exit_status, result.error.text) == (4, "The process ended with exit status 4")

    def test_kill(self, executor):
        run = started(executor)
        assert run.pid in executor.active_pids
        assert executor.kill_process(run.pid, HANG_GUARD_SECS)
        assert run.result(HANG_GUARD_SECS).error.text == "The run was killed before it ended."

    @pytest.mark.parametrize(
        ("code", "printed"),
        [
            ("trap 'echo put away; exit 1' INT; echo on; sleep 1000", "on\nput away\n"),
            ("trap '' INT TERM; echo on; sleep 1000 & wait; wait", "on\n"),
        ],
    )
    def test_interrupt(self, executor, code, printed):
        run = started(executor, code)
        run.interrupt()
        result = run.result(HANG_GUARD_SECS)
        assert (result.error.kind, result.stdout) == ("interrupted", printed)
        assert not is_alive(result.pid)

    def test_it_floods(self, executor):
        result = executor.run(
            "while :; do echo zzzzzzzzzzzzzzzzzz; done", timeout_secs=1, limits=Limits(output_bytes=MB)
        )
        assert result.error.kind == "timeout"

    def test_killed_from_outside(self, executor):
        run = started(executor)
        os.kill(run.pid, signal.SIGKILL)
        assert run.result(HANG_GUARD_SECS).error.text == "The run was lost: its container was killed from outside."

    def test_the_owner_is_killed(self, daemon):
        command = [sys.executable, "-c", OWNER, daemons.IMAGE, daemon.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            pid = int(process.stdout.readline())
            assert len(self.own(daemon, process.pid)) == 1
            process.kill()
        wait_until(lambda: not is_alive(pid))
        wait_until(lambda: not self.own(daemon, process.pid))

    def test_teardown(self, daemon):
        with executor_of(daemon, command=["sh"]) as executor:
            run = started(executor)
            executor.teardown()
            assert run.result(HANG_GUARD_SECS).error.kind == "killed"
            wait_until(lambda: not is_alive(run.pid))
            assert executor.execute("echo '{}'") == {}


@pytest.fixture(scope="module")
def cells(daemon, image):
    with kernel(DOCKER_HOST=daemon.url) as started:
        started.ok(f"%config IsolatedMagic.image = {daemons.IMAGE!r}")
        started.ok("%config IsolatedMagic.executor = 'docker'")
        started.ok("%config IsolatedMagic.docker_standby = 0")
        yield started


class TestCells:
    """The options of containers, in a kernel."""

    def test_a_program_scores(self, cells, image):
        cells.ok("row = {'answer': 'aaaa', 'by': 10}\nkey = 's3cr3t-value'")
        line = f"--image {image} --command 'node -' --secret API_KEY=$key -e TENANT_ID=t1 -d row --payload-type x -o r"
        shown = cells.ok(f"%%isolated {line}\nconsole.log(process.env.API_KEY);\n{NODE}")
        assert shown.stdout == "***\nfor t1\n"
        assert shown.text.split()[:2] == ["s", "0.4"]
        assert cells.ok(f"%%isolated {line} --compare r\n{NODE}").text.split()[:2] == ["s", "0.4"]
        assert [line.split() for line in cells.ok("%isolated history").text.splitlines()[1:]] == [
            ["[1]", "r", "s", "0.4"],
            ["[2]", "r", "s", "0.4"],
        ]

    def test_its_errors_are_about_programs(self, cells):
        line = "%%isolated --command sh"
        assert "no score" in cells.ok(f"{line}\necho hello").text
        failed = cells.run(f"{line} -o r\necho hello")
        assert failed.evalue == "The last line printed is 'hello', which is no JSON object."
        assert '{"scores": [{"name": "score", "value": 0.8, "reason": "why"}]}' in failed.traceback
        assert "A program that prints such a line, as the last one, has a score." in failed.traceback
        assert cells.run(f"{line}\nexit 3").evalue == "The process ended with exit status 3"
        assert cells.run(f"{line} -t 1\nsleep 1000").evalue == "Execution timed out after 1 seconds"
        assert "no command ruby on its PATH" in cells.run("%%isolated --command ruby\n1").evalue

    def test_each_row(self, cells):
        code = 'read -r row < $ISOLATED_MAGIC_DATA\necho "{\\"scores\\": [{\\"name\\": \\"size\\", \\"value\\": ${#row}}]}"'
        cells.ok("rows = [{'n': 1}, {'n': 22}]")
        shown = cells.ok(f"%%isolated --command sh --each rows --key n\n{code}")
        assert shown.text.startswith("size ")
        assert "2 of 2 scored" in shown.text
        refused = cells.run(f"%%isolated --command sh --each rows --per n\n{code}")
        assert "with a command each row has its own" in refused.evalue

    def test_volumes_and_networks(self, cells, tmp_path):
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        (tmp_path / "open" / "words.txt").write_text("of this machine")
        read = "open('/data/words.txt').read()"
        line = f"%%isolated --volume {tmp_path}/open:/data"
        assert cells.ok(f"{line} --no-score\nprint({read})").stdout == "of this machine\n"
        assert "Read-only file system" in cells.run(f"{line}\nopen('/data/new', 'w')").evalue
        cells.ok(f"{line}:rw --no-score\nprint(open('/data/new', 'w').write('x'))")
        assert (tmp_path / "open" / "new").read_text() == "x"
        cells.ok(f"import os; os.chdir({str(tmp_path)!r}); folder = {str(tmp_path / 'open')!r}")
        assert (
            cells.ok(f"%%isolated --volume $folder:/data --no-score\nprint({read})").stdout == "of this machine\n"
        )
        assert (
            cells.ok(f"%%isolated --volume ./open:/data --no-score\nprint({read})").stdout == "of this machine\n"
        )
        absent = cells.run("%%isolated --volume ./none:/data\n1").evalue
        assert absent.startswith("No container could be started: the daemon says")
        assert f"{tmp_path}/none" in absent
        assert "nowhere not found" in cells.run("%%isolated --network nowhere\n1").evalue
        networks = "import os\nlen(os.listdir('/sys/class/net'))"
        assert cells.ok(f"%%isolated --network host\n{networks}").text.split()[1] != "1"
        assert cells.ok(f"%%isolated\n{networks}").text.split()[1] == "1"
        assert "Range of CPUs is from" in cells.run("%%isolated --cpus 5000\n1").evalue

    def test_a_file(self, cells, tmp_path):
        (tmp_path / "score.sh").write_text('echo \'{"scores": [{"name": "of a file", "value": 1}]}\'')
        assert cells.ok(f"%isolated run {tmp_path}/score.sh --command 'sh {{file}}.sh'").text.startswith(
            "of a file"
        )

    def test_settings(self, cells):
        for name, value in (("docker_memory", "'100M'"), ("docker_user", "'1234:1234'"), ("docker_nofile", "99")):
            cells.ok(f"%config IsolatedMagic.{name} = {value}")
        code = "import os, resource\n{'uid': os.getuid(), 'files': resource.getrlimit(7)[0]}"
        assert cells.ok(f"%%isolated -o r\n{code}").text
        assert cells.ok("r['uid'].value, r['files'].value").text == "(1234, 99)"
        assert "memory limit 100 MB exceeded" in cells.run("%%isolated\nx = bytearray(400 << 20)\n1").evalue


class TestNotebook:
    """The notebook about containers, against this daemon; `make test-notebooks` skips it where there is none."""

    def nbval(self, folder, url):
        shutil.copytree(NOTEBOOKS, folder)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-p",
            "no:opik",
            "-p",
            "no:cacheprovider",
            "--nbval",
        ]
        environment = {**os.environ, "DOCKER_HOST": url}
        ran = subprocess.run(
            [*command, "--rootdir", ".", "containers.ipynb"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout.splitlines()

    def test_each_cell_shows_what_is_saved(self, daemon, tmp_path):
        with daemon.manual_images():
            said = self.nbval(tmp_path / "notebooks", daemon.url)
        assert re.fullmatch(r"\d+ passed in .*", said[-1]), "\n".join(said)

    def test_without_a_daemon_it_is_skipped(self, tmp_path):
        said = self.nbval(tmp_path / "notebooks", f"unix://{tmp_path}/nothing")
        assert re.fullmatch(r"\d+ skipped in .*", said[-1]), "\n".join(said)
        assert any("nothing is there: start the daemon" in line for line in said)
