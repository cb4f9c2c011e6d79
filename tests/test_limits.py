"""What a run may use, and that the error names what it exceeded."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor, Limits
from isolated_magic.child.limits import CONTROLLERS, GROUP_PREFIX, ControlGroup, _homes
from isolated_magic.limits import format_size, parse_size
from tests.processes import HANG_GUARD_SECS, is_alive, pids_in, wait_until
from tests.time_limits import time_limit_from

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS holds few of them")

MIB = 1 << 20
HOMES = _homes(prepare=True)
VERSION = max((version for version, _ in HOMES.values()), default=None)
FILL = "import mmap\nroom = mmap.mmap(-1, 1_000_000_000)\nwhile True: room.write(b'x' * 1_000_000)"


def groups_left(owner=None):
    homes = {Path(folder) for _, folder in HOMES.values()}
    return [
        entry
        for home in homes
        for entry in home.iterdir()
        if entry.name.startswith(f"{GROUP_PREFIX}-{owner or os.getpid()}-")
    ]


BREACHES = {
    "memory at once": ({"memory_bytes": 512 * MIB}, "x = bytearray(10**9)", "memory limit 512 MB exceeded"),
    "memory bit by bit": (
        {"memory_bytes": 256 * MIB},
        "kept = []\nwhile True: kept.append('x' * 1000 + str(len(kept)))",
        "memory limit 256 MB exceeded",
    ),
    "memory, wrapped": (
        {"memory_bytes": 256 * MIB},
        "try:\n    x = bytearray(10**9)\nexcept MemoryError as problem:\n    raise ValueError('no') from problem",
        "memory limit 256 MB exceeded",
    ),
    "processor time": ({"cpu_secs": 1}, "while True: pass", "CPU time limit 1 s exceeded"),
    "processor time, ignored": (
        {"cpu_secs": 0.5},
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "CPU time limit 0.5 s exceeded",
    ),
    "open files": (
        {"open_files": 40},
        "files = []\nwhile True: files.append(open('/dev/null'))",
        "limit of open files 40 exceeded",
    ),
    "file size": (
        {"file_size_bytes": MIB},
        "import tempfile\nfile = tempfile.TemporaryFile()\nwhile True: file.write(b'x' * 100_000)",
        "file size limit 1 MB exceeded",
    ),
    "processes": (
        {"processes": 4},
        "import subprocess\nfor _ in range(5): subprocess.Popen(['sleep', '1000'])",
        "process limit 4 exceeded",
    ),
    "threads": (
        {"processes": 20},
        "import threading, time\n"
        "for _ in range(50): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "process limit 20 exceeded",
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_a_breach_is_named(executor, case):
    limits, code, said = BREACHES[case]
    result = executor.run(code, limits=Limits(**limits))
    assert result.error.kind == "limit", result.error
    assert result.error.code == 500
    assert result.error.text.startswith(said)
    assert result.error.summary.startswith(said)
    assert executor.run("0.5").ok
    assert groups_left() == []


def test_limits_that_are_kept_change_nothing(executor):
    limits = Limits(512 * MIB, cpu_secs=10, open_files=100, file_size_bytes=MIB, processes=20)
    result = executor.run("import json\nprint(json.dumps({'a': len(data['text'])}))", {"text": "x"}, limits=limits)
    assert (result.payload, result.stderr) == ({"a": 1}, "")


def test_the_code_may_handle_a_breach_by_itself(executor):
    code = "try:\n    bytearray(10**9)\nexcept MemoryError:\n    value = 0.25\nvalue"
    assert executor.run(code, limits=Limits(memory_bytes=256 * MIB)).scores[0].value == 0.25


def test_the_same_exception_without_a_limit_is_the_codes_own(executor):
    error = executor.run("raise MemoryError", limits=Limits(open_files=100)).error
    assert (error.kind, error.summary) == ("user_code", "MemoryError (line 1)")


def test_the_next_run_has_no_limits(executor):
    assert not executor.run("bytearray(10**9)", limits=Limits(memory_bytes=256 * MIB)).ok
    assert executor.run("len(bytearray(300 * 2**20))").ok


def test_limits_of_the_executor_and_of_one_run():
    with IsolatedSubprocessExecutor(limits=Limits(open_files=40)) as executor:
        assert executor.run("[open('/dev/null') for _ in range(50)]").error.kind == "limit"
        assert executor.run("len([open('/dev/null') for _ in range(50)])", limits=Limits(open_files=100)).ok


@pytest.mark.skipif(len(HOMES) < 2, reason="no control groups may be made here")
class TestGroups:
    @pytest.mark.alone  # runs that die at the same time are taken for victims of the OOM killer too
    def test_the_oom_killer_is_named(self, executor):
        result = executor.run(FILL, limits=Limits(memory_bytes=200 * MIB))
        assert result.error.text == "memory limit 200 MB exceeded: the system's OOM killer ended the run."
        assert 190 * MIB < result.peak_memory_bytes <= 200 * MIB

    @pytest.mark.alone  # runs that die at the same time are taken for victims of the OOM killer too
    def test_all_processes_of_a_run_share_its_memory(self, executor):
        """Version 2 ends the run as a whole (memory.oom.group): half of it would be of no use."""
        code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {FILL!r}], check=True)"
        error = executor.run(code, limits=Limits(memory_bytes=200 * MIB)).error
        assert error.kind == "limit"
        if VERSION == 2:
            assert error.text == "memory limit 200 MB exceeded: the system's OOM killer ended the run."
        else:
            assert error.text.startswith("memory limit 200 MB exceeded (")
            assert "CalledProcessError" in error.text

    @pytest.mark.alone  # runs that die at the same time are taken for victims of the OOM killer too
    def test_none_has_more_than_its_share_and_all_together_do(self, executor):
        hold = "import mmap\nroom = mmap.mmap(-1, 80_000_000)\nroom.write(b'x' * 80_000_000)\ninput()"
        code = f"import subprocess, sys\nfor _ in range(4): subprocess.Popen([sys.executable, '-c', {hold!r}],"
        code += (
            " stdin=subprocess.PIPE)\nimport os, time\nos.wait()\nprint('killed', flush=True)\ntime.sleep(1000)"
        )
        limits = Limits(memory_bytes=200 * MIB)
        if VERSION == 2:
            error = executor.run(code, limits=limits).error
            assert error.text == "memory limit 200 MB exceeded: the system's OOM killer ended the run."
        else:  # one of them was killed, and the code goes on without it
            killed = threading.Event()
            with time_limit_from(killed.is_set):
                result = executor.run(code, limits=limits, timeout_secs=1, on_output=lambda *_: killed.set())
            assert result.peak_memory_bytes > 190 * MIB

    def test_the_peak_is_that_of_all_processes_together(self, executor):
        hold = "import mmap\nroom = mmap.mmap(-1, 50_000_000)\nroom.write(b'x' * 50_000_000)\nprint(1, flush=True)\ninput()"
        code = f"import subprocess, sys\nmore = [subprocess.Popen([sys.executable, '-c', {hold!r}],"
        code += " stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]\n"
        code += "for each in more: each.stdout.readline()\n0.5"
        result = executor.run(code, limits=Limits(memory_bytes=400 * MIB))
        assert 100_000_000 <= result.peak_memory_bytes < 400 * MIB
        without = executor.run("0.5")
        assert without.peak_memory_bytes is None
        assert executor.run("0.5", limits=Limits(memory_bytes=400 * MIB)) == without

    def test_a_notebook_keeps_the_peak_beside_the_timings(self):
        from tests.kernels import kernel  # the virtual machine has no Jupyter

        with kernel() as notebook:
            notebook.ok("%load_ext isolated_magic")
            shown = notebook.ok("%%isolated --memory 400M\nlen(bytearray(b'x' * 100_000_000))")
            assert 100_000_000 <= shown.metadata["isolated_magic_run"]["peak_memory_bytes"] <= 400 * MIB
            assert "peak" not in str(shown.data)

    def test_a_process_limit_that_a_child_met_with_is_told(self, executor):
        starts = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & exit 3"
        limits = Limits(processes=4)
        code = f"import subprocess\nsubprocess.run(['sh', '-c', {starts!r}], check=True)"
        error = executor.run(code, limits=limits).error
        assert (error.kind, error.hint) == ("user_code", "process limit 4 exceeded.")
        code = f"import subprocess, sys\nsys.exit(subprocess.run(['sh', '-c', {starts!r}]).returncode)"
        error = executor.run(code, limits=limits).error
        assert (error.kind, error.code) == ("limit", 500)
        assert error.text.startswith("process limit 4 exceeded: The process ended with exit status ")

    @pytest.mark.alone  # runs that die at the same time are taken for victims of the OOM killer too
    def test_the_oom_killer_without_a_limit_of_ours(self):
        """The memory of the whole program is limited, as in a container."""
        group = ControlGroup({"memory_bytes": 300 * MIB})
        if VERSION == 2:
            Path(group.folders["memory_bytes"], "memory.oom.group").write_text("0")
        program = (
            "import sys\nfrom pathlib import Path\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "Path(sys.argv[1]).write_text('0')\nexecutor = IsolatedSubprocessExecutor(timeout_secs=1000)\n"
            f"error = executor.run({FILL!r}).error\nprint(error.kind, error.text, executor.run('0.5').ok)"
        )
        try:
            command = [sys.executable, "-c", program, *group.members]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG_GUARD_SECS)
        finally:
            group.close()
        assert "died The process was killed by the system's OOM killer" in done.stdout, done.stderr
        assert done.stdout.endswith("True\n")

    @pytest.mark.parametrize("early", [False, True])
    def test_no_group_outlives_an_owner_that_was_killed(self, tmp_path, early):
        code = f"import pathlib, time\npathlib.Path({str(tmp_path / 'ready')!r}).touch()\ntime.sleep(1000)"
        program = (
            "from isolated_magic import IsolatedSubprocessExecutor, Limits\n"
            f"IsolatedSubprocessExecutor().run({code!r}, limits=Limits(processes=50))"
        )

        def left():
            return groups_left(owner.pid) != []

        with subprocess.Popen([sys.executable, "-c", program]) as owner:
            wait_until(left if early else (tmp_path / "ready").exists)
            owner.send_signal(signal.SIGKILL)
        if early:  # there may have been no guardian yet: the next program takes it away
            next_one = (
                "from isolated_magic.child.limits import ControlGroup; ControlGroup({'processes': 5}).close()"
            )
            subprocess.run([sys.executable, "-c", next_one], check=True, timeout=HANG_GUARD_SECS)
        wait_until(lambda: not left())

    @pytest.mark.skipif(VERSION != 2, reason="control groups of version 1 cannot kill what is in them")
    def test_nothing_outlives_an_owner_and_a_guardian_that_were_killed(self, tmp_path):
        code = (
            "import os, pathlib, time\n"
            "if os.fork() == 0:\n    os.setsid()\n    os.fork() and os._exit(0)\n"
            "    signal_ignored = __import__('signal').signal(15, 1)\n"
            f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\ntime.sleep(1000)"
        )
        program = (
            "from isolated_magic import IsolatedSubprocessExecutor, Limits\n"
            f"IsolatedSubprocessExecutor(launch='cold').run({code!r}, limits=Limits(processes=50))"
        )
        with subprocess.Popen([sys.executable, "-c", program]) as owner:
            wait_until(lambda: len(pids_in(tmp_path)) == 2)
            run = psutil.Process(min(pids_in(tmp_path)))
            guardian = next(one for one in run.parents() if one.ppid() == owner.pid)
            pids = pids_in(tmp_path)
            guardian.suspend()  # or it would end what it keeps first
            owner.send_signal(signal.SIGKILL)
            guardian.kill()
        wait_until(lambda: not is_alive(guardian.pid))
        assert any(map(is_alive, pids))
        next_one = "from isolated_magic.child.limits import ControlGroup; ControlGroup({'processes': 5}).close()"
        subprocess.run([sys.executable, "-c", next_one], check=True, timeout=HANG_GUARD_SECS)
        wait_until(lambda: not any(map(is_alive, pids)))
        assert groups_left(owner.pid) == []

    def test_processes_that_hide_and_multiply_go_too(self, executor, tmp_path):
        """Each makes a session of its own and is nobody's child any more before it makes the next one."""
        code = (
            "import os, pathlib\n"
            "while True:\n"
            "    try:\n"
            "        if os.fork() == 0:\n"
            "            os.setsid()\n"
            "            os.fork() and os._exit(0)\n"
            f"            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
            "    except OSError: pass"
        )
        with time_limit_from(lambda: len(pids_in(tmp_path)) > 1):
            result = executor.run(code, limits=Limits(processes=40), timeout_secs=1)
        assert result.error.kind == "timeout"
        limits = Limits(processes=40)
        wait_until(lambda: executor.run("0.5", limits=limits).ok and not groups_left())
        wait_until(lambda: not any(map(is_alive, pids_in(tmp_path))))
        assert len(pids_in(tmp_path)) > 1

    def test_processes_that_multiply_go_too(self, executor):
        """A fork bomb, which ignores what it can; under a limit, so that it does not take the machine with it."""
        code = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n"
        code += "    try: os.fork()\n    except OSError: pass"
        result = executor.run(code, limits=Limits(processes=60), timeout_secs=1)
        assert result.error.kind == "timeout"
        limits = Limits(processes=60)  # a group whose processes die slowly goes with a later one
        wait_until(lambda: executor.run("0.5", limits=limits).ok and not groups_left())
        assert executor.run("0.5").ok

    def test_the_names_are_those_of_the_limits(self):
        assert all(hasattr(Limits(), name) for name in CONTROLLERS)


# For a program: it has a file system without control groups from here on.
HIDE_GROUPS = """
import ctypes, subprocess
assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"], check=True)
"""
MEMORY_WARNING = (
    "isolated_magic:1: LimitWarning: The memory limit holds for each process of a run by itself, not for all of them "
    "together: no control group can be made here."
)


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups can be hidden by root alone")
class TestWithoutGroups:
    """`tests/vm/control_groups.py` has those who are not root, and places that have none."""

    def test_what_is_not_limited_is_said_once_and_what_cannot_be_is_an_error(self):
        program = HIDE_GROUPS + (
            "from isolated_magic import IsolatedSubprocessExecutor, Limits\n"
            "for _ in range(2):\n    with IsolatedSubprocessExecutor(launch='cold') as executor:\n"
            "        print(executor.run('0.5', limits=Limits(memory_bytes=2**29)).peak_memory_bytes)\n"
            "        print(executor.run('bytearray(2**30)', limits=Limits(memory_bytes=2**29)).error.kind)\n"
            "        print(executor.run('0.5', limits=Limits(processes=50)).error.kind)\n"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG_GUARD_SECS)
        assert done.stdout.split() == ["None", "limit", "launch"] * 2
        assert done.stderr == f"{MEMORY_WARNING}\n"

    def test_a_program_that_makes_warnings_errors_gets_one(self):
        program = HIDE_GROUPS + (
            "from isolated_magic import IsolatedSubprocessExecutor, Limits, LimitWarning\n"
            "with IsolatedSubprocessExecutor(launch='cold') as executor:\n"
            "    try: executor.run('0.5', limits=Limits(memory_bytes=2**29))\n"
            "    except LimitWarning as problem: print(problem)\n"
            "    print(executor.run('0.5').ok)"
        )
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANG_GUARD_SECS)
        assert done.stdout.splitlines() == [MEMORY_WARNING.partition("LimitWarning: ")[2], "True"]

    def test_a_notebook_shows_it_below_the_first_cell(self):
        from tests.kernels import kernel  # the virtual machine has no Jupyter

        with kernel() as notebook:
            notebook.ok(f"%load_ext isolated_magic\n{HIDE_GROUPS}")
            seen = [notebook.ok("%%isolated --memory 512M\n0.5") for _ in range(2)]
        assert [shown.stderr for shown in seen] == [f"{MEMORY_WARNING}\n", ""]
        assert seen[0].data == seen[1].data
        assert [shown.metadata["isolated_magic_run"]["peak_memory_bytes"] for shown in seen] == [None, None]


class TestOutput:
    def test_a_flood_is_cut_and_the_result_arrives(self, executor):
        code = "import sys\nfor _ in range(1000): sys.stdout.write('x' * 999_999 + '\\n')\n0.5"
        result = executor.run(code, limits=Limits(output_bytes=MIB))
        assert result.scores[0].value == 0.5
        assert result.stdout.startswith("xxx")
        assert result.stdout.endswith("x\n[stdout is cut here: more than 1 MB, the limit of output]\n")
        assert len(result.stdout) < 1.1 * MIB

    @pytest.mark.parametrize(("text", "kept"), [("abc\n", "abc\nabc\nab"), ("é✓\n", "é✓\né")])
    def test_where_it_is_cut(self, executor, text, kept):
        seen = []
        code = f"import sys\nfor _ in range(10): sys.stderr.write({text!r})\n0.5"
        limits = Limits(output_bytes=10 if text.isascii() else 9)
        result = executor.run(code, limits=limits, on_output=lambda *part: seen.append(part))
        size = limits.output_bytes
        assert result.stderr == f"{kept}\n[stderr is cut here: more than {size} bytes, the limit of output]\n"
        assert "".join(text for _, text in seen) == result.stderr
        assert result.scores[0].value == 0.5

    def test_the_other_stream_is_counted_by_itself(self, executor):
        code = "import sys\nprint('x' * 50)\nprint('y' * 5, file=sys.stderr)\nprint('{\"a\": 1}')"
        result = executor.run(code, limits=Limits(output_bytes=10))
        assert (result.stderr, result.payload) == ("yyyyy\n", {"a": 1})

    def test_no_limit(self, executor):
        result = executor.run("print('x' * 40_000_000)\n0.5", limits=Limits(output_bytes=None))
        assert len(result.stdout) == 40_000_001

    def test_memory_stays_bounded_while_a_gigabyte_comes(self):
        program = (
            "import resource\nfrom isolated_magic import IsolatedSubprocessExecutor, Limits\n"
            "with IsolatedSubprocessExecutor(timeout_secs=1000) as executor:\n"
            "    executor.run('1')\n    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "    code = 'import os\\nfor _ in range(1000): os.write(1, b\"x\" * 1_000_000)\\nprint()\\n0.5'\n"
            "    assert executor.run(code, limits=Limits(output_bytes=2**20)).ok\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert int(done.stdout) < 50_000  # kilobytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_bytes": 0},
        {"memory_bytes": "512M"},
        {"open_files": 1.5},
        {"processes": True},
        {"cpu_secs": float("inf")},
        {"cpu_secs": float("nan")},
        {"stack_bytes": None},
    ],
)
def test_wrong_limits_are_refused(wrong):
    with pytest.raises(InvalidRequestError, match=f"{next(iter(wrong))} is .*: give a"):
        Limits(**wrong)


def test_limits_of_another_type_are_refused(executor):
    assert executor.run("1", limits={"memory_bytes": 5}).error.text.startswith("limits is dict: give Limits")


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * MIB), ("2g", 2 << 30), ("1.5K", 1536), ("100", 100), ("1 MiB", MIB), ("3kb", 3072)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1X", "0", "1e9", "inf"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_sizes_as_text():
    sizes = [512 * MIB, 1 << 30, 1536, 100, 3 << 40]
    assert [format_size(size) for size in sizes] == ["512 MB", "1 GB", "1.5 KB", "100 bytes", "3 TB"]


def test_root_is_told_where_processes_cannot_be_limited(executor):
    if os.geteuid() != 0 or "processes" in HOMES:
        assert executor.run("0.5", limits=Limits(processes=100)).ok
        return
    error = executor.run("0.5", limits=Limits(processes=100)).error
    assert (error.kind, error.code) == ("launch", 500)
