"""The performance targets of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cells
from candidates import FLOOR, FORKED, PLAIN, POOL, POOL_APART, WORKERS
from report import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from measure import Series
    from memory import Footprint


def bare(alone: Mapping[str, Series], threads: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for bare code."""
    ours = alone[FORKED].median
    times, floors, rate = alone[PLAIN].median / ours, ours / alone[FLOOR].median, threads[FORKED].rate
    yield Target("bare code: at least 10 times as fast as the plain recipe", f"{times:.2f} times", times >= 10)
    yield Target("bare code: no more than 3 times spawning `true`", f"{floors:.2f} times", floors <= 3)
    yield Target("bare code: at least 400 runs a second from 4 threads", f"{rate:.0f}", rate >= 400)


def workers(alone: Mapping[str, Series], threads: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for workers."""
    rate = threads[WORKERS].rate
    yield Target("workers: at least 1,500 runs a second from 4 threads", f"{rate:.0f}", rate >= 1500)
    for pool, what in ((POOL_APART, "doing the same"), (POOL, "doing less")):
        latency = alone[pool].median / alone[WORKERS].median
        throughput = rate / threads[pool].rate
        yield Target(
            f"workers: no slower than `ProcessPoolExecutor` {what}, one at a time and from 4 threads",
            f"{latency:.2f} and {throughput:.2f} times as fast",
            latency >= 1 and throughput >= 1,
        )


def opik(alone: Mapping[str, Series]) -> Iterator[Target]:
    """The targets for an Opik metric."""
    ours = alone[FORKED].median
    times = alone[PLAIN].median / ours
    yield Target(
        "Opik, after the first run: at least 200 times as fast as the plain recipe",
        f"{times:.1f} times",
        times >= 200,
    )
    yield Target("Opik, after the first run: median no more than 8 ms", f"{ours:.2f} ms", ours <= 8)


def paced(name: str, user: Series, loop: Series) -> Iterator[Target]:
    """The target for one run a second."""
    ratio = user.median / loop.median
    yield Target(
        f"{name}: one run a second, no more than 1.5 times the loop's", f"{ratio:.2f} times", ratio <= 1.5
    )


def whole_cell(taken: Mapping[str, Series]) -> Iterator[Target]:
    """The target for a cell of bare code."""
    times = taken[cells.PYTHON].median / taken[cells.ISOLATED].median
    yield Target("whole cell: at least 8 times as fast as `%%python`", f"{times:.2f} times", times >= 8)


def private_memory(name: str, footprint: Footprint, most: float) -> Iterator[Target]:
    """The targets for the memory of one process, waiting and running."""
    for state, usage in (("waiting", footprint.waiting), ("running", footprint.running)):
        yield Target(
            f"{name}: private memory of a {state} child at most {most:g} MB",
            "no waiting child became the run" if usage is None else f"{usage.private:.2f} MB",
            usage is not None and usage.private <= most,
        )
