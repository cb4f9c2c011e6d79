"""Time the quickstart in a new kernel, with and without what earlier kernels have learned.

Usage: ``python benchmarks/restart.py [ROUNDS]``. Every cell comes right after the one before: a user who reads
what it shows gives the fork servers more time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nbformat
import report
from nbclient import NotebookClient
from workloads import QUIET

from isolated_magic.executors.isolated import REMEMBER_VARIABLE

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
CELL_TIMEOUT_SECS = 120


def measure(*, is_quick: bool) -> list[report.Target]:
    """The target for a notebook after a restart, from turns with and without what was learned."""
    print("measuring: the quickstart after a restart", file=sys.stderr, flush=True)
    return [_target(1 if is_quick else 3)]


def _target(rounds: int) -> report.Target:
    secs: dict[str, list[float]] = {"on": [], "off": []}
    with tempfile.TemporaryDirectory() as cache:
        _run_all("on", cache)  # it learns
        for _ in range(rounds):
            for remembers, taken in secs.items():
                taken.append(_run_all(remembers, cache))
    warm, cold = median(secs["on"]), median(secs["off"])
    what = f"the quickstart after a restart ({warm:.1f} s, {cold:.1f} s without what was learned): times as fast"
    return report.at_least(1.5, what, cold / warm)


def _run_all(remembers: str, cache: str) -> float:
    """The seconds that all cells take in a new kernel."""
    os.environ |= {**QUIET, REMEMBER_VARIABLE: remembers, "XDG_CACHE_HOME": cache}
    client = NotebookClient(
        nbformat.read(NOTEBOOK, as_version=4),
        timeout=CELL_TIMEOUT_SECS,
        allow_errors=True,  # it shows some
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    with client.setup_kernel():
        begun = time.perf_counter()
        for number, cell in enumerate(client.nb.cells):
            client.execute_cell(cell, number)
        return time.perf_counter() - begun


if __name__ == "__main__":
    report.targets([_target(int(sys.argv[1]) if len(sys.argv) > 1 else 3)])
