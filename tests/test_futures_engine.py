"""Evaluations on executors of the user's own: pools of processes and threads, and ones that nobody knows."""

import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import loky
import psutil
import pytest

from isolated_magic import DistributedExecutor, InvalidRequestError, LaunchError
from isolated_magic.distributed import pool_process
from isolated_magic.distributed.futures_engine import FuturesEngine
from isolated_magic.distributed.lease import NEWS, Lease, packed
from isolated_magic.executors.isolated import LaunchSettings
from tests.processes import HANG_GUARD_SECS, is_alive, pids_in, wait_until

WORKERS = 2
ROOT = Path(__file__).parents[1]
SLEEPS = """
import os, pathlib, time

pathlib.Path(data["folder"], str(os.getpid())).touch()
time.sleep(1000)
"""
SLEEPS_IN_FOLDERS = f"if data['folder']:{SLEEPS.replace(chr(10), chr(10) + '    ')}\n1"
OWNER = f"""
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from isolated_magic import DistributedExecutor

executor = DistributedExecutor(ProcessPoolExecutor({WORKERS}))
executor.run("1")
if os.fork() == 0:  # has all descriptors, and outlives it
    print(os.getpid(), flush=True)
    time.sleep(1000)
executor.evaluate({SLEEPS!r}, [{{"folder": sys.argv[1]}}] * 4)
"""

INTERRUPTED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from isolated_magic import DistributedExecutor
from tests.test_futures_engine import SLEEPS, is_interruptible, made_pool

if __name__ == "__main__":
    with made_pool(sys.argv[1]) as pool:
        with DistributedExecutor(pool) as executor:
            try:
                executor.evaluate(SLEEPS, [{{"folder": sys.argv[2]}}])
            except KeyboardInterrupt as stopped:
                print("stopped", len(stopped.result.rows), flush=True)
            print("again", executor.run("data['n']", {{"n": 5}}).scores[0].value, flush=True)
        print("pool", pool.submit(abs, -1).result() == 1)
        print("interrupted", all(pool.map(is_interruptible, range({WORKERS}))), flush=True)
"""


def is_interruptible(_number):
    """Whether this process of a pool is again as it was."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return True
    return False


def made_pool(kind):
    if kind == "threads":
        return ThreadPoolExecutor(WORKERS)
    if kind == "loky":
        return loky.ProcessPoolExecutor(WORKERS)
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(kind))


@pytest.fixture(scope="module", params=["threads", "fork", "spawn", "loky"])
def pool(request):
    with made_pool(request.param) as made:
        yield made


def pids_of(pool):
    return {os.getpid()} if isinstance(pool, ThreadPoolExecutor) else set(pool._processes)


def below(pids):
    return {child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)}


class TestPools:
    def test_rows_run_in_its_processes_with_an_environment_of_their_own(self, pool):
        rows = [{"n": n} for n in range(8)]
        code = "import os\nassert os.environ['TENANT'] == str(data['n'])\nimport time\ntime.sleep(0.1)\ndata['n']"
        with DistributedExecutor(pool) as executor:
            assert executor.jobs == WORKERS
            result = executor.evaluate(code, rows, env_vars=lambda row: {"TENANT": str(row["n"])})
            single = executor.run("data['n']", {"n": 7})
        assert [row.scores[0].value for row in result.rows] == list(range(8))
        assert single.scores[0].value == 7
        workers = {row.worker for row in result.rows}
        assert {int(worker.rpartition(":")[2]) for worker in workers} == pids_of(pool)
        assert single.worker in workers

    def test_rows_of_a_value_share_processes(self, pool):
        rows = [{"n": n, "tenant": n % 3} for n in range(60)]
        code = "import os\nclass M:\n    def score(self, tenant): return float(os.environ['TENANT']) - tenant\nM()"
        with DistributedExecutor(pool) as executor:
            result = executor.evaluate(
                code, rows, env_vars=lambda row: {"TENANT": str(row["tenant"])}, per="tenant"
            )
        assert [row.scores[0].value for row in result.rows] == [0.0] * 60

    def test_nothing_is_left_in_its_processes(self, pool):
        with DistributedExecutor(pool) as executor:
            executor.evaluate("data['n']", [{"n": n} for n in range(4)])
            others = pids_of(pool)
        left = below(others - {os.getpid()}) - others
        assert not {pid for pid in left if "isolated_magic" in " ".join(psutil.Process(pid).cmdline())}

    def test_a_stop_kills_what_runs_and_the_pool_goes_on(self, pool, tmp_path):
        rows = [{"folder": ""}] * 5 + [{"folder": str(tmp_path)}] * 20
        with DistributedExecutor(pool) as executor:
            found = []
            thread = threading.Thread(target=lambda: found.append(executor.evaluate(SLEEPS_IN_FOLDERS, rows)))
            thread.start()
            wait_until(lambda: len(pids_in(tmp_path)) == WORKERS)
            executor.kill_all_processes(HANG_GUARD_SECS)
            thread.join(HANG_GUARD_SECS)
            assert not [pid for pid in pids_in(tmp_path) if is_alive(pid)]
            assert found[0].stopped
            assert [row.scores[0].value for row in found[0].rows] == [1] * 5  # in chunks with rows that slept
            assert len(pids_in(tmp_path)) == WORKERS
            again = executor.run("data['n']", {"n": 3})
            assert again.scores[0].value == 3, again.error
        assert pool.submit(os.getpid).result(HANG_GUARD_SECS) in pids_of(pool)


class TestRuns:
    """One run in a process of a pool is seen, killed and interrupted as it is elsewhere."""

    def test_what_it_prints_is_told_while_it_runs(self, pool, tmp_path):
        code = "import pathlib, time\nprint('first')\nwhile not pathlib.Path(data['path']).exists(): time.sleep(0.01)\n1"
        seen = []

        def on_output(stream, text):
            seen.append((stream, text))
            (tmp_path / "seen").touch()

        with DistributedExecutor(pool) as executor:
            result = executor.run(code, {"path": str(tmp_path / "seen")}, on_output=on_output)
        assert result.scores[0].value == 1
        assert "".join(text for _, text in seen) == result.stdout == "first\n"

    @pytest.mark.parametrize("how", ["killed", "interrupted"])
    def test_it_is_ended_by_its_pid(self, pool, how):
        with DistributedExecutor(pool) as executor:
            handle = executor.start("print('begun', flush=True)\nimport time\ntime.sleep(1000)")
            wait_until(lambda: executor.active_pids)
            if how == "killed":
                pid = executor.active_pids[0]
                wait_until(lambda: executor.live_runs[0].pid == pid)
                assert executor.kill_process(pid, HANG_GUARD_SECS)
                assert not is_alive(pid)
            else:
                executor.live_runs[0].interrupt()
            result = handle.result(HANG_GUARD_SECS)
            assert result.error.kind == how
            assert executor.run("data['n']", {"n": 3}).scores[0].value == 3


class TestPoolsThatEnd:
    def test_a_process_that_is_killed_breaks_the_pool_and_what_was_done_is_kept(self, tmp_path):
        with made_pool("fork") as pool, DistributedExecutor(pool) as executor:
            rows = [{"folder": ""}] * 4 + [{"folder": str(tmp_path)}] * 4
            found = []
            thread = threading.Thread(target=lambda: found.append(executor.evaluate(SLEEPS_IN_FOLDERS, rows)))
            thread.start()
            wait_until(lambda: len(pids_in(tmp_path)) == WORKERS)
            os.kill(min(pool._processes), signal.SIGKILL)
            thread.join(HANG_GUARD_SECS)
            wait_until(lambda: not [pid for pid in pids_in(tmp_path) if is_alive(pid)])
            result = found[0]
            assert result.stopped.startswith("The ProcessPoolExecutor is broken: ")
            assert [row.scores[0].value for row in result.rows if row.scores] == [1] * 4
            with pytest.raises(LaunchError, match=r"^The ProcessPoolExecutor is broken: "):
                executor.evaluate("1", [{}])

    def test_one_that_was_shut_down(self):
        pool = ThreadPoolExecutor(1)
        pool.shutdown()
        refusal = r"ThreadPoolExecutor takes no tasks: .* after shutdown"
        with DistributedExecutor(pool) as executor, pytest.raises(LaunchError, match=refusal):
            executor.evaluate("1", [{}, {}])

    def test_runs_end_with_the_process_that_they_are_for(self, tmp_path):
        script = tmp_path / "script.py"
        (tmp_path / "rows").mkdir()
        script.write_text(OWNER)
        with subprocess.Popen([sys.executable, script, tmp_path / "rows"], stdout=subprocess.PIPE) as owner:
            try:
                fork = int(owner.stdout.readline())
                wait_until(lambda: len(pids_in(tmp_path / "rows")) == WORKERS)
                pool = {child.pid for child in psutil.Process(owner.pid).children()} - {fork}
            finally:
                owner.kill()
        runs = pids_in(tmp_path / "rows")
        wait_until(lambda: not [pid for pid in runs if is_alive(pid)])
        assert is_alive(fork)
        os.kill(fork, signal.SIGKILL)
        for pid in pool & {pid for pid in psutil.pids() if is_alive(pid)}:  # processes of a forked pool stay
            wait_until(lambda pid=pid: not below({pid}))
            os.kill(pid, signal.SIGKILL)


class OneThread(Executor):
    """Nothing is known of it but that it is an executor: its futures can be cancelled while they run."""

    def __init__(self):
        self._tasks = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self._tasks.put((future, fn, args, kwargs))
        return future

    def _work(self):
        while True:
            future, fn, args, kwargs = self._tasks.get()
            try:
                outcome = fn(*args, **kwargs)
            except Exception as problem:  # noqa: BLE001 - the future has it
                if not future.done():
                    future.set_exception(problem)
            else:
                if not future.done():
                    future.set_result(outcome)


class AtOnce(Executor):
    """Runs a task where it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:  # noqa: BLE001 - the future has it
            future.set_exception(problem)
        return future


class Elsewhere(AtOnce):
    """As if its processes had other packages than this one, or died."""

    def __init__(self, *problems):
        self.problems = [*problems]

    def submit(self, fn, /, *args, **kwargs):
        if fn is not eval and self.problems:
            future = Future()
            future.set_exception(self.problems.pop(0))
            return future
        return super().submit(fn, *args, **kwargs)


class Cancels(Executor):
    """As one that is shut down with what waits in it."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


class EngineError(Exception):
    """As ipyparallel calls it."""


def test_a_process_that_comes_late_waits_for_nobody():
    lease = Lease()
    settings = LaunchSettings(launch="forked", preload="learned", standby=2, idle_secs=600.0, remember=False)
    home = pool_process.Home("late", os.getpid(), settings, lease.address)
    lease.release("all are there")
    late = threading.Thread(target=pool_process.gather, args=("all are there", 0.0, home), daemon=True)
    late.start()
    late.join(HANG_GUARD_SECS)
    assert not late.is_alive()
    lease.close(HANG_GUARD_SECS)


def test_what_a_stranger_tells_an_executor_is_not_heard():
    """The code of a run can find the socket, and must not have anything unpickled."""
    lease, told = Lease(), []
    lease.follow("chunk", lambda *news: told.append(news))
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(lease.address.socket)
        stranger.sendall(f"{NEWS} chunk 0 {packed([])}\n".encode() * 2)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):  # until all of it was read
            pass
    lease.close(HANG_GUARD_SECS)
    assert told == []


class TestUnknownExecutors:
    @pytest.mark.parametrize("made", [OneThread, AtOnce])
    def test_rows_and_runs(self, made):
        with DistributedExecutor(made()) as executor:
            result = executor.evaluate("data['n']", [{"n": n} for n in range(5)])
            assert [row.scores[0].value for row in result.rows] == [0, 1, 2, 3, 4]
            assert executor.run("data['n']", {"n": 3}).scores[0].value == 3

    def test_a_stop_waits_for_what_runs_though_its_future_was_cancelled(self, tmp_path):
        with DistributedExecutor(OneThread()) as executor:
            found = []
            rows = [{"folder": str(tmp_path)}] * 8
            thread = threading.Thread(target=lambda: found.append(executor.evaluate(SLEEPS, rows, jobs=2)))
            thread.start()
            wait_until(lambda: pids_in(tmp_path))
            executor.kill_all_processes(HANG_GUARD_SECS)
            thread.join(HANG_GUARD_SECS)
            assert not [pid for pid in pids_in(tmp_path) if is_alive(pid)]
            assert executor.run("data['n']", {"n": 3}).scores[0].value == 3  # nothing of the other rows runs
            assert len(pids_in(tmp_path)) == 1

    def test_handlers_of_this_process_stay(self):
        with DistributedExecutor(AtOnce()) as executor:
            executor.run("1")
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_task_that_dies_with_its_process_runs_again(self):
        pool = Elsewhere()
        with DistributedExecutor(pool) as executor:
            executor.run("1")
            pool.problems += [EngineError("Engine 3 died")] * 2
            result = executor.evaluate("data['n']", [{"n": n} for n in range(3)])
        assert [row.scores[0].value for row in result.rows] == [0, 1, 2]
        assert not pool.problems

    def test_a_task_that_cannot_be_sent_fails_its_rows(self):
        pool = Elsewhere()
        with DistributedExecutor(pool) as executor:
            executor.run("1")
            pool.problems.append(ValueError("too large to be sent"))
            result = executor.evaluate("data['n']", [{"n": n} for n in range(3)], rate="100/s")
        assert result.rows[0].error.kind == "launch"
        assert "too large to be sent" in result.rows[0].error.text
        assert [row.scores[0].value for row in result.rows[1:]] == [1, 2]

    def test_one_that_cancels_its_tasks_warms_nothing_up(self):
        with DistributedExecutor(Cancels()) as executor:
            assert executor.warm_up() is False

    def test_a_fault_at_the_end_of_an_evaluation_is_raised_and_nothing_waits(self, monkeypatch):
        def fails(*_):
            raise RuntimeError("a fault")

        monkeypatch.setattr(FuturesEngine, "unwatch", fails)
        found = queue.SimpleQueue()

        def evaluate():
            with pytest.raises(RuntimeError, match="a fault") as raised:
                DistributedExecutor(AtOnce()).evaluate("1", [{}])
            found.put(raised.value)

        threading.Thread(target=evaluate, daemon=True).start()
        assert str(found.get(timeout=HANG_GUARD_SECS)) == "a fault"

    def test_what_is_no_executor_is_refused(self):
        with pytest.raises(InvalidRequestError, match=r"client is int: give a Dask Client, .*Executor"):
            DistributedExecutor(3)


class TestInterrupts:
    @pytest.mark.parametrize("kind", ["fork", "forkserver", "loky"])
    def test_of_the_whole_group_leaves_the_pool_usable(self, kind, tmp_path):
        """As a terminal's Ctrl-C and a notebook's stop."""
        (tmp_path / "rows").mkdir()
        script = tmp_path / "script.py"
        script.write_text(INTERRUPTED)
        command = [sys.executable, str(script), kind, tmp_path / "rows"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, start_new_session=True, text=True, cwd=ROOT
        ) as owner:
            try:
                wait_until(lambda: len(pids_in(tmp_path / "rows")) == 1)  # the other process of the pool is idle
                os.killpg(owner.pid, signal.SIGINT)
                output, _ = owner.communicate(timeout=HANG_GUARD_SECS)
            finally:
                owner.kill()
        assert output.splitlines() == ["stopped 0", "again 5", "pool True", "interrupted True"]
        assert not [pid for pid in pids_in(tmp_path / "rows") if is_alive(pid)]
