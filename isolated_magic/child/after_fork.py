"""What makes a fork of the fork server look like an interpreter that was started just now.

Its signals, descriptors, random state, environment and working directory are then those of a new process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, which would write to many shared pages
import ctypes
import os
import select
import signal
import struct
import sys
import time
import weakref
from array import array
from contextlib import contextmanager
from json import loads
from typing import TYPE_CHECKING, Any

from . import process_state, reaper, signals, wire
from .channel import Channel
from .signals import IGNORED_WHILE_WAITING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator


HIGHEST_DESCRIPTOR = 1 << 30
REAPERS_SIGNALS = (*IGNORED_WHILE_WAITING, signal.SIGCHLD)


class Original:
    """The fork server as it was before it became a reaper: what its forks go back to.

    Args:
        attributes: those that it took on from the caller.
        generators: of random numbers, made without a seed.
        ours: descriptors that no module opened.
    """

    def __init__(self, attributes: dict[str, Any], generators: Iterable[random.Random], ours: set[int]) -> None:
        self.modules = frozenset(sys.modules)
        self._attributes = attributes
        self._signals = [(int(number), _signal.getsignal(number)) for number in REAPERS_SIGNALS]
        self._descriptors = _open_descriptors() - ours
        self._generators = list(generators)
        self.channel = Channel.unconnected()
        signals.write_stacks_on_signal(self.channel.descriptor)
        self._environment = Environment()

    def restore(self, connection: reaper.Connection) -> None:
        """In a fork, before there is a request: restore all that does not depend on it."""
        signals.hold_interrupts()
        os.setsid()
        reaper.become_subreaper()
        for number, handler in self._signals:
            _signal.signal(number, handler)
        os.dup2(connection.stdout, 1)
        os.dup2(connection.stderr, 2)
        self.channel.connect(connection.channel)
        _close_all_but({*self._descriptors, self.channel.descriptor})
        _renew_randomness(self._generators)

    def take_on(self) -> str:
        """Read from the channel what a new process would inherit, and take it on.

        Returns:
            The role: ``"run"``, ``"worker"`` or ``"rows"``.

        Raises:
            OSError: the working directory is gone.
        """
        launch = loads(wire.read_frame(self.channel.stream))
        block = bytes(wire.read_frame(self.channel.stream))
        if launch["attributes"] != self._attributes:
            process_state.take_on(launch["attributes"])
            process_state.limit_stack(launch["stack_bytes"])
        os.chdir(launch["cwd"])
        self._environment.replace(block)
        _correct_what_imports_noted(launch["cwd"])
        role: str = launch["role"]
        return role


def _open_descriptors() -> set[int]:
    return {number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)}  # noqa: PTH208 - as in process_tree


def _is_open(descriptor: int) -> bool:
    try:  # the listing holds the one of the listing itself
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _close_all_but(descriptors: Iterable[int]) -> None:
    low = 0
    for descriptor in sorted(descriptors):
        if low < descriptor:  # an empty range at 0 would be taken for all there are
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, HIGHEST_DESCRIPTOR)


def wait_for_request(channel: int, idle_secs: float) -> bool:
    """Whether a request came in time."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(min(idle_secs, 1e6) * 1000))


def _correct_what_imports_noted(cwd: str) -> None:
    """Renew what modules of the standard library note when they are imported."""
    logging: Any = sys.modules.get("logging")
    if logging is not None:  # %(relativeCreated)d counts from here; nanoseconds since 3.13
        logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()
    threading: Any = sys.modules.get("threading")
    if threading is not None:  # Python 3.11 keeps the fork server's
        threading.main_thread()._set_native_id()
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = cwd


PR_SET_MM, PR_SET_MM_MAP = 35, 14  # linux/prctl.h

# struct prctl_mm_map (linux/prctl.h): eleven addresses, of which the sixth is the end of the heap and the last two
# bound the environment; then the auxiliary vector (none: it stays) and the executable (-1: it stays).
_MAP = struct.Struct("=11QQII")
_FIELDS = (26, 27, 45, 46, 47, None, 28, 48, 49)  # of these addresses in /proc/PID/stat, counted as in proc(5)

_libc = ctypes.PyDLL(None, use_errno=True)
_environ = ctypes.c_void_p.in_dll(_libc, "environ")
_sbrk = _libc.sbrk
_sbrk.restype = ctypes.c_uint64
_in_use: list[object] = []  # C holds addresses of these


class Environment:
    """Replaces the environment of a fork as if the new one had been handed to exec. Made before the fork."""

    def __init__(self) -> None:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - one read of a special file
            started_with = wire.environment_in(file.read())
        # An interpreter in the C locale sets LC_CTYPE by itself (PEP 538).
        self._added = {name: value for name, value in os.environb.items() if started_with.get(name) != value}
        self._addresses = _addresses()

    def replace(self, block: bytes) -> None:
        """Have this environment in os.environ, in C and in /proc/PID/environ; see ``wire.environment_block()``."""
        entries = block.split(b"\0")[:-1]
        environment = {name: value for name, _, value in (entry.partition(b"=") for entry in entries)}
        self._lay_out(block, entries)
        # Its own methods would unset and set each variable in C, one by one.
        data: Any = os.environ._data  # type: ignore[attr-defined]
        data.clear()
        data.update(environment)
        for name, value in self._added.items():
            if name not in environment:
                os.environb[name] = value

    def _lay_out(self, block: bytes, entries: list[bytes]) -> None:
        """Point C's ``environ`` (environ(7)) and the kernel (PR_SET_MM_MAP(2const)) to a copy of the block."""
        # Arrays, because ctypes would make a type for each length.
        copy = array("B", block or b"\0")
        start = at = copy.buffer_info()[0]
        table = array("Q")
        for entry in entries:
            table.append(at)
            at += len(entry) + 1
        table.append(0)
        _in_use.extend((copy, table))
        _environ.value = table.buffer_info()[0]
        if self._addresses is not None:
            before_heap, after_heap = self._addresses
            layout = _MAP.pack(*before_heap, _sbrk(0), *after_heap, start, start + len(block), 0, 0, 0xFFFFFFFF)
            # Without CONFIG_CHECKPOINT_RESTORE, /proc still shows what the fork server was started with.
            _libc.prctl(PR_SET_MM, PR_SET_MM_MAP, layout, len(layout), 0)


def _addresses() -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Where the parts of this process lie, before and after the end of the heap; None where that is hidden."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - one read of a special file
        fields = file.read().rpartition(b")")[2].split()
    found = tuple(int(fields[number - 3]) for number in _FIELDS if number is not None)
    return (found[:5], found[5:]) if min(found) > 1 else None


@contextmanager
def noting_generators(anything: bool) -> Iterator[weakref.WeakSet[random.Random]]:
    """Yields the generators made without a seed inside this block, if anything is to be imported there."""
    made: weakref.WeakSet[random.Random] = weakref.WeakSet()
    if not anything:
        yield made
        return
    import random  # noqa: PLC0415 - 5 ms, and work in each fork, that a bare fork server does not need

    random.random()  # noqa: S311 - the first number after a seed changes all of the state, later ones do not
    original = random.Random.__init__

    def noting(self: random.Random, x: Any = None) -> None:  # noqa: ANN401 - whatever a seed may be
        original(self, x)
        if x is None:
            made.add(self)

    random.Random.__init__ = noting  # type: ignore[method-assign]  # for the length of the block
    try:
        yield made
    finally:
        random.Random.__init__ = original  # type: ignore[method-assign]


def _renew_randomness(generators: list[random.Random]) -> None:
    """In a fork: seed again what was seeded when it was imported. ``random`` itself has a hook for that."""
    for generator in generators:
        generator.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:  # its authentication key is made on import
        process.current_process().authkey = os.urandom(32)
