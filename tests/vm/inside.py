"""In the virtual machine: runs tests in each place where a process may stand in the tree of control groups."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
AS_USER = ["setpriv", "--reuid=user", "--regid=user", "--init-groups", "env", "XDG_RUNTIME_DIR=/run/user/1000"]
SERVICE = ["systemd-run", "--quiet", "--wait", "--pipe"]
MOUNT = 'umount --recursive /sys/fs/cgroup && mount -t cgroup2 {} cgroup2 /sys/fs/cgroup && exec "$@"'
CONTAINER = [*SERVICE, "-p", "Delegate=yes", "unshare", "--cgroup", "--mount", "sh", "-c"]
FILES = ["tests/vm/control_groups.py", "tests/test_limits.py"]
SOME = [*FILES[:1], "-k", "not cold"]
KILLED = [*FILES, "-k", "(control_groups or multiply or guardian) and not cold"]
MORE = [*FILES, "-k", "(control_groups or TestGroups) and not cold and not notebook"]


class Place(NamedTuple):
    """A place in the tree.

    Args:
        command: what comes in front of pytest.
        groups: whether there can be groups: ``"beside"`` our own one, ``"below"`` it, or ``"none"``.
        tests: arguments for pytest.
    """

    command: list[str]
    groups: str
    tests: list[str] = SOME


PLACES = {  # the longest first
    "a user's session": Place([*AS_USER, *SERVICE, "--user"], "beside", MORE),
    "root in a service": Place(SERVICE, "beside", KILLED),
    "root in the root of the tree": Place(
        ["sh", "-c", 'echo 0 > /sys/fs/cgroup/cgroup.procs; exec "$@"', "sh"], "below"
    ),
    "a user's program, started as the warning advises": Place(
        [*AS_USER, "systemd-run", "--quiet", "--user", "--scope"], "beside"
    ),
    "a user's service with Delegate=yes": Place([*SERVICE, "-p", "User=user", "-p", "Delegate=yes"], "below"),
    "a user to whom nothing is delegated": Place([*SERVICE, "-p", "User=user"], "none"),
    "a container that may write": Place([*CONTAINER, MOUNT.format("-o rw"), "sh"], "below"),
    "a container that may not write": Place([*CONTAINER, MOUNT.format("-o ro"), "sh"], "none"),
}


def main() -> int:
    tests = list(filter(None, (PROJECT / "arguments").read_text().split("\n")))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(pool.map(lambda name: run(name, PLACES[name], tests or PLACES[name].tests), PLACES))


def run(name: str, place: Place, tests: list[str]) -> int:
    began = time.monotonic()
    pytest = ["python3", "-m", "pytest", "-q", "--color=no", "--noconftest", "-p", "tests.fixtures"]
    variables = [f"PYTHONPATH={PROJECT}", f"GROUPS_CAN_BE={place.groups}", "SLOWER_BY=5"]
    command = [*place.command, "env", "-C", str(PROJECT), *variables, *pytest, "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    secs = time.monotonic() - began
    print(f"\n{name}, {secs:.0f} s, status {done.returncode}: {' '.join(tests)}\n{done.stdout}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    from tests.vm.machine import SAYS_STATUS

    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    status = 1
    try:
        status = main()
    finally:
        print(f"\n{SAYS_STATUS}{status}", flush=True)
