"""What one run shows while it runs on a worker: its process, what it prints and displays, in this order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from isolated_magic.executors.lifecycle import LiveRun
from isolated_magic.executors.runner import Watchers

if TYPE_CHECKING:
    from isolated_magic.models import DisplayData


class Created(NamedTuple):
    """Its process exists."""

    pid: int


class Printed(NamedTuple):
    """It has printed."""

    stream: str
    text: str


class Displayed(NamedTuple):
    """It has displayed something."""

    display: DisplayData


News: TypeAlias = Created | Printed | Displayed


class Journal:
    """The news of one run, each kept until whoever follows the run has it."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._first = 0  # number of the first one that is kept
        self._lock = threading.Lock()
        self.watchers = Watchers(
            lambda stream, text: self.add(Printed(stream, text)), lambda display: self.add(Displayed(display))
        )

    def add(self, news: News) -> None:
        """There is something new."""
        with self._lock:
            self._news.append(news)

    def since(self, number: int) -> list[News]:
        """Those from this number on. Those before it have arrived, and are dropped."""
        with self._lock:
            del self._news[: max(0, number - self._first)]
            self._first = max(self._first, number)
            return [*self._news]

    def rest(self) -> tuple[int, tuple[News, ...]]:
        """Those that are not known to have arrived, with the number of the first one."""
        with self._lock:
            return self._first, tuple(self._news)


class FollowedRun(LiveRun):
    """A run whose process is news."""

    def __init__(self, label: str, journal: Journal) -> None:
        super().__init__(label)
        self._journal = journal

    def created(self, pid: int) -> None:
        """See :class:`LiveRun`."""
        super().created(pid)
        self._journal.add(Created(pid))
