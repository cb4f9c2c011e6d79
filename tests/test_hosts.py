"""A cluster of three hosts, with a link that is cut and mended while rows run."""

import json
import sys

import pytest

from tests.hosts import hosts
from tests.processes import wait_until

PORT = 8786
# Evaluates on the cluster, tells how far it is, and what came of it.
PROGRAM = """
import json, pathlib, sys
from distributed import Client
from isolated_magic import DistributedExecutor

address, folder = sys.argv[1], pathlib.Path(sys.argv[2])
code = "import time\\ntime.sleep(0.2)\\ndata['n']"
rows = [{"n": n} for n in range(120)]
with Client(address) as client:
    client.wait_for_workers(3)
    with DistributedExecutor(client) as executor:
        result = executor.evaluate(code, rows, progress=lambda now: (folder / "done").write_text(str(now.done)))
        told = [(row.row["n"], [score.value for score in row.scores], row.worker, str(row.error)) for row in result]
    after = client.submit(sum, [1, 2]).result(timeout=30)
(folder / "result").write_text(json.dumps({"rows": told, "stopped": result.stopped, "after": after}))
"""


@pytest.mark.parametrize("mends", [True, False], ids=["mended", "not mended"])
def test_a_link_that_is_cut_costs_no_row(tmp_path, mends):
    names = ["head", "a", "b", "c"]
    with hosts(names) as net:
        head = net["head"]
        scheduler = f"tcp://{head.address}:{PORT}"
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", head.address, "--no-dashboard"]
        head.start(dask, tmp_path / "scheduler.log")
        for name in names[1:]:
            dask = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--host", net[name].address]
            net[name].start([*dask, "--nthreads", "1", "--no-dashboard"], tmp_path / f"{name}.log")
        client = head.start([sys.executable, "-c", PROGRAM, scheduler, str(tmp_path)], tmp_path / "client.log")

        def done():
            assert client.poll() in {None, 0}, (tmp_path / "client.log").read_text()[-3000:]
            file = tmp_path / "done"
            return int((file.read_text() if file.exists() else "") or 0)

        wait_until(lambda: done() >= 10, 120)
        net["b"].cut()
        if mends:
            wait_until(lambda: done() >= 60, 120)
            net["b"].mend()
        wait_until((tmp_path / "result").exists, 120)
        told = json.loads((tmp_path / "result").read_text() or "{}")
        assert client.wait(60) == 0
    assert told["stopped"] == ""
    assert [(n, values) for n, values, _, _ in told["rows"]] == [(n, [n]) for n in range(120)]
    ran = {worker.split("//")[1].split(":")[0] for _, _, worker, _ in told["rows"]}
    assert {net["a"].address, net["c"].address} <= ran
    assert told["after"] == 3
