"""SIGINT while a run goes on: it goes to the run first, and then to the caller.

Raised in the middle of what we do, KeyboardInterrupt would leave the run no time for its ``finally`` blocks, and
lose what it printed meanwhile.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal makes an enum of each handler, twice for each run
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from isolated_magic.errors import RunInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import ParamSpec, TypeVar

    Handler = Callable[[int, FrameType | None], object]
    P = ParamSpec("P")
    R = TypeVar("R")

GIVE_UP_SECS = 10.0  # after which a further SIGINT ends the wait for what the first one was to end


class _Cell:
    """A handler for a cell that holds nothing but our magic: a SIGINT before the magic waits for it.

    IPython would show the magic's line, with the values on it, in its traceback, and the whole cell where the
    interrupt hits one of its callbacks. What comes when the magic is over comes between two cells, and a kernel
    ignores that.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True


_cell = _Cell()


def begin_cell() -> None:
    """A cell that holds nothing but our magic begins."""
    if _handler() is _signal.default_int_handler:
        _cell.came = False
        _signal.signal(_signal.SIGINT, _cell)


def end_cell() -> None:
    """The cell is over."""
    if _handler() in {_cell, _raise_run_interrupted}:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


@contextmanager
def without_traceback() -> Iterator[None]:
    """Inside this block, the magic, SIGINT raises what shows no traceback.

    Raises:
        RunInterrupted: there was a SIGINT, in this block or in the cell before it.
    """
    handler = _handler()
    if handler is not _cell and handler is not _signal.default_int_handler:
        yield
        return
    _signal.signal(_signal.SIGINT, _raise_run_interrupted)
    try:
        if handler is _cell and _cell.came:
            raise RunInterrupted
        yield
    finally:
        _signal.signal(_signal.SIGINT, handler)


def _raise_run_interrupted(_number: int, _frame: FrameType | None) -> None:
    raise RunInterrupted


class HeldBack:
    """Inside this block SIGINT asks the run to end; what it raises is raised after the block, or the second time.

    ``interrupt`` asks the run to end, without waiting for that. After a SIGINT, leaving raises KeyboardInterrupt.
    """

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._came = False
        self._interrupt = interrupt
        self._handler: Handler | None = None

    def __enter__(self) -> None:
        handler = _handler()
        if _is_ours_to_replace(handler):
            self._handler = handler
            _signal.signal(_signal.SIGINT, self._on_signal)

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        if self._handler is None:
            return
        _signal.signal(_signal.SIGINT, self._handler)
        if self._came and problem is None:
            self._handler(_signal.SIGINT, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._came and self._handler is not None:
            self._handler(number, frame)
        self._came = True
        self._interrupt()


class Noted:
    """Inside this block SIGINT is noted, and raises only where the user's code is called.

    Raised between any two steps of ours, KeyboardInterrupt would lose what they have just got.

    Args:
        interrupt: called at each SIGINT, in the middle of whatever this thread does.
    """

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt
        self._came_at: float | None = None
        self._is_open = False
        self._handler: Handler | None = None

    def __enter__(self) -> Noted:
        handler = _handler()
        if _is_ours_to_replace(handler):
            self._handler = handler
            _signal.signal(_signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, kind: object, problem: object, trace: object) -> None:
        handler, self._handler = self._handler, None  # next time there may be another one, or another thread
        if handler is not None:
            _signal.signal(_signal.SIGINT, handler)

    def begin_anew(self) -> None:
        """What came before is dealt with: a function of the user's may be called again."""
        self._came_at = None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of the user's.

        Raises:
            KeyboardInterrupt: there was a SIGINT, before or meanwhile.
        """
        self._is_open = True
        try:
            if self._came_at is not None:
                raise KeyboardInterrupt
            return function(*args, **kwargs)
        finally:
            self._is_open = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._came_at is None:
            self._came_at = now
        self._interrupt()
        if self._handler is not None and (self._is_open or now - self._came_at > GIVE_UP_SECS):
            self._handler(number, frame)


def _is_ours_to_replace(handler: Handler | None) -> bool:
    """Whether it only raises. Any other handler may mean something else by the signal, and gets it at once."""
    raises = handler is _signal.default_int_handler or handler is _raise_run_interrupted
    return raises or isinstance(getattr(handler, "__self__", None), Noted)


def _handler() -> Handler | None:
    """The handler of SIGINT, where it is ours to replace: only the main thread may, and only it is interrupted."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = _signal.getsignal(_signal.SIGINT)
    return handler if callable(handler) else None
