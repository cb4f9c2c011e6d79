"""Nothing of a run outlives it, nor the process that owns it, whichever way either ends."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from isolated_magic import ProcessExecutor
from isolated_magic.child import process_tree
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, HIDING_TREE, TREES, is_alive, pids_in, wait_as_promised, wait_until
from tests.time_limits import time_limit_from

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

STAY = "\nimport time\ntime.sleep(1000)"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pids"
    made.mkdir()
    return made


@pytest.fixture(params=TREES)
def tree(request):
    return TREES[request.param]


def gone(folder) -> bool:
    return not any(is_alive(pid) for pid in pids_in(folder))


@contextmanager
def cut_off_when_it_prints():
    """Options of a run that gets no further than a second after it has printed something."""
    printed = threading.Event()
    with time_limit_from(printed.is_set):
        yield {"timeout_secs": 1, "on_output": lambda *_: printed.set()}


class TestRuns:
    def test_a_run_that_ends_leaves_nothing(self, executor, folder, tree):
        result = executor.run(tree + "\n0.5", {"folder": str(folder)})
        assert result.ok, result.error
        assert len(pids_in(folder)) >= 6
        wait_as_promised(lambda: gone(folder))

    def test_a_timeout_leaves_nothing(self, executor, folder, tree):
        with time_limit_from((folder.parent / "ready").exists, secs=0.2):
            result = executor.run(tree + STAY, {"folder": str(folder)}, timeout_secs=1)
        assert "timed out" in result.error.text
        assert len(pids_in(folder)) >= 6
        assert gone(folder)

    @pytest.mark.parametrize("how", ["kill_process", "kill_all_processes", "teardown", "interrupt"])
    def test_a_kill_leaves_nothing(self, executor, folder, tree, how):
        arguments = (tree + STAY, {"folder": str(folder)})
        thread = threading.Thread(target=executor.run, args=arguments)
        thread.start()
        wait_until((folder.parent / "ready").exists)
        if how == "interrupt":
            executor.live_runs[0].interrupt()
        else:
            getattr(executor, how)(*executor.active_pids if how == "kill_process" else ())
        thread.join(HANG_GUARD_SECS)
        assert not thread.is_alive()
        assert gone(folder)
        settled = len(pids_in(folder))
        assert executor.run("1").ok
        assert len(pids_in(folder)) == settled

    def test_a_guardian_that_is_killed_costs_its_runs_and_nothing_more(self, executor):
        results, begun = [], threading.Event()
        code = "import time\nprint('begun', flush=True)\ntime.sleep(1000)"
        thread = threading.Thread(
            target=lambda: results.append(executor.run(code, on_output=lambda *_: begun.set()))
        )
        thread.start()
        assert begun.wait(HANG_GUARD_SECS)  # one that has not begun starts anew
        (pid,) = executor.active_pids
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        thread.join(HANG_GUARD_SECS)
        assert results[0].to_dict()["code"] == 500
        assert "lost" in results[0].error.text
        assert not is_alive(pid)
        assert executor.run("0.5").ok


FORGETTING = """
import time
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=1 << 20)
print("/dev/shm/" + memory.name, flush=True)
"""
TIDY = (
    FORGETTING
    + """
try:
    time.sleep(1000)
finally:
    memory.close()
    memory.unlink()
"""
)
# Likewise in a process that the run started, and with a semaphore that has a name.
BELOW = {
    "in a process": f"""
import multiprocessing, time
def work():
    exec({FORGETTING!r})
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
""",
    "of a process": """
import multiprocessing, os, time
lock = multiprocessing.get_context("spawn").Lock()
print("/dev/shm/sem." + lock._semlock.name.lstrip("/"), flush=True)
""",
}


class TestWhatProcessesLeaveBehind:
    """What the system does not take back when a process ends, but a resource tracker does."""

    @pytest.mark.parametrize("code", [FORGETTING, *BELOW.values()], ids=["itself", *BELOW])
    @pytest.mark.parametrize("end", ["\n0.5", STAY])
    def test_it_is_gone_when_the_run_is(self, executor, code, end):
        with cut_off_when_it_prints() as options:
            result = executor.run(code + end, **(options if end == STAY else {}))
        path = result.stdout.strip()
        assert (result.ok, path[:9]) == (end != STAY, "/dev/shm/"), (result.error, result.stderr)
        assert not Path(path).exists()

    def test_folders_of_joblib_are_gone_when_the_run_is(self, executor):
        code = (
            "import os, time, numpy\nfrom joblib import Parallel, delayed\n"
            "def work(array):\n    print(os.path.dirname(array.filename), flush=True)\n    time.sleep(1000)\n"
            "Parallel(n_jobs=2, max_nbytes=1)([delayed(work)(numpy.zeros(1000))])"
        )
        with cut_off_when_it_prints() as options:
            result = executor.run(code, **options)
        assert "timed out" in result.error.text
        path = result.stdout.strip()
        assert "joblib_memmapping_folder" in path, result.stderr
        assert not Path(path).exists()

    @pytest.mark.parametrize("how", ["interrupt", "kill_all_processes", "teardown"])
    def test_it_is_gone_when_the_run_was_made_to_end(self, executor, how):
        run = executor.start(TIDY)
        wait_until(lambda: run.stdout)
        run.interrupt() if how == "interrupt" else getattr(executor, how)()
        path = run.result(HANG_GUARD_SECS).stdout.strip()
        assert path.startswith("/dev/shm/psm_")
        assert not Path(path).exists()

    def test_it_is_gone_when_a_worker_is(self):
        with ProcessExecutor(workers=1) as executor:
            result = executor.run(FORGETTING + "0.5")
            assert result.ok, result.error
            wait_until(lambda: not Path(result.stdout.strip()).exists())
            with cut_off_when_it_prints() as options:
                result = executor.run(TIDY, **options)
            assert "timed out" in result.error.text
            assert not Path(result.stdout.strip()).exists()

    def test_a_tracker_is_told_as_soon_as_it_is_there(self):
        code = "from multiprocessing.resource_tracker import main; import signal; signal.pause()"
        for _ in range(20):  # posix_spawn(3) returns while execve(2) is at work
            pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", code], os.environ)
            try:
                assert process_tree.is_resource_tracker(pid)
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        assert not process_tree.is_resource_tracker(pid)

    def test_a_tracker_that_does_not_end_is_killed(self, executor):
        code = (
            "import subprocess, sys\nstay = 'import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(1000)'\n"
            "for name in ('resource_tracker import main', 'else'):\n"
            "    print(subprocess.Popen([sys.executable, '-S', '-c', stay, name], start_new_session=True).pid)\n0.5"
        )
        result = executor.run(code)
        assert result.ok, result.error
        assert not any(is_alive(int(pid)) for pid in result.stdout.split())
        assert executor.run("1").ok

    def test_runs_beside_it_do_not_wait_for_a_tracker(self, executor):
        code = (
            "import subprocess, sys\n"
            "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(1000)', 'resource_tracker import main'])\n"
            "0.5"
        )
        first = executor.start(code)
        others = [executor.run("1") for _ in range(3)]
        assert all(result.ok for result in others)
        assert first.result(HANG_GUARD_SECS).ok


OWNER = """
import os, signal, sys, threading
from isolated_magic import IsolatedSubprocessExecutor
code, folder, ending, launch = sys.argv[1:]
executor = IsolatedSubprocessExecutor(launch=launch)
executor.warm_up()
run = threading.Thread(target=executor.run, args=(code, {"folder": folder}), kwargs={"timeout_secs": 1000}, daemon=True)
run.start()
print("started", flush=True)
sys.stdin.readline()
exec(ending)
"""


# A copy of the owner that lives on, and says who it is before the owner is killed.
LEAVES_A_COPY = """
import pathlib, time
copy = os.fork()
if copy:
    pathlib.Path(folder).with_name("copy").write_text(str(copy))
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1000)
"""


class TestOwners:
    @pytest.mark.parametrize(
        "ending",
        [
            "sys.exit()",
            "os._exit(1)",
            "os.kill(os.getpid(), signal.SIGKILL)",
            "os.kill(os.getpid(), signal.SIGTERM)",
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "import ctypes; ctypes.string_at(0)",
            # a copy that lives on, with every descriptor, keeps no run alive
            LEAVES_A_COPY,
        ],
    )
    @pytest.mark.parametrize("launch", ["cold", "forked"])
    def test_no_run_outlives_its_owner(self, folder, tree, ending, launch):
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, tree + STAY, str(folder), ending, launch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with owner:
            wait_until((folder.parent / "ready").exists)
            owner.stdin.write(b"\n")
            owner.stdin.flush()
            owner.wait(HANG_GUARD_SECS)
            wait_as_promised(lambda: gone(folder))
            if (folder.parent / "copy").exists():
                os.kill(int((folder.parent / "copy").read_text()), signal.SIGKILL)

    @pytest.mark.parametrize("launch", ["cold", "forked"])
    def test_no_shared_memory_outlives_the_owner(self, folder, launch):
        code = TIDY.replace("print(", "open(data['folder'] + '/name', 'w').write(").replace(", flush=True)", ")")
        ending = "os.kill(os.getpid(), signal.SIGKILL)"
        command = [sys.executable, "-c", OWNER, code, str(folder), ending, launch]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            wait_until(lambda: (folder / "name").exists() and (folder / "name").read_text())
            path = (folder / "name").read_text()
            assert Path(path).exists()
            owner.communicate(b"\n", timeout=HANG_GUARD_SECS)
            wait_as_promised(lambda: not Path(path).exists())

    @pytest.mark.parametrize("launch", ["cold", "forked"])
    @pytest.mark.parametrize("leave", ["sys.exit()", "os._exit(0)", "executor.teardown()"])
    def test_the_end_of_a_copy_tears_nothing_down(self, folder, launch, leave):
        """A fork of the owner that ends, or tears down, leaves the runs and callbacks of the original alone."""
        program = (
            "import os, sys, threading, time\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "folder, launch, leave = sys.argv[1:]\nexecutor = IsolatedSubprocessExecutor(launch=launch)\n"
            "executor.warm_up()\nexecutor.register_teardown_callback(lambda: print('torn down', flush=True))\n"
            "gate = os.path.join(folder, 'gate')\n"
            "run = executor.start('import os, time\\nwhile not os.path.exists(data[\"gate\"]): time.sleep(0.01)\\n0.5',"
            " {'gate': gate})\npid = run.pid\n"
            "if os.fork() == 0:\n    exec(leave)\n    os._exit(0)\n"
            "os.wait()\nprint(run.done(), executor.active_pids == (pid,), flush=True)\n"
            "open(gate, 'w').close()\nprint(run.result(30).ok, flush=True)\n"
        )
        command = [sys.executable, "-c", program, str(folder), launch, leave]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_SECS, check=True)
        assert done.stdout == "False True\nTrue\ntorn down\n", done.stderr


class TestKernels:
    CELL = "%%isolated -d folder={folder} -t 1000\n"

    def begin(self, cells, folder):
        cells.ok(
            "from isolated_magic import IsolatedSubprocessExecutor\nimport pathlib\n"
            "mine = IsolatedSubprocessExecutor()\n"
            f"mine.register_teardown_callback(pathlib.Path({str(folder.parent / 'torn down')!r}).touch)"
        )
        request = cells.start(self.CELL.format(folder=folder) + HIDING_TREE + STAY)
        wait_until((folder.parent / "ready").exists)
        return request

    def test_an_interrupt_stops_the_tree_and_leaves_the_kernel_usable(self, folder):
        with kernel() as cells:
            request = self.begin(cells, folder)
            cells.manager.interrupt_kernel()
            shown = cells.collect(request)
            assert gone(folder)
            assert shown.ename == "RunInterrupted"
            assert shown.traceback == f"RunInterrupted: {shown.evalue}"
            assert cells.ok("%%isolated\n0.5").text.startswith("score")
            assert not (folder.parent / "torn down").exists()

    @pytest.mark.parametrize(
        ("end", "callbacks_run"),
        [
            (lambda manager: manager.shutdown_kernel(now=True), False),
            (lambda manager: manager.signal_kernel(signal.SIGKILL), False),
            (lambda manager: manager.signal_kernel(signal.SIGTERM), True),
            (lambda manager: manager.restart_kernel(now=True), False),
            (lambda manager: manager.shutdown_kernel(), True),
            (lambda manager: manager.restart_kernel(), True),
            (lambda manager: manager.signal_kernel(signal.SIGSEGV), False),
        ],
        ids=["shutdown now", "SIGKILL", "SIGTERM", "restart now", "shutdown", "restart", "segmentation fault"],
    )
    def test_the_end_of_a_busy_kernel(self, folder, end, callbacks_run):
        with kernel() as cells:
            self.begin(cells, folder)
            end(cells.manager)
            wait_as_promised(lambda: gone(folder))
            if callbacks_run:
                wait_as_promised((folder.parent / "torn down").exists)

    def test_callbacks_run_on_sigterm_without_the_extension(self, folder):
        with kernel() as cells:
            cells.ok(
                "%unload_ext isolated_magic\nfrom isolated_magic import IsolatedSubprocessExecutor\nimport pathlib\n"
                "executor = IsolatedSubprocessExecutor()\n"
                f"executor.register_teardown_callback(pathlib.Path({str(folder / '1')!r}).touch)"
            )
            cells.manager.signal_kernel(signal.SIGTERM)
            wait_until((folder / "1").exists)

    @pytest.mark.parametrize("restart", [False, True])
    def test_callbacks_run_when_an_idle_kernel_is_shut_down_or_restarted(self, folder, restart):
        with kernel() as cells:
            cells.ok("%%isolated\n0.5")
            cells.ok(
                "from isolated_magic import IsolatedSubprocessExecutor\nimport pathlib\n"
                "executor = IsolatedSubprocessExecutor()\nexecutor.run('1')\nwords = ['still here']\n"
                f"executor.register_teardown_callback(lambda: pathlib.Path({str(folder / '1')!r}).write_text(words[0]))"
            )
            cells.manager.restart_kernel() if restart else cells.manager.shutdown_kernel()
            wait_until((folder / "1").exists)
            assert (folder / "1").read_text() == "still here"
