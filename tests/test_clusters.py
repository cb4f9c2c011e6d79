"""``--on``: the rows of a cell on a cluster, or on a pool of the notebook, in real kernels."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from IPython.core.interactiveshell import InteractiveShell

import isolated_magic
from isolated_magic.magic.clusters import MOST_KEPT
from tests.clusters import tcp_cluster
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, pids_in, wait_as_promised, wait_until

CLUSTER = """
from concurrent.futures import ProcessPoolExecutor
from dask.distributed import Client, LocalCluster
cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0")
client = Client(cluster)
pool = ProcessPoolExecutor(2)
rows = [{"n": n, "tenant": f"t{n % 3}"} for n in range(24)]
keys = {f"t{n}": f"sk-hunter-{n}" for n in range(3)}
"""
BEGUN = "import os, time\nopen(f\"{data['folder']}/{os.getpid()}\", 'w').close()\n"
SLOW = BEGUN + "time.sleep(0.1 if data['n'] < 10 else 1000)\n1.0"


@pytest.fixture(scope="module")
def cells():
    with kernel() as started:
        started.ok(CLUSTER)
        yield started


@pytest.mark.parametrize("target", ["client", "cluster", "$client", "{cluster.scheduler_address}", "pool"])
def test_rows_run_there_each_with_its_own_environment(cells, target):
    line = f"--each rows --on {target} -e TENANT={{row['tenant']}} --secret KEY={{keys[row['tenant']]}} -o scores"
    code = "import os\nprint(os.environ['TENANT'], os.environ['KEY'])\nfloat(data['n'])"
    shown = cells.ok(f"%%isolated {line}\n{code}")
    assert shown.text.startswith("scores: score 12 ")
    assert "24 of 24 scored" in shown.text
    told = cells.ok("sorted({row.stdout for row in scores}), all(row.worker for row in scores)").text
    assert told == r"(['t0 ***\n', 't1 ***\n', 't2 ***\n'], True)"


def test_rows_of_one_value_share_a_process(cells):
    code = "import os\nclass Pid:\n    def __init__(self): self.name = 'pid'\n    def score(self, **_): return os.getpid()\nPid()"
    cells.ok(f"%%isolated --each rows --on client --per tenant -o scores\n{code}")
    told = cells.ok(
        "len({row.scores[0].value for row in scores}), len({(r.row['tenant'], r.scores[0].value) for r in scores})"
    ).text
    assert told == "(3, 3)"


def test_what_is_saved_is_the_same_on_every_run(cells):
    line = "%%isolated --each rows --on client -o s\n1 / data['n']"
    first, second = (cells.run_as("one", line) for _ in range(2))
    for shown in (first, second):
        workers = shown.metadata.pop("isolated_magic_run")["workers"]
        assert sum(workers.values()) == 24
        assert all(name.startswith("tcp://127.0.0.1:") for name in workers)
    assert first == second
    assert "23 of 24 scored" in first.text
    row, again = (cells.run_as("two", "s.rows[0]"), cells.run_as("two", "s.rows[0]"))
    assert row.metadata["isolated_magic_run"]["worker"].startswith("tcp://")
    assert "tcp://" not in str(row.data)
    assert row == again


def test_a_run_here_and_one_there_are_compared(cells):
    cells.ok("%%isolated --each rows --key n -e A=1 -o here\n1.0")
    cells.ok("%%isolated --each rows --key n -e A=2 -o there --on client --compare here\n1.0")
    told = cells.ok("there.comparison.notes, there.comparison.metrics['score'].ties").text
    assert told == "(('That run differs in environment (A).',), 24)"


def test_an_interrupt_keeps_what_is_done_and_the_cluster(cells, tmp_path):
    cells.ok(f"many = [{{'n': n, 'folder': '{tmp_path}'}} for n in range(1000)]")
    request = cells.start(f"%%isolated --each many --on client -t inf -o scores\n{SLOW}")
    wait_until(lambda: len(pids_in(tmp_path)) == 12)  # each of two workers has met its first slow row
    cells.manager.interrupt_kernel()
    shown = cells.collect(request)
    assert (shown.ename, shown.stderr) == (None, "")
    done = int(cells.ok("len(scores)").text)
    assert 0 < done <= 10
    assert shown.text.startswith(f"Interrupted after {done:,} of 1,000 rows; {1000 - done:,} were not run.")
    wait_as_promised(lambda: not [pid for pid in pids_in(tmp_path) if psutil.pid_exists(pid)])
    assert cells.ok("%isolated status").stdout.startswith("Nothing runs.")
    assert (
        cells.ok("client.submit(sum, [1, 2]).result(), len(client.scheduler_info()['workers'])").text == "(3, 2)"
    )
    assert "24 of 24" in cells.ok("%%isolated --each rows --on client\n1.0").text


def test_an_evaluation_is_listed_with_where_it_runs_and_stopped(cells, tmp_path):
    cells.ok(f"many = [{{'n': n, 'folder': '{tmp_path}'}} for n in range(1000)]")
    subshell = cells.new_subshell()
    request = cells.start(f"%%isolated --each many --on client -t inf -o scores\n{SLOW}")
    wait_until(lambda: len(pids_in(tmp_path)) == 12)
    status = cells.collect(cells.start("%isolated status", subshell=subshell)).stdout
    assert "evaluation\nRows run on client: 2 workers, 2 at once.\n" in f"{status}\n"
    assert cells.collect(cells.start("%isolated stop", subshell=subshell)).stdout == "1 run stopped.\n"
    while cells.client.get_shell_msg(timeout=HANG_GUARD_SECS)["parent_header"].get("msg_id") != request:
        pass
    assert cells.ok("0 < len(scores) <= 10, scores.stopped").text.startswith("(True, 'The evaluation was stopped")


LEFT = """
plugins = client.run(lambda dask_worker: [name for name in dask_worker.plugins if "isolated" in name])
clients = [name for name in cluster.scheduler.clients if name.startswith("Client-")]
sum(map(len, plugins.values())), len(clients), client.status
"""


def test_after_a_teardown_nothing_is_left_on_the_workers(cells):
    cells.ok("%isolated teardown")
    cells.ok("%%isolated --each rows --on client\n1.0")
    cells.ok("%%isolated --each rows --on {cluster.scheduler_address}\n1.0")
    assert cells.ok(LEFT).text == "(4, 2, 'running')"
    cells.ok("%isolated teardown")
    assert cells.ok(LEFT).text == "(0, 1, 'running')"
    assert "24 of 24" in cells.ok("%%isolated --each rows --on client\n1.0").text


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Workers that are no children of a kernel's."""
    with tcp_cluster(tmp_path_factory.mktemp("cluster"), workers=1) as started:
        yield started


def test_a_scheduler_that_dies_ends_the_cell_with_what_is_done(tmp_path):
    folder, done = tmp_path / "cluster", tmp_path / "done"
    folder.mkdir(), done.mkdir()
    with tcp_cluster(folder, workers=1) as cluster, kernel() as cells:
        cells.ok(f"many = [{{'n': n, 'folder': '{done}'}} for n in range(1000)]")
        line = f"%%isolated --each many --on {cluster.address} --checkpoint {tmp_path}/rows.jsonl -o scores"
        request = cells.start(f"{line} -t inf\n{SLOW}")
        wait_until(lambda: len(pids_in(done)) == 11)
        cluster.scheduler.kill()
        shown = cells.collect(request)
        assert shown.ename is None
        assert str(Path(isolated_magic.__file__).parent) not in shown.stderr  # what Dask logs of it is not ours
        scored = int(cells.ok("len(scores)").text)
        assert f"It ended after {scored} of 1,000 rows" in shown.text
        assert scored <= 10
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids_in(done)))
        cluster.workers[0].kill()
        cluster.scheduler.start()
        cluster.add_worker()
        with cluster.client(timeout=HANG_GUARD_SECS) as client:
            client.wait_for_workers(1, timeout=HANG_GUARD_SECS)
        assert "10 of 10 scored" in cells.ok(f"{line} --limit 10\n{SLOW}").text
        assert cells.ok("sum(row.is_resumed for row in scores)").text == str(scored)


@pytest.mark.parametrize("ends", ["in order", "at once"])
def test_when_the_kernel_ends_what_runs_elsewhere_does_too(elsewhere, tmp_path, ends):
    with kernel() as cells:
        cells.ok(f"many = [{{'n': n, 'folder': '{tmp_path}'}} for n in range(1000)]")
        cells.start(f"%%isolated --each many --on {elsewhere.address} -t inf\n{BEGUN}time.sleep(1000)")
        wait_until(lambda: list(tmp_path.iterdir()))
        if ends == "in order":
            cells.manager.shutdown_kernel()
        else:
            os.kill(cells.pid, signal.SIGKILL)
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids_in(tmp_path)))
    with elsewhere.client() as client:
        if ends == "in order":
            (plugins,) = client.run(lambda dask_worker: [*dask_worker.plugins]).values()
            assert not [name for name in plugins if "isolated" in name]
        assert client.submit(sum, [1, 2]).result() == 3
    assert len(pids_in(tmp_path)) == 1


@pytest.fixture(scope="module")
def shell():
    made = InteractiveShell()
    made.run_line_magic("load_ext", "isolated_magic")
    with ThreadPoolExecutor(1) as pool:
        made.user_ns.update(rows=[{"n": 1}], pool=pool, pools=[pool], Pool=ThreadPoolExecutor, text="sk-hunter-2")
        yield made
        made.run_line_magic("unload_ext", "isolated_magic")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "--each rows --on pol",
            "--on pol: the notebook has no variable of that name, and it is no address. Give a",
        ),
        ("--each rows --on pol", "tcp://scheduler:8786. Did you mean pool?"),
        ("--each rows --on rows", "--on rows: client is list: give a Dask Client"),
        ("--each rows --on pools[0]", "--on pools[0]: put an expression in braces. Write --on {pools[0]}."),
        ("--each rows --on {pools[3]}", "--on: the expression in braces raised IndexError"),
        ("--each rows --on $pol", "--on: the notebook has no variable pol. Did you mean pool?"),
        (
            "--each rows --on Pool",
            "--on Pool: that is a class: give what it makes, such as {ThreadPoolExecutor(...)}.",
        ),
        ("--each rows --on text", "--on text: that is a text, and no address. Give a Dask client"),
        (
            "--each rows --on pool --executor docker",
            "--on says what runs the rows, and so does --executor: give one",
        ),
        ("--each rows --on pool --image x", "--image is for --executor docker: give that with it."),
        ("--on pool", "--on is for rows: give them with it, such as --each rows --on ..."),
        (
            "--each rows --executor distributed",
            "--on says where rows run on other machines, such as --each rows --on",
        ),
        ("--each rows --cluster pool", "nor a function of the notebook; to run rows on it, write --on pool."),
        ("--each rows --client pool", "unknown option --client; did you mean --on?"),
        ("--each rows --on", "--on needs a value."),
    ],
)
def test_a_mistake_is_one_sentence(shell, line, told):
    problem = shell.run_cell(f"%%isolated {line}\n1.0").error_in_exec
    assert type(problem).__name__ == "OptionError"
    assert told in str(problem)
    assert "hunter" not in str(problem)


def test_executors_are_kept_and_the_oldest_are_let_go(shell):
    clusters = shell.magics_manager.registry["IsolatedMagics"].executors.clusters
    with ExitStack() as stack:
        shell.user_ns["many"] = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(MOST_KEPT + 1)]
        made = [clusters.executor_for(f"{{many[{n}]}}", shell.user_ns, {}) for n in range(MOST_KEPT + 1)]
        assert len(set(map(id, made))) == MOST_KEPT + 1
        last, first = f"{{many[{MOST_KEPT}]}}", "{many[0]}"
        assert clusters.executor_for(last, shell.user_ns, {}) is made[-1]
        assert clusters.executor_for(first, shell.user_ns, {}) is not made[0]
        assert shell.run_cell("%%isolated --each rows --on {many[1]} -o scores\n2.0").success
        assert shell.user_ns["scores"].rows[0].scores[0].value == 2
        clusters.teardown()
