"""An evaluation: reads rows in the caller's thread, has them run in others, and hands their results back.

What is done is kept where it is done, so that an interrupt, which may come between any two steps of the caller's
thread, loses no row.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.evaluation.checkpoint import Checkpoint, CheckpointError, Session
from isolated_magic.evaluation.result import EvaluationInterrupted, EvaluationResult
from isolated_magic.evaluation.row_result import row_result
from isolated_magic.evaluation.rows import RowSource, row_source
from isolated_magic.executors.lifecycle import LiveRun
from isolated_magic.executors.scheduler import Pace, Scheduler, Work
from isolated_magic.executors.tasks import TaskMaker
from isolated_magic.models import RunResult

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.executors.evaluation_options import EvaluationSettings, Variables
    from isolated_magic.executors.tasks import Prepares, Task
    from isolated_magic.request import RunRequest

    RunRow = Callable[[RunRequest, LiveRun], RunResult]
    OnProgress = Callable[["Progress"], object]

AHEAD_OF_JOBS = 8  # rows that are read ahead for each job
INTERRUPTED = "The evaluation was interrupted."
PROGRESS_SECS = 0.2  # between two reports


class Progress(NamedTuple):
    """How far an evaluation is.

    Args:
        done: runs of rows that have ended.
        total: how many there will be; None if nobody knows.
        failed: those among them that failed.
        elapsed_secs: since it began.
        means: running mean of each metric, by its name.
    """

    done: int
    total: int | None
    failed: int
    elapsed_secs: float
    means: dict[str, float]


class _RowRun(Work):
    """One task, in a process of its own, run again after failures."""

    def __init__(self, task: Task, evaluation: Evaluation) -> None:
        self._task = task
        self._evaluation = evaluation
        self._live = LiveRun("evaluation")

    def run(self) -> float | None:
        """See :class:`Work`."""
        task = self._task
        assert task.request is not None  # noqa: S101 - others are not scheduled
        self._live = LiveRun(task.request.source_name)
        result = self._evaluation.run_row(task.request, self._live)
        return self._evaluation.ended(task, result)

    def stop(self) -> None:
        """See :class:`Work`."""
        self._live.stop()


class Evaluation:
    """One evaluation.

    Args:
        run_row: runs one request.
        tasks: what is to be run, lazily.
        total: how many tasks there will be; None if nobody knows.
        settings: of the evaluation.
        jobs: how many run at once.
        checkpoint: takes what is done, and has what was done before; None for none. It is closed at the end.
    """

    def __init__(
        self,
        run_row: RunRow,
        tasks: Iterator[Task],
        total: int | None,
        settings: EvaluationSettings,
        jobs: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.run_row = run_row
        self._tasks = tasks
        self._total = total
        self._settings = settings
        self._checkpoint = checkpoint
        self._most_ahead = jobs * AHEAD_OF_JOBS
        self._pace = Pace(settings.rate_per_sec)
        self._scheduler = Scheduler(jobs, self._on_fault)
        self._begun_at = time.monotonic()
        self._begun = 0
        self._done: dict[int, RowResult] = {}  # by the number of its task, until it is taken
        self._ended = 0
        self._failed = 0
        self._stopped = ""
        self._is_stopped = False
        self._fault: BaseException | None = None
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down

    # What the caller's thread does.

    def result(self, progress: OnProgress | None = None) -> EvaluationResult:
        """Run all rows.

        Raises:
            EvaluationInterrupted: this thread was interrupted; what was done is in it.
        """
        try:
            for task in self._read():
                self._begin(task)
                self._wait(lambda: self._begun - self._ended < self._most_ahead, progress)
            self._wait(lambda: self._begun == self._ended, progress)
        except KeyboardInterrupt:
            self._close(INTERRUPTED)
            raise EvaluationInterrupted(self._result()) from None
        finally:
            self._close("")
        return self._result()

    def in_order(self) -> Iterator[RowResult]:
        """The results in the order of the rows, as they come; only so many rows are read ahead."""
        taken = 0
        try:
            for task in self._read():
                self._begin(task)
                while self._begun - taken >= self._most_ahead and not self._is_stopped:
                    yield self._take(taken)
                    taken += 1
            while taken < self._begun and not self._is_stopped:
                yield self._take(taken)
                taken += 1
        finally:
            self._close("")

    def _read(self) -> Iterator[Task]:
        """The tasks, until the evaluation is stopped or the rows end."""
        while not self._is_stopped:
            try:
                task = next(self._tasks, None)
            except Exception as problem:  # noqa: BLE001 - of the user's iterator
                self._stopped = f"The rows ended with {type(problem).__name__}: {problem}"
                return
            if task is None:
                return
            yield task

    def _begin(self, task: Task) -> None:
        self._begun += 1
        if task.request is None:
            self._finish(task, RunResult(error=task.problem))
        elif (row := self._resumed(task)) is not None:
            self._keep(task, row)
        else:
            self._scheduler.add(_RowRun(task, self), self._pace.next())

    def _resumed(self, task: Task) -> RowResult | None:
        """The result that a checkpoint has of a task."""
        if self._checkpoint is None:
            return None
        row = self._checkpoint.take(task.key, task.repetition, task.content)
        return row and replace(row, index=task.index, row=task.row, cluster=task.cluster)

    def _wait(self, is_true: Callable[[], bool], progress: OnProgress | None) -> None:
        with self._changed:
            while not (is_true() or self._is_stopped):
                self._changed.wait(None if progress is None else PROGRESS_SECS)
                if progress is not None:
                    progress(self._progress())
            if self._fault is not None:
                raise self._fault

    def _take(self, number: int) -> RowResult:
        self._wait(lambda: number in self._done, None)
        return self._done.pop(number)

    def _progress(self) -> Progress:
        return Progress(self._ended, self._total, self._failed, time.monotonic() - self._begun_at, {})

    def _result(self) -> EvaluationResult:
        rows = tuple(self._done[number] for number in sorted(self._done))
        not_run = None if self._total is None else self._total - len(rows)
        notes: tuple[str, ...] = ()
        if self._checkpoint is not None:
            notes = self._checkpoint.notes(len(rows), is_complete=not self._stopped)
        return EvaluationResult(rows, not_run, self._stopped, self._settings.repeat, notes)

    def _close(self, reason: str) -> None:
        """Stop, and wait until nothing runs."""
        self.stop(reason)
        try:
            self._scheduler.close()
        finally:
            if self._checkpoint is not None:
                self._checkpoint.close()

    # What any thread may do.

    def stop(self, reason: str) -> None:
        """Begin no further row, and kill what runs. Does not wait."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._is_stopped = True
            self._changed.notify_all()
        self._scheduler.stop()

    def ended(self, task: Task, result: RunResult) -> float | None:
        """A run of a task has ended; when to run it again, None for never."""
        if self._is_stopped and not result.ok:  # it was killed: it counts as not run
            return None
        self._finish(task, result)
        return None

    def _finish(self, task: Task, result: RunResult) -> None:
        row = row_result(
            result,
            index=task.index,
            key=task.key,
            row=task.row,
            repetition=task.repetition,
            cluster=task.cluster,
            failed_attempts=task.failed_attempts,
        )
        problem = ""
        if self._checkpoint is not None:
            try:
                self._checkpoint.append(row, task.key, task.content)
            except CheckpointError as error:
                problem = str(error)
        self._keep(task, row)
        if problem:
            self.stop(problem)

    def _keep(self, task: Task, row: RowResult) -> None:
        with self._changed:
            self._done[task.number] = row
            self._ended += 1
            self._failed += row.error is not None
            self._changed.notify_all()

    def _on_fault(self, problem: BaseException) -> None:
        """A fault of ours, which would otherwise be waited for for ever."""
        with self._changed:
            self._fault = problem
        self.stop("")


def evaluation_of(
    prepare: Prepares,
    run_row: RunRow,
    code: str | os.PathLike[str],
    rows: object,
    env_vars: Variables,
    settings: EvaluationSettings,
    jobs: int,
) -> Evaluation:
    """An evaluation that is about to begin.

    Raises:
        InvalidRequestError: it cannot be run as given.
    """
    maker = TaskMaker(prepare, code, env_vars, settings)
    source = row_source(rows)
    taken, count = source.rows, source.count
    if settings.limit is not None:
        taken = islice(taken, settings.limit)
        count = None if count is None else min(count, settings.limit)
    total = None if count is None else count * settings.repeat
    checkpoint = None
    if settings.checkpoint is not None:
        session = Session(maker.code_digest, count, settings.repeat)
        checkpoint = Checkpoint(settings.checkpoint, settings.checkpoint_mode, session)
    return Evaluation(run_row, maker.tasks(RowSource(taken, count)), total, settings, jobs, checkpoint)
