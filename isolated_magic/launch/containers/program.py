"""The child program on its way into a container: no image has to have it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic import child
from isolated_magic.child import wire
from isolated_magic.child.packets import COLD, FOLDER, FORKED, NO_ATTRIBUTES
from isolated_magic.launch.spawn import program_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.request import RunRequest


# What the container is told to run, as anybody can see who may inspect it. It reads the program from stdin, writes
# it down, and becomes it.
BOOTSTRAP = f"""\
import os, sys, time
if sys.version_info < (3, 11):
    os.write(2, b"Python " + sys.version.split()[0].encode() + b"\\n")
    time.sleep(0.5)  # Podman does not hand on the last words of what ends before it is attached
    os._exit(1)
import json
def take(count):
    got = b""
    while len(got) < count:
        more = os.read(0, count - len(got))
        if not more:
            os._exit(0)
        got += more
    return got
files = json.loads(take(int.from_bytes(take({wire.LENGTH_BYTES}), "big")))
for name in files:
    with open("{FOLDER}/" + name, "w", encoding="utf-8") as file:
        file.write(files[name])
os.execv(sys.executable, [sys.executable, "{FOLDER}/start.py", "container"])
"""
COMMAND = ("python3", "-I", "-S", "-c", BOOTSTRAP)


@cache
def program_frame() -> bytes:
    """The files of the child program, as the bootstrap takes them."""
    folder = Path(child.__file__).parent
    files = {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    return wire.frame(json.dumps(files).encode())


def container_messages(request: RunRequest, environment: Mapping[bytes, bytes], *, cold: bool) -> bytes:
    """What makes a run of the fork that waits in a container.

    Args:
        request: the run.
        environment: all of it.
        cold: True for a new interpreter.
    """
    launch = {
        "role": "run",
        "cwd": request.cwd,
        "stack_bytes": request.limits.stack_bytes,
        "attributes": NO_ATTRIBUTES,
    }
    return (
        wire.frame(COLD if cold else FORKED)
        + wire.frame(json.dumps(launch).encode())
        + wire.frame(wire.environment_block(environment))
        + program_messages(request)
    )
