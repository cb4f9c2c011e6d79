"""Where control groups are made, and what is said where there are none. The virtual machine runs this in many places."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isolated_magic import Limits
from isolated_magic.child.limits import OWN_LEAF, ControlGroup, _homes
from tests.processes import HANG_GUARD_SECS

CAN_BE = os.environ["GROUPS_CAN_BE"]  # see inside.py
has_groups = pytest.mark.skipif(CAN_BE == "none", reason="no control groups here")
has_none = pytest.mark.skipif(CAN_BE != "none", reason="control groups here")

MIB = 1 << 20
HOLD = "import mmap\nroom = mmap.mmap(-1, 80_000_000)\nroom.write(b'x' * 80_000_000)\ninput()"
TOGETHER = (
    f"import subprocess, sys, time\nfor _ in range(4):\n    subprocess.Popen([sys.executable, '-c', {HOLD!r}],"
    " stdin=subprocess.PIPE)\ntime.sleep(1000)"
)


def own_group():
    return Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")


def printed_by(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * HANG_GUARD_SECS,
        env=os.environ | environment,
    )
    return done.stdout, done.stderr


def test_where_groups_are_made():
    before = own_group()
    homes = _homes(prepare=True)
    if CAN_BE == "none":
        assert homes == {}
        assert own_group() == before
        return
    assert {version for version, _ in homes.values()} == {2}
    assert homes.keys() == {"memory_bytes", "processes"}
    (home,) = {Path(folder) for _, folder in homes.values()}
    assert (home / "cgroup.procs").exists()
    if CAN_BE == "beside":
        assert own_group() == before
    elif before != "/" or (home / "cgroup.type").exists():  # the root of them all holds processes beside groups
        assert own_group().endswith(f"/{OWN_LEAF}")


@has_groups
def test_memory_is_that_of_all_processes_and_the_error_names_the_limit(executor):
    result = executor.run(TOGETHER, limits=Limits(memory_bytes=200 * MIB))
    assert result.error.text == "memory limit 200 MB exceeded: the system's OOM killer ended the run."
    assert 190 * MIB < result.peak_memory_bytes <= 200 * MIB


@has_groups
def test_processes_are_those_of_the_run(executor):
    code = "import subprocess\nfor _ in range(5): subprocess.Popen(['sleep', '1000'])"
    result = executor.run(code, limits=Limits(processes=4))
    assert result.error.summary.startswith("process limit 4 exceeded (")
    assert result.peak_memory_bytes > 0


@pytest.mark.skipif(CAN_BE != "beside", reason="this program has moved already")
def test_a_limit_of_this_program_holds_for_its_runs():
    """Whatever limits the memory of a program, its runs with limits of their own do not escape from it."""
    group = ControlGroup({"memory_bytes": 150 * MIB})
    program = (
        "import sys\nfrom pathlib import Path\nfrom isolated_magic import IsolatedSubprocessExecutor, Limits\n"
        "Path(sys.argv[1]).write_text('0')\nexecutor = IsolatedSubprocessExecutor(launch='cold')\n"
        f"result = executor.run({TOGETHER!r}, limits=Limits(memory_bytes=10**9))\n"
        "print(result.error.kind, result.peak_memory_bytes)\nprint(Path('/proc/self/cgroup').read_text())\n"
    )
    [folder] = group.folders.values() if len(set(group.folders.values())) > 1 else set(group.folders.values())
    Path(folder, "memory.oom.group").write_text("0")
    try:
        command = [sys.executable, "-c", program, *group.members]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=2 * HANG_GUARD_SECS)
        assert Path(folder, "memory.peak").read_text().strip().isdecimal()
    finally:
        for below in sorted(Path(folder).glob("*/")):
            below.rmdir()
        group.close()
    kind, peak = done.stdout.split("\n")[0].split()
    assert kind in {"died", "timeout", "limit"}, done.stderr
    assert int(peak) <= 150 * MIB
    assert OWN_LEAF in done.stdout


SAY = """
import sys, warnings
from isolated_magic import IsolatedSubprocessExecutor, Limits
with IsolatedSubprocessExecutor(launch="cold") as executor:
    for _ in range(2):
        for limits in (Limits(memory_bytes=300 << 20), Limits(processes=50)):
            result = executor.run("0.5", limits=limits)
            print(result.ok, result.peak_memory_bytes, result.error and result.error.kind)
"""
MEMORY = "isolated_magic:1: LimitWarning: The memory limit holds for each process of a run by itself, not for all of them together: "
PROCESSES = "isolated_magic:1: LimitWarning: The process limit counts all processes and threads of this user, not those of the run alone: "


@has_none
def test_what_no_group_holds_is_said_once():
    stdout, stderr = printed_by(SAY)
    why = "no control group can be made here."
    if os.geteuid() == 0:
        assert stdout.splitlines() == ["True None None", "False None launch"] * 2
        assert stderr.splitlines() == [MEMORY + why]
    else:
        why += " Start this program with `systemd-run --user --scope` in front of its command."
        assert stdout.splitlines() == ["True None None"] * 4
        assert stderr.splitlines() == [MEMORY + why, PROCESSES + why]


@has_groups
def test_nothing_is_said_where_groups_hold_everything():
    stdout, stderr = printed_by(SAY.replace("range(2)", "range(1)"))
    assert stderr == ""
    assert [line.split()[0] for line in stdout.splitlines()] == ["True"] * 2
