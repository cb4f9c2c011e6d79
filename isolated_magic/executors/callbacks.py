"""What a user wants done when an executor is torn down."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Callbacks:
    """Callables, each to be called once, in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def add(self, callback: Callable[[], object]) -> None:
        """Have it called by the next :meth:`run`.

        Args:
            callback: called without arguments.
        """
        with self._lock:
            self._waiting.append(callback)

    def run(self) -> None:
        """Call and forget them all, each even when another one raised.

        Raises:
            KeyboardInterrupt: the user interrupted one of them; the others ran.
        """
        with self._lock:
            callbacks, self._waiting = self._waiting, []
        interrupt: KeyboardInterrupt | None = None
        for callback in callbacks:
            try:
                callback()
            except KeyboardInterrupt as problem:
                interrupt = problem
            except BaseException:
                logger.exception("A teardown callback failed; the others still run.")
        if interrupt is not None:
            raise interrupt
