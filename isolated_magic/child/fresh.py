"""A fork of a template, made to look as an interpreter does that was started just now."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, which would write to many shared pages
import os
import select
import signal
import sys
import time
from json import loads
from typing import TYPE_CHECKING, Any

from . import attributes, interrupts, keeper, randomness, wire
from .environ import Environment
from .wakeup import PUT_ASIDE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from io import FileIO

HIGHEST_DESCRIPTOR = 1 << 30
KEEPERS_SIGNALS = (*PUT_ASIDE, signal.SIGCHLD)


class Original:
    """The template as it was before it became a keeper: what its forks go back to.

    Args:
        attributes: those that it has.
        generators: of random numbers, made without a seed.
        ours: descriptors that no module opened.
    """

    def __init__(self, attributes: dict[str, Any], generators: Iterable[random.Random], ours: set[int]) -> None:
        self.modules = frozenset(sys.modules)
        self._attributes = attributes
        self._signals = [(int(number), _signal.getsignal(number)) for number in KEEPERS_SIGNALS]
        self._descriptors = _open_descriptors() - ours
        self._generators = list(generators)
        self._environment = Environment()

    def restore(self, connection: keeper.Connection, channel: int) -> None:
        """In a fork, before there is a request: all that does not depend on it.

        Args:
            connection: of this fork.
            channel: the descriptor that it has moved its channel to.
        """
        interrupts.hold()
        os.setsid()
        keeper.become_subreaper()
        for number, handler in self._signals:
            _signal.signal(number, handler)
        os.dup2(connection.stdout, 1)
        os.dup2(connection.stderr, 2)
        _close_all_but({*self._descriptors, channel})
        randomness.renew(self._generators)

    def take_on(self, stream: FileIO) -> str:
        """Read from the channel what to be, and be it.

        Args:
            stream: the channel, at its first frame.

        Returns:
            The role: ``"run"`` or ``"worker"``.

        Raises:
            OSError: the working directory is gone.
        """
        launch = loads(wire.read_frame(stream))
        block = bytes(wire.read_frame(stream))
        if launch["attributes"] != self._attributes:
            attributes.take_on(launch["attributes"])
            attributes.limit_stack(launch["stack_bytes"])
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
    """Whether a request came before the time was over.

    Args:
        channel: to read it from.
        idle_secs: seconds to wait.
    """
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(min(idle_secs, 1e6) * 1000))


def _correct_what_imports_noted(cwd: str) -> None:
    """What modules of the standard library note when they are imported, as they would note it now."""
    logging: Any = sys.modules.get("logging")
    if logging is not None:  # %(relativeCreated)d counts from here; nanoseconds since 3.13
        logging._startTime = time.time_ns() if isinstance(logging._startTime, int) else time.time()
    threading: Any = sys.modules.get("threading")
    if threading is not None:  # Python 3.11 leaves the template's there
        threading.main_thread()._set_native_id()
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = cwd
