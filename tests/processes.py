"""What tests ask of real processes: is it alive, what is below it, wait for a condition."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

HANG_GUARD_SECS = 120.0 * float(os.environ.get("SLOWER_BY", "1"))  # tests/vm/inside.py emulates a processor
PROMISED_SECS = 2.0
INTERPRETER_SECS = 0.015


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], T], timeout_secs: float = HANG_GUARD_SECS) -> T:
    """What the condition returns when it comes true."""
    deadline = time.monotonic() + timeout_secs
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)
    return found


def wait_as_promised(condition: Callable[[], object]) -> None:
    """Wait for what the manual promises within two seconds: on a machine that is slow or busy, so much longer."""
    begun_at, slowness = time.monotonic(), 1.0
    while not condition():
        taken = time.monotonic() - begun_at
        if taken > PROMISED_SECS * slowness:
            slowness = max(slowness, _slowness())
            assert taken < PROMISED_SECS * slowness, (
                f"the condition did not come true; {slowness:.1f} times slower"
            )
        time.sleep(0.01)


def _slowness() -> float:
    """How much longer an interpreter takes to start here and now than where nothing else is to be done."""
    begun_at = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", "pass"], check=True)
    return (time.monotonic() - begun_at) / INTERPRETER_SECS


def pids_in(folder: Path) -> list[int]:
    """The pids that processes of a test wrote as file names."""
    return [int(file.name) for file in folder.iterdir()]


# Code for a run: starts processes that hide in every way there is, each of which leaves its pid in a folder.
HIDING_TREE = """
import os, pathlib, signal, subprocess, sys, time

folder = pathlib.Path(data["folder"])
note = "import os, pathlib, sys; pathlib.Path(sys.argv[1], str(os.getpid())).touch();"
sleep = note + "import time; time.sleep(1000)"

def start(code, **settings):
    subprocess.Popen([sys.executable, "-S", "-c", code, str(folder)], **settings)

(folder / str(os.getpid())).touch()
start(sleep)
start(sleep, start_new_session=True)
start("import os, signal\\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\\n" + sleep)
start("import os\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\n" + sleep)
start(note + "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
while len(list(folder.iterdir())) < 6:
    time.sleep(0.01)
(folder.parent / "ready").touch()
"""

# Likewise: processes that ignore signals and are replaced by others all the time.
RESPAWNING_TREE = """
import os, pathlib, signal, time

folder = pathlib.Path(data["folder"])

def note():
    (folder / str(os.getpid())).touch()

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
note()
if os.fork() == 0:  # each is replaced by its child
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        note()
        time.sleep(0.002)
if os.fork() == 0:  # each is replaced by its parent
    note()
    while True:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            note()
            time.sleep(0.02)
            os._exit(0)
        os.waitpid(pid, 0)
while len(list(folder.iterdir())) < 10:
    time.sleep(0.01)
(folder.parent / "ready").touch()
"""

TREES = {"hiding": HIDING_TREE, "respawning": RESPAWNING_TREE}
