"""An evaluation: reads rows in the caller's thread, has them run in others, and hands their results back.

What is done is kept where it is done, so that an interrupt, which may come between any two steps of the caller's
thread, loses no row.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import EvaluationStoppedError, LaunchError
from isolated_magic.evaluation.checkpoint import Checkpoint, CheckpointError, Session
from isolated_magic.evaluation.progress import INTERRUPTED, Tally
from isolated_magic.evaluation.result import EvaluationInterrupted, EvaluationResult
from isolated_magic.evaluation.row_result import Attempt, row_result, timings_of
from isolated_magic.evaluation.rows import row_source, taken
from isolated_magic.executors.dispatch import Reports
from isolated_magic.executors.lifecycle import LiveEvaluation
from isolated_magic.executors.retries import Retries
from isolated_magic.executors.row_values import exception_text
from isolated_magic.executors.sigint import Noted
from isolated_magic.executors.tasks import TaskMaker
from isolated_magic.launch.base import LONGEST_WAIT_SECS
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.models import RunError, RunResult

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.executors.dispatch import Dispatch
    from isolated_magic.executors.evaluation_options import EvaluationSettings, Variables
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.executors.progress import OnProgress
    from isolated_magic.executors.tasks import Prepares, Task
    from isolated_magic.request import RunRequest

MOST_BYTES_AHEAD = 64 << 20  # of their payloads together
MOST_TO_RUN_AGAIN = 1000  # failed rows that wait to be run again, and do not count as read ahead
MOST_KEYS = 10_000  # that map() remembers
MOST_ERRORS = 100  # different ones that rows share, so that each takes its room once
SMALLEST_TOTAL = 100  # of which fail_on_error is a share, as long as nobody knows how many rows there are
TORN_DOWN = "The evaluation was stopped: all runs of its executor were."
PROGRESS_SECS = 0.2  # between two reports


class Host(NamedTuple):
    """What an evaluation uses of its executor.

    Args:
        prepare: makes a request.
        dispatch: checks that runs like this request can be run, and gives what begins to run tasks.
        begin: makes an evaluation known to those who stop all runs.
        end: it is over.
    """

    prepare: Prepares
    dispatch: Callable[[RunRequest, EvaluationSettings], Callable[[Reports], Dispatch]]
    begin: Callable[[LiveRun], object]
    end: Callable[[LiveRun], object]


class Evaluation:
    """One evaluation.

    Args:
        host: runs its rows.
        dispatch: made by the host.
        tasks: what is to be run, lazily.
        total: how many tasks there will be; None if nobody knows.
        settings: of the evaluation.
        hidden: takes the secrets out of a text.
        checkpoint: takes what is done, and has what was done before; None for none. It is closed at the end.
        live: what stops it.
    """

    def __init__(
        self,
        host: Host,
        dispatch: Callable[[Reports], Dispatch],
        tasks: Iterator[Task],
        total: int | None,
        settings: EvaluationSettings,
        hidden: Callable[[str], str],
        checkpoint: Checkpoint | None = None,
        live: LiveEvaluation | None = None,
    ) -> None:
        self.host = host
        self.live = live or LiveEvaluation("evaluation")
        self.is_stopped = False
        self._tasks = tasks
        self._total = total
        self._settings = settings
        self._hidden = hidden
        self._checkpoint = checkpoint
        self._retries = Retries(settings.retries, settings.retry_on)
        self._dispatch = dispatch(Reports(self.ended, self._on_fault, self.stop, self._gone))
        self._sigint = Noted(self._on_sigint)
        self._reported_at = -math.inf
        self._begun = 0
        self._is_read = False  # all rows are
        self._bytes_ahead = 0
        self._retrying: dict[int, tuple[Task, RunResult]] = {}  # with the last attempt, by the number of the task
        self._done: dict[int, RowResult] = {}  # by the number of its task, until it is taken
        self._errors: dict[RunError, RunError] = {}
        self._tally = Tally()
        self._stopped = ""
        self._is_interrupted = False
        self._reading_failed: Exception | None = None
        self._fault: BaseException | None = None
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down
        forget_in_forks(self)

    # What the caller's thread does.

    def result(self, progress: OnProgress | None = None) -> EvaluationResult:
        """Run all rows.

        Raises:
            EvaluationInterrupted: this thread was interrupted; what was done is in it.
        """
        with self._sigint:
            try:
                self._open()
                while not self._is_read and not self.is_stopped:
                    self._read()
                    self._wait(self._has_room, progress)
                self._wait(lambda: self._begun == self._tally.done, progress)
            except KeyboardInterrupt:
                self._on_sigint()
            finally:
                self._close()
            self._report_end(progress)
            if self._is_interrupted:
                raise EvaluationInterrupted(self._result())
            return self._result()

    def in_order(self) -> Iterator[RowResult]:
        """The results in the order of the rows, as they come; only so many rows are read ahead."""
        results = self._in_order()
        next(results)  # so that the evaluation ends with its iterator, even if no result was asked for
        return results  # type: ignore[return-value]  # all others are results

    def _in_order(self) -> Iterator[RowResult | None]:
        try:
            yield None
            given = 0
            while (row := self._next(given)) is not None:
                given = row[0] + 1
                yield row[1]
        finally:
            with Noted(self._on_sigint):
                self._close()

    def _next(self, number: int) -> tuple[int, RowResult] | None:
        """The result of this task or of the next one that has one, with its number; None if there are no more."""
        with self._sigint:
            try:
                self._open()
                is_first = True
                while not (self._is_read or self.is_stopped or (number in self._done and not is_first)):
                    if self._begun - number >= self._dispatch.most_ahead or not self._has_room():
                        break
                    self._read()
                    is_first = False
                self._wait(lambda: number in self._done or number >= self._begun, None)
            except KeyboardInterrupt:
                self._on_sigint()
            if self._is_interrupted:
                self._close()
                raise KeyboardInterrupt
            if self.is_stopped:
                self._close()
                number = min((done for done in self._done if done >= number), default=number)
            row = self._done.pop(number, None)
            if row is not None:
                return number, row
            if self._reading_failed is not None:
                raise self._reading_failed
            if self._stopped:
                raise EvaluationStoppedError(self._stopped)
            return None

    def _open(self) -> None:
        """From now on the evaluation is known to those who stop runs. Does nothing the second time."""
        if not self.live.is_known:
            self.host.begin(self.live)
            self.live.attach(self)

    def _close(self) -> None:
        """Kill what runs, and wait until nothing is left."""
        try:
            if self._begun == self._tally.done and not self.is_stopped:
                self._dispatch.finish()
            self.stop("")
            self._dispatch.close()
            for task, result in list(self._retrying.values()):  # there will be no further attempt
                task.failed_attempts = task.failed_attempts[:-1]
                self._finish(task, result)
        finally:
            if self._checkpoint is not None:
                self._checkpoint.close()

    def _read(self) -> None:
        """Read a row, and have it run as soon as it may."""
        try:
            task = self._sigint.call(next, self._tasks, None)
        except Exception as problem:  # noqa: BLE001 - of the user's iterator
            said = exception_text(problem).rstrip(".")
            self._stopped = self._stopped or self._hidden(f"The rows ended with {said}.")
            self._reading_failed = problem
            self._is_read = True
            return
        if task is None:
            self._is_read, self._total = True, self._begun
            self._check_failures()
            return
        self._begun += 1
        try:
            self._begin(task)
        except LaunchError as problem:
            self.stop(str(problem))

    def _begin(self, task: Task) -> None:
        if task.request is None:
            self._finish(task, RunResult(error=task.problem))
        elif (row := self._resumed(task)) is not None:
            self._keep(task.number, row)
        else:
            with self._changed:
                self._bytes_ahead += task.size
            self._dispatch.add(task)

    def _resumed(self, task: Task) -> RowResult | None:
        """The result that a checkpoint has of a task."""
        if self._checkpoint is None or task.digests is None:
            return None
        if (row := self._checkpoint.take(task.digests, task.repetition)) is None:
            return None
        return replace(row, index=task.index, key=task.key, row=task.row, cluster=task.cluster, is_resumed=True)

    def _has_room(self) -> bool:
        """Whether another row may be read now."""
        ahead = self._begun - self._tally.done
        waiting = min(len(self._retrying), MOST_TO_RUN_AGAIN)
        return ahead == 0 or (ahead - waiting < self._dispatch.most_ahead and self._bytes_ahead < MOST_BYTES_AHEAD)

    def _wait(self, is_true: Callable[[], bool], progress: OnProgress | None) -> None:
        while True:
            with self._changed:
                if self._fault is not None:
                    raise self._fault
                is_over = is_true() or self.is_stopped
                if not is_over:
                    self._changed.wait(LONGEST_WAIT_SECS if progress is None else PROGRESS_SECS)
            if progress is not None and time.monotonic() >= self._reported_at + PROGRESS_SECS:
                self._report(progress)
            if is_over:
                return

    def _report(self, progress: OnProgress) -> None:
        with self._changed:
            now = self._tally.progress(self._total)
        self._reported_at = time.monotonic()
        try:
            self._sigint.call(progress, now)
        except KeyboardInterrupt:
            self._reported_at = math.inf  # it is not called again: it may be what hangs
            raise

    def _report_end(self, progress: OnProgress | None) -> None:
        if self._fault is not None:
            raise self._fault
        if progress is not None and self._reported_at < math.inf:
            self._sigint.begin_anew()
            try:
                self._report(progress)
            except KeyboardInterrupt:
                self._is_interrupted, self._stopped = True, self._stopped or INTERRUPTED

    def _result(self) -> EvaluationResult:
        rows = tuple(self._done[number] for number in sorted(self._done))
        not_run = None if self._total is None else self._total - len(rows)
        notes = self._dispatch.notes
        if self._checkpoint is not None:
            notes += self._checkpoint.notes(len(rows), is_complete=not self._stopped)
        return EvaluationResult(rows, not_run, self._stopped, self._settings.repeat, notes)

    def _on_sigint(self) -> None:
        self._is_interrupted = True
        self.stop(INTERRUPTED)

    # What any thread may do.

    def stop(self, reason: str) -> None:
        """Begin no further row, and kill what runs. Does not wait."""
        with self._changed:
            if not self.is_stopped:
                self._stopped = self._stopped or reason
            self.is_stopped = True
            self._changed.notify_all()
        self._dispatch.stop()

    def kill(self) -> None:
        """See :class:`RunControl`."""
        with self._changed:
            is_complete = self._is_read and self._begun == self._tally.done
        self.stop("" if is_complete else TORN_DOWN)

    interrupt = kill

    def ended(self, task: Task, result: RunResult) -> float | None:
        """A run of a task has ended; when to run it again, None for never."""
        if self.is_stopped and not result.ok:  # it was killed: it counts as not run
            return None
        again_at = self._retries.again_at(result.error, len(task.failed_attempts))
        if again_at is None:
            self._finish(task, result)
            return None
        with self._changed:
            task.failed_attempts += (Attempt(result.error, timings_of(result)),)
            self._retrying[task.number] = task, result
            self._changed.notify_all()
        return again_at

    def _finish(self, task: Task, result: RunResult) -> None:
        """The task will not be run again."""
        if result.error is not None:
            result = replace(result, error=self._shared(result.error))
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
                self._checkpoint.append(row, task.digests)
            except CheckpointError as error:
                problem = str(error)
        with self._changed:
            self._bytes_ahead -= task.size
            self._retrying.pop(task.number, None)
        self._keep(task.number, row)
        if problem:
            self.stop(problem)

    def _keep(self, number: int, row: RowResult) -> None:
        """A row is done."""
        with self._changed:
            self._done[number] = row
            self._tally.add(row)
            self._changed.notify_all()
        if row.error is not None:
            self._check_failures()

    def _shared(self, error: RunError) -> RunError:
        """An equal error of an earlier row, if there is one."""
        with self._changed:
            if len(self._errors) < MOST_ERRORS:
                return self._errors.setdefault(error, error)
            return self._errors.get(error, error)

    def _check_failures(self) -> None:
        """Stop when too many rows have failed, as far as there are any left. Called without a lock: it kills."""
        with self._changed:
            failed, done, total = self._tally.failed, self._tally.done, self._total
            of = max(self._begun, SMALLEST_TOTAL) if total is None else total
        most = self._settings.fail_on_error
        if failed and failed >= self._settings.most_failed(of) and done != total:
            told = "1 row" if failed == 1 else f"{failed:,} rows"
            self.stop(f"The evaluation was stopped: {told} failed, and fail_on_error is {most}.")

    def _on_fault(self, problem: BaseException) -> None:
        """A fault of ours, which would otherwise be waited for for ever."""
        with self._changed:
            self._fault = self._fault or problem
        self.stop("")

    def _gone(self) -> None:
        """Nothing of it runs any more, and nothing will."""
        self.live.detach()
        self.host.end(self.live)

    def forget(self) -> None:
        """In a fork: what runs is the original's."""
        self._changed = threading.Condition(threading.RLock())
        self.is_stopped = True


def evaluation_of(
    host: Host,
    code: str | os.PathLike[str],
    rows: object,
    env_vars: Variables,
    settings: EvaluationSettings,
    *,
    is_endless: bool = False,
    live: LiveEvaluation | None = None,
) -> Evaluation:
    """An evaluation that is about to begin.

    Args:
        host: runs its rows.
        code: see :meth:`Executor.evaluate`.
        rows: likewise.
        env_vars: likewise.
        settings: likewise.
        is_endless: whether it has to do with bounded memory.
        live: what stops it, perhaps before it has begun.

    Raises:
        InvalidRequestError: it cannot be run as given.
        LaunchError: there is nothing that could run it.
    """
    is_bounded = is_endless and settings.checkpoint is None  # which remembers all keys, too
    maker = TaskMaker(host.prepare, code, env_vars, settings, MOST_KEYS if is_bounded else math.inf)
    chosen = taken(row_source(rows), settings.limit, settings.sample, settings.seed)
    total = None if chosen.count is None else chosen.count * settings.repeat
    dispatch = host.dispatch(maker.request, settings)
    checkpoint = None
    if settings.checkpoint is not None:
        session = Session(maker.code_digest, chosen.count, settings.repeat)
        checkpoint = Checkpoint(settings.checkpoint, settings.checkpoint_mode, session)
    return Evaluation(host, dispatch, maker.tasks(chosen.rows), total, settings, maker.hidden, checkpoint, live)


def not_evaluated(problem: LaunchError) -> EvaluationResult:
    """The result of an evaluation that had not even a thread."""
    return EvaluationResult(not_run=None, stopped=str(problem))
