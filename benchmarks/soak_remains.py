"""Measure the resources of processes, and find processes, files and groups that are left."""

from __future__ import annotations

import glob
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARK = "SOAK_MARK"  # a variable that all of a soak's processes inherit
GONE_SECS = 2.0  # what the manual promises
POLL_SECS = 0.05

# What is free, but not given back to the system, would look like a leak.
GIVE_BACK = "import ctypes, gc\ngc.collect()\ngetattr(ctypes.CDLL(None), 'malloc_trim', int)(0)"

KEEPERS = ("guardian", "fork_server")


@dataclass(frozen=True)
class Usage:
    """Total resources of some processes.

    Args:
        processes: number of processes.
        megabytes: resident memory.
        descriptors: open file descriptors.
        threads: number of threads.
        children: number of children, zombies included.
    """

    processes: int
    megabytes: float
    descriptors: int
    threads: int
    children: int


def usage_of(processes: Iterable[psutil.Process]) -> Usage:
    """The resources in use now; none for processes that have ended."""
    numbers = []
    for process in processes:
        try:
            with process.oneshot():
                memory = process.memory_info().rss / 2**20
                numbers.append((1, memory, process.num_fds(), process.num_threads(), len(process.children())))
        except psutil.Error:
            continue
    return Usage(*map(sum, zip(*numbers, strict=True))) if numbers else Usage(0, 0.0, 0, 0, 0)


def usages(owner: int, kernel: int | None) -> dict[str, Usage]:
    """The resources in use now, by the role of the processes."""
    found: dict[str, Usage] = {}
    of_kernel = set() if kernel is None else {kernel, *(one.pid for one in _below(kernel))}
    for name, pid in (("owner", owner), ("kernel", kernel)):
        if pid is not None:
            below = [one for one in _below(pid) if name == "kernel" or one.pid not in of_kernel]
            found[name] = usage_of([psutil.Process(pid)])
            for role in KEEPERS:
                found[f"{role}s of the {name}"] = usage_of(one for one in below if _role_of(one) == role)
    return found


def _below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _role_of(process: psutil.Process) -> str | None:
    """The role of a process of ours: a fork of a fork server has that name, but another parent."""
    try:
        words, above = process.cmdline(), process.parent()
        role = next((role for role in KEEPERS if role in words), None)
        return None if above is not None and role == "fork_server" and role in above.cmdline() else role
    except psutil.Error:
        return None


def below_or_marked(mark: str, folder: Path) -> list[psutil.Process]:
    """All processes started by this one, directly or not: zombies, orphans and hiding ones included."""
    own = psutil.Process()
    below = {process.pid for process in own.children(recursive=True)}
    return [
        process
        for process in psutil.process_iter()
        if process.pid != own.pid and (process.pid in below or _belongs(process, mark, folder))
    ]


def _belongs(process: psutil.Process, mark: str, folder: Path) -> bool:
    try:
        return process.environ().get(MARK) == mark or Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def is_alive(pid: int) -> bool:
    """Whether the process runs: not a zombie, nor dead."""
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def comes_true(condition: Callable[[], bool], timeout_secs: float = GONE_SECS) -> bool:
    """Whether the condition becomes true within the timeout."""
    deadline = time.monotonic() + timeout_secs
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECS)
    return True


def alive_in(folder: Path) -> list[int]:
    """The living processes among those that created files named by their pids in the folder."""
    return [int(file.name) for file in folder.iterdir() if file.name.isdigit() and is_alive(int(file.name))]


def outliving(folder: Path) -> str | None:
    """The fault for processes of the folder that live on for longer than promised, None if there are none.

    A run may be over before its process has ended, by its word that it is through.
    """
    if comes_true(lambda: not alive_in(folder)):
        return None
    lines = [_line_on(psutil.Process(pid)) for pid in alive_in(folder)]
    return f"alive {GONE_SECS:g} s after the run: {'; '.join(lines)}" if lines else None


def _line_on(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            words = " ".join(process.cmdline())[:200]
            return f"process {process.pid}, child of {process.ppid()}, {process.status()}: {words}"
    except psutil.Error:
        return f"process {process.pid}, gone by now"


def left_processes(mark: str, folder: Path) -> list[str]:
    """One line for each process that lives longer than the manual promises."""
    comes_true(lambda: not below_or_marked(mark, folder))
    return [_line_on(process) for process in below_or_marked(mark, folder)]


def left_files(folders: Iterable[Path]) -> list[str]:
    """One line for each file in these folders."""
    return [f"file {path}" for folder in folders for path in sorted(folder.rglob("*"))]


def left_groups(owners: Iterable[int]) -> list[str]:
    """One line for each control group that these processes have left."""
    made = glob.glob("/sys/fs/cgroup/**/isolated_magic-*", recursive=True)  # noqa: PTH207 - pathlib follows links
    pids = {str(pid) for pid in owners}
    return [f"control group {path}" for path in made if os.path.basename(path).split("-")[1] in pids]  # noqa: PTH119


def open_files() -> list[str]:
    """The targets of the file descriptors of this process."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(f"{link.name}: {link.readlink()}")
        except OSError:  # that of the listing itself
            continue
    return found
