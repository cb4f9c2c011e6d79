"""A Dask scheduler and workers, each a process that stands for a machine, for `scaling_out.ipynb`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECS = 120.0
END_SECS = 20.0


class Machines:
    """A scheduler, and workers of one thread each, on loopback. They end with :meth:`end`, or with this process.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._started: list[subprocess.Popen[bytes]] = []
        file = str(Path(self._folder.name, "scheduler.json"))
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        deadline = time.monotonic() + START_SECS
        while not Path(file).exists():
            if self._started[0].poll() is not None or time.monotonic() > deadline:
                said = self.log
                self.end()
                raise RuntimeError(f"The scheduler did not start:\n{said}")
            time.sleep(0.05)
        options = [
            "--host",
            "127.0.0.1",
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--scheduler-file",
            file,
        ]
        for _ in range(workers):
            self._start("worker", *options, "--local-directory", self._folder.name)
        self.file = file

    @property
    def log(self) -> str:
        """What scheduler and workers have said."""
        return Path(self._folder.name, "log.txt").read_text(encoding="utf-8", errors="replace")

    def kill_worker(self) -> None:
        """Have one end without a word, as by a power cut."""
        self._started[-1].kill()

    def end(self) -> None:
        """End them all, and wait until they have."""
        for process in reversed(self._started):
            process.terminate()
        for process in reversed(self._started):
            try:
                process.wait(END_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def _start(self, part: str, *options: str) -> None:
        # Nobody is left behind where a notebook's kernel is killed.
        code = (
            "import os, sys, threading, time\n"
            f"owner = {os.getpid()}\n"
            "def end_with_owner():\n"
            "    while os.getppid() == owner:\n"
            "        time.sleep(1)\n"
            "    os._exit(1)\n"
            "threading.Thread(target=end_with_owner, daemon=True).start()\n"
            f"from distributed.cli.dask_{part} import main\n"
            f"sys.argv[0] = 'dask-{part}'\n"
            "main()\n"
        )
        with Path(self._folder.name, "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._started.append(process)
