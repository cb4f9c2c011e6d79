"""Kernels and programs that own a run, each ended in another way: `lifecycle.ipynb` shows what is left.

Each has a run that starts processes in every way in which they could get lost, and a teardown callback.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import psutil
from jupyter_client.manager import KernelManager
from processes import GUARD_SECS, is_alive, wait_until
from tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jupyter_client.blocking.client import BlockingKernelClient

    Ending = Callable[[KernelManager], object]

Way = TypeVar("Way")

AT_ONCE = 3  # owners; the notebook would take longer with one after the other

# Of a run: processes that leave their pid in a folder, and live on for ever unless somebody ends them.
TREE = """
import os, pathlib, subprocess, sys, time

folder = pathlib.Path(data["folder"])
note = "import os, pathlib, sys; pathlib.Path(sys.argv[1], str(os.getpid())).touch();"
sleep = note + "import time; time.sleep(10_000)"

def start(code, **settings):
    subprocess.Popen([sys.executable, "-S", "-c", code, str(folder)], **settings)

(folder / str(os.getpid())).touch()
start(sleep)
start(sleep, start_new_session=True)
start("import signal\\nfor number in (2, 15): signal.signal(number, signal.SIG_IGN)\\n" + sleep)
start("import os\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\n" + sleep)
start(note + "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
while len(list(folder.iterdir())) < 6:
    time.sleep(0.01)
(folder.parent / "ready").touch()
time.sleep(10_000)
"""

PROGRAM = """
import os, pathlib, signal, sys, time
from isolated_magic import IsolatedSubprocessExecutor

tree, folder, ending = sys.argv[1:]
here = pathlib.Path(folder).parent
executor = IsolatedSubprocessExecutor(timeout_secs=10_000)
executor.register_teardown_callback((here / "called").touch)
run = executor.start(tree, {"folder": folder})
while not (here / "ready").exists():
    time.sleep(0.01)
sys.stdin.readline()
exec(ending)
"""

CELL = """
import pathlib
from isolated_magic import IsolatedSubprocessExecutor

executor = IsolatedSubprocessExecutor(timeout_secs=10_000)
executor.register_teardown_callback(pathlib.Path({called!r}).touch)
executor.run({tree!r}, {{"folder": {folder!r}}})
"""


class Outcome(NamedTuple):
    """What became of an owner that was ended.

    Args:
        callback: whether its teardown callback was called.
        started: processes of its run.
        alive: how many of them are left, also of those that served it.
        goes_on: whether the owner still runs.
    """

    callback: bool
    started: int
    alive: int
    goes_on: bool


def end_kernels(endings: Mapping[str, Ending]) -> Table:
    """Start a kernel for each ending, with a run in progress, end it that way, and see what is left."""
    return _table("kernel", endings, _end_kernel)


def end_programs(endings: Mapping[str, str]) -> Table:
    """Likewise with a program that is no kernel. An ending is code: what it does last, ``here`` being a folder."""
    return _table("program", endings, _end_program)


def _table(what: str, endings: Mapping[str, Way], end: Callable[[Way], Outcome]) -> Table:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(endings, pool.map(end, endings.values()), strict=True))
    rows = [
        (
            way,
            "called" if found.callback else "not called",
            f"{found.alive} of {found.started} alive",
            "goes on" if found.goes_on else "has ended",
        )
        for way, found in outcomes.items()
    ]
    return Table(("what happens", "callback", "processes of its run", what), tuple(rows))


def _end_kernel(end: Ending) -> Outcome:
    with _folder() as folder, _kernel(folder.parent) as manager:
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=GUARD_SECS)
            called = str(folder.parent / "called")
            client.execute("%load_ext isolated_magic")
            client.execute(CELL.format(called=called, tree=TREE, folder=str(folder)))
            wait_until((folder.parent / "ready").exists)
            owner = psutil.Process(manager.provisioner.pid)
            family = _family(owner)
            end(manager)
            probe = client.execute("1")
            wait_until(lambda: not is_alive(owner.pid) or _has_replied(client, probe))
            return _outcome(folder, owner, [] if is_alive(owner.pid) else family)
        finally:
            client.stop_channels()


def _has_replied(client: BlockingKernelClient, request: str) -> bool:
    """Whether the next reply, if there is one, is to this request."""
    with suppress(Empty):
        return bool(client.get_shell_msg(timeout=0.1)["parent_header"].get("msg_id") == request)
    return False


def _end_program(ending: str) -> Outcome:
    with _folder() as folder:
        command = [sys.executable, "-c", PROGRAM, TREE, str(folder), ending]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
            owner = psutil.Process(program.pid)
            wait_until((folder.parent / "ready").exists)
            family = _family(owner)
            program.communicate(b"end\n")
        return _outcome(folder, owner, family)


def _family(owner: psutil.Process) -> list[int]:
    """What the owner has started, and that in turn: what supervises runs and prepares them is there, too."""
    return [process.pid for process in owner.children(recursive=True)]


def _outcome(folder: Path, owner: psutil.Process, family: list[int]) -> Outcome:
    run = [int(file.name) for file in folder.iterdir()]
    wait_until(lambda: not any(map(is_alive, {*run, *family})))
    return Outcome((folder.parent / "called").exists(), len(run), sum(map(is_alive, run)), is_alive(owner.pid))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pids")
        folder.mkdir()
        yield folder


@contextmanager
def _kernel(folder: Path) -> Iterator[KernelManager]:
    """A kernel that is talked to over files: ports are not ours until it has them, and somebody may be faster."""
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=str(folder / "kernel.json"))
    environment = {**os.environ, "ISOLATED_MAGIC_REMEMBER": "off"}
    quiet = subprocess.DEVNULL  # one that is shut down in the middle of a cell may complain about that
    manager.start_kernel(env=environment, stdout=quiet, stderr=quiet)
    try:
        yield manager
    finally:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
