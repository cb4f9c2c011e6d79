"""How an interrupted run is asked to end, more firmly each time, before it is made to."""

from __future__ import annotations

import math
import os
import signal
import time

INTERRUPT_GRACE_SECS = 0.8  # for `finally` blocks, after what Ctrl-C sends in a terminal
TERMINATE_GRACE_SECS = 0.4

STEPS = ((signal.SIGINT, INTERRUPT_GRACE_SECS), (signal.SIGTERM, TERMINATE_GRACE_SECS))


class Ladders:
    """The runs that were asked to end and have not ended yet.

    Each leads a process group, which its parent, who uses this, has not reaped: the signals go to nobody else.
    """

    def __init__(self) -> None:
        self._next: dict[int, tuple[float, int]] = {}  # by pid: when to take the next step, and which

    def begin(self, pid: int) -> None:
        """Ask a run to end; once more changes nothing.

        Args:
            pid: of its process.
        """
        if pid not in self._next:
            self._take(pid, 0)

    def end(self, pid: int) -> None:
        """The run has ended, or is being killed.

        Args:
            pid: of its process.
        """
        self._next.pop(pid, None)

    def secs_to_next_step(self) -> float:
        """How long until :meth:`climb` has something to do; infinity when it will not have."""
        due = min((when for when, _ in self._next.values()), default=math.inf)
        return max(0.0, due - time.monotonic())

    def climb(self) -> list[int]:
        """Take the steps that are due.

        Returns:
            The pids of the runs for which there is none left: they have to be killed.
        """
        now = time.monotonic()
        due = [(pid, step) for pid, (when, step) in self._next.items() if when <= now]
        for pid, step in due:
            if step < len(STEPS):
                self._take(pid, step)
            else:
                self.end(pid)
        return [pid for pid, step in due if step == len(STEPS)]

    def _take(self, pid: int, step: int) -> None:
        number, grace_secs = STEPS[step]
        try:
            os.killpg(pid, number)
        except ProcessLookupError:  # it has not made its group yet
            os.kill(pid, number)
        except PermissionError:  # it became another user
            return
        finally:
            self._next[pid] = time.monotonic() + grace_secs, step + 1
