"""Time evaluations on a Dask cluster of this machine: what the detour costs, and what a second worker brings.

Usage: ``python benchmarks/scaling.py [--quick]``; ``make bench`` measures this among the rest. Scheduler and
workers are processes of their own; processor time is theirs and the client's alone, without the runs'.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psutil
import report
from cluster import Cluster, cluster
from evaluation import CODE, rows_of

from isolated_magic import DistributedExecutor, IsolatedSubprocessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isolated_magic import Executor

MOST_OVERHEAD_MS = 0.3
LEAST_SPEEDUP = 1.7
MOST_SCHEDULER_MB = 16.0

BUSY_SECS = 0.1
BUSY_ROUNDS = 3
BUSY = f"""
import time
end = time.process_time() + {BUSY_SECS}
while time.process_time() < end:
    pass
1
"""

HERE, THERE, AGAIN = "this machine", "the cluster", "the cluster, again"
ONE, TWO = "one worker", "two workers"


class Sizes(NamedTuple):
    """How much is measured.

    Args:
        fresh: rows with a process each.
        busy: rows that keep a processor busy.
        per: rows through the processes of their tenants.
        rounds: of what takes turns.
    """

    fresh: int
    busy: int
    per: int
    rounds: int


FULL = Sizes(fresh=500, busy=60, per=100_000, rounds=7)
QUICK = Sizes(fresh=40, busy=10, per=400, rounds=1)


@dataclass(frozen=True)
class Cost:
    """What scoring rows in one way cost.

    Args:
        rows: how many there were.
        secs: from the first row to the last result.
        client_secs: processor time of this process.
        scheduler_secs: of the scheduler; 0 if there is none.
        worker_secs: of the workers, without their runs; 0 if there are none.
    """

    rows: int
    secs: float
    client_secs: float
    scheduler_secs: float = 0.0
    worker_secs: float = 0.0

    @property
    def row_ms(self) -> float:
        """Milliseconds for each row."""
        return self.secs / self.rows * 1000


def _tenant(row: dict[str, object]) -> object:
    return row["tenant"]


def _variables(row: dict[str, object]) -> dict[str, object]:
    return {"TENANT_ID": row["tenant"]}


def score(executor: Executor, count: int, code: str = CODE, **options: object) -> object:
    """Score so many rows; all of them have to succeed."""
    result = executor.evaluate(code, rows_of(count), env_vars=_variables, **options)
    if not (result.ok and len(result) == count):
        raise RuntimeError(f"{len(result)} of {count} rows came back: {result.stopped} {result.failures[:1]}")
    return result


def _processor_secs(*processes: psutil.Process) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def cost_of(call: Callable[[], object], rows: int, where: Cluster | None = None) -> Cost:
    """What a call for so many rows costs."""
    parts = [(psutil.Process(),), (where.scheduler,) if where else (), where.workers if where else ()]
    gc.collect()
    before = [_processor_secs(*part) for part in parts]
    begun = time.perf_counter()
    kept = call()
    secs = time.perf_counter() - begun
    used = [_processor_secs(*part) - earlier for part, earlier in zip(parts, before, strict=True)]
    del kept
    return Cost(rows, secs, *used)


def in_turns(ways: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """The fastest round of each way: what else the machine does only adds to it."""
    taken = [{name: way() for name, way in ways.items()} for _ in range(rounds)]
    return {name: min((one[name] for one in taken), key=lambda cost: cost.secs) for name in ways}


def measure(*, is_quick: bool = False) -> list[report.Target]:
    """Print the tables; return whether the targets are met."""
    sizes = QUICK if is_quick else FULL
    _say("a cluster of one worker and one of two")
    with (
        cluster(1) as one,
        cluster(2) as two,
        IsolatedSubprocessExecutor(60) as local,
        DistributedExecutor(one.client, 60) as on_one,
        DistributedExecutor(two.client, 60) as on_two,
    ):
        for executor in (local, on_one, on_two):  # all that is started once has been
            score(executor, 20)
            score(executor, 20, per=_tenant)
            executor.warm_up()
        _say("a process for each row, here and there")
        fresh = in_turns(_ways(local, on_one, one, sizes.fresh, jobs=1), sizes.rounds)
        _table("a process for each row, one at a time", fresh)
        _say("one worker and two")
        busy = in_turns(_busy(local, {on_one: one, on_two: two}, sizes.busy), min(sizes.rounds, BUSY_ROUNDS))
        _table(f"{BUSY_SECS * 1000:g} ms of processor time for each row", busy)
        _say("rows through the processes of their tenants")
        per = in_turns(_ways(local, on_two, two, sizes.per, jobs=2, per=_tenant), 1)
        held = two.scheduler.memory_info().rss
        per[AGAIN] = _on(on_two, two, sizes.per, per=_tenant)
        grown = (two.scheduler.memory_info().rss - held) / (1 << 20)
        _table("`per`, 20 tenants, two processes at once", per)
        return list(_targets(fresh, busy, per, grown))


def _ways(
    local: Executor, distributed: Executor, where: Cluster, count: int, *, jobs: int, **options: object
) -> dict[str, Callable[[], Cost]]:
    return {
        HERE: partial(_here, local, count, jobs=jobs, **options),
        THERE: partial(_on, distributed, where, count, **options),
    }


def _here(executor: Executor, count: int, code: str = CODE, **options: object) -> Cost:
    return cost_of(lambda: score(executor, count, code, **options), count)


def _on(executor: Executor, where: Cluster, count: int, code: str = CODE, **options: object) -> Cost:
    return cost_of(lambda: score(executor, count, code, **options), count, where)


def _busy(local: Executor, on: dict[DistributedExecutor, Cluster], count: int) -> dict[str, Callable[[], Cost]]:
    ways: dict[str, Callable[[], Cost]] = {
        f"{HERE}, jobs={jobs}": partial(_here, local, count, BUSY, jobs=jobs) for jobs in (1, 2)
    }
    for executor, where in on.items():
        ways[ONE if len(where.workers) == 1 else TWO] = partial(_on, executor, where, count, BUSY)
    return ways


def _table(title: str, costs: dict[str, Cost]) -> None:
    head = [title, "rows", "ms a row", "client, µs", "scheduler, µs", "workers, µs"]
    report.table(
        head,
        (
            [
                name,
                f"{cost.rows:,}",
                f"{cost.row_ms:.3f}",
                *(
                    report.number(secs / cost.rows * 1e6)
                    for secs in (cost.client_secs, cost.scheduler_secs, cost.worker_secs)
                ),
            ]
            for name, cost in costs.items()
        ),
    )


def _targets(
    fresh: dict[str, Cost], busy: dict[str, Cost], per: dict[str, Cost], grown: float
) -> Iterator[report.Target]:
    more = fresh[THERE].row_ms - fresh[HERE].row_ms
    yield report.Target(
        f"a row on a cluster: at most {MOST_OVERHEAD_MS:g} ms more than on this machine",
        f"{more:.2f} ms more than {fresh[HERE].row_ms:.2f}",
        more <= MOST_OVERHEAD_MS,
    )
    times = busy[ONE].secs / busy[TWO].secs
    yield report.Target(
        f"two workers on two cores: at least {LEAST_SPEEDUP:g} times one",
        f"{times:.2f} times",
        times >= LEAST_SPEEDUP,
    )
    yield report.Target(
        f"the scheduler's memory is flat: at most {MOST_SCHEDULER_MB:g} MB more for {per[THERE].rows:,} rows",
        f"{grown:.1f} MB",
        grown <= MOST_SCHEDULER_MB,
    )


def _say(doing: str) -> None:
    print(f"measuring: {doing}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Time evaluations on a Dask cluster of this machine.")
    parser.add_argument("--quick", action="store_true", help="few rows: whether it works, not how fast it is")
    chosen = parser.parse_args()
    print(report.machine())
    report.targets(measure(is_quick=chosen.quick))


if __name__ == "__main__":
    main()
