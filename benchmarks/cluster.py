"""A Dask cluster on this machine: scheduler and workers are processes of their own, as they are on many."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from distributed import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECS = 60.0
END_SECS = 10.0
RUN = "import sys; from distributed.cli.dask_{0} import main; sys.argv[0] = 'dask-{0}'; main()"


@dataclass(frozen=True)
class Cluster:
    """A scheduler, its workers, and a client of them.

    Args:
        client: connected.
        scheduler: its process.
        workers: their processes, each with one thread.
    """

    client: Client
    scheduler: psutil.Process
    workers: tuple[psutil.Process, ...]


@contextmanager
def cluster(workers: int) -> Iterator[Cluster]:
    """Start a cluster on loopback, and end it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = stack.enter_context(_running(folder, "scheduler", *options))
        _wait_for(file, scheduler)
        options = ["--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        options += ["--host", "127.0.0.1", "--local-directory", str(folder)]
        processes = [stack.enter_context(_running(folder, "worker", *options)) for _ in range(workers)]
        client = stack.enter_context(Client(scheduler_file=str(file), set_as_default=False))
        client.wait_for_workers(workers, timeout=START_SECS)
        yield Cluster(client, scheduler, tuple(processes))


@contextmanager
def _running(folder: Path, part: str, *options: str) -> Iterator[psutil.Process]:
    """A scheduler or worker. What it says goes to a file: it talks much at its end."""
    with (folder / "log.txt").open("a") as log:
        command = [sys.executable, "-c", RUN.format(part), *options]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(END_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(file: Path, process: psutil.Process) -> None:
    deadline = time.monotonic() + START_SECS
    while not file.exists():
        if time.monotonic() > deadline or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError((file.parent / "log.txt").read_text())
        time.sleep(0.02)
