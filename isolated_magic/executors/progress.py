"""How far an evaluation is, on one line: its words, and the line of a terminal (tqdm)."""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import brief, figure_text, time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol, TextIO, TypeAlias

    from tqdm import tqdm  # type: ignore[import-untyped]  # it has no types

    from isolated_magic.evaluation.progress import Progress

    OnProgress: TypeAlias = Callable[[Progress], object]

    class ShowsProgress(Protocol):
        """Takes each Progress of an evaluation, and is told when that is over."""

        def __call__(self, progress: Progress) -> None:
            """Show it, if it is time for that."""

        def end(self) -> None:
            """Take away what is shown."""


BEGINS_AFTER_SECS = 1.0  # what is over sooner needs no line
FRAME_SECS = 0.25  # between two changes of the line
RATE_SECS = 20.0  # that the rate is measured over
MOST_MEANS = 4  # metrics on the line
DOT = " \N{MIDDLE DOT} "


_notebook_line: Callable[[], ShowsProgress] | None = None


def use_in_notebooks(make: Callable[[], ShowsProgress] | None) -> None:
    """What ``progress=True`` shows from now on, instead of the line of a terminal; None for that again."""
    global _notebook_line  # noqa: PLW0603 - a process has one shell at most
    _notebook_line = make


@contextmanager
def shown(progress: OnProgress | bool | None) -> Iterator[OnProgress | None]:
    """What is to be called with each Progress; for True a line, which is gone in the end.

    Where stderr is neither a notebook nor a terminal, there is none.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    line: ShowsProgress | None = None
    if progress and _notebook_line is not None:
        line = _notebook_line()
    elif progress and sys.stderr is not None and sys.stderr.isatty():
        line = TerminalProgress()
    try:
        yield line
    finally:
        if line is not None:
            line.end()


class Pacing:
    """When a line changes, and how fast the rows go."""

    def __init__(self) -> None:
        self._next_secs = BEGINS_AFTER_SECS
        self._seen: deque[tuple[float, int]] = deque([(0.0, 0)])  # seconds, and rows run by then

    def is_due(self, progress: Progress) -> bool:
        """Whether the line is to change now."""
        if progress.elapsed_secs < self._next_secs:
            return False
        self._next_secs = progress.elapsed_secs + FRAME_SECS
        self._seen.append((progress.elapsed_secs, progress.done - progress.resumed))
        while len(self._seen) > 2 and self._seen[0][0] < progress.elapsed_secs - RATE_SECS:
            self._seen.popleft()
        return True

    @property
    def rows_per_sec(self) -> float:
        """Rows run in a second, lately."""
        (begun_at, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - begun_at) if now > begun_at else 0.0


def progress_text(progress: Progress, rows_per_sec: float) -> str:
    """The line in words: rows done of all, rate, time left, failures, the mean of each metric so far."""
    done = f"{progress.done:,}" if progress.total is None else f"{progress.done:,} of {progress.total:,}"
    told = [f"{done} rows"]
    if rows_per_sec > 0:
        told.append(f"{rows_per_sec:,.0f} rows/s" if rows_per_sec >= 10 else f"{rows_per_sec:.2g} rows/s")
        if progress.total is not None and progress.done < progress.total:
            told.append(f"{time_text((progress.total - progress.done) / rows_per_sec)} left")
    return DOT.join([*told, *outcome_texts(progress)])


def outcome_texts(progress: Progress) -> list[str]:
    """What came of the rows that are done."""
    told = [f"{progress.failed:,} failed"] * bool(progress.failed)
    told += [f"{brief(name, 30)} {figure_text(mean)}" for name, mean in islice(progress.means.items(), MOST_MEANS)]
    more = len(progress.means) - MOST_MEANS
    return [*told, f"{more:,} more metrics"] if more > 0 else told


class TerminalProgress:
    """The line of a terminal, which is gone in the end.

    Args:
        stream: that it is written to; None for stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._pacing = Pacing()
        self._bar: tqdm | None = None

    def __call__(self, progress: Progress) -> None:
        """Show it, if it is time for that."""
        if not self._pacing.is_due(progress):
            return
        if self._bar is None:
            self._bar = _new_bar(progress, self._stream or sys.stderr)
        self._bar.n, self._bar.initial = progress.done, progress.resumed
        self._bar.total = progress.total
        self._bar.set_postfix_str(", ".join(outcome_texts(progress)), refresh=False)
        self._bar.refresh()

    def end(self) -> None:
        """Take away what is shown."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def _new_bar(progress: Progress, stream: TextIO) -> tqdm:
    import tqdm as library  # noqa: PLC0415 - most runs need none

    class Bar(library.tqdm):  # type: ignore[misc]  # likewise
        """A bar without a thread of its own, and without a lock that processes share."""

        monitor_interval = 0

    Bar.set_lock(threading.RLock())
    looks = {"unit": " rows", "leave": False, "dynamic_ncols": True, "smoothing": 0, "mininterval": 0}
    bar = Bar(total=progress.total, file=stream, **looks)
    bar.start_t -= progress.elapsed_secs
    return bar
