"""One request, from its launch to its result."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import StoppedError
from isolated_magic.launch.limits import confined
from isolated_magic.launch.resources import NO_MEMORY, OutOfMemoryKills, launch_error
from isolated_magic.models import ErrorKind, RunError, RunResult, Timings
from isolated_magic.redaction.redactor import redactor_for
from isolated_magic.supervisor.result import judge
from isolated_magic.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.launch.base import Child, Launcher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.request import Elsewhere, RunRequest
    from isolated_magic.supervisor.output import OnOutput
    from isolated_magic.supervisor.supervisor import Ending


_out_of_memory_kills = OutOfMemoryKills()


def conduct(
    launcher: Launcher, request: RunRequest, on_output: OnOutput | None, live: LiveRun, called_at: float
) -> RunResult:
    """Run one request.

    Args:
        launcher: how a child comes to life.
        request: what to run.
        on_output: called with what the code prints, as it comes.
        live: the run, as other threads see it.
        called_at: when it was asked for, by time.monotonic().

    Raises:
        KeyboardInterrupt: this thread was interrupted; the run is gone by then.
    """
    _out_of_memory_kills.note()
    try:
        return _conduct(launcher, request, on_output, live, called_at)
    except StoppedError as problem:
        kind = ErrorKind.INTERRUPTED if live.is_interrupted else ErrorKind.KILLED
        return RunResult(error=RunError.of(kind, str(problem)))
    except LaunchError as problem:
        return RunResult(error=RunError.of(ErrorKind.LAUNCH, str(problem)))
    except MemoryError:
        return RunResult(error=RunError.of(ErrorKind.LAUNCH, f"The run was given up: {NO_MEMORY}."))


def _conduct(
    launcher: Launcher, request: RunRequest, on_output: OnOutput | None, live: LiveRun, called_at: float
) -> RunResult:
    with confined(request) as (confined_request, group):
        child, ending = _attempt(launcher, confined_request, on_output, live, called_at)
        if child.launch in {"forked", "reused"} and _came_to_nothing(ending):
            again = replace(confined_request, fresh=True)
            child, ending = _attempt(launcher, again, on_output, live, called_at)
        if group.folders:
            ending = replace(
                ending,
                memory_exceeded=group.exceeded("memory_bytes"),
                processes_exceeded=group.exceeded("processes"),
                peak_memory_bytes=group.peak_memory_bytes(),
            )
    if child.report_pages is not None:
        child.report_pages(ending.said.pages)
    if child.distrust is not None and ending.timed_out and not ending.said.started:
        child.distrust()
    _learn(launcher, request, ending)
    if ending.memory_exceeded and request.elsewhere is not None:
        request = _with_memory_of(request, request.elsewhere)
    if ending.exit_status == -signal.SIGKILL and request.elsewhere is None:
        ending = replace(ending, out_of_memory=_out_of_memory_kills.came())
    creation_ms = max(0.0, (ending.created_at or called_at) - called_at) * 1000
    timings = Timings(creation_ms, (time.monotonic() - called_at) * 1000)
    return judge(ending, request, timings, child.launch_for(ending.said))


def _attempt(
    launcher: Launcher, request: RunRequest, on_output: OnOutput | None, live: LiveRun, called_at: float
) -> tuple[Child, Ending]:
    try:
        child, messages = launcher.launch(request, live.attach)
    except OSError as problem:
        raise launch_error(problem) from problem
    said: Messages | None = None
    try:
        live.attach(child.handle)
        deadline = (child.handed_over_at or called_at) + request.timeout_secs
        supervisor = Supervisor(
            child,
            messages,
            deadline,
            on_output,
            live.created,
            request.limits.output_bytes,
            redactor_for(request.secrets),
        )
        ending = supervisor.run()
        said = ending.said if ending.can_go_on else None
        return child, ending
    finally:
        live.detach()
        child.end(said)


def _came_to_nothing(ending: Ending) -> bool:
    """Whether no line of the code has run: the template was lost, or the system refused it a fork."""
    return not (ending.said.started or ending.killed or ending.interrupted or ending.timed_out)


def _with_memory_of(request: RunRequest, elsewhere: Elsewhere) -> RunRequest:
    """The request with the limit that it exceeded, when it has not set one itself."""
    memory_bytes = request.limits.memory_bytes or elsewhere.memory_bytes
    return replace(request, limits=replace(request.limits, memory_bytes=memory_bytes))


def _learn(launcher: Launcher, request: RunRequest, ending: Ending) -> None:
    """Hand on what the child reports to have imported."""
    imported = ending.said.imported
    if imported is not None and imported.installed:
        launcher.learn(request, imported.installed, imported.files)
