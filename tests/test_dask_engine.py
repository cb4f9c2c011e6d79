"""Evaluations on a Dask cluster whose parts are killed, stopped, restarted and cut off while rows run."""

import asyncio
import inspect
import math
import os
import queue
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client

from isolated_magic import DistributedExecutor
from isolated_magic.distributed import dask_connection, dask_plugin, dask_workers, dispatch
from isolated_magic.distributed.chunk import Cancelled, Chunk, Lost, Refused, opened
from isolated_magic.distributed.engine import Worker
from isolated_magic.errors import InvalidRequestError, LaunchError
from tests.clusters import local_cluster, tcp_cluster, worker_pids
from tests.processes import HANG_GUARD_SECS, is_alive, pids_in, wait_as_promised, wait_until
from tests.runs import rows_of, values

# Leaves the pid of its process in a folder, and waits until there is a file `go`.
WAITING = """
import os, pathlib, time
folder = pathlib.Path(data["folder"])
(folder / "pids" / str(os.getpid())).touch()
while data["n"] > data.get("free", -1) and not (folder / "go").exists():
    time.sleep(0.01)
data["n"]
"""


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory):
    with tcp_cluster(tmp_path_factory.mktemp("cluster"), workers=3, tls=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster):
    """A scheduler and three workers, encrypted; what a test has ended of them runs again."""
    _cluster.repair()
    return _cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pids").mkdir()
    return tmp_path


class Background:
    """An evaluation that goes on while the test does something to the cluster."""

    def __init__(self, executor, folder, count=30, free=0, **settings):
        self.folder, self.count = folder, count
        rows = rows_of(count, folder=str(folder), free=free)  # so many of which do not wait
        self._thread = ThreadPoolExecutor(1)
        settings.setdefault("timeout_secs", math.inf)  # a killed one must not end by itself
        self._future = self._thread.submit(executor.evaluate, WAITING, rows, **settings)

    def wait_for_runs(self, count):
        wait_until(lambda: self._future.done() or len(pids_in(self.folder / "pids")) >= count)
        assert not self._future.done(), self._future.result()

    def go(self):
        (self.folder / "go").touch()

    def result(self):
        result = self._future.result(2 * HANG_GUARD_SECS)
        self._thread.shutdown()
        return result

    def finish(self):
        """All rows, each once, whatever happened."""
        self.go()
        result = self.result()
        assert not result.stopped
        assert values(result) == [n + 1 for n in range(self.count)]
        return result


def children_of(cluster):
    """What the workers have below them."""
    return [child for each in cluster.workers for child in psutil.Process(each.pid).children(recursive=True)]


def plugins_in(client):
    def names(dask_worker):
        return [name for name in dask_worker.plugins if "isolated" in name]

    return [name for found in client.run(names).values() for name in found]


def taken_in(executor_id, chunk_id, dask_worker):
    """The chunks that wait in a worker for their tasks, and whether this one was stopped."""
    executor = dask_worker.plugins[dask_plugin.plugin_name(executor_id)].executor
    return [*executor.taken], chunk_id in executor._stopped


class TestWhatStays:
    def test_nothing_does_after_teardown(self, cluster, client):
        with DistributedExecutor(client) as executor:
            result = executor.evaluate("data['n']", rows_of(60))
            assert {row.worker for row in result} == {each.address for each in cluster.workers}
            assert plugins_in(client)
        assert not plugins_in(client)
        wait_until(lambda: not children_of(cluster))
        with executor:
            assert executor.run("data['n']", {"n": 7}).scores[0].value == 7
            assert plugins_in(client)
        assert not plugins_in(client)
        wait_until(lambda: not client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks]))

    def test_workers_are_made_ready_before_the_first_run(self, client):
        executor = DistributedExecutor(client)
        wait_until(lambda: len(plugins_in(client)) == 3)
        executor.teardown()
        assert not plugins_in(client)
        DistributedExecutor(client).teardown()
        assert not plugins_in(client)

    def test_a_plugin_that_was_removed_comes_back(self, client, folder):
        def remove(dask_worker):
            return [dask_worker.plugin_remove(name=name) for name in [*dask_worker.plugins] if "isolated" in name]

        async def remove_all(dask_worker):
            for each in remove(dask_worker):
                await each

        with DistributedExecutor(client) as executor:
            running = Background(executor, folder)
            running.wait_for_runs(3)
            client.run(remove_all)
            running.finish()

    def test_nothing_does_when_the_client_dies(self, cluster, folder):
        code = f"""
            import math
            from distributed import Client
            from isolated_magic import DistributedExecutor
            from tests.clusters import security_of
            from tests.test_dask_engine import WAITING
            client = Client({cluster.address!r}, security=security_of({cluster.certificates!r}))
            rows = [{{"folder": {str(folder)!r}, "n": n}} for n in range(9)]
            DistributedExecutor(client, idle_secs=1, timeout_secs=math.inf).evaluate(WAITING, rows)
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
        wait_until(lambda: len(pids_in(folder / "pids")) == 3)
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(is_alive, pids_in(folder / "pids"))))
        wait_until(lambda: not children_of(cluster))
        with cluster.client() as client:
            wait_until(lambda: not plugins_in(client))
        assert len(pids_in(folder / "pids")) == 3


# Of Dask: what the scheduler has of messages and tasks, pickled as far as it can be.
KEPT = """
import pickle
kept = 0
for comm in [*dask_scheduler.stream_comms.values(), *dask_scheduler.client_comms.values()]:
    for message in comm.recent_message_log:
        kept += len(pickle.dumps(message))
kept += sum(len(pickle.dumps(task.run_spec)) for task in dask_scheduler.tasks.values())
"""


def kept_by_scheduler(client):
    def measure(code, dask_scheduler):
        found = {"dask_scheduler": dask_scheduler}
        exec(code, found)
        return found["kept"]

    return client.run_on_scheduler(measure, KEPT)


class TestChunks:
    def test_the_scheduler_keeps_nothing_of_them(self, client, folder):
        with DistributedExecutor(client) as executor:
            before = kept_by_scheduler(client)
            rows = [{"n": n, "text": os.urandom(50_000).hex()} for n in range(40)]  # 4 MB
            result = executor.evaluate("data['n'] + len(data['text'])", rows)
            assert values(result) == [n + 100_000 for n in range(40)]
            running = Background(executor, folder, count=3)
            running.wait_for_runs(3)
            assert kept_by_scheduler(client) - before < 500_000
            running.finish()

    @pytest.mark.parametrize("is_late", [False, True])
    def test_one_that_is_cancelled_on_its_way_does_not_stay_in_the_worker(self, client, cluster, is_late):
        with DistributedExecutor(client) as executor:
            assert executor.run("1").ok
            engine = executor._cluster.engine
            worker = engine.workers()[0]
            chunk = Chunk("x-0", engine.id, "x", 1, None, False, b"sealed" * 1000)
            outcomes = queue.SimpleQueue()
            if is_late:
                cluster.worker_at(worker.name).pause()
            engine.submit(worker, chunk, outcomes.put)
            engine.cancel([chunk.id])
            assert outcomes.get(timeout=HANG_GUARD_SECS) == Cancelled()
            cluster.worker_at(worker.name).resume()
            asked = lambda: client.run(taken_in, engine.id, chunk.id, workers=[worker.name])[worker.name]  # noqa: E731
            wait_until(lambda: asked() == ([], True))

    def test_a_task_whose_chunk_has_not_come_is_refused(self, client):
        with DistributedExecutor(client) as executor:
            assert executor.run("1").ok
            engine = executor._cluster.engine
            worker = engine.workers()[0]
            task = client.submit(eval, dask_plugin.task_text(engine.id, "x-1", worker.id), workers=[worker.name])
            assert opened(task.result(HANG_GUARD_SECS), engine.cipher) == Refused(lacks_program=False)
            elsewhere = dask_plugin.task_text(engine.id, "x-1", f"{worker.name} of another process")
            assert isinstance(client.submit(eval, elsewhere, workers=[worker.name]).result(HANG_GUARD_SECS), Lost)

    def test_one_for_another_process_at_the_address_is_not_taken(self, client):
        with DistributedExecutor(client) as executor:
            assert executor.run("1").ok
            engine = executor._cluster.engine
            worker = engine.workers()[0]
            chunk = Chunk("x-2", engine.id, "x", 1, None, False, b"sealed")
            given = engine._calls.give(worker.name, f"{worker.id} before", chunk)
            assert engine._connection.ask(given, HANG_GUARD_SECS) == dask_plugin.ELSEWHERE
            assert client.run(taken_in, engine.id, chunk.id, workers=[worker.name])[worker.name][0] == []


class TestWorkers:
    def test_one_that_is_killed_loses_no_row_and_is_used_when_it_is_back(self, cluster, client, folder):
        with DistributedExecutor(client) as executor:
            running = Background(executor, folder)
            running.wait_for_runs(3)
            cluster.workers[0].kill()
            cluster.workers[0].start()
            running.wait_for_runs(4)
            result = running.finish()
        assert {row.worker for row in result} <= {each.address for each in cluster.workers}
        assert cluster.workers[0].address in {row.worker for row in result}

    def test_one_that_hangs_holds_nothing_up_and_may_go_on(self, cluster, client, folder, monkeypatch):
        monkeypatch.setattr(dask_workers, "SILENT_SECS", 2.0)
        with DistributedExecutor(client) as executor:
            running = Background(executor, folder)
            running.wait_for_runs(3)
            cluster.workers[1].pause()
            result = running.finish()
            assert cluster.workers[1].address not in {row.worker for row in result}
            cluster.workers[1].resume()
            wait_until(lambda: executor.jobs == 3)
            wait_until(lambda: len({row.worker for row in executor.evaluate("data['n']", rows_of(30))}) == 3)

    def test_one_that_is_retired_has_done_nothing_wrong(self, cluster, client, folder, monkeypatch):
        monkeypatch.setattr(dispatch, "MOST_DEATHS", 1)
        with DistributedExecutor(client) as executor:
            running = Background(executor, folder, count=3)
            running.wait_for_runs(3)
            client.retire_workers([cluster.workers[0].address])
            cluster.workers[0].wait()
            cluster.workers[0].start()
            running.wait_for_runs(4)
            running.finish()

    def test_what_is_sent_to_one_that_is_lost_already_comes_back(self, client):
        with DistributedExecutor(client) as executor:
            executor.run("1")
            engine = executor._cluster.engine
            chunk = Chunk("never-0", engine.id, "never", 1, None, keeps_lane=False, sealed=b"")
            outcomes = queue.SimpleQueue()
            engine.submit(Worker("tcp://127.0.0.1:9 lost", "tcp://127.0.0.1:9", 1), chunk, outcomes.put)
            assert outcomes.get(timeout=HANG_GUARD_SECS) == Cancelled()

    def test_client_restart_starts_the_rows_again(self, folder):
        with local_cluster() as own, Client(own, set_as_default=False) as client:
            before = {*worker_pids(client).values()}
            with DistributedExecutor(client) as executor:
                running = Background(executor, folder)
                running.wait_for_runs(2)
                client.restart()
                running.wait_for_runs(4)
                running.finish()
            assert not before & {*worker_pids(client).values()}


class TestScheduler:
    def test_one_that_is_gone_stops_the_evaluation(self, cluster, client, folder, monkeypatch):
        monkeypatch.setattr(dask_workers, "GONE_SECS", 1.0)
        with DistributedExecutor(client) as executor:
            executor.evaluate("data['n']", rows_of(3))
            running = Background(executor, folder, free=6, checkpoint=folder / "rows.jsonl")
            running.wait_for_runs(9)
            cluster.scheduler.kill()
            result = running.result()
            done = values(result)  # those of chunks that had ended
            assert done
            assert set(done) <= {1, 2, 3, 4, 5, 6}
            assert result.not_run == 30 - len(done)
            assert result.stopped == f"The Dask scheduler at {cluster.address} has not answered for 1 seconds."
            wait_until(lambda: not any(map(is_alive, pids_in(folder / "pids"))))
            with pytest.raises(LaunchError, match="scheduler"):
                executor.evaluate("data['n']", rows_of(3))
        cluster.repair()
        ran = len(pids_in(folder / "pids"))
        with cluster.client() as again, DistributedExecutor(again) as executor:
            Background(executor, folder, free=6, checkpoint=folder / "rows.jsonl").finish()
        assert len(pids_in(folder / "pids")) == ran + 30 - len(done)

    def test_one_that_is_started_again_gets_the_rest(self, cluster, client, folder, monkeypatch):
        monkeypatch.setattr(dask_workers, "GONE_SECS", HANG_GUARD_SECS)
        with DistributedExecutor(client) as executor:
            running = Background(executor, folder)
            running.wait_for_runs(3)
            cluster.scheduler.kill()
            cluster.repair()
            running.wait_for_runs(6)
            running.finish()

    def test_one_that_hangs_for_a_moment(self, cluster, client, folder):
        with DistributedExecutor(client) as executor:
            running = Background(executor, folder)
            running.wait_for_runs(3)
            cluster.scheduler.pause()
            running.go()
            time.sleep(1.5)  # the time of the fault
            cluster.scheduler.resume()
            running.finish()


class FakeScheduler:
    """Answers what it is told to, one question after the other."""

    address = "tcp://scheduler:8786"

    def __init__(self, *answers, events=()):
        self._answers = [*answers]
        self._events = events

    async def identity(self, **_):
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"workers": answer}

    async def events(self, **_):
        return self._events


def workers_of(scheduler, lost=lambda *_: None):
    """As they are for a client of this scheduler, which is there."""
    connection = SimpleNamespace(
        is_closed=False, scheduler=scheduler, client=SimpleNamespace(status="running", run=None)
    )
    return dask_workers.DaskWorkers(connection, None, None, lost)


class TestQuestions:
    def test_one_that_is_not_answered_in_time_is_asked_again(self):
        """The time may be up because this process was stopped, as by Ctrl-Z."""
        workers = workers_of(FakeScheduler(TimeoutError(), {}, TimeoutError(), TimeoutError()))
        asyncio.run(workers.look())
        assert not workers.gone
        asyncio.run(workers.look())
        asyncio.run(workers.look())
        assert not workers.gone
        asyncio.run(workers.look())
        assert workers.gone == "The Dask scheduler at tcp://scheduler:8786 has not answered for 10 seconds."

    @pytest.mark.parametrize("is_expected", [False, True])
    def test_what_others_log_of_a_worker_does_not_matter(self, is_expected):
        events = [(0.0, "of somebody"), (1.0, {"action": "remove-worker", "expected": is_expected}), (2.0, None)]
        info = {"local_directory": "/a", "nthreads": 1, "last_seen": 0.0, "status": "running"}
        lost = []
        workers = workers_of(
            FakeScheduler({"tcp://w:1": info}, {}, events=events), lambda *each: lost.append(each)
        )
        asyncio.run(workers.look())
        asyncio.run(workers.look())
        assert [(worker.name, was_retired) for worker, was_retired in lost] == [("tcp://w:1", is_expected)]


class TestClient:
    def test_one_that_is_closed_meanwhile(self, cluster, folder):
        client = Client(cluster.address, security=cluster.security, set_as_default=False)
        executor = DistributedExecutor(client)
        running = Background(executor, folder)
        running.wait_for_runs(3)
        client.close()
        result = running.result()
        assert result.not_run == 30
        assert result.stopped == "The Dask client was closed, or has lost its scheduler."
        wait_until(lambda: not any(map(is_alive, pids_in(folder / "pids"))))
        assert "client was closed" in executor.run("1").error.text
        executor.teardown()
        with pytest.raises(InvalidRequestError, match="client is closed"):
            DistributedExecutor(client)

    def test_a_cluster_that_is_closed_is_refused(self):
        with local_cluster(workers=0) as own:
            executor = DistributedExecutor(own)
        with pytest.raises(InvalidRequestError, match="client is a cluster that was closed: give one that runs"):
            DistributedExecutor(own)
        executor.teardown()
        assert executor.run("1").error.text == "client is a cluster that was closed: give one that runs."

    def test_what_a_closed_one_was_to_do_leaves_no_warning(self, cluster):
        client = Client(cluster.address, security=cluster.security, set_as_default=False)
        connection = dask_connection.Connection(client)
        client.close()
        asked = asyncio.sleep(0)
        with pytest.raises(LaunchError, match="The Dask client was closed"):
            connection.ask(asked, 1.0)
        assert inspect.getcoroutinestate(asked) == inspect.CORO_CLOSED

    def test_an_asynchronous_one_is_refused(self, cluster):
        async def refused():
            async with Client(cluster.address, security=cluster.security, asynchronous=True) as client:
                with pytest.raises(InvalidRequestError, match="give a Client without asynchronous=True"):
                    DistributedExecutor(client)

        asyncio.run(refused())


# What a notebook's interrupt does: SIGINT for the whole group, which the workers of a LocalCluster are in.
INTERRUPTED = """
import os, pathlib, signal, sys, threading, time
import pytest
from distributed import Client
from isolated_magic import DistributedExecutor, EvaluationInterrupted
from tests.clusters import local_cluster, worker_pids
from tests.test_dask_engine import WAITING

def interrupt():
    while len(list((folder / "pids").iterdir())) < 2:
        time.sleep(0.01)
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    with local_cluster() as cluster, Client(cluster) as client, DistributedExecutor(client) as executor:
        before = worker_pids(client)
        rows = [{"folder": str(folder), "n": n} for n in range(9)]
        threading.Thread(target=interrupt).start()
        with pytest.raises(EvaluationInterrupted) as interrupted:
            executor.evaluate(WAITING, rows)
        assert interrupted.value.result.not_run == 9
        assert client.submit(lambda: 7).result() == 7
        assert executor.run("8").scores[0].value == 8
        assert worker_pids(client) == before
        print("usable")
"""


def test_an_interrupt_of_the_group_ends_rows_and_no_worker(folder, tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, script, folder],
        check=False,
        start_new_session=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        timeout=4 * HANG_GUARD_SECS,
    )
    assert done.stdout == "usable\n", done.stderr
    wait_as_promised(lambda: not any(map(is_alive, pids_in(folder / "pids"))))


def test_what_is_no_scheduler(monkeypatch):
    monkeypatch.setattr(dask_connection, "CONNECT_SECS", 1.0)
    with pytest.raises(LaunchError, match=r"^No Dask scheduler answers at tcp://127\.0\.0\.1:9: "):
        DistributedExecutor("tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["x", "tcp://scheduler", "tcp://scheduler:port"])
def test_what_is_no_address(address):
    with pytest.raises(InvalidRequestError, match=r"no address of a Dask scheduler: give one such as"):
        DistributedExecutor(address)
