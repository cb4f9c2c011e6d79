"""The fork server: an interpreter that has imported what runs need, and forks one child for each run.

It is a keeper (see ``keeper.py``) whose forks do not exec. It is started with the variables that act when an
interpreter or a library starts, and with no others: it never sees a run's environment, data or code, which go
straight to the fork over the fork's own channel. A fork serves one run, or is a worker that serves many; whether
it was made ahead of them is the owner's affair.

The first frame on the control socket says what to import. The template answers with its pid, with
``{"importing": NAME}`` before each module, then ``{"ready": {...}}`` with what its imports looked at, or
``{"refused": {NAME: REASON}}`` with what can be imported without those, after which it ends. Where it is unclear
which module is to blame, the next template takes a closer look.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from contextlib import nullcontext
from io import FileIO
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from . import (
    attributes,
    descriptors,
    finish,
    fresh,
    libraries,
    memory,
    preload,
    program,
    randomness,
    run,
    stdin,
    stdlib,
    wire,
    worker,
)
from .fingerprint import fingerprint
from .keeper import Keeper, become_subreaper
from .owner import Owner
from .wakeup import watch

if TYPE_CHECKING:
    from collections.abc import Callable


def main(args: list[str]) -> int:
    """Be the template; in each fork, be a run.

    Args:
        args: the descriptor of the control socket.
    """
    try:
        owner, original, role = _serve(int(args[0]))
        # Called from here, the code stands as deep in the stack as in a new interpreter.
        if role == "worker":
            status = worker.serve(owner, original.modules)
        else:
            status = run.perform(owner, original.modules, memory.own_pages)
    except (EOFError, ConnectionError):  # the owner is gone, or wants nothing of this fork
        finish.leave(1)
    return finish.end(status, original.modules, owner)


def _serve(descriptor: int) -> tuple[Owner, fresh.Original, str]:
    """Be the template; returns in each fork, when there is a run for it.

    Until then only ``finish.leave()`` may end this process: what was imported has exit functions.
    """
    become_subreaper()
    control = socket.socket(fileno=descriptors.moved(descriptor, descriptors.PLUMBING))
    settings = loads(wire.read_frame(FileIO(control.fileno(), "r+", closefd=False)))
    owner_process = watch(settings["owner_pid"])
    if owner_process is not None:
        owner_process = descriptors.moved(owner_process, descriptors.PLUMBING)
    ours = {descriptor for descriptor in (control.fileno(), owner_process) if descriptor is not None}
    stream = FileIO(control.fileno(), "r+", closefd=False)
    original = prepare(settings, ours, lambda message: wire.write_frame(stream, dumps(message).encode()))
    if original is None:
        finish.leave(1)
    keeper = Keeper(control, owner_process, settings["idle_secs"])
    connection = keeper.serve()
    if connection is None:
        finish.leave(0)
    pages = keeper.pages
    keeper.forget()
    del keeper, control
    owner = Owner(connection.channel)
    channel = owner.stream.fileno()
    original.restore(connection, channel)
    if not fresh.wait_for_request(channel, 0):
        memory.copy_ahead(pages)
    if not fresh.wait_for_request(channel, settings["idle_secs"]):
        finish.leave(0)  # nobody needs it
    role = original.take_on(owner.stream)
    program.new_main()  # the template's own would not be taken apart in the end: gc.freeze() has set it aside
    return owner, original, role


def prepare(
    settings: dict[str, Any], ours: set[int], tell: Callable[[dict[str, object]], None]
) -> fresh.Original | None:
    """Import what the owner asked for, say what came of it, and set all memory aside for sharing.

    Args:
        settings: the modules, and the attributes of this process.
        ours: descriptors that no module opened.
        tell: takes what there is to say.

    Returns:
        What forks go back to; None when a module was refused.
    """
    folders = fingerprint([sys.executable, *libraries.site_folders()])
    program.new_main()
    own_folder = None if sys.flags.safe_path else sys.path.pop(0)
    try:
        preload.import_ours()
        stdin.install()
        gives_way = attributes.giving_way() if settings["gives_way"] else nullcontext()
        with gives_way, randomness.noting_generators(bool(settings["modules"])) as generators:
            tell({"pid": os.getpid()})
            preloaded = preload.import_all(
                settings["modules"],
                settings["wanted"],
                lambda name: tell({"importing": name}),
                in_detail=settings["in_detail"],
            )
    except preload.RefusedError as problem:
        tell({"refused": problem.reasons, "kept": problem.kept, "is_unclear": problem.is_unclear})
        return None
    if own_folder is not None:
        sys.path.insert(0, "")
    stdlib.settle()
    run.rehearse()
    report = _report(preloaded, folders)
    _be_silent()
    original = fresh.Original(settings["attributes"], generators, ours)
    gc.collect()
    gc.freeze()
    memory.use_huge_pages()
    tell({"ready": report})  # at last: whoever has waited for it wants a fork at once
    return original


def _be_silent() -> None:
    """Nobody reads what a template prints from now on: a library's fork hook might, until the pipe is full."""
    null = os.open(os.devnull, os.O_WRONLY)
    for target in (1, 2):
        os.dup2(null, target)
    os.close(null)


def _report(preloaded: preload.Preloaded, folders: dict[str, Any]) -> dict[str, Any]:
    observed = preloaded.observed
    in_front = next((i for i, entry in enumerate(sys.path) if entry.startswith(stdlib.FOLDER)), len(sys.path))
    return {
        "names": sorted(observed.names),
        "patterns": sorted(observed.patterns),
        "exempt": sorted(observed.exempt),
        "folder": observed.folder,
        "missing": sorted(observed.missing),
        "late": preloaded.late,
        "not_there": preloaded.missing,
        "files": fingerprint(observed.files),
        "packages": folders,
        "modules": [name for name in sys.modules if not name.startswith(str(__package__))],
        "places": libraries.places(),
        "in_front": [entry for entry in sys.path[:in_front] if entry],
    }
