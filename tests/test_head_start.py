"""A run whose packages a fork server is importing already waits for it: that is sooner than to begin anew."""

import json
import subprocess
import sys

import pytest

from tests.corpus.venv import Venv
from tests.processes import HANG_GUARD_SECS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")

BEGINNING = """
import json, time
from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.launch.fork_server import servers
from isolated_magic.launch.fork_server.servers import HEAD_START_SECS

def wait_for_head_start(executor):
    while True:
        for server in executor._launcher._servers._all:
            if server.spec.imports and time.monotonic() - server.started_at > HEAD_START_SECS:
                return server
        time.sleep(0.01)

CODE = "import tinyslow, sys\\nfloat('fork_server' in sys.orig_argv)"
with IsolatedSubprocessExecutor(60) as executor:
    first = executor.run(CODE)
    server = wait_for_head_start(executor)
    said = {"first": first.launch, "state": server.state}
"""
WAITS = """
    servers.MOST_PATIENCE_SECS = 600
    server.started_at -= 600
    result = executor.run(CODE, timeout_secs=0.5)  # the wait is none of the run's time
    said |= {"launch": result.launch, "error": result.error and result.error.text}
print(json.dumps(said))
"""
IS_STOPPED = """
    servers.MOST_PATIENCE_SECS = 600
    server.started_at -= 600
    waiting = executor.start(CODE)
    other = executor.run("1")
    getattr(waiting, stop)()
    result = waiting.result()
    said |= {"kind": str(result.error.kind), "error": result.error.text, "other": other.ok, "end": server.state}
print(json.dumps(said))
"""
OTHERS_DO_NOT_WAIT = """
    result = executor.run("import sys, yaml\\nfloat('tinyslow' in vars(sys)['modules'])")
    said |= {"value": result.scores[0].value, "end": server.state}
print(json.dumps(said))
"""
IN_VAIN = """
    launches = [executor.run(CODE).launch for _ in range(3)]
    said |= {"launches": launches, "end": server.state, "is_doubtful": server.is_doubtful}
print(json.dumps(said))
"""
SLEEPS = "import sys, time\ntime.sleep({} if 'fork_server' in sys.orig_argv else 0)\n"


@pytest.fixture
def said(tmp_path):
    """What a program says that uses a package whose import takes a fork server so many seconds."""

    def run(secs, program):
        venv = Venv(tmp_path / "venv")
        try:
            venv.install("tinyslow", "1.0", SLEEPS.format(secs))
            done = subprocess.run(
                [tmp_path / "venv" / "bin" / "python", "-c", BEGINNING + program],
                stdout=subprocess.PIPE,
                check=True,
                timeout=HANG_GUARD_SECS,
            )
            return json.loads(done.stdout)
        finally:
            venv.close()

    return run


def test_a_run_waits_for_the_fork_server_that_is_importing_for_it(said):
    found = said(2, WAITS)
    assert (found["first"], found["launch"], found["error"]) == ("cold", "forked", None)


@pytest.mark.parametrize(("stop", "kind"), [("kill", "killed"), ("interrupt", "interrupted")])
def test_one_that_waits_can_be_stopped(said, stop, kind):
    found = said(600, f"    stop = {stop!r}\n{IS_STOPPED}")
    assert found == {
        "first": "cold",
        "state": "starting",
        "kind": kind,
        "error": "The run was stopped while it waited for a fork server.",
        "other": True,
        "end": "starting",
    }


def test_it_does_not_wait_for_one_that_hangs(said):
    assert said(600, IN_VAIN) == {
        "first": "cold",
        "state": "starting",
        "launches": ["cold"] * 3,
        "end": "starting",
        "is_doubtful": True,
    }


def test_one_that_imports_something_else_does_not_wait(said):
    assert said(600, OTHERS_DO_NOT_WAIT) == {"first": "cold", "state": "starting", "value": 0.0, "end": "starting"}
