"""Time whole cells in a real kernel, from the request until the kernel is idle."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from candidates import LABELS as CANDIDATES
from candidates import NAIVE, WARM_UP_SECS, Candidate
from jupyter_client.manager import start_new_kernel
from measure import one_at_a_time
from naive_fork import naive_forks
from workloads import DATA, QUIET, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.blocking.client import BlockingKernelClient
    from measure import Series

ISOLATED, PYTHON, EMPTY = "%%isolated", "%%python", "pass"
LABELS = {ISOLATED: "`%%isolated`, forked", PYTHON: "`%%python`", EMPTY: "an empty cell", NAIVE: CANDIDATES[NAIVE]}

LAUNCH = "_.launch"  # of the result that the last cell showed


def whole_cells(workload: Workload, rounds: int, slow_rounds: int) -> dict[str, Series]:
    """The times of each kind of cell, in turns."""
    with _kernel() as client, naive_forks(workload, processes=1) as naive:
        _run(client, f"%load_ext isolated_magic\nrow = {DATA!r}")
        isolated = f"%%isolated --data row\n{workload.cell}"
        python = f"%%python\ndata = {DATA!r}\n{workload.script}"
        _run_until_forked(client, isolated)
        made = (
            Candidate(ISOLATED, lambda: _run_forked(client, isolated)),
            Candidate(PYTHON, lambda: _run(client, python), slow=workload.slow),
            Candidate(EMPTY, lambda: _run(client, "pass")),
            Candidate(NAIVE, naive.run),
        )
        return one_at_a_time({candidate.key: candidate for candidate in made}, rounds, slow_rounds)


@contextmanager
def _kernel() -> Iterator[BlockingKernelClient]:
    # %%python takes the first "python" on the path: it has to be the one that the other candidates run.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    manager, client = start_new_kernel(
        extra_arguments=["--IPKernelApp.log_level=ERROR"], env={**os.environ, **QUIET, "PATH": path}
    )
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(client: BlockingKernelClient, cell: str, **asked: str) -> dict[str, str]:
    """Run a cell, with user expressions in the same request."""
    reply = client.execute_interactive(cell, user_expressions=asked, output_hook=lambda _: None, timeout=120)
    content = reply["content"]
    if content["status"] != "ok":
        raise RuntimeError(f"A cell failed: {content.get('evalue')}")
    return {name: answer["data"]["text/plain"] for name, answer in content["user_expressions"].items()}


def _run_forked(client: BlockingKernelClient, cell: str) -> None:
    launch = _run(client, cell, launch=LAUNCH)["launch"]
    if "forked" not in launch:
        raise RuntimeError(f"A cell that was to be forked was {launch}.")


def _run_until_forked(client: BlockingKernelClient, cell: str) -> None:
    """Run until a run is forked: the first one teaches the executor the imports of the fork server."""
    deadline = time.monotonic() + WARM_UP_SECS
    while "forked" not in _run(client, cell, launch=LAUNCH)["launch"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"No cell was forked within {WARM_UP_SECS:g} seconds.")
        time.sleep(0.5)
    time.sleep(1)
