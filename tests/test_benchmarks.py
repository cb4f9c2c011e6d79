"""The benchmarks work: how fast anything is, `make bench` tells."""

import json
import subprocess
import sys

import pytest

from tests.conftest import TESTS

BENCHMARKS = TESTS.parent / "benchmarks"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read memory and processor time from /proc")


def run(*arguments):
    """Run Python with these arguments, in the folder of the benchmarks."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("way", ["each", "map", "resumed"])
def test_one_measurement_of_an_evaluation(way):
    cost = json.loads(run("evaluation.py", "--one", way, "60").stdout)
    assert cost["rows"] == 60
    assert cost["secs"] > 0


def test_the_benchmark_of_a_cluster():
    assert "the scheduler's memory is flat" in run("scaling.py", "--quick").stdout


NAIVE_FORKS = """
from naive_fork import naive_forks
from workloads import BARE

with naive_forks(BARE, processes=2) as naive:
    assert naive.run() > 0
    assert len(naive.repeat(5)) == 5
    assert len(naive.on_all_processors(0.2)) >= 2
"""


def test_naive_forks():
    run("-c", NAIVE_FORKS)


A_WRONG_NAIVE_FORK = """
import sys
from dataclasses import replace
from naive_fork import naive_forks
from workloads import BARE

try:
    with naive_forks(replace(BARE, script=sys.argv[1]), processes=1) as naive:
        naive.run()
except RuntimeError as problem:
    print(problem)
"""

FAILS_IN_A_FORK = """
import sys
print('{"scores": [{"name": "a", "value": 3}]}')
if hasattr(sys, "was_rehearsed"):
    raise SystemExit
sys.was_rehearsed = True
"""


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("""print('{"scores": [{"name": "a", "value": 4}]}')""", "a wrong result: {'scores': [{'name': 'a', 'value': 4}]}"),
        ("1 / 0", "ended"),
        (FAILS_IN_A_FORK, "ended"),
    ],
)  # fmt: skip
def test_a_naive_fork_whose_result_is_wrong(code, problem):
    assert problem in run("-c", A_WRONG_NAIVE_FORK, code).stdout


def test_a_run_as_a_multiple_of_a_naive_fork():
    lines = run("multiples.py", "bare", "10").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["in a loop", "50 ms before each"]
    assert all(float(line.split()[-2]) > 0 for line in lines)


def test_what_a_run_uses_is_counted():
    counts = json.loads(run("counts.py", "--one", "forked", "10").stdout)
    assert counts["used"].keys() == {"owner", "fork server", "runs", "guardian", "naive forks"}
    assert counts["used"]["runs"]["faults"] > 0
    assert counts["used"]["naive forks"]["faults"] > 0


def test_the_quickstart_after_a_restart():
    target = run("restart.py", "1").stdout.splitlines()[-1]
    assert float(target.split("|")[2]) > 0


def test_the_memory_of_a_soak_is_drawn(tmp_path):
    run(
        "-c",
        f"from picture import draw_memory\ndraw_memory({{'owner': [(10.0, 50.5), (20.0, 51.0)]}}, {str(tmp_path / 'm.png')!r})",
    )
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_packages_of_its_own():
    target = run("environments.py", "5").stdout.splitlines()[-1]
    assert float(target.split("|")[2]) > 0
