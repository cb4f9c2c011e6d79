"""The performance targets of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cells
from candidates import FORKED, NAIVE, PLAIN, POOL, POOL_APART, WORKERS
from report import Target, at_least, at_most
from workloads import BARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from measure import Pace, Series
    from memory import Footprint


def bare(alone: Mapping[str, Series], threads: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for bare code."""
    ours = alone[FORKED].median
    yield at_least(12, "bare code: times as fast as the plain recipe", alone[PLAIN].median / ours)
    yield at_most(1.3, "bare code: multiple of a naive fork", ours / alone[NAIVE].median)
    share = threads[FORKED].rate / threads[NAIVE].rate
    yield at_least(0.6, "bare code, from 4 threads: share of the naive forks that all processors make", share)


def workers(alone: Mapping[str, Series], threads: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for workers."""
    for pool, what in ((POOL_APART, "doing the same"), (POOL, "that only calls `exec()`")):
        latency = alone[pool].median / alone[WORKERS].median
        yield at_least(1, f"workers: times as fast as a `ProcessPoolExecutor` {what}", latency)
        share = threads[WORKERS].rate / threads[pool].rate
        yield at_least(
            1, f"workers, from 4 threads: multiple of the runs of a `ProcessPoolExecutor` {what}", share
        )


def opik(alone: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for an Opik metric."""
    ours = alone[FORKED].median
    what = "Opik, after the first run: times as fast as the plain recipe"
    yield at_least(200, what, alone[PLAIN].median / ours)
    yield at_most(0.9, "Opik, after the first run: multiple of a naive fork", ours / alone[NAIVE].median)


def paced(name: str, taken: Mapping[str, Pace]) -> Iterator[Target]:
    """The targets for one run a second."""
    ours = taken[FORKED]
    yield at_most(
        1.5, f"{name}, one run a second: multiple of a run in a loop", ours.user.median / ours.loop.median
    )
    if name == BARE.name:
        multiple = ours.user.median / taken[NAIVE].user.median
        yield at_most(1.4, f"{name}, one run a second: multiple of a naive fork", multiple)


def whole_cell(taken: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for a cell of bare code."""
    ours = taken[cells.ISOLATED].median
    yield at_least(8, "whole cell: times as fast as `%%python`", taken[cells.PYTHON].median / ours)
    more = ours - taken[cells.EMPTY].median
    yield at_most(1.5, "whole cell, over an empty cell: multiple of a naive fork", more / taken[NAIVE].median)


def private_memory(name: str, footprint: Footprint, most: float) -> Iterator[Target]:
    """The targets for the memory of one process, waiting and running."""
    for state, usage in (("waiting", footprint.waiting), ("running", footprint.running)):
        yield Target(
            f"{name}: private memory of a {state} child at most {most:g} MB",
            "no waiting child became the run" if usage is None else f"{usage.private:.2f} MB",
            usage is not None and usage.private <= most,
        )
