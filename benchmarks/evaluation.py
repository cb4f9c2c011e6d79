"""Time evaluations of many rows: how time and memory grow, and against what a user would write instead.

Usage: ``python benchmarks/evaluation.py [--quick]``; ``make bench`` measures this among the rest. Each number of
rows is measured in an interpreter of its own, so that its memory is its own, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pool_worker
import psutil
import report

from isolated_magic import IsolatedSubprocessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CODE = "{'scores': [{'name': 'length', 'value': len(data['answer'])}]}"
SCRIPT = f"import json\nprint(json.dumps({CODE}))"  # for what knows no last expression
TENANTS = 20
JOBS = 2
TRIED = 100  # rows, before anything is measured
OVERHEAD_ROUNDS = 7

MOST_KB = 1.0
MOST_OVERHEAD_MS = 0.5
LEAST_ROWS_PER_SEC = 5_000
LEAST_TIMES = 20
MOST_GROWTH = 1.5  # times as long for a row of the most rows as for one of a thousand

PER, EACH, MAP, CHECKPOINT, RESUMED = "per", "each", "map", "checkpoint", "resumed"
LOOP, THREADS, POOL, POOL_PER = "loop", "threads", "pool", "pool per tenant"
LABELS = {
    LOOP: "a loop of `executor.run`",
    THREADS: "`executor.run` from two threads",
    EACH: "`evaluate`, a process for each row",
    POOL: "`ProcessPoolExecutor`, `exec()` in two workers: nothing isolated, one environment for all",
    POOL_PER: "a new `ProcessPoolExecutor` for each tenant: one crash loses the rest of its rows",
    PER: "`evaluate(per=...)`, a process for each tenant",
    CHECKPOINT: "the same with `checkpoint=`",
    RESUMED: "the same again, all rows in the checkpoint",
    MAP: "`map(per=...)`, results dropped",
}


@dataclass(frozen=True)
class Cost:
    """What one way of scoring rows cost.

    Args:
        rows: how many there were.
        secs: from the first row to the last result.
        kept_kb: memory of this process for each row afterwards, its result included.
        peak_mb: most memory of this process meanwhile, above what it had before.
    """

    rows: int
    secs: float
    kept_kb: float
    peak_mb: float

    @property
    def per_row_us(self) -> float:
        """Microseconds for each row."""
        return self.secs / self.rows * 1e6

    @property
    def rate(self) -> float:
        """Rows in a second."""
        return self.rows / self.secs


def rows_of(count: int) -> Iterator[dict[str, object]]:
    """Rows of twenty tenants, one after the other as they would come, made when they are asked for."""
    for number in range(count):
        yield {"id": number, "tenant": f"t{number % TENANTS:02}", "answer": "an answer of some words " * 4}


def _tenant(row: dict[str, object]) -> object:
    return row["tenant"]


def _variables(row: dict[str, object]) -> dict[str, object]:
    return {"TENANT_ID": row["tenant"]}


def _evaluate(executor: IsolatedSubprocessExecutor, count: int, **options: object) -> object:
    result = executor.evaluate(CODE, rows_of(count), env_vars=_variables, jobs=JOBS, **options)
    if not (result.ok and len(result) == count):
        raise RuntimeError(f"{len(result)} of {count} rows came back, {len(result.failures)} of them failed.")
    return result


def _map(executor: IsolatedSubprocessExecutor, count: int) -> None:
    done = sum(row.ok for row in executor.map(CODE, rows_of(count), env_vars=_variables, jobs=JOBS, per=_tenant))
    if done != count:
        raise RuntimeError(f"{done} of {count} rows were scored.")


def _run(executor: IsolatedSubprocessExecutor, row: dict[str, object]) -> object:
    result = executor.run(CODE, row, _variables(row))
    if result.error is not None:
        raise RuntimeError(result.error.text)
    return result


def _loop(executor: IsolatedSubprocessExecutor, count: int) -> object:
    return [_run(executor, row) for row in rows_of(count)]


def _threads(executor: IsolatedSubprocessExecutor, count: int) -> object:
    with ThreadPoolExecutor(JOBS) as threads:
        return list(threads.map(partial(_run, executor), rows_of(count)))


def _pool(_: IsolatedSubprocessExecutor, count: int) -> object:
    with ProcessPoolExecutor(JOBS, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(pool_worker.run, SCRIPT), rows_of(count), chunksize=1))


def _pool_per_tenant(_: IsolatedSubprocessExecutor, count: int) -> object:
    done: list[object] = []
    for tenant in range(TENANTS):
        rows = (row for row in rows_of(count) if row["tenant"] == f"t{tenant:02}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            done += pool.map(partial(pool_worker.run, SCRIPT), rows, chunksize=1)
    return done


def _in_checkpoint(executor: IsolatedSubprocessExecutor, count: int, file: Path) -> object:
    return _evaluate(executor, count, per=_tenant, checkpoint=file)


def _measured(executor: IsolatedSubprocessExecutor, call: Callable[[int], object], count: int) -> Cost:
    """What a call for so many rows costs this process."""
    process = psutil.Process()
    _evaluate(executor, TRIED)
    _evaluate(executor, TRIED, per=_tenant)
    executor.warm_up()
    gc.collect()
    before = process.memory_info().rss
    with Peak() as peak:
        begun = time.perf_counter()
        kept = call(count)
        secs = time.perf_counter() - begun
    gc.collect()
    after = process.memory_info().rss
    del kept
    return Cost(count, secs, max(0, after - before) / 1024 / count, max(0, peak.rss - before) / (1 << 20))


class Peak:
    """The most memory that this process has inside the block. Linux forgets an earlier peak when it is told to."""

    def __enter__(self) -> Peak:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.rss = 0
        return self

    def __exit__(self, *_: object) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        [kilobytes] = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]
        self.rss = kilobytes * 1024


def measure_here(way: str, count: int) -> Cost:
    """What one way costs in this interpreter."""
    with IsolatedSubprocessExecutor(60) as executor, tempfile.TemporaryDirectory() as folder:
        checkpointed = partial(_in_checkpoint, executor, file=Path(folder, "rows.jsonl"))
        if way == RESUMED:
            checkpointed(count)
        ways: dict[str, Callable[[int], object]] = {
            PER: partial(_evaluate, executor, per=_tenant),
            EACH: partial(_evaluate, executor),
            MAP: partial(_map, executor),
            CHECKPOINT: checkpointed,
            RESUMED: checkpointed,
            LOOP: partial(_loop, executor),
            THREADS: partial(_threads, executor),
            POOL: partial(_pool, executor),
            POOL_PER: partial(_pool_per_tenant, executor),
        }
        return _measured(executor, ways[way], count)


def measure_apart(way: str, count: int) -> Cost:
    """The same in a new interpreter."""
    print(f"measuring: {LABELS[way]}, {count:,} rows", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--one", way, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Cost(**json.loads(done.stdout))


def overhead_ms(count: int) -> tuple[float, float]:
    """Milliseconds of a bare run, and how many more a row of an evaluation takes, one at a time.

    The two take turns, and the least difference of a round counts: what else the machine does only adds to it.
    """
    bare, more = [], []
    with IsolatedSubprocessExecutor(60) as executor:
        _loop(executor, count)
        executor.warm_up()
        for _ in range(OVERHEAD_ROUNDS):
            begun = time.perf_counter()
            _loop(executor, count)
            between = time.perf_counter()
            executor.evaluate(CODE, rows_of(count), env_vars=_variables, jobs=1)
            ended = time.perf_counter()
            bare.append((between - begun) / count * 1000)
            more.append((ended - between) / count * 1000 - bare[-1])
    return statistics.median(bare), statistics.median(more)


def measure(*, is_quick: bool = False) -> list[report.Target]:
    """Print the tables; return whether the targets are met."""
    cost = measure_here if is_quick else measure_apart
    sizes = (100, 200) if is_quick else (100, 1_000, 10_000, 100_000)
    fresh_sizes = (100,) if is_quick else (100, 1_000, 10_000)
    per = {count: cost(PER, count) for count in sizes}
    fresh = {count: cost(EACH, count) for count in fresh_sizes}
    _growth("`evaluate(per=...)`, 20 tenants", per.values())
    _growth("`evaluate`, a process for each row", fresh.values())

    compared = {way: cost(way, fresh_sizes[len(fresh_sizes) // 2]) for way in (LOOP, THREADS)}
    compared |= {way: cost(way, fresh_sizes[-1]) for way in (POOL, POOL_PER)}
    compared |= {way: cost(way, sizes[-1]) for way in (CHECKPOINT, RESUMED, MAP)}
    compared |= {EACH: fresh[fresh_sizes[-1]], PER: per[sizes[-1]]}
    _ways({way: compared[way] for way in LABELS})

    bare, more = overhead_ms(10 if is_quick else 300)
    return list(_targets(per, fresh, compared[MAP], bare, more))


def _growth(title: str, costs: Iterable[Cost]) -> None:
    costs = list(costs)
    report.table(
        [title, "µs a row", "rows a second", "memory kept, KB a row", "peak, MB"],
        (
            [
                f"{cost.rows:,} rows",
                report.number(cost.per_row_us),
                report.number(cost.rate),
                report.number(cost.kept_kb),
                report.number(cost.peak_mb),
            ]
            for cost in costs
        ),
    )


def _ways(costs: dict[str, Cost]) -> None:
    base = costs[LOOP].rate
    report.table(
        ["scoring many rows", "rows", "µs a row", "times as fast"],
        (
            [LABELS[way], f"{cost.rows:,}", report.number(cost.per_row_us), report.number(cost.rate / base)]
            for way, cost in costs.items()
        ),
    )


def _targets(
    per: dict[int, Cost], fresh: dict[int, Cost], dropped: Cost, bare: float, more: float
) -> Iterator[report.Target]:
    """The targets of evaluations."""
    most, *_ = sorted(per, reverse=True)
    steady, slow = sorted(per)[1], fresh[max(fresh)]
    growth = per[most].per_row_us / per[steady].per_row_us
    rate, kept = per[most].rate, per[most].kept_kb
    yield report.Target(
        f"time grows with the rows: one of {most:,} takes at most {MOST_GROWTH:g} times one of {steady:,}",
        f"{growth:.2f} times",
        growth <= MOST_GROWTH,
    )
    yield report.Target(f"memory kept: at most {MOST_KB:g} KB a row", f"{kept:.2f} KB", kept <= MOST_KB)
    yield report.Target(
        "`map`: memory flat, however many rows", f"{dropped.peak_mb:.1f} MB", dropped.peak_mb <= 32
    )
    yield report.Target(
        f"a row of an evaluation: at most {MOST_OVERHEAD_MS:g} ms more than a bare run",
        f"{more:.2f} ms more than {bare:.2f}",
        more <= MOST_OVERHEAD_MS,
    )
    yield report.Target(
        f"`per`: at least {LEAST_ROWS_PER_SEC:,} trivial rows a second", f"{rate:.0f}", rate >= LEAST_ROWS_PER_SEC
    )
    times = rate / slow.rate
    yield report.Target(
        f"`per`: at least {LEAST_TIMES} times as fast as a process for each row",
        f"{times:.1f} times",
        times >= LEAST_TIMES,
    )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Time evaluations of many rows.")
    parser.add_argument("--quick", action="store_true", help="few rows: whether it works, not how fast it is")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "ROWS"), help="one measurement, as JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(asdict(measure_here(chosen.one[0], int(chosen.one[1])))))
    else:
        print(report.machine())
        report.targets(measure(is_quick=chosen.quick))


# The workers of the process pool import this file anew.
if __name__ == "__main__":
    main()
