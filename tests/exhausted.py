"""What owners of runs use that are short of something (see ``test_exhaustion.py``): each is a process of its own."""

import contextlib
import ctypes
import itertools
import os
import resource
import sys
import threading
import time
from pathlib import Path

import psutil

from isolated_magic import IsolatedSubprocessExecutor
from tests.processes import wait_until

CLONE_NEWPID = 0x20000000
SLOWEST_SECS = 25.0

launch = sys.argv[1]


def made(**settings):
    return IsolatedSubprocessExecutor(launch=launch, timeout_secs=60, **settings)


def used(**settings):
    """An executor that has run something; a forked one has its template, and children that wait."""
    executor = made(**settings)
    works(executor)
    executor.warm_up()
    works(executor)
    return executor


def works(executor):
    result = executor.run("0.5")
    assert result.ok, result.error


def refused(executor, *words, code="0.5", times=3):
    """Each of some runs says why there is none; those that find a child waiting may go well before that."""
    for _ in range(times + 2):
        result = ends(executor, code)
        if not result.ok:
            says(result.to_dict(), *words)
            assert result.error.kind == "launch", result.error
            times -= 1
    assert times <= 0, "nothing was refused"


def ends(executor, code="0.5"):
    begun = time.monotonic()
    result = executor.run(code)
    assert time.monotonic() - begun < SLOWEST_SECS, "it hung"
    return result


def says(answer, *words):
    assert answer["code"] == 500, answer
    assert any(word in answer["error"] for word in words), answer
    assert "Traceback" not in answer["error"], answer
    assert "\n" not in answer["error"], answer


def reapers():
    """The guardians and fork servers of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            roles, its_parent_s = set(process.cmdline()[:6]), set(process.parent().cmdline()[:6])
            is_fork = "fork_server" in its_parent_s  # of a run that is over, perhaps, and on its way out
            if {"guardian", "fork_server"} & roles and not is_fork and process.num_threads():
                found.append(process.pid)
    return found


def room_for(free, pid):
    """The limit under which that process can open so many files more."""
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    unused = (number for number in range(len(taken) + free + 1) if number not in taken)
    return next(itertools.islice(unused, free, None))


@contextlib.contextmanager
def limited(number, soft, pids=(0,)):
    """Inside this block those processes have that soft limit."""
    before = {pid: resource.prlimit(pid, number) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, number, (soft, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, number, limits)


@contextlib.contextmanager
def descriptors_left(count):
    """Inside this block this process can open so many files and no more."""
    held = []
    with limited(resource.RLIMIT_NOFILE, 100):
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        for _ in range(count):
            os.close(held.pop())
        try:
            yield
        finally:
            for descriptor in held:
                os.close(descriptor)


@contextlib.contextmanager
def without_memory_for_forks():
    """Inside this block fork(2) fails with ENOMEM: the pid namespace of the children has lost its first process."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWPID) == 0, os.strerror(ctypes.get_errno())
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    try:
        yield
    finally:
        assert libc.setns(own, 0) == 0
        os.close(own)


def _counts():
    children = psutil.Process().children(recursive=True)
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(children)


@contextlib.contextmanager
def nothing_leaks():
    """After this block there are as many descriptors, threads and processes as before it."""
    with used():  # what is loaded at first use
        pass
    wait_until(lambda: _counts()[1:] == (1, 0))
    before = _counts()
    yield
    wait_until(lambda: _counts() == before)
