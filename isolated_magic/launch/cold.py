"""A new interpreter for each run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import weakref
from io import FileIO
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.errors import LaunchError
from isolated_magic.launch.attributes import current_attributes
from isolated_magic.launch.base import Child, Launcher
from isolated_magic.launch.guardian import PROGRAM, Guardian
from isolated_magic.launch.platform import require_processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.models import RunRequest


class ColdLauncher(Launcher):
    """Starts ``sys.executable`` anew for each run, under a guardian that is shared by all of them.

    Raises:
        UnsupportedPlatformError: there are no processes here.
    """

    def __init__(self) -> None:
        require_processes()
        self._guardian = Guardian()
        # Dropped without close(): the guardian goes with the launcher, not with the whole program.
        weakref.finalize(self, self._guardian.close)

    def launch(self, request: RunRequest) -> tuple[Child, bytes]:
        """Start a child for this request; see :class:`Launcher`."""
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as theirs:
            try:
                child, descriptors = _connect(on_failure, theirs)
            except OSError as problem:
                raise LaunchError(f"No process could be started: {os.strerror(problem.errno or 0)}.") from problem
            self._guardian.start_run(descriptors)
            on_failure.pop_all()
        return child, _messages(request)

    def release(self) -> Callable[[], None]:
        """Leave the guardian to what runs on it; see :class:`Launcher`."""
        return self._guardian.release()


def _connect(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[Child, list[int]]:
    """Both ends of the four streams of a child: ours as a Child, theirs as descriptors."""

    def pair() -> tuple[socket.socket, int]:
        mine, its = socket.socketpair()
        theirs.enter_context(its)
        ours.enter_context(mine).setblocking(False)
        return mine, its.fileno()

    def pipe() -> tuple[FileIO, int]:
        readable, writable = os.pipe()
        theirs.callback(os.close, writable)
        os.set_blocking(readable, False)
        return ours.enter_context(FileIO(readable, "r")), writable

    channel, stdout, stderr, handle = pair(), pipe(), pipe(), pair()
    child = Child(channel[0], stdout[0], stderr[0], handle[0])
    return child, [channel[1], stdout[1], stderr[1], handle[1]]


def _messages(request: RunRequest) -> bytes:
    """What goes down the channel: what to start, what to run, and its data."""
    launch = {
        "executable": sys.executable,
        "program": PROGRAM,
        "cwd": request.cwd,
        "stack_bytes": request.limits.stack_bytes,
        "attributes": current_attributes(),
        "environment": {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.environment.items()
        },
    }
    path = None if request.path is None else os.fsencode(request.path).decode("latin-1")
    program = {"source": request.source, "path": path, "filename": request.source_name}
    parts = (json.dumps(launch).encode(), json.dumps(program).encode(), request.payload)
    return b"".join(map(wire.frame, parts))
