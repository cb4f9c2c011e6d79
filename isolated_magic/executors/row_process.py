"""One process for many rows, from its launch to its end."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import LaunchError
from isolated_magic.executors.lifecycle import LiveRun
from isolated_magic.executors.runner import explained, learn_from, note_out_of_memory_kills
from isolated_magic.launch.resources import confine, launch_error
from isolated_magic.models import Timings
from isolated_magic.supervisor.result import build_result, plain_result
from isolated_magic.supervisor.row_stream import RowStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.child.limits import ControlGroup
    from isolated_magic.launch.base import Child, Launcher
    from isolated_magic.models import RunResult
    from isolated_magic.request import RunRequest
    from isolated_magic.supervisor.row_stream import Row
    from isolated_magic.supervisor.supervisor import ExitReport


class RowHost(NamedTuple):
    """What an executor has for processes of rows.

    Args:
        launcher: gives what starts one for such a row.
        begin: a process is about to be started.
        end: nothing of it is left.
        record: takes the result of each row.
    """

    launcher: Callable[[RunRequest], Launcher]
    begin: Callable[[LiveRun], object]
    end: Callable[[LiveRun], object]
    record: Callable[[RunResult], object]


class RowProcess:
    """A process that runs rows, or waits for some. It is killed through its :class:`LiveRun` like that of a run.

    Args:
        host: starts it.
        request: of any of its rows; they differ in nothing but their data.
        ended: called with the result of each row, in their order.
        most_ahead: rows to give it before they have ended.

    Raises:
        LaunchError: it could not be started, or was stopped before.
        MemoryError: likewise.
    """

    def __init__(
        self, host: RowHost, request: RunRequest, ended: Callable[[RunResult], object], most_ahead: int
    ) -> None:
        self.live = LiveRun(request.source_name, is_of_evaluation=True)
        self._host = host
        self._launcher = host.launcher(request)
        self._request = request
        self._ended = ended
        self._most_ahead = most_ahead
        self._group: ControlGroup | None = None
        self._refusals = 0  # of processes by the group, in earlier rows
        self._child: Child | None = None
        self._is_waiting = False  # no thread supervises it
        self._is_closed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        note_out_of_memory_kills()
        host.begin(self.live)
        try:
            self._start()
        except BaseException:
            self._close()
            raise

    def _start(self) -> None:
        confined, self._group = confine(self._request)
        try:
            child, unsent = self._launcher.start_rows(confined, self.live.attach)
        except OSError as problem:
            raise launch_error(problem) from problem
        self._child = child
        begun_at = child.handed_over_at or self.live.begun_at
        created = self.live.created
        self._stream = RowStream(child, unsent, confined, begun_at, created, self._on_row, self._most_ahead)
        self.live.attach(self)

    @property
    def is_to_be_cold(self) -> bool:
        """Whether no row has begun, as its fork server was lost; in a new interpreter it would."""
        was_forked = self._child is not None and self._child.launch == "forked"
        return was_forked and not self._request.fresh and self._stream.never_started

    def run(self, next_request: Callable[[], RunRequest | None]) -> bool:
        """Run rows until there is none now.

        Args:
            next_request: gives the next one.

        Returns:
            Whether the process waits for further ones. If not, it has been closed; rows that were given and have
            no result never began.
        """
        with self._lock:
            if self._is_closed:
                return False
            self._is_waiting = False
        goes_on = False
        try:
            self.live.begin()
            note_out_of_memory_kills()
            goes_on = self._stream.lives() and self._stream.run(next_request)
            if not goes_on and self._stream.never_started and not self.is_to_be_cold:
                self._stream.tell_lost()
        finally:
            with self._lock:
                self._is_waiting = goes_on and not self._is_stopped
            if not self._is_waiting:
                self._close()
        return self._is_waiting

    @property
    def _is_stopped(self) -> bool:
        return self._child is not None and (self._child.handle.killed or self._child.handle.interrupted)

    def _on_row(self, row: Row) -> None:
        is_plain = row.is_plain and not row.request.secrets
        result = plain_result(row.report, self._timings(row)) if is_plain else None
        if result is None:
            result = self._result(row, row.report, row.request)
        self._host.record(result)
        self._ended(result)

    def _result(self, row: Row, report: ExitReport, request: RunRequest) -> RunResult:
        child, group = self._child, self._group
        assert child is not None  # noqa: S101 - it has run a row
        if group is not None and group.folders:
            refusals = group.events("processes")
            report = replace(
                report,
                memory_exceeded=not row.has_process and group.events("memory_bytes") > 0,
                processes_exceeded=refusals > self._refusals,
                peak_memory_bytes=None if row.has_process else group.peak_memory_bytes(),
            )
            self._refusals = refusals
        learn_from(self._launcher, request, report)
        if not row.has_process and child.distrust is not None and report.exit_status is None:
            child.distrust()
        report, request = explained(report, request)
        launch = child.launch_for(report.messages) if row.is_first else "reused"
        return build_result(report, request, self._timings(row), launch)

    def _timings(self, row: Row) -> Timings:
        created_at = row.report.created_at
        if not row.is_first or created_at is None:
            return Timings(0.0, row.ms)
        creation_ms = max(0.0, created_at - self.live.begun_at) * 1000
        return Timings(creation_ms, creation_ms + row.ms if row.has_process else row.ms)

    # From any thread.

    def kill(self) -> None:
        """See :class:`RunControl`. A process that waits is gone when this returns."""
        with self._lock:
            if self._is_closed or self._child is None:
                return
            self._child.handle.kill()
            if self._is_waiting:
                self._is_waiting = False  # a signal handler may come here, too, between any two of these steps
                if not self._is_closed:
                    self._stream.kill_and_wait()
                    self._close()

    def interrupt(self) -> None:
        """See :class:`RunControl`."""
        with self._lock:
            if self._is_waiting:
                self.kill()
            elif self._child is not None and not self._is_closed:
                self._child.handle.interrupt()

    def hang_up(self) -> None:
        """Have a process that waits end in order; :meth:`end` waits for that."""
        with self._lock:
            if self._is_waiting:
                self._stream.hang_up()

    def end(self, deadline: float) -> None:
        """End a process that waits: exit functions are called, threads are waited for, until the deadline."""
        with self._lock:
            if self._is_closed or not self._is_waiting:
                return
            self._stream.hang_up()
        try:
            self._stream.wait_for_end(deadline)
        finally:
            self._close()

    def _close(self) -> None:
        """Close it, once. The lock of ``live`` comes before our own: who holds ours here holds both."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed, self._is_waiting = True, False
        self.live.detach()
        if self._child is not None:
            self._child.close()
        if self._group is not None:
            self._group.close()
        self._host.end(self.live)


def start_row_process(
    host: RowHost, request: RunRequest, ended: Callable[[RunResult], object], most_ahead: int
) -> RowProcess:
    """A :class:`RowProcess`.

    Raises:
        LaunchError: see there.
    """
    try:
        return RowProcess(host, request, ended, most_ahead)
    except MemoryError:
        raise LaunchError("The process of the rows was given up: there is no memory left.") from None
