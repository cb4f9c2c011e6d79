"""Time limits of tests that are about what happens when one is up, not about when it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from isolated_magic.launch.containers import bridge, launcher
from isolated_magic.launch.protocol import Messages
from isolated_magic.supervisor import row_stream, supervisor
from isolated_magic.supervisor.supervisor import Deadline
from tests.processes import HANG_GUARD_SECS

LOOK_SECS = 0.01


@contextmanager
def time_limit_from(condition: Callable[[], object] = lambda: True, secs: float = 1.0) -> Iterator[None]:
    """Time is up so long after the code has begun and the condition holds, and after the time limit of the run.

    However slow the machine is, the code gets as far as the test wants it to be when it is cut off.
    """

    class FromThen(Deadline):
        """Of the runs, and of the rows, that begin meanwhile."""

        counts = False

        def renew(self, at: float) -> None:
            super().renew(at)
            self.counts = False

        def passed(self, messages: Messages) -> None:
            if self.counts:
                super().passed(messages)
                return
            self.counts = bool(messages.started and condition())
            self.at = time.monotonic() + (secs if self.counts else LOOK_SECS)

    with pytest.MonkeyPatch.context() as patch:
        for module in (supervisor, row_stream):
            patch.setattr(module, "Deadline", FromThen)
        # What a container has beside the time limit: to be there, and until it ends by itself.
        patch.setattr(launcher, "START_TIMEOUT_SECS", HANG_GUARD_SECS)
        patch.setattr(bridge, "GRACE_SECS", HANG_GUARD_SECS)
        yield
