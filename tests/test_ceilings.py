"""How many calls and system calls a warm run may take: what was saved once cannot creep back unseen.

When a change takes more on purpose, the ceiling is raised with it; when one takes less, it is lowered. What a run
takes now is printed by ``python benchmarks/counts.py --one forked 0`` (or ``workers``).
"""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from tests.conftest import TESTS

BENCHMARKS = TESTS.parent / "benchmarks"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc, and strace is of Linux")

# For one run of bare code: 5 to 10 percent above what it took when the line was written; a quarter for system calls, as a
# process that is traced is slow, and wakes up more often on a busy machine.
PYTHON_CALLS = {"forked": 310, "workers": 240}
PYTHON_CALLS_OF_A_WORKER = 142
SYSTEM_CALLS = {
    "forked": {"owner": 63, "other threads of the owner": 1, "fork server": 50, "runs": 480, "guardian": 1},
    "workers": {"owner": 44, "other threads of the owner": 1, "fork server": 2, "runs": 68, "guardian": 1},
}


@cache
def counts(way):
    """What `benchmarks/counts.py` counts, in an environment that is the same on every machine."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, BENCHMARKS / "counts.py", "--one", way, "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["forked", "workers"])
def test_python_calls_of_the_owner(way):
    assert counts(way)["python_calls"] <= PYTHON_CALLS[way]


def test_python_calls_of_a_worker():
    assert 0 < counts("workers")["python_calls_of_run"] <= PYTHON_CALLS_OF_A_WORKER


@pytest.mark.parametrize("way", ["forked", "workers"])
def test_system_calls(way):
    found = counts(way)
    if found["tracing_problem"]:
        pytest.skip(found["tracing_problem"])
    assert found["system_calls"]["owner"] > 0
    excess = {role: count for role, count in found["system_calls"].items() if count > SYSTEM_CALLS[way][role]}
    assert excess == {}, f"more system calls than {SYSTEM_CALLS[way]}"
