"""Runs the tasks of an evaluation on this machine: each in a process of its own, or in the lane of its value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from isolated_magic.executors.dispatch import Dispatch
from isolated_magic.executors.lane import Lanes
from isolated_magic.executors.lifecycle import LiveRun
from isolated_magic.executors.scheduler import Pace, Scheduler, Work
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.supervisor.row_stream import MOST_AHEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.executors.dispatch import Reports
    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.executors.row_process import RowHost
    from isolated_magic.executors.tasks import Task
    from isolated_magic.models import RunResult
    from isolated_magic.request import RunRequest

    RunRow = Callable[[RunRequest, LiveRun], RunResult]

AHEAD_OF_JOBS = 8  # rows that are read ahead for each job
AHEAD_IN_LANES = 2048  # likewise, in all, where rows share processes


class _RowRun(Work):
    """One task, in a process of its own, run again after failures."""

    def __init__(self, task: Task, dispatch: LocalDispatch) -> None:
        self._task = task
        self._dispatch = dispatch
        self._live: LiveRun | None = None

    def run(self) -> float | None:
        """See :class:`Work`."""
        task, dispatch = self._task, self._dispatch
        assert task.request is not None  # noqa: S101 - others are not scheduled
        self._live = LiveRun(task.request.source_name, is_of_evaluation=True)
        if dispatch.is_stopped:  # perhaps before there was something to stop
            return None
        return dispatch.reports.ended(task, dispatch.run(task.request, self._live))

    def stop(self) -> None:
        """See :class:`Work`."""
        if self._live is not None:
            self._live.stop()


class LocalDispatch(Dispatch):
    """See the module.

    Args:
        run: runs one request.
        rows: for processes that run many rows.
        jobs: how many rows to run at once, unless the settings say so.
        settings: of the evaluation.
        reports: told what comes of the tasks.
    """

    def __init__(
        self, run: RunRow, rows: RowHost, jobs: int, settings: EvaluationSettings, reports: Reports
    ) -> None:
        self.run = run
        self.reports = reports
        self.is_stopped = False
        jobs = settings.jobs or jobs
        shares = settings.per is not None
        self._most_ahead = AHEAD_IN_LANES if shares else jobs * AHEAD_OF_JOBS
        rate = math.inf if shares else settings.rate_per_sec  # else each value has its own
        self._scheduler = Scheduler(jobs, reports.failed, reports.gone, Pace(rate))
        self._lanes: Lanes | None = None
        if shares:
            # With a checkpoint a row begins when the one before is in the file: no more than it may run twice.
            most_ahead = MOST_AHEAD if settings.checkpoint is None else 1
            self._lanes = Lanes(rows, self._scheduler, reports.ended, settings.rate_per_sec, most_ahead)
        forget_in_forks(self)

    @property
    def most_ahead(self) -> int:
        """See :class:`Dispatch`."""
        return self._most_ahead

    def add(self, task: Task) -> None:
        """See :class:`Dispatch`."""
        if self._lanes is not None:
            self._lanes.add(task)
        else:
            self._scheduler.add(_RowRun(task, self))

    def stop(self) -> None:
        """See :class:`Dispatch`."""
        self.is_stopped = True
        self._scheduler.stop()
        if self._lanes is not None:
            self._lanes.stop()

    def finish(self) -> None:
        """See :class:`Dispatch`."""
        if self._lanes is not None:
            self._scheduler.close()  # nothing runs: processes that wait for rows end in order
            self._lanes.close()

    def close(self) -> None:
        """See :class:`Dispatch`."""
        self._scheduler.close()

    def forget(self) -> None:
        """In a fork: what runs is the original's."""
        self._lanes = None
