"""The benchmarks of evaluations work: how fast these are, `make bench` tells."""

import json
import subprocess
import sys

import pytest

from tests.conftest import TESTS

SCRIPT = TESTS.parent / "benchmarks" / "evaluation.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads its memory from /proc")


@pytest.mark.parametrize("way", ["each", "map", "resumed"])
def test_one_measurement_of_an_evaluation(way):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--one", way, "60"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["rows"] == 60
    assert cost["secs"] > 0


def test_the_benchmark_of_a_cluster():
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("scaling.py"), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the scheduler's memory is flat" in done.stdout
