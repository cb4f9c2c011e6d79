"""The guardian: the reaper of cold runs and of fork servers. Each of its forks becomes a new interpreter.

The owner starts one guardian. It sees no run's environment: the fork reads what to start from its own channel.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from io import FileIO

from . import limits, process_state, signals, wire
from .reaper import Connection, Reaper, become_subreaper
from .signals import IGNORED_WHILE_WAITING, watch_process

OWNERS_END_SECS = 0.5

_ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}


def main(args: list[str]) -> int:
    """Be the guardian; the arguments are the descriptor of the control socket and the pid of the owner."""
    become_subreaper()
    os.chdir("/")  # not to hold a file system that the user wants to unmount
    control = socket.socket(fileno=int(args[0]))
    control.set_inheritable(False)
    owner_pid = int(args[1])
    owner = watch_process(owner_pid)
    if os.getppid() != owner_pid:  # it ended before the line above, and another process has its pid
        return 0
    _raise_limit_of_files()
    reaper = Reaper(control, owner)
    os.dup2(1, 2)  # where the owner hears of a start that fails
    control.send(wire.GUARDIAN_READY)
    connection = reaper.serve()
    if connection is not None:
        try:
            _become_run(connection)
        finally:
            os._exit(127)
    if limits.groups_left_by(owner_pid) and _has_ended(owner):
        limits.remove_groups_left_by(owner_pid)
    return 0


def _has_ended(owner: int | None) -> bool:
    """Whether the owner ends now: do_exit() closes its descriptors first, and makes its pidfd readable later."""
    return owner is not None and bool(select.select([owner], [], [], OWNERS_END_SECS)[0])


def _raise_limit_of_files() -> None:
    """Let no shortage of the owner's be the guardian's. Forks take on the owner's limits (process_state.py)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a lower one of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _become_run(connection: Connection) -> None:
    """In the fork: read what to start, then become it. Never returns."""
    signals.hold_interrupts()
    stream = FileIO(connection.channel, "r+", closefd=False)
    try:
        launch = json.loads(wire.read_frame(stream))
        environment = wire.environment_in(bytes(wire.read_frame(stream)))
        os.setsid()
        become_subreaper()
        _reset_signals()
        os.chdir(launch["cwd"])
        process_state.take_on(launch["attributes"])
        process_state.limit_stack(launch["stack_bytes"])
        _connect(connection)
        argv = [launch["executable"], launch["program"], launch["role"], str(connection.channel)]
        os.execve(launch["executable"], argv, environment)  # noqa: S606 - starting it is what we are for
    except (OSError, MemoryError) as problem:
        number = getattr(problem, "errno", None) or errno.ENOMEM
        failure = {"errno": number, "path": getattr(problem, "filename", None)}
        wire.write_frame(stream, json.dumps({"not_started": failure}).encode())
        sys.exit(127)


def _reset_signals() -> None:
    # exec resets every signal but those that are ignored. A guardian that was started from a kernel's subshell
    # inherits SIGINT ignored, and it ignores more by itself.
    for number in _ignored.union(IGNORED_WHILE_WAITING):
        signal.signal(number, signal.SIG_DFL)


def _connect(connection: Connection) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((null, 0), (connection.stdout, 1), (connection.stderr, 2)):
        os.dup2(descriptor, target)  # inheritable, unlike its source
    os.set_inheritable(connection.channel, True)
