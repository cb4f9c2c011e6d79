"""What a run costs, against what a user would write instead.

Usage: ``python benchmarks/latency.py [--rounds N]``; ``make bench`` calls it. The candidates of one table take
turns, run by run, on the same machine: read the ratios, not the milliseconds. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from isolated_magic import IsolatedSubprocessExecutor

BARE = "import json\nprint(json.dumps({'scores': [{'name': 'a', 'value': len(data['answer'])}]}))"
OPIK = """
from opik.evaluation.metrics import base_metric, score_result

class Length(base_metric.BaseMetric):
    def score(self, answer, **ignored):
        return score_result.ScoreResult("length", len(answer))
"""
RECIPE_HEAD = "import json, sys\ndata = json.load(sys.stdin)['data']\n"
RECIPE_OPIK = RECIPE_HEAD + OPIK + "\nprint(json.dumps({'scores': [vars(Length().score(**data))]}))"
DATA = {"answer": "yes"}
QUIET = {"OPIK_TRACK_DISABLE": "true", "OPIK_ANALYTICS_ENABLE": "false", "OPIK_SENTRY_ENABLE": "false"}

Candidate = Callable[[], object]


def plain_recipe(code: str) -> Candidate:
    """The usual: a Popen of ``python -c`` with JSON over its pipes."""

    def run() -> object:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps({"data": DATA}),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **QUIET},
        )
        return json.loads(done.stdout.strip().split("\n")[-1])

    return run


def ours(executor: IsolatedSubprocessExecutor, code: str) -> Candidate:
    """The same through the executor."""

    def run() -> object:
        answer = executor.execute(code, DATA, QUIET)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    return run


def spawn_true() -> object:
    """The floor: what the system needs to start and reap the smallest program."""
    return subprocess.run(["/bin/true"], check=True)


def alternate(candidates: dict[str, Candidate], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, the candidates taking turns after one round of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, call in candidates.items():
            begun = time.perf_counter()
            call()
            if number:
                taken[name].append((time.perf_counter() - begun) * 1000)
    return taken


def runs_per_second(call: Candidate, threads: int, rounds: int) -> float:
    """Runs a second from several threads at once."""
    call()
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(call) for _ in range(rounds)]:
            future.result()
    return rounds / (time.perf_counter() - begun)


def print_table(title: str, taken: dict[str, list[float]], baseline: str) -> None:
    """One Markdown table; the ratio is of medians, to the baseline's."""
    base = statistics.median(taken[baseline])
    print(f"\n**{title}**\n")
    print(f"| | median ms | p99 ms | median, {baseline} = 1 |")
    print("|---|---:|---:|---:|")
    for name, values in taken.items():
        median = statistics.median(values)
        p99 = sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
        print(f"| {name} | {median:.1f} | {p99:.1f} | {median / base:.2f} |")


def cells(rounds: int) -> dict[str, list[float]]:
    """A whole cell in a real kernel, from request to reply."""
    from jupyter_client.manager import start_new_kernel  # noqa: PLC0415 - not every machine has Jupyter

    manager, client = start_new_kernel(extra_arguments=["--IPKernelApp.log_level=ERROR"])
    try:

        def cell(source: str) -> Candidate:
            return lambda: client.execute_interactive(source, output_hook=lambda _: None)

        cell("%load_ext isolated_magic\nrow = {'answer': 'yes'}")()
        script = BARE.replace("data['answer']", "'yes'")
        return alternate(
            {"%%python": cell(f"%%python\n{script}"), "%%isolated": cell(f"%%isolated --data row\n{BARE}")}, rounds
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=60, help="of the bare tables; opik takes a tenth of it")
    rounds = parser.parse_args().rounds
    with IsolatedSubprocessExecutor() as executor:
        bare = {
            "plain recipe": plain_recipe(RECIPE_HEAD + BARE),
            "isolated": ours(executor, BARE),
            "spawn `true`": spawn_true,
        }
        print_table("Bare code, one run after another", alternate(bare, rounds), "plain recipe")
        print("\nFrom 4 threads: ", end="")
        rates = {name: runs_per_second(call, 4, rounds * 2) for name, call in bare.items()}
        print(", ".join(f"{name} {rate:.0f} runs a second" for name, rate in rates.items()) + ".")
        opik = {"plain recipe": plain_recipe(RECIPE_OPIK), "isolated": ours(executor, OPIK)}
        print_table("An Opik metric", alternate(opik, max(3, rounds // 10)), "plain recipe")
    with suppress(ImportError):
        print_table("A whole cell in a kernel", cells(rounds), "%%python")


if __name__ == "__main__":
    main()
