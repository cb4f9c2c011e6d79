"""A worker: one run after the other in one process, for as long as none of them gets in the way of the next.

Before each run the owner sends what it sends to a process that serves one run; after it, the worker says that it
is idle. A worker ends as a process of one run does (exit functions are called, threads are waited for) when it
cannot be made again what it was, when a request says that it is the last, or when it has grown too large.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import BufferedReader, FileIO, TextIOWrapper

from . import code, display_hooks, modules, run, signals, stdio
from .channel import Channel, move_descriptor
from .process_state import RESTORED, Snapshot
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, TextIO

with modules.StandardImports():
    import gc
    import resource
    from _contextvars import copy_context  # without what surrounds it


PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main(args: list[str]) -> int:
    """The role of a worker; its argument is the descriptor of the channel."""
    before = frozenset(sys.modules)
    channel = Channel(int(args[0]))
    signals.hold_interrupts()
    stdio.install_stdin()
    display_hooks.install()
    status = serve(channel, before)
    users_code.resume()
    return status


def serve(channel: Channel, before: Collection[str]) -> int:
    """Run requests until the owner has no more of them.

    Args:
        channel: to the owner.
        before: names of the modules that no run is said to have imported.

    Returns:
        The exit status that the process should have.
    """
    baseline = Baseline()
    channel.holds_outcome = True
    gc.freeze()
    main = code.WorkerMain()
    status, used_before = 0, _cpu_secs()
    while True:
        signals.write_stacks_on_signal(channel.descriptor)  # again, as the code of the last run may have undone it
        try:
            request = channel.receive_request()
        except (EOFError, OSError):  # the owner hung up
            return status
        except Exception:  # noqa: BLE001 - the code took apart what we are made of
            channel.refuse()
            return 1
        # Code stands as deep in the stack as in a process of one run, whose main() calls run_next_request().
        status = copy_context().run(run.run_request, channel, request, before)
        main.renew()
        if len(sys.modules) != len(before):
            before = frozenset(sys.modules)
            gc.freeze()  # modules stay: the collector need not look at them after each run
            main.renew()  # frozen with them, it would not be collected
        if not channel.is_connected or not _goes_on(request, channel, baseline):
            channel.close()
            return status
        stdio.flush()
        used = _cpu_secs()
        channel.send({"idle": {"status": status, "cpu_secs": max(0.0, used - used_before)}})
        # What does not depend on the next run is done now, while the owner works.
        channel.holds_start = True
        used_before = used
        with suppress(OSError):  # too few descriptors: so says the next run, if there still are
            stdio.get_ready()


def _goes_on(request: dict[str, object], channel: Channel, baseline: Baseline) -> bool:
    if request["is_last"] or channel.has_given_up or not channel.is_mine:
        return False
    largest = request["largest_bytes"]
    if isinstance(largest, int) and baseline.resident_bytes() > largest:
        return False
    try:
        return baseline.restore()
    except Exception:  # noqa: BLE001 - the code took apart what we are made of
        return False


def _cpu_secs() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Baseline:
    """What this process is before its first run, and is made again after each.

    What a run leaves in the modules that it imported stays there: that is what a worker is for. What belongs to
    the process is restored, or the worker ends.
    """

    def __init__(self) -> None:
        self._outputs = [_Output(number, name) for number, name in ((1, "stdout"), (2, "stderr"))]
        self._has_stdin = sys.stdin is not None
        self._snapshot = Snapshot(RESTORED)
        self._size: int | None = None
        if sys.platform == "linux":
            self._size = move_descriptor(os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC))

    def resident_bytes(self) -> int:
        """How much memory this process has, 0 where the system does not tell."""
        if self._size is None:
            return 0
        return int(os.pread(self._size, 100, 0).split()[1]) * PAGE_BYTES

    def restore(self) -> bool:
        """Be what it was. False when that is not possible: the process is no worker any more.

        Raises:
            Exception: likewise.
        """
        if _has_children() or _has_threads_to_wait_for():
            return False
        self._snapshot.restore()
        if self._has_stdin:
            _renew_stdin()
        for output in self._outputs:  # noqa: SIM110 - of each run: a generator takes twice the calls
            if not output.restore():
                return False
        return True


class _Output:
    """One of stdout and stderr: the descriptor, and the object that writes to it.

    Args:
        number: of the descriptor.
        name: in ``sys``.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._copy = move_descriptor(os.dup(number))
        self._stream: TextIO | None = getattr(sys, name)
        self._errors = getattr(self._stream, "errors", None)
        self._write_through = getattr(self._stream, "write_through", False)  # PYTHONUNBUFFERED

    def restore(self) -> bool:
        """Have both again; False when the object can no longer be used."""
        os.dup2(self._copy, self._number)
        os.set_blocking(self._number, True)
        stream = self._stream
        setattr(sys, self._name, stream)
        setattr(sys, f"__{self._name}__", stream)
        if stream is None:
            return True
        stream.reconfigure(errors=self._errors, newline="\n", write_through=self._write_through)  # type: ignore[attr-defined]
        return stream.fileno() == self._number


def _renew_stdin() -> None:
    """What a run did not read of its input is not for the next one."""
    raw: Any = FileIO(0, closefd=False)
    raw.name = "<stdin>"  # as create_stdio() in Python/pylifecycle.c has it
    text: Any = TextIOWrapper(BufferedReader(raw), encoding="utf-8", errors="surrogateescape")
    text.mode = "r"
    sys.stdin = sys.__stdin__ = text  # type: ignore[misc]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _has_threads_to_wait_for() -> bool:
    """Whether there are threads that an interpreter waits for before it ends."""
    threading: Any = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        return False
    main = threading.main_thread()
    is_waited_for: Callable[[Any], bool] = lambda thread: thread is not main and not thread.daemon  # noqa: E731 - named
    return any(map(is_waited_for, threading.enumerate()))
