"""The fork server: an interpreter that has imported what runs need, and forks a child for each run.

It is a reaper (``reaper.py``) whose forks do not exec. It is started only with the variables that act when an
interpreter or a library starts. It never sees a run's environment, data or code: these go straight to the fork,
over the fork's own channel. A fork serves one run, or is a worker that serves many.

The first frame on the control socket says what to import. The fork server answers with its pid, with
``{"importing": NAME}`` before each module, then with ``{"ready": {...}}`` and what the imports looked at; or with
``{"refused": {NAME: REASON}}`` and what can be imported without those, and ends. Where it is unclear which module
is to blame, the next fork server looks at the process after each of them.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import socket
import sys
from contextlib import nullcontext
from io import FileIO
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from . import after_fork, code, display_hooks, modules, preload, process_state, run, shutdown, stdio, wire, worker
from .channel import Channel, move_descriptor
from .modules import fingerprint
from .reaper import Reaper, become_subreaper
from .signals import watch_process

if TYPE_CHECKING:
    from collections.abc import Callable


def main(args: list[str]) -> int:
    """Be the fork server, on the control socket of this descriptor; in each fork, be a run or a worker."""
    try:
        owner, original, role = _serve(int(args[0]))
        # Called from here, the code stands as deep in the stack as in a new interpreter.
        if role == "worker":
            status = worker.serve(owner, original.modules)
        elif role == "rows":
            from . import rows  # noqa: PLC0415 - most forks serve one run

            status = rows.serve(owner, original.modules)
        else:
            owner.holds_start = wire.SHOWS_UNREAD
            status = run.run_next_request(owner, original.modules)
    except (EOFError, ConnectionError):  # the owner is gone, or wants nothing of this fork
        shutdown.leave(1)
    return shutdown.end(status, original.modules, owner, own_pages)


def _serve(descriptor: int) -> tuple[Channel, after_fork.Original, str]:
    """Be the fork server; returns in a fork, once there is a run for it.

    Until then only ``shutdown.leave()`` may end the process: what was imported has exit functions.
    """
    become_subreaper()
    control = socket.socket(fileno=move_descriptor(descriptor))
    settings = loads(wire.read_frame(FileIO(control.fileno(), "r+", closefd=False)))
    owner_process = watch_process(settings["owner_pid"])
    if owner_process is not None:
        owner_process = move_descriptor(owner_process)
    ours = {descriptor for descriptor in (control.fileno(), owner_process) if descriptor is not None}
    stream = FileIO(control.fileno(), "r+", closefd=False)
    original = prepare(settings, ours, lambda message: wire.write_frame(stream, dumps(message).encode()))
    if original is None:
        shutdown.leave(1)
    reaper = Reaper(control, owner_process, settings["idle_secs"])
    server_pid = os.getpid()
    connection = reaper.serve()
    if connection is None:
        shutdown.leave(0)
    pages = reaper.pages
    reaper.forget()
    del reaper, control
    owner = original.channel
    channel = owner.descriptor
    original.restore(connection)
    if not after_fork.wait_for_request(channel, 0):
        copy_ahead(pages)
    if not after_fork.wait_for_request(channel, settings["idle_secs"]):
        shutdown.leave(0)  # nobody needs it
    if os.getppid() != server_pid:  # the guardian kills what the fork server left: better now than inside the run
        shutdown.leave(1)
    role = original.take_on()
    code.new_main()  # gc.freeze() has set the old one aside: it would not be taken apart in the end
    return owner, original, role


def prepare(
    settings: dict[str, Any], ours: set[int], tell: Callable[[dict[str, object]], None]
) -> after_fork.Original | None:
    """Import what the owner asked for, tell what came of it, and set all memory aside for sharing.

    Args:
        settings: the first frame.
        ours: descriptors that no module opened.
        tell: sends a message to the owner.

    Returns:
        What forks go back to; None when a module was refused.
    """
    folders = fingerprint([sys.executable, *modules.site_folders()])
    code.new_main()
    own_folder = None if sys.flags.safe_path else sys.path.pop(0)
    try:
        preload.import_ours()
        stdio.install_stdin()
        display_hooks.install()
        gives_way = process_state.giving_way() if settings["gives_way"] else nullcontext()
        with gives_way, after_fork.noting_generators(bool(settings["modules"])) as generators:
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
    modules.settle()
    run.rehearse()
    report = _report(preloaded, folders)
    _be_silent()
    original = after_fork.Original(settings["attributes"], generators, ours)
    gc.collect()
    gc.freeze()
    use_huge_pages()
    tell({"ready": report})  # the last step: a fork is wanted at once
    return original


def _be_silent() -> None:
    """Discard what a library's fork hook prints from now on: nobody reads the pipe, and it would fill up."""
    null = os.open(os.devnull, os.O_WRONLY)
    for target in (1, 2):
        os.dup2(null, target)
    os.close(null)


def _report(preloaded: preload.Preloaded, folders: dict[str, Any]) -> dict[str, Any]:
    observed = preloaded.observed
    in_front = next(
        (i for i, entry in enumerate(sys.path) if entry.startswith(modules.STANDARD_LIBRARY)), len(sys.path)
    )
    return {
        "names": sorted(observed.names),
        "patterns": sorted(observed.patterns),
        "exempt": sorted(observed.exempt),
        "folder": observed.folder,
        "missing": sorted(observed.missing),
        "roots": [name for name in preloaded.roots if not modules.is_standard(name)],
        "late": preloaded.late,
        "not_there": preloaded.missing,
        "files": fingerprint(observed.files),
        "packages": folders,
        "modules": [name for name in sys.modules if not name.startswith(str(__package__))],
        "places": modules.package_folders(),
        "in_front": [entry for entry in sys.path[:in_front] if entry],
    }


MADV_POPULATE_WRITE, MADV_COLLAPSE = 23, 25  # linux/mman.h, since Linux 5.14 and 6.1
PAGE = mmap.PAGESIZE
HUGE_PAGE = 1 << 21
ENTRY_BYTES = 8  # of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)
LARGEST_MEMORY = 4 << 30  # bytes of address space, mostly unused: eight bytes have to be read for each page
EXCLUSIVELY_MAPPED = 1 << 56
MOST_PAGES = 4000  # a run that writes to more says little about the next one

_madvise = ctypes.PyDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def use_huge_pages() -> None:
    """Have the kernel put what was allocated so far into huge pages, where it can.

    A fork copies one entry for each page of its parent, and frees each when it ends: with Opik imported, that is
    much of what a run costs. What a fork writes to is split again, and copied in small pages as before.
    """
    for start, end, is_of_file in _writable_memory():
        first = (start + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
        for address in range(first, end - HUGE_PAGE + 1, HUGE_PAGE):
            if not is_of_file:
                _madvise(address, HUGE_PAGE, MADV_COLLAPSE)


def own_pages() -> list[int]:
    """In a fork: the numbers of the pages that it has written to, and no longer shares with the fork server."""
    found: list[int] = []
    spans = _writable_memory()
    if sum(end - start for start, end, _ in spans) > LARGEST_MEMORY:
        return found
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end, _ in spans:
            first = start // PAGE
            entries = os.pread(descriptor, (end - start) // PAGE * ENTRY_BYTES, first * ENTRY_BYTES)
            view = memoryview(entries).cast("Q")
            found += [first + index for index, entry in enumerate(view) if entry & EXCLUSIVELY_MAPPED]
    finally:
        os.close(descriptor)
    return found[:MOST_PAGES]


def copy_ahead(pages: list[int]) -> None:
    """In a fork that waits for its run: copy the pages that earlier runs wrote to, while nobody waits.

    Without it a run took 1.15 times as long, and 1.36 times with 30 ms between runs; with Opik imported 1.02 and
    1.34 times.

    Args:
        pages: their numbers, ascending.
    """
    begin = 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            _madvise(pages[begin] * PAGE, (index - begin) * PAGE, MADV_POPULATE_WRITE)
            begin = index


def _writable_memory() -> list[tuple[int, int, bool]]:
    """Start and end of each private writable mapping, and whether it belongs to a file (proc_pid_maps(5))."""
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - a special file
        for line in maps:
            span, mode, _, _, inode, *_ = line.split()
            if mode == "rw-p":
                start, end = span.split("-")
                found.append((int(start, 16), int(end, 16), inode != "0"))
    return found
