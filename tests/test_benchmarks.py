"""The benchmark of evaluations works: how fast it is, `make bench` tells."""

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
