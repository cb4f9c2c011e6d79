"""Whether the kernel's OOM killer was at work: the one who kills without saying so."""

from __future__ import annotations

import os
import time

READ_AGAIN_SECS = 1.0  # one read takes 23 microseconds, a hundredth of a run
_COUNTER = b"\noom_kill "  # proc(5), /proc/vmstat: those for the limit of a cgroup too, since Linux 4.13


class OutOfMemoryKills:
    """The count of processes that it killed, anywhere in the system."""

    def __init__(self) -> None:
        self._before: int | None = None
        self._read_at = -READ_AGAIN_SECS

    def note(self) -> None:
        """A run begins: what was killed before, give or take a second, is no concern of it."""
        if time.monotonic() - self._read_at >= READ_AGAIN_SECS:
            self._before, self._read_at = _count(), time.monotonic()

    def came(self) -> bool:
        """Whether it killed anything since; False where the system does not tell."""
        now = _count()
        return now is not None and self._before is not None and now > self._before


def _count() -> int | None:
    try:
        descriptor = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    _, _, rest = found.partition(_COUNTER)
    return int(rest.split(None, 1)[0]) if rest else None
