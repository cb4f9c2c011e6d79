"""When a run can be interrupted: while the user's code runs, and not while ours does.

Python would show a traceback of its own start, or of our program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, whose import costs each run 7 ms

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from types import TracebackType

_SIGINT = (_signal.SIGINT,)


def hold() -> None:
    """Have an interrupt wait for :class:`UsersCode`. For a process that has one thread."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGINT)


class _UsersCode:
    """Inside this block an interrupt raises KeyboardInterrupt, one that came before it too; after it none does."""

    def __init__(self) -> None:
        self._handler: object = None

    def __enter__(self) -> None:
        self.resume()
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGINT)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        handler = _signal.getsignal(_signal.SIGINT)
        if handler is not None:  # else it was not set by Python, and Python could not set it again
            # Not blocked: the code may have threads, and what one of them is sent the main thread handles.
            _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
            self._handler = handler

    def resume(self) -> None:
        """Have interrupts do what the code wanted, for as long as the process lasts."""
        if self._handler is not None:
            _signal.signal(_signal.SIGINT, self._handler)
            self._handler = None

    def forget(self) -> None:
        """What the code wanted is over."""
        self._handler = None


users_code = _UsersCode()
