"""Rows with one value of ``per`` have a lane: they stream through one process, which no other row sees.

A lane that has nothing to run keeps its process, as the metric in it may have been expensive to make. Only so many
of them wait; the one that has waited for longest ends.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.executors.row_process import start_row_process
from isolated_magic.executors.runner import failed_run
from isolated_magic.executors.scheduler import Pace, Work
from isolated_magic.models import ErrorKind, RunError, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.executors.row_process import RowHost, RowProcess
    from isolated_magic.executors.scheduler import Scheduler
    from isolated_magic.executors.tasks import Task
    from isolated_magic.request import RunRequest

    # A run of a task has ended; when to run it again, None for never.
    Ended = Callable[[Task, RunResult], float | None]

MOST_WAITING = 64  # processes
END_SECS = 5.0  # for exit functions and threads of a process that is not needed any more


def difference(first: RunRequest, request: RunRequest) -> str:
    """Why a row cannot share the process of a first one; empty if it can."""
    mine, its = first.environment, request.environment
    if mine is not its and mine != its:
        names = {name for name in {*mine, *its} if mine.get(name) != its.get(name)}
    else:
        names = set()
    if first.remote is not None and request.remote is not None:
        names |= first.remote.unset ^ request.remote.unset
    if names:
        told = ", ".join(sorted(name.decode("utf-8", "replace") for name in names))
        what = f"{told} {'differs' if len(names) == 1 else 'differ'}"
    elif first.secrets != request.secrets or first.remote != request.remote:
        what = "the secrets differ"
    else:
        return ""
    return (
        f"per: {what} from what the first row with the same value has, and rows that share a process share "
        "its environment: add what it depends on to per, such as (row['tenant'], row['region'])."
    )


class Lane(Work):
    """The rows of one value.

    Args:
        lanes: it belongs to.
        value: of ``per``.
        request: of its first row.
        pace: at which its rows begin; None for as fast as they can.
    """

    def __init__(self, lanes: Lanes, value: object, request: RunRequest, pace: Pace | None) -> None:
        self.value = value
        self._lanes = lanes
        self.request = request
        self._pace = pace
        self._turn: float | None = None  # when the next row may begin
        self._waiting: deque[Task] = deque()
        self._given: deque[Task] = deque()  # to the process
        self._process: RowProcess | None = None
        self._starts_cold = False
        self._is_scheduled = False
        self._is_running = False
        self._is_stopped = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to run. A row that is to be run again is added then."""
        with self._lock:
            return not self._is_scheduled

    def add(self, task: Task) -> bool:
        """Have a row run; whether the lane has to be scheduled for it."""
        with self._lock:
            self._waiting.append(task)
            is_new = not self._is_scheduled
            self._is_scheduled = True
        return is_new

    def run(self) -> float | None:
        """See :class:`Work`."""
        with self._lock:
            self._is_running = True
        try:
            while self._has_row():
                process = self._process or self._started()
                if process is not None and not process.run(self._next):
                    self._lost(process)
        finally:
            with self._lock:
                self._is_running = False
        return self._pause()

    def _pause(self) -> float | None:
        """When to go on; from now on the process waits."""
        with self._lock:
            at = self._goes_on_at()
            if at is None:
                self._is_scheduled = False
        self._lanes.waits(self)
        return at

    def _goes_on_at(self) -> float | None:
        if self._is_stopped:
            return None
        return (self._turn or -math.inf) if self._waiting else None

    def _has_row(self) -> bool:
        """Whether a row may begin now."""
        with self._lock:
            if self._is_stopped or not self._waiting:
                return False
            if self._pace is not None and self._turn is None:
                self._turn = self._pace.next()
            return self._turn is None or self._turn <= time.monotonic()

    def _next(self) -> RunRequest | None:
        if self._is_stopped or not self._waiting or (self._pace is not None and not self._has_row()):
            return None
        task = self._waiting.popleft()
        self._turn = None
        self._given.append(task)
        return task.request

    def _started(self) -> RowProcess | None:
        request = replace(self.request, fresh=True) if self._starts_cold else self.request
        try:
            process = start_row_process(self._lanes.host, request, self._on_result, self._lanes.most_ahead)
        except LaunchError as problem:
            if self._next() is not None:
                self._on_result(failed_run(problem))
            return None
        with self._lock:
            self._process = process
            if self._is_stopped:
                process.live.stop()
        return process

    def _on_result(self, result: RunResult) -> None:
        task = self._given.popleft()
        again_at = self._lanes.ended(task, result)
        if again_at is not None:
            self._lanes.add_later(task, again_at)

    def _lost(self, process: RowProcess) -> None:
        """The process is gone; rows that it was given, but had not begun, wait for another one."""
        with self._lock:
            self._starts_cold = process.is_to_be_cold
            self._process = None
            self._waiting.extendleft(reversed(self._given))
            self._given.clear()

    def take_process(self) -> RowProcess | None:
        """The process, if it waits: it no longer is this lane's."""
        with self._lock:
            if self._is_running:
                return None
            process, self._process = self._process, None
            return process

    def stop(self) -> None:
        """See :class:`Work`."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is not None:
            process.live.stop()


class _Again(Work):
    """Puts a row back into the lane of its value."""

    def __init__(self, lanes: Lanes, task: Task) -> None:
        self._lanes = lanes
        self._task = task

    def run(self) -> None:
        """See :class:`Work`."""
        self._lanes.add(self._task)

    def stop(self) -> None:
        """See :class:`Work`: it is over in a moment."""


class Lanes:
    """The lanes of an evaluation, by their values.

    Args:
        host: starts processes.
        scheduler: runs lanes.
        ended: told how each row ended.
        rate_per_sec: at which rows of one value begin; infinity for as fast as they can.
        most_ahead: rows to give a process before they have ended.
    """

    def __init__(
        self, host: RowHost, scheduler: Scheduler, ended: Ended, rate_per_sec: float, most_ahead: int
    ) -> None:
        self.host = host
        self.most_ahead = most_ahead
        self.ended = ended
        self._scheduler = scheduler
        self._rate_per_sec = rate_per_sec
        self._lanes: dict[object, Lane] = {}  # without those that have done everything, and are forgotten
        self._waiting: dict[Lane, None] = {}  # those that have a process and nothing to run, the oldest first
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def add(self, task: Task) -> None:
        """Have a row run in the lane of its value."""
        request = task.request
        assert request is not None  # noqa: S101 - others are not run
        with self._lock:
            lane = self._lanes.get(task.per)
            if lane is None:
                pace = None if self._rate_per_sec == math.inf else Pace(self._rate_per_sec)
                lane = self._lanes[task.per] = Lane(self, task.per, request, pace)
            problem = difference(lane.request, request)
            is_to_be_run = not problem and lane.add(task)
        if problem:
            self.ended(task, RunResult(error=RunError.from_text(ErrorKind.INVALID_REQUEST, problem)))
        elif is_to_be_run:
            self._scheduler.add(lane)

    def add_later(self, task: Task, at: float) -> None:
        """Have a row run again, not before the time ``at``. Other rows of its value do not wait for it."""
        self._scheduler.add(_Again(self, task), at)

    def waits(self, lane: Lane) -> None:
        """This lane has nothing to run now; too many processes may wait."""
        with self._lock:
            self._waiting.pop(lane, None)
            self._waiting[lane] = None
            oldest = [*self._waiting][: max(0, len(self._waiting) - MOST_WAITING)]
            for one in oldest:
                del self._waiting[one]
                if one.is_idle and self._rate_per_sec == math.inf:  # else it knows when the next row may begin
                    del self._lanes[one.value]
        self._end([one.take_process() for one in oldest])

    def stop(self) -> None:
        """Begin nothing more, and kill all processes."""
        for lane in list(self._lanes.values()):
            lane.stop()

    def close(self) -> None:
        """End all processes, in order if they can. No lane runs any more."""
        with self._lock:
            waiting, self._waiting = list(self._waiting), {}
        self._end([lane.take_process() for lane in waiting])

    def _end(self, processes: list[RowProcess | None]) -> None:
        ending = [process for process in processes if process is not None]
        for process in ending:
            process.hang_up()
        deadline = time.monotonic() + END_SECS
        try:
            for process in ending:
                process.end(deadline)
        except BaseException:  # the user interrupts
            for process in ending:
                process.live.stop()
            raise
