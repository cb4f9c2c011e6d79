"""A fork says with its last message that it is through: its run is over then, and nothing of it stays."""

import json
import sys
import textwrap

import psutil
import pytest

from isolated_magic import IsolatedSubprocessExecutor, Limits
from isolated_magic.child import wire
from isolated_magic.child.channel import CHANNEL_FD
from isolated_magic.launch.process import MOST_LEAVING, leaving
from tests.processes import HANG_GUARD_SECS, is_alive, wait_as_promised, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@pytest.fixture
def executor():
    with IsolatedSubprocessExecutor() as executor:
        wait_until(lambda: executor.warm_up() and executor.run("1").launch == "forked")
        yield executor


def test_its_process_is_gone_soon(executor):
    pids = {executor.run("1").pid for _ in range(3 * MOST_LEAVING)}
    wait_as_promised(lambda: not any(map(is_alive, pids)))


def test_teardown_waits_until_it_is_gone(executor):
    pids = [executor.run("1").pid for _ in range(3)]
    executor.teardown()
    assert not any(map(is_alive, pids))


def test_descriptors_of_processes_that_are_gone_are_few_and_closed_in_the_end(executor):
    leaving.wait(HANG_GUARD_SECS)
    before = psutil.Process().num_fds()
    for _ in range(3 * MOST_LEAVING):
        assert executor.run("1").ok
    assert psutil.Process().num_fds() <= before + 2 * MOST_LEAVING
    leaving.wait(HANG_GUARD_SECS)
    assert psutil.Process().num_fds() <= before


def test_its_exit_status_is_known(executor):
    assert executor.run("import sys\nsys.exit(3)").exit_status == 3
    assert executor.run("import atexit, os\natexit.register(os._exit, 4)").exit_status == 4


@pytest.mark.parametrize("leaves", ["a process", "nothing"])
def test_one_that_only_says_so_is_killed_with_all_that_it_started(executor, tmp_path, leaves):
    frames = wire.frame(wire.STARTED) + b"".join(
        wire.frame(json.dumps(message).encode())
        for message in (
            {"outcome": {"result": {"scores": [{"name": "a", "value": 1}]}}},
            {"over": {"status": 0}},
        )
    )
    code = f"""
        import os, subprocess, time
        if {leaves == "a process"}:
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
        os.write({CHANNEL_FD}, {frames!r})
        time.sleep(1000)
    """
    result = executor.run(textwrap.dedent(code))
    assert result.scores[0].value == 1
    pids = [result.pid, *(int(file.read_text()) for file in tmp_path.iterdir())]
    wait_as_promised(lambda: not any(map(is_alive, pids)))


def test_one_that_leaves_a_process_behind_is_over_when_that_is_gone(executor, tmp_path):
    code = f"""
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
        child.returncode = 0  # no warning at the end
    """
    result = executor.run(textwrap.dedent(code))
    assert result.exit_status == 0
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert not is_alive(result.pid)


def test_limits_are_looked_at_when_nothing_of_it_is_left(executor):
    result = executor.run("1", limits=Limits(cpu_secs=5))
    assert result.ok
    assert not is_alive(result.pid)
