"""Runs on a cluster, one at a time: what differs there from runs of this machine."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest

from isolated_magic import DistributedExecutor, InvalidRequestError
from isolated_magic.distributed import dispatch
from tests.clusters import local_cluster, worker_pids
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

# Ends the process of its worker: the ancestor that is a child of the test.
KILLER = """
import os, signal, time
open(os.path.join(data["folder"], str(os.getpid())), "w").close()
pid = os.getpid()
while (parent := int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])) != data["test"]:
    pid = parent
os.kill(pid, signal.SIGKILL)
time.sleep(1000)
"""
SLEEP = "import time\nprint('on', flush=True)\ntime.sleep(1000)"


@pytest.fixture(scope="module")
def executor(dask_client):
    with DistributedExecutor(dask_client, timeout_secs=60) as made:
        assert made.warm_up()
        yield made


@pytest.fixture(scope="module")
def mortal():
    """An executor whose workers may die, with its client: each has a nanny that starts another one."""
    from distributed import Client

    with local_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        executor = DistributedExecutor(client, timeout_secs=60)
        yield executor, client
        executor.teardown()


def ancestors(pid):
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def plugins(client):
    """The names of our plugins on all workers."""

    def names(dask_worker):
        return [name for name in dask_worker.plugins if name.startswith("isolated_magic")]

    return [name for found in client.run(names).values() for name in found]


class TestShown:
    def test_what_is_shown_comes_in_its_order_while_the_code_runs(self, executor, tmp_path):
        go_on = tmp_path / "go_on"
        code = f"""
import sys, time, pathlib
from IPython.display import display
print('one', flush=True)
display({{'text/plain': 'shown'}}, raw=True)
print('two', file=sys.stderr, flush=True)
while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)
print('three')
0.5
"""
        heard = []

        def hear(*shown):
            heard.append(shown)
            if shown[0] == "stderr" and shown[1].endswith("\n"):
                go_on.touch()  # the code waits for this: all of it has come before its end

        result = executor.run(code, on_output=hear, on_display=lambda shown: hear("display", shown.text))
        heard = [(name, "".join(text for _, text in parts)) for name, parts in groupby(heard, lambda one: one[0])]
        assert heard == [("stdout", "one\n"), ("display", "shown"), ("stderr", "two\n"), ("stdout", "three\n")]
        assert (result.stdout, result.stderr, result["score"].value) == ("one\nthree\n", "two\n", 0.5)
        assert [shown.text for shown in result.displays] == ["shown"]

    def test_it_says_which_worker_ran_it(self, executor, dask_client):
        result = executor.run("import os\nprint(os.getppid())\n1")
        assert result.worker in dask_client.scheduler_info()["workers"]
        assert result.timings.execution_ms >= result.timings.creation_ms > 0

    def test_what_a_callback_raises_ends_the_run(self, executor):
        def fail(_stream, _text):
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            executor.run(SLEEP, on_output=fail)
        assert executor.active_pids == ()


class TestEnds:
    def test_a_run_that_waits_for_a_worker_is_killed_and_interrupted(self, executor):
        busy = [executor.start(SLEEP) for _ in range(2)]
        wait_until(lambda: all(run.stdout for run in busy))
        waiting = [executor.start("print('began')\n1") for _ in range(2)]
        wait_until(lambda: len(executor.live_runs) == 4)
        assert waiting[0].kill(timeout=HANG_GUARD_SECS)
        waiting[1].interrupt()
        results = [run.result(HANG_GUARD_SECS) for run in waiting]
        assert [(str(result.error.kind), result.stdout) for result in results] == [
            ("killed", ""),
            ("interrupted", ""),
        ]
        executor.kill_all_processes(HANG_GUARD_SECS)
        assert [str(run.result(HANG_GUARD_SECS).error.kind) for run in busy] == ["killed", "killed"]
        assert executor.run("1").ok

    def test_a_row_is_killed_by_its_pid(self, executor, tmp_path):
        def kill():
            wait_until(lambda: any(tmp_path.iterdir()))
            pid = int(next(tmp_path.iterdir()).name)
            wait_until(lambda: pid in executor.active_pids)
            assert executor.kill_process(pid, HANG_GUARD_SECS)

        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(kill)
            code = (
                "import os, pathlib, time\n"
                "if data['n'] == 1:\n"
                f"    pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
                "    time.sleep(1000)\n"
                "1"
            )
            result = executor.evaluate(code, [{"n": n} for n in range(3)])
            killing.result()
        assert [str(row.error.kind) for row in result.failures] == ["killed"]

    def test_ctrl_c_ends_the_run_its_own_way_and_then_raises(self, executor):
        heard = []

        def hear(_stream, text):
            heard.append(text)
            if "on" in text:
                signal.raise_signal(signal.SIGINT)

        code = "import time\ntry:\n    print('on', flush=True)\n    time.sleep(1000)\nfinally:\n    print('tidy')"
        with pytest.raises(KeyboardInterrupt):
            executor.run(code, on_output=hear)
        assert "".join(heard) == "on\ntidy\n"
        assert executor.active_pids == ()

    def test_many_runs_at_once_from_asyncio_and_some_are_cancelled(self, executor):
        async def all_of_them():
            tasks = [asyncio.ensure_future(executor.aexecute(str(n))) for n in range(10)]
            slow = [asyncio.ensure_future(executor.aexecute(SLEEP)) for _ in range(4)]
            for task in slow:
                task.cancel()
            answers = await asyncio.gather(*tasks)
            await asyncio.gather(*slow, return_exceptions=True)
            return [answer["scores"][0]["value"] for answer in answers]

        assert asyncio.run(all_of_them()) == [*range(10)]
        assert executor.active_pids == ()


class TestWorkersThatDie:
    def test_a_run_begins_again_on_another_worker(self, mortal, tmp_path):
        executor, client = mortal
        go_on = tmp_path / "go_on"
        run = executor.start(
            f"import os, time\nprint('on', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n1"
        )
        wait_until(lambda: run.stdout)
        pids = {pid: address for address, pid in worker_pids(client).items()}
        worker = next(pid for pid in ancestors(run.pid) if pid in pids)
        first = run.pid
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: run.stdout.count("on") == 2)
        wait_until(lambda: not is_alive(first))
        assert run.pid != first
        go_on.touch()
        result = run.result(HANG_GUARD_SECS)
        assert (result.ok, result.stdout, result.pid) == (True, "on\n", run.pid)
        assert result.worker != pids[worker]

    def test_what_ends_each_worker_is_one_failed_run(self, mortal, tmp_path, monkeypatch):
        executor, _ = mortal
        monkeypatch.setattr(dispatch, "NO_WORKER_SECS", 10 * HANG_GUARD_SECS)  # until both have been started again
        result = executor.run(KILLER, {"test": os.getpid(), "folder": str(tmp_path)})
        assert (str(result.error.kind), result.scores) == ("died", ())
        assert result.error.text == dispatch.DIED.replace("this row ran", "it ran")
        assert len([*tmp_path.iterdir()]) == dispatch.MOST_DEATHS
        assert executor.run("1").ok


class TestLifetime:
    def test_a_teardown_leaves_nothing_and_the_executor_can_be_used_again(self, dask_client):
        before = sorted(plugins(dask_client))
        executor = DistributedExecutor(dask_client)
        assert executor.run("1").ok
        assert len(plugins(dask_client)) == len(before) + 2
        executor.teardown()
        assert sorted(plugins(dask_client)) == before
        assert executor.run("1").ok
        executor.teardown()
        assert sorted(plugins(dask_client)) == before
        assert dask_client.status == "running"  # it is not ours

    def test_the_client_of_an_address_is_closed_and_made_again(self, dask_cluster, dask_client):
        def clients():
            return len(dask_client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.clients]))

        before = clients()
        with DistributedExecutor(dask_cluster.scheduler_address) as executor:
            assert executor.run("1").ok
            assert clients() == before + 1
            executor.teardown()
            wait_until(lambda: clients() == before)
            assert executor.run("2").ok
        wait_until(lambda: clients() == before)

    def test_what_is_preloaded_is_told(self, dask_client):
        with DistributedExecutor(dask_client, preload=["numpy"]) as executor:
            assert executor.warm_up()
            assert executor.preloaded.packages == ("numpy",)
            assert executor.run("import numpy\n1").launch == "forked"
        assert executor.preloaded.packages == ()

    def test_in_a_fork(self, dask_cluster, dask_client):
        with (
            DistributedExecutor(dask_client) as given,
            DistributedExecutor(dask_cluster.scheduler_address) as made,
        ):
            assert given.run("1").ok
            assert made.run("1").ok
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                refused = given.run("1").error
                text = f"{refused.code} {refused.summary} {made.run('7')['score'].value:g}"
                os.write(write, text.encode())
                os._exit(0)
            os.close(write)
            with os.fdopen(read) as told:
                text = told.read()
            os.waitpid(pid, 0)
            assert text.startswith(
                "400 This process is a fork, and the Client works only in the process that made it"
            )
            assert text.endswith(" 7")
            assert given.run("1").ok
            assert made.run("1").ok


class TestEnvironment:
    def test_a_secret_that_only_the_worker_has(self, executor, dask_client):
        dask_client.run(lambda: os.environ.update(REMOTE_KEY="s3cret-value", REMOTE_DIGIT="7"))
        code = "import os\nprint(os.environ['REMOTE_KEY'])\n1"
        assert executor.run(code, secrets=["REMOTE_*"]).stdout == "***\n"
        assert executor.run(code, env_vars={"REMOTE_KEY": None}).error.summary == "KeyError: 'REMOTE_KEY' (line 2)"
        error = executor.run(code, secrets=["REMOTE_DIGIT"]).error
        assert (error.code, "fewer than 4 characters" in error.text, "7" in error.text) == (400, True, False)
        result = executor.evaluate(code, [{}, {}], secrets=["REMOTE_DIGIT"])
        assert [str(row.error.kind) for row in result] == ["invalid_request", "invalid_request"]

    def test_what_is_no_cluster(self):
        with pytest.raises(InvalidRequestError, match=r"client is int: give a Dask Client"):
            DistributedExecutor(7)
