"""The fork servers and guardians that belong to a test."""

import psutil
import pytest

from isolated_magic import IsolatedSubprocessExecutor


@pytest.fixture
def warm():
    with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
        executor.run("1")
        assert executor.warm_up()
        yield executor


_others: set[int] = set()


@pytest.fixture
def noted_others():
    """Note the guardians of other tests' executors, for :func:`pids_of`."""
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children())


def pids_of(role: str) -> list[int]:
    """The processes of one role that belong to this test, parents first."""
    found = []
    for guardian in psutil.Process().children():
        if guardian.pid in _others:
            continue
        for process in (guardian, *guardian.children(recursive=True)):
            try:
                if role in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.NoSuchProcess:
                continue
    return found


def the_fork_server() -> int:
    """The one fork server there is, not one of its forks."""
    guardians = pids_of("guardian")
    (found,) = [pid for pid in pids_of("fork_server") if psutil.Process(pid).ppid() in guardians]
    return found


def waiting_children() -> list[int]:
    return [child.pid for child in psutil.Process(the_fork_server()).children()]
