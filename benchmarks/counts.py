"""Count what a warm run costs beside its time: calls, system calls, page faults, wake-ups, processor time.

No noise of the machine touches calls and system calls: ``tests/test_ceilings.py`` holds ceilings for them. The
rest is compared with naive forks, measured in turn.

Usage: ``python benchmarks/counts.py [--quick]``; ``make bench`` measures this among the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import candidates
import report
import system_calls
import worker_calls
from naive_fork import naive_forks
from processes import GUARDIAN, OWNER, RUNS, SERVER, Usage, own_usage, settle, usage_below, usage_of
from system_calls import OTHER_THREADS
from workloads import BARE, DATA, QUIET, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.executors.base import Executor

WAYS = {candidates.FORKED: "a forked run of bare code", candidates.WORKERS: "a run of bare code in a worker"}
NAIVE = "naive forks"
LABELS = {OWNER: "owner", OTHER_THREADS: "its other threads", SERVER: "fork server", RUNS: "the run's process"}

WARM_RUNS = 30
PROFILED_RUNS = 30
TRACED_RUNS = 30
MEASURED_RUNS, QUICK_RUNS = 500, 50
TURNS = 5

MOST_CALLS = 300
MOST_SYSTEM_CALLS = 30
MOST_PROCESSOR_TIME = 1.7  # times that of a naive fork

# A forked run counts its own wake-ups: when it has ended, nobody knows them.
WAITS = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
{"scores": [{"name": "waits", "value": used.ru_nvcsw}, {"name": "preemptions", "value": used.ru_nivcsw}]}
"""


@contextmanager
def warm(way: str) -> Iterator[Executor]:
    """An executor whose runs are warm."""
    made = (
        candidates.forked_executor(BARE)
        if way == candidates.FORKED
        else candidates.worker_executor(BARE, workers=1)
    )
    with made as executor:
        for _ in range(WARM_RUNS):
            execute(executor)
        yield executor


def execute(executor: Executor) -> None:
    """One run; its environment is that of this process."""
    check(executor.execute(BARE.cell, DATA))


def python_calls(executor: Executor) -> dict[str, float]:
    """The calls that this thread makes for one run: of Python functions, and of those written in C."""
    counted = []
    for _ in range(PROFILED_RUNS):
        settle()
        counted.append(_profiled(executor))
    return {event: statistics.median(calls[event] for calls in counted) for event in ("call", "c_call")}


def _profiled(executor: Executor) -> Counter[str]:
    calls = Counter[str]()

    def note(_frame: object, event: str, called: object) -> None:
        calls[event] += called is not sys.setprofile

    sys.setprofile(note)
    try:
        executor.execute(BARE.cell, DATA)
    finally:
        sys.setprofile(None)
    return calls


def used(executor: Executor, runs: int) -> dict[str, Usage]:
    """What a run uses, by role, and what a naive fork does: means, in turns, one run after the other."""
    each = max(1, runs // TURNS)
    totals = dict.fromkeys((OWNER, SERVER, RUNS, GUARDIAN, NAIVE), Usage())
    with naive_forks(BARE, processes=1) as naive:
        naive.repeat(WARM_RUNS)
        for _ in range(TURNS):
            settle()
            before = usage_below() | {NAIVE: _of_all(naive.pid)} | {OWNER: own_usage()}
            for _ in range(each):
                execute(executor)
            after = {OWNER: own_usage()}
            settle()  # the child of the next run counts, too
            after |= usage_below()
            naive.repeat(each)
            after[NAIVE] = _of_all(naive.pid)
            for role in totals:
                totals[role] = totals[role].with_more(after[role].since(before[role]))
    return {role: total.per_run(TURNS * each) for role, total in totals.items()}


def _of_all(pid: int) -> Usage:
    """What a process and its children that ended have used."""
    own, ended = usage_of(pid)
    return own.with_more(ended)


def waits_of_forked_runs(executor: Executor) -> tuple[float, float]:
    """How often a forked run waits, and how often it is preempted, until it tells; medians."""
    told = []
    for _ in range(PROFILED_RUNS):
        settle()
        told.append([score["value"] for score in executor.execute(WAITS)["scores"]])
    waits, preemptions = zip(*told, strict=True)
    return statistics.median(waits), statistics.median(preemptions)


def count_here(way: str, runs: int) -> dict[str, Any]:
    """All counts of one way to run, in this interpreter."""
    with warm(way) as executor:
        calls = python_calls(executor)
        found = used(executor, runs) if runs else {}
        if found and way == candidates.FORKED:
            waits, preemptions = waits_of_forked_runs(executor)
            found[RUNS] = found[RUNS]._replace(waits=waits, preemptions=preemptions)
    problem = system_calls.tracing_problem()
    traced = [sys.executable, __file__, "--traced", way]
    return {
        "python_calls": calls["call"],
        "python_calls_of_run": worker_calls.calls_of_run() if way == candidates.WORKERS else None,
        "c_calls": calls["c_call"],
        "system_calls": {} if problem else system_calls.counted(traced, TRACED_RUNS),
        "tracing_problem": problem,
        "used": {role: usage._asdict() for role, usage in found.items()},
    }


def count_apart(way: str, runs: int) -> dict[str, Any]:
    """The same in a new interpreter."""
    print(f"counting: {WAYS[way]}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--one", way, str(runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


def measure(*, is_quick: bool = False) -> list[report.Target]:
    """Print the tables; return whether the targets are met."""
    counts = {way: count_apart(way, QUICK_RUNS if is_quick else MEASURED_RUNS) for way in WAYS}
    for way, title in WAYS.items():
        _print(f"{title}: counted", counts[way])
    return list(_targets(counts[candidates.FORKED]))


def _print(title: str, counts: dict[str, Any]) -> None:
    """Print one table: a line for each count, a column for each process."""
    used, calls = counts["used"], counts["system_calls"]
    of_run = counts["python_calls_of_run"]
    rows = [
        ["calls of Python functions", _text(counts["python_calls"]), "", "", _text(of_run) if of_run else "", ""],
        ["calls of C functions", _text(counts["c_calls"]), *[""] * 4],
        ["system calls", *(_text(calls.get(role, 0)) if calls else "-" for role in LABELS), ""],
    ]
    kinds = {
        "page faults": "faults",
        "waits, each with a wake-up": "waits",
        "preemptions": "preemptions",
        "processor time, ms": "processor_ms",
    }
    for label, kind in kinds.items():
        naive = _text(used[NAIVE][kind]) if kind in {"faults", "processor_ms"} else ""
        rows.append([label, *(_text(used[role][kind]) if role in used else "" for role in LABELS), naive])
    report.table([title, *LABELS.values(), "a naive fork, with its parent"], rows)
    if counts["tracing_problem"]:
        print(f"\nNo system calls: {counts['tracing_problem']}.")


def _text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _targets(counts: dict[str, Any]) -> Iterator[report.Target]:
    """The targets of a forked run."""
    calls, used = counts["python_calls"], counts["used"]
    name = "bare code: calls of Python functions in the owner"
    yield report.at_most(MOST_CALLS, name, calls)
    of_owner = counts["system_calls"].get(OWNER)
    name = "bare code: system calls in the owner"
    if of_owner is None:
        yield report.Target(f"{name}: at most {MOST_SYSTEM_CALLS}", counts["tracing_problem"], met=False)
    else:
        yield report.at_most(MOST_SYSTEM_CALLS, name, of_owner)
    time_of = {role: usage["processor_ms"] for role, usage in used.items()}
    times = sum(time for role, time in time_of.items() if role != NAIVE) / time_of[NAIVE]
    yield report.at_most(
        MOST_PROCESSOR_TIME, "bare code: processor time of all processes, multiple of a naive fork's", times
    )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Count what a warm run costs beside its time.")
    parser.add_argument("--quick", action="store_true", help="few runs: whether it works")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "RUNS"), help="the counts of one way, as JSON")
    parser.add_argument("--traced", metavar="WAY", help="make the runs that strace follows")
    chosen = parser.parse_args()
    os.environ.update(QUIET)
    if chosen.one:
        print(json.dumps(count_here(chosen.one[0], int(chosen.one[1]))))
    elif chosen.traced:
        with warm(chosen.traced) as executor:
            system_calls.run_marked(lambda: execute(executor), TRACED_RUNS)
    else:
        print(report.machine())
        report.targets(measure(is_quick=chosen.quick))


if __name__ == "__main__":
    main()
