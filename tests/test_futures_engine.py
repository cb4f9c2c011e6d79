"""Evaluations on executors of the user's own: pools of processes and threads, and ones that nobody knows."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import loky
import psutil
import pytest

from isolated_magic import DistributedExecutor, LaunchError
from tests.processes import HANG_GUARD_SECS, is_alive, pids_in, wait_until

WORKERS = 2
SLEEPS = """
import os, pathlib, time

pathlib.Path(data["folder"], str(os.getpid())).touch()
time.sleep(1000)
"""

OWNER = f"""
import sys
from concurrent.futures import ProcessPoolExecutor
from isolated_magic import DistributedExecutor, LaunchError

DistributedExecutor(ProcessPoolExecutor({WORKERS})).evaluate({SLEEPS!r}, [{{"folder": sys.argv[1]}}] * 4)
"""


def made_pool(kind):
    if kind == "threads":
        return ThreadPoolExecutor(WORKERS)
    if kind == "loky":
        return loky.ProcessPoolExecutor(WORKERS)
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(kind))


@pytest.fixture(scope="module", params=["threads", "fork", "spawn", "forkserver", "loky"])
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
        rows = [{"folder": str(tmp_path)}] * 20
        with DistributedExecutor(pool) as executor:
            found = []
            thread = threading.Thread(target=lambda: found.append(executor.evaluate(SLEEPS, rows)))
            thread.start()
            wait_until(lambda: len(pids_in(tmp_path)) == WORKERS)
            executor.kill_all_processes(HANG_GUARD_SECS)
            thread.join(HANG_GUARD_SECS)
            assert not [pid for pid in pids_in(tmp_path) if is_alive(pid)]
            assert found[0].stopped
            assert len(pids_in(tmp_path)) == WORKERS
            again = executor.run("data['n']", {"n": 3})
            assert again.scores[0].value == 3, again.error
        assert pool.submit(os.getpid).result(HANG_GUARD_SECS) in pids_of(pool)


class TestPoolsThatEnd:
    def test_a_process_that_is_killed_breaks_the_pool_and_what_was_done_is_kept(self, tmp_path):
        with made_pool("fork") as pool, DistributedExecutor(pool) as executor:
            rows = [{"wait": False}] * 4 + [{"wait": True, "folder": str(tmp_path)}] * 4
            code = f"if data['wait']:\n    {SLEEPS.strip().replace(chr(10), chr(10) + '    ')}\n1"
            found = []
            thread = threading.Thread(target=lambda: found.append(executor.evaluate(code, rows)))
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
                wait_until(lambda: len(pids_in(tmp_path / "rows")) == WORKERS)
                pool = {child.pid for child in psutil.Process(owner.pid).children()}
            finally:
                owner.kill()
        runs = pids_in(tmp_path / "rows")
        wait_until(lambda: not [pid for pid in runs if is_alive(pid)])
        for pid in pool & {pid for pid in psutil.pids() if is_alive(pid)}:  # processes of a forked pool stay
            wait_until(lambda pid=pid: not below({pid}))
            os.kill(pid, signal.SIGKILL)
