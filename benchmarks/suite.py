"""Run all measurements, one after another."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import candidates
import cells
import counts
import data
import environments
import evaluation
import measure
import memory
import report
import restart
import scaling
import targets
from workloads import BARE, OPIK, QUIET, Workload

from isolated_magic import IsolatedSubprocessExecutor

FIRST_RUNS = 4
TURNS_FROM_THREADS = 2


@dataclass
class Suite:
    """One session of measuring.

    Args:
        rounds: rounds of fast candidates.
        slow_rounds: rounds of candidates that take more than a second.
        turn_secs: seconds of each turn from several threads.
        samples: number of processes whose memory is measured.
        paced: runs at a user's pace, for bare code and for Opik.
        is_quick: whether it is to show that it works, not how fast it is.
        alone: times of single runs, by workload.
        paces: times at a user's pace and in a loop, by workload and candidate.
        targets: the evaluated targets.
    """

    rounds: int
    slow_rounds: int
    turn_secs: float
    samples: int
    paced: tuple[int, int]
    is_quick: bool
    alone: dict[str, dict[str, measure.Series]] = field(default_factory=dict)
    paces: dict[str, dict[str, measure.Pace]] = field(default_factory=dict)
    targets: list[report.Target] = field(default_factory=list)

    def run(self) -> None:
        """Measure everything, printing each table as soon as it is complete."""
        print(report.machine())
        bare_threads = self._times(BARE, self.rounds, self.paced[0])
        self.targets += targets.bare(self.alone[BARE.name], bare_threads)
        self.targets += targets.workers(self.alone[BARE.name], bare_threads)
        self._first_runs(OPIK)
        self._times(OPIK, max(2, self.rounds // 2), self.paced[1])
        self.targets += targets.opik(self.alone[OPIK.name])
        self._cells(BARE, max(2, self.rounds // 4))
        self._cells(OPIK, max(2, self.rounds // 4))
        report.pace(self.paces)
        for name, taken in self.paces.items():
            self.targets += targets.paced(name, taken)
        if memory.MEASURABLE:
            self.targets += counts.measure(is_quick=self.is_quick)
            self._memory(BARE, most=3)
            self._memory(OPIK, most=6)
        _say("handing over data")
        self.targets += data.measure(min(self.rounds, data.ROUNDS))
        self.targets += evaluation.measure(is_quick=self.is_quick)
        self.targets += scaling.measure(is_quick=self.is_quick)
        self.targets += environments.measure(is_quick=self.is_quick)
        self.targets += restart.measure(is_quick=self.is_quick)
        report.targets(self.targets)

    def _times(self, workload: Workload, rounds: int, paced: int) -> dict[str, measure.Series]:
        """Measure every candidate alone, from threads and at a user's pace. Returns the times from threads."""
        with candidates.all_of(workload) as ready:
            _say(f"{workload.name}, one at a time")
            alone = measure.one_at_a_time(ready, rounds, self.slow_rounds)
            report.times(f"{workload.name}, one run at a time", alone, candidates.LABELS, candidates.PLAIN)
            _say(f"{workload.name}, from {candidates.THREADS} threads")
            threads = measure.from_threads(ready, candidates.THREADS, self.turn_secs, TURNS_FROM_THREADS)
            title = f"{workload.name}, from {candidates.THREADS} threads"
            report.times(title, threads, candidates.LABELS, candidates.PLAIN)
            _say(f"{workload.name}, one run a second")
            compared = {key: ready[key] for key in (candidates.FORKED, candidates.NAIVE)}
            self.paces[workload.name] = measure.paced_and_loop(compared, paced, rounds)
        self.alone[workload.name] = alone
        return threads

    def _first_runs(self, workload: Workload) -> None:
        """Measure how soon a new executor is fast."""
        _say(f"{workload.name}, first runs")
        runs = []
        with IsolatedSubprocessExecutor(60) as executor:
            for number in range(FIRST_RUNS):
                time.sleep(1 if number else 0)
                begun = time.perf_counter()
                launch = candidates.run_ours(executor, workload, None)
                runs.append(((time.perf_counter() - begun) * 1000, launch))
        report.first_runs(f"{workload.name}: the first runs of an executor, with a second between them", runs)

    def _cells(self, workload: Workload, rounds: int) -> None:
        _say(f"{workload.name}, whole cells")
        taken = cells.whole_cells(workload, rounds, self.slow_rounds)
        report.times(f"a whole cell in a kernel: {workload.name}", taken, cells.LABELS, cells.PYTHON)
        if workload is BARE:
            self.targets += targets.whole_cell(taken)

    def _memory(self, workload: Workload, most: float) -> None:
        _say(f"{workload.name}, memory")
        footprints = memory.footprints(workload, self.samples)
        report.memory(f"memory of one process: {workload.name}", footprints)
        self.targets += targets.private_memory(workload.name, footprints[candidates.FORKED], most)


def main() -> None:
    """Measure, print the tables, and draw the picture."""
    parser = argparse.ArgumentParser(description="Time runs against what a user would write instead.")
    parser.add_argument("--rounds", type=int, help="turns of a fast candidate (200, or 20 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few turns: whether it works, not how fast it is")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="draw latency.png there")
    chosen = parser.parse_args()
    rounds = max(2, chosen.rounds or (20 if chosen.quick else 200))
    os.environ.update(QUIET)  # the process pool has no other way
    suite = Suite(rounds, 2, 0.2, 1, (3, 2), True) if chosen.quick else Suite(rounds, 8, 2.0, 3, (10, 5), False)
    suite.run()
    if chosen.write:
        import picture  # noqa: PLC0415 - matplotlib only where a picture is wanted

        chosen.write.mkdir(parents=True, exist_ok=True)
        picture.draw(
            {"Bare code": suite.alone[BARE.name], "An Opik metric": suite.alone[OPIK.name]},
            chosen.write / "latency.png",
        )


def _say(doing: str) -> None:
    """Print progress to stderr."""
    print(f"measuring: {doing}", file=sys.stderr, flush=True)
