"""The first process of a container: an interpreter that has imported what a run needs, and the run as its fork.

It does in a container what guardian and template do on the owner's machine, for one run. The owner talks to it
over stdin and stdout (see ``packets.py``), of which the run gets nothing: they are closed in the fork, and this
process is not dumpable (prctl(2)), so that /proc/1 is closed to a run that is the same user. The run waits, forked
ahead, for its request; its first frame says whether a fork will do or a new interpreter has to take its place.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import socket
import sys
from contextlib import suppress
from io import FileIO
from json import dumps, loads
from typing import NoReturn

from . import after_fork, descriptors, finish, fork_server, process_state, program, reaper, run, wire
from .multiplexer import Multiplexer
from .owner import Owner
from .packets import COLD, NO_ATTRIBUTES, READY, STDERR, STDOUT, packet

PR_SET_DUMPABLE = 4  # linux/prctl.h
FIRST_TO_GO = 500  # for the OOM killer, the run rather than the one who tells of it

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(_args: list[str]) -> int:
    """Be the first process; in its fork, be the run."""
    try:
        owner, original = _serve()
        # Called from here, the code stands as deep in the stack as in a new interpreter.
        status = run.perform(owner, original.modules)
    except (EOFError, ConnectionError):  # nothing is wanted of this fork
        finish.leave(1)
    return finish.end(status, original.modules, owner)


def _serve() -> tuple[Owner, after_fork.Original]:
    """Keep the run; returns in the fork that is it, when there is a request."""
    settings = loads(wire.read_frame(FileIO(0, "r", closefd=False)))
    incoming, outgoing, errors = (descriptors.moved(os.dup(number), descriptors.PLUMBING) for number in range(3))
    _put_null_at(0, 1)
    os.chdir(settings["cwd"])
    said: list[dict[str, object]] = []
    settings["attributes"] = NO_ATTRIBUTES
    original = fork_server.prepare(settings, {incoming, outgoing, errors}, said.append)
    _prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    channel, its_channel = socket.socketpair()
    (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
    pid = os.fork() if original is not None else -1
    if pid == 0 and original is not None:
        return _become_run(reaper.Connection(its_channel.detach(), its_stdout, its_stderr), original)
    os.dup2(errors, 2)  # where an error of ours is read, as long as nobody uses the container
    its_channel.close()
    os.close(its_stdout)
    os.close(its_stderr)
    loop = Multiplexer(incoming, outgoing, pid, channel, {STDOUT: stdout, STDERR: stderr})
    loop.to_owner += packet(READY, dumps(said[-1] | _about()).encode())
    loop.serve(math.inf if settings["idle_secs"] is None else settings["idle_secs"])
    return finish.leave(0)


def _about() -> dict[str, object]:
    """What the owner has to know of this container. Bytes, one a character, as JSON holds no others."""
    pairs = {name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()}
    return {"environment": pairs}


def _put_null_at(*targets: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for target in targets:
        os.dup2(null, target)
    os.close(null)


def _become_run(connection: reaper.Connection, original: after_fork.Original) -> tuple[Owner, after_fork.Original]:
    owner = Owner(connection.channel)
    channel = owner.stream.fileno()
    original.restore(connection, channel)
    _prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - a special file
        file.write(str(FIRST_TO_GO))
    if wire.read_frame(owner.stream) == COLD:
        _become_interpreter(owner)
    original.take_on(owner.stream)
    program.new_main()  # see fork_server.py
    return owner, original


def _become_interpreter(owner: Owner) -> NoReturn:
    """Start a new interpreter in the place of this one."""
    start = os.path.join(os.path.dirname(__file__), "start.py")  # noqa: PTH118, PTH120 - pathlib is not loaded
    try:
        launch = loads(wire.read_frame(owner.stream))
        environment = wire.environment_in(bytes(wire.read_frame(owner.stream)))
        os.chdir(launch["cwd"])
        process_state.limit_stack(launch["stack_bytes"])
        os.set_inheritable(owner.descriptor, True)
        os.execve(sys.executable, [sys.executable, start, "run", str(owner.descriptor)], environment)  # noqa: S606 - starting it is what we are for
    except (OSError, MemoryError) as problem:
        number = getattr(problem, "errno", None) or errno.ENOMEM
        failure = {"errno": number, "path": getattr(problem, "filename", None)}
        owner.send({"not_started": failure})
        finish.leave(127)
