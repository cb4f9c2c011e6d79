"""Run one request, from its launch to its result."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.launch.base import StoppedError
from isolated_magic.launch.resources import NO_MEMORY, OutOfMemoryKills, confine, launch_error
from isolated_magic.models import ErrorKind, RunError, RunResult, Timings
from isolated_magic.redaction.redactor import redactor_for
from isolated_magic.supervisor.result import build_result
from isolated_magic.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.launch.base import Child, Launcher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.request import RunRequest
    from isolated_magic.supervisor.displays import OnDisplay
    from isolated_magic.supervisor.output import OnOutput
    from isolated_magic.supervisor.supervisor import ExitReport


_out_of_memory_kills = OutOfMemoryKills()
note_out_of_memory_kills = _out_of_memory_kills.note


class Watchers(NamedTuple):
    """Who is told what a run shows, while it runs; see :meth:`Executor.run`."""

    on_output: OnOutput | None = None
    on_display: OnDisplay | None = None


NOBODY = Watchers()


def run_child(launcher: Launcher, request: RunRequest, watchers: Watchers, live: LiveRun) -> RunResult:
    """Run one request in a child of the launcher's.

    Raises:
        KeyboardInterrupt: this thread was interrupted; the run is gone by then.
    """
    _out_of_memory_kills.note()
    try:
        confined, group = confine(request)
        try:
            child, report = _launch_and_supervise(launcher, confined, watchers, live)
            if child.launch in {"forked", "reused"} and _never_started(report):
                again = replace(confined, fresh=True)
                child, report = _launch_and_supervise(launcher, again, watchers, live)
            if group is not None and group.folders:
                report = replace(
                    report,
                    memory_exceeded=group.exceeded("memory_bytes"),
                    processes_exceeded=group.exceeded("processes"),
                    peak_memory_bytes=group.peak_memory_bytes(),
                )
        finally:
            if group is not None:
                group.close()
        _report_back(launcher, child, request, report)
        return _result(child, report, request, live.begun_at)
    except (LaunchError, MemoryError) as problem:
        failed = failed_run(problem)
        if isinstance(problem, StoppedError) and live.is_interrupted:
            failed = RunResult(error=RunError.from_text(ErrorKind.INTERRUPTED, str(problem)))
        return replace(failed, timings=Timings(execution_ms=(time.monotonic() - live.begun_at) * 1000))


def failed_run(problem: InvalidRequestError | LaunchError | MemoryError) -> RunResult:
    """The result of a run that had no process."""
    if isinstance(problem, MemoryError):
        return RunResult(error=RunError.from_text(ErrorKind.LAUNCH, f"The run was given up: {NO_MEMORY}."))
    if isinstance(problem, InvalidRequestError):
        return RunResult(error=RunError.from_text(ErrorKind.INVALID_REQUEST, str(problem)))
    kind = ErrorKind.KILLED if isinstance(problem, StoppedError) else ErrorKind.LAUNCH
    return RunResult(error=RunError.from_text(kind, str(problem)))


def _launch_and_supervise(
    launcher: Launcher, request: RunRequest, watchers: Watchers, live: LiveRun
) -> tuple[Child, ExitReport]:
    try:
        child, messages = launcher.launch(request, live.attach)
    except OSError as problem:
        raise launch_error(problem) from problem
    said: Messages | None = None
    try:
        live.attach(child.handle)
        deadline = (child.handed_over_at or live.begun_at) + request.timeout_secs
        redactor = redactor_for(request.secrets)
        output_bytes = request.limits.output_bytes
        on_output, on_display = watchers
        report = Supervisor(
            child, messages, deadline, on_output, live.created, output_bytes, redactor, on_display
        ).run()
        said = report.messages if report.can_go_on else None
        if child.distrust is not None and _is_at_its_end(report):
            child.distrust()
        return child, report
    finally:
        live.detach()
        child.end(said)


def _is_at_its_end(report: ExitReport) -> bool:
    """Whether a fork server no longer does its work, although its process may still be there for a moment."""
    is_lost = report.exit_status is None and report.failure is None
    return is_lost or (report.timed_out and not report.messages.started)


def _never_started(report: ExitReport) -> bool:
    """Whether no line of the code has run: the fork server was lost, or the system refused it a fork."""
    return not (report.messages.started or report.killed or report.interrupted or report.timed_out)


def _report_back(launcher: Launcher, child: Child, request: RunRequest, report: ExitReport) -> None:
    """Tell the launcher what helps it with later runs."""
    if child.report_pages is not None:
        child.report_pages(report.messages.pages)
    learn_from(launcher, request, report)


def learn_from(launcher: Launcher, request: RunRequest, report: ExitReport) -> None:
    """Tell the launcher what a run has imported."""
    imported = report.messages.imported
    if imported is not None and imported.installed:
        launcher.learn(request, imported.installed, imported.files)


def _result(child: Child, report: ExitReport, request: RunRequest, called_at: float) -> RunResult:
    report, request = explained(report, request)
    creation_ms = max(0.0, (report.created_at or called_at) - called_at) * 1000
    timings = Timings(creation_ms, (time.monotonic() - called_at) * 1000)
    return build_result(report, request, timings, child.launch_for(report.messages))


def explained(report: ExitReport, request: RunRequest) -> tuple[ExitReport, RunRequest]:
    """Both with what only the system can say about the end of a process."""
    container = request.container
    if report.memory_exceeded and container is not None:  # name the limit that it exceeded, if it set none itself
        memory_bytes = request.limits.memory_bytes or container.memory_bytes
        request = replace(request, limits=replace(request.limits, memory_bytes=memory_bytes))
    if report.exit_status == -signal.SIGKILL and container is None:
        report = replace(report, out_of_memory=_out_of_memory_kills.came())
    return report, request
