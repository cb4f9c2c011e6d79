"""Who gets which rows on a cluster: workers that die, fall silent or are slow, rows that kill them, jobs and rates."""

import os
import signal
import threading
import time
from collections import Counter

import pytest

from isolated_magic import DistributedExecutor
from isolated_magic.distributed import dask_workers, dispatch, load
from isolated_magic.models import ErrorKind
from tests.clusters import local_cluster, tcp_cluster, worker_pids
from tests.processes import is_alive, wait_until

METRIC = "class M:\n    name = 'm'\n    def score(self, n, **_):\n        return n\nM()"
# Ends the process of its worker, if the row says so: the ancestor that is a child of the test.
KILLER = """
import os, signal, time
open(os.path.join(data["folder"], f"{data['n']}-{os.getpid()}"), "w").close()
time.sleep(0.01)
if data["kills"]:
    pid = os.getpid()
    while (parent := int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])) != data["test"]:
        pid = parent
    os.kill(pid, signal.SIGKILL)
    time.sleep(1000)
data["n"]
"""


@pytest.fixture(scope="module")
def executor(dask_client):
    """For tests that leave the workers as they are."""
    with DistributedExecutor(dask_client) as executor:
        yield executor


@pytest.fixture
def client():
    """Of a cluster whose workers may be killed: their nannies start them again."""
    from distributed import Client

    with local_cluster() as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def rows_of(count, **fields):
    return [{"n": n, "lane": n % 4, **fields} for n in range(count)]


def names_in(folder):
    return [file.name for file in folder.iterdir()]


def numbers(result):
    return [row.scores[0].value for row in result if row.ok]


@pytest.mark.parametrize("per", [None, "lane"])
def test_a_worker_that_is_killed_loses_no_row_and_none_counts_twice(client, tmp_path, per):
    rows = rows_of(100, folder=str(tmp_path), kills=False)
    first, _ = worker_pids(client).values()

    def kill():
        wait_until(lambda: len(names_in(tmp_path)) > 20)
        os.kill(first, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with DistributedExecutor(client) as executor:
        result = executor.evaluate(KILLER, rows, per=per)
    killer.join()
    assert not is_alive(first)
    assert (numbers(result), result.not_run, result.stopped) == ([*range(100)], 0, "")
    assert all(row.worker for row in result)


@pytest.mark.parametrize("per", [None, "lane"])
def test_a_row_that_kills_its_worker_is_one_failed_row(client, tmp_path, per):
    rows = [{**row, "kills": row["n"] == 17, "test": os.getpid()} for row in rows_of(40, folder=str(tmp_path))]
    with DistributedExecutor(client) as executor:
        result = executor.evaluate(KILLER, rows, per=per)
    failed = [row for row in result if not row.ok]
    assert [(row.index, row.error.kind, row.error.text) for row in failed] == [(17, ErrorKind.DIED, dispatch.DIED)]
    ran = Counter(int(name.partition("-")[0]) for name in names_in(tmp_path))
    assert ran[17] == dispatch.MOST_DEATHS
    assert numbers(result) == [n for n in range(40) if n != 17]


def most_at_once(folder):
    """How many runs overlapped at most, of those that wrote when they began and ended."""
    changes = []
    for name in names_in(folder):
        begun, ended = (float(each) for each in name.split("-"))
        changes += [(begun, 1), (ended, -1)]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


TIMED = """
import os, time
begun = time.time()
time.sleep(0.02)
open(os.path.join(data["folder"], f"{begun}-{time.time()}"), "w").close()
data["n"]
"""


def test_jobs_holds_on_all_workers_together(executor, tmp_path):
    result = executor.evaluate(TIMED, rows_of(30, folder=str(tmp_path)), jobs=1)
    assert numbers(result) == [*range(30)]
    assert most_at_once(tmp_path) == 1


@pytest.mark.parametrize("per", [None, "lane"])
def test_rows_begin_no_faster_than_the_rate(executor, tmp_path, per):
    begun_at = time.monotonic()
    result = executor.evaluate(TIMED, rows_of(20, folder=str(tmp_path)), rate="20/s", per=per)
    assert numbers(result) == [*range(20)]
    values = 1 if per is None else 4
    assert time.monotonic() - begun_at >= (20 / values - 1) / 20


# From the 50th row on, a row on the slow worker lasts until all others have run, or all of other values.
SLOW = """
import os, time
folder, own = data["folder"], str(data["lane"]) if data["per"] else "none"
def others():
    return len([name for name in os.listdir(folder) if name[0] != own])
if data["n"] >= 50 and "SLOW" in os.environ:
    while others() < data["others"]:
        time.sleep(0.01)
open(os.path.join(folder, f"{data['lane']}-{data['n']}-{os.getpid()}"), "w").close()
data["n"]
"""


@pytest.mark.parametrize("per", [None, "lane"])
def test_a_slow_worker_does_not_hold_up_the_rest(dask_client, executor, tmp_path, per, monkeypatch):
    monkeypatch.setattr(load, "FAR_BEHIND_SECS", 1.0)
    slow = next(iter(worker_pids(dask_client)))
    dask_client.run(exec, "import os; os.environ['SLOW'] = '1'", workers=[slow])
    try:
        rows = rows_of(200, folder=str(tmp_path), others=150 if per else 199, per=per is not None)
        result = executor.evaluate(SLOW, rows, per=per)
    finally:
        dask_client.run(exec, "import os; del os.environ['SLOW']", workers=[slow])
    assert numbers(result) == [*range(200)]
    ran = Counter(int(name.split("-")[1]) for name in names_in(tmp_path))
    assert ran == Counter(range(200))  # none twice
    if per is None:
        assert sum(row.worker == slow for row in result if row.index >= 50) <= 1


def test_what_has_ended_when_it_is_stopped_is_kept(executor, tmp_path):
    code = """
import os, time
if data["n"] == 20:
    raise ValueError("enough")
time.sleep(0.02)
open(os.path.join(data["folder"], f"{data['n']}-"), "w").close()
data["n"]
"""
    result = executor.evaluate(code, rows_of(1000, folder=str(tmp_path)), fail_on_error=1)
    assert "fail_on_error" in result.stopped
    ran = {int(name.partition("-")[0]) for name in names_in(tmp_path)}
    assert len(ran - {row.index for row in result}) <= 2  # that were about to end


def test_rows_of_one_value_that_differ_in_their_environment_are_named(executor):
    rows = rows_of(8)
    result = executor.evaluate(
        "data['n']", rows, per="lane", env_vars=lambda row: {"X": "1" if row["n"] < 4 else None}
    )
    assert numbers(result) == [0, 1, 2, 3]
    assert {row.error.kind for row in result if not row.ok} == {ErrorKind.INVALID_REQUEST}
    assert "per: X differs from what the first row" in result[4].error.text


@pytest.mark.parametrize("per", [None, "lane"])
def test_a_row_is_tried_again_on_the_cluster(executor, tmp_path, per):
    code = """
import os
tries = len([name for name in os.listdir(data["folder"]) if name.startswith(f"{data['n']}-")])
open(os.path.join(data["folder"], f"{data['n']}-{tries}"), "w").close()
if tries == 0:
    raise ConnectionError("at first")
data["n"]
"""
    result = executor.evaluate(code, rows_of(6, folder=str(tmp_path)), retries=1, per=per)
    assert numbers(result) == [*range(6)]
    assert [len(row.attempts) for row in result] == [2] * 6


@pytest.mark.parametrize("per", [None, "lane"])
def test_what_a_silent_worker_has_is_run_by_others_and_counts_once(tmp_path, monkeypatch, per):
    monkeypatch.setattr(dask_workers, "SILENT_SECS", 1.5)
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = rows_of(100, folder=str(folder), kills=False)
    with tcp_cluster(tmp_path, 2) as cluster, cluster.client() as client:
        silent = cluster.workers[0]

        def hang():
            wait_until(lambda: len(names_in(folder)) > 10)
            silent.pause()

        hanging = threading.Thread(target=hang)
        hanging.start()
        with DistributedExecutor(client) as executor:
            result = executor.evaluate(KILLER, rows, per=per)
            hanging.join()
            assert (numbers(result), result.stopped) == ([*range(100)], "")
            last = [row.worker for row in result if row.index > 80]
            silent.resume()
            # It is heard of again in the middle of another one, which it takes part in.
            again = executor.evaluate(KILLER, rows, per=per)
            assert numbers(again) == [*range(100)]
        assert silent.address not in last


def test_no_worker_for_too_long_ends_it_with_what_was_done(tmp_path, monkeypatch):
    from distributed import Client

    rows = rows_of(10_000, folder=str(tmp_path), kills=False)
    with local_cluster(1) as cluster, Client(cluster, set_as_default=False) as client:

        def leave():
            wait_until(lambda: len(names_in(tmp_path)) > 20)
            monkeypatch.setattr(dispatch, "NO_WORKER_SECS", 2.0)
            client.retire_workers(list(worker_pids(client)))

        leaving = threading.Thread(target=leave)
        leaving.start()
        with DistributedExecutor(client) as executor:
            result = executor.evaluate(KILLER, rows)
            leaving.join()
    assert result.stopped == "The evaluation was stopped: there has been no worker for 2 seconds."
    assert 0 < len(result) < 10_000
    assert result.not_run == 10_000 - len(result)
