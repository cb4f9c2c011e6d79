"""What a run came to: from how its child ended to a RunResult."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from isolated_magic.limits import breach_text, size_text
from isolated_magic.models import ErrorKind, RunError, RunResult, Timings, scores_of
from isolated_magic.text import printable

if TYPE_CHECKING:
    from isolated_magic.models import JsonObject, RunRequest
    from isolated_magic.supervise import Ending

LONGEST_QUOTE = 200  # characters of what the code printed that an error repeats

WHAT_WOULD_COUNT = (
    "A run's result is a JSON object printed as the last line, a score or a number as the last expression, "
    "or a BaseMetric subclass defined in the code."
)


def judge(ending: Ending, request: RunRequest, timings: Timings) -> RunResult:
    """The result of a run.

    Args:
        ending: how its child ended.
        request: what was asked for.
        timings: how long it took.
    """
    error = _breached_limit(ending, request) or _error_of(ending, request)
    if error is not None:  # a lone surrogate in it could be neither shown nor saved
        error = RunError(error.kind, printable(error.text), printable(error.summary))
    payload = None if error else _payload_of(ending)
    return RunResult(
        payload=payload,
        scores=scores_of(payload) if payload else (),
        stdout=ending.stdout,
        stderr=ending.stderr,
        error=error,
        exit_status=ending.exit_status,
        pid=ending.pid,
        timings=timings,
    )


def _payload_of(ending: Ending) -> JsonObject | None:
    if ending.printed is not None:
        return ending.printed
    result = (ending.outcome or {}).get("result")
    return result if isinstance(result, dict) else None


def _error_of(ending: Ending, request: RunRequest) -> RunError | None:
    """Why there is no result; the first cause that applies."""
    outcome = ending.outcome or {}
    if ending.failure is not None:
        return RunError.of(ErrorKind.LAUNCH, f"The run could not be started: {ending.failure}.")
    if ending.not_started is not None:
        return _not_started(ending.not_started, request)
    stopped = ending.exit_status != 0  # else it ended by itself, just before it was to be killed
    if ending.interrupted and stopped:
        return RunError.of(ErrorKind.INTERRUPTED, "The run was stopped before it ended.")
    raised = outcome.get("error")
    if isinstance(raised, dict):
        return RunError(ErrorKind.USER_CODE, str(raised.get("text")), str(raised.get("summary")))
    if ending.timed_out and stopped:
        seconds = f"{request.timeout_secs:g}"
        return RunError.of(ErrorKind.TIMEOUT, f"Execution timed out after {seconds} seconds")
    if ending.killed and stopped:
        return RunError.of(ErrorKind.KILLED, "The run was killed before it ended.")
    if ending.exit_status is None:
        return RunError.of(ErrorKind.LAUNCH, "The run was lost: the process that keeps runs was killed.")
    if not ending.started:
        return RunError.of(ErrorKind.LAUNCH, _interpreter_failed(ending))
    if ending.exit_status < 0:
        return RunError.of(ErrorKind.DIED, _death_of(ending, request))
    if ending.exit_status > 0:
        return RunError.of(ErrorKind.NO_RESULT, _left_with(ending, outcome))
    if _payload_of(ending) is None:
        return RunError.of(ErrorKind.NO_RESULT, _no_result(ending, outcome))
    return None


def _breached_limit(ending: Ending, request: RunRequest) -> RunError | None:
    """The limit that ended the run, when one did."""
    limits, status = request.limits, ending.exit_status
    if ending.interrupted or status == 0:
        return None
    raised = (ending.outcome or {}).get("error")
    if isinstance(raised, dict):
        name = "memory_bytes" if ending.memory_exceeded else raised.get("limit")
        if not isinstance(name, str) or name not in limits.of_resources():
            return None
        summary = f"{breach_text(limits, name)} ({raised.get('summary')})"
        return RunError(ErrorKind.LIMIT, f"{summary}\n\n{raised.get('text')}", summary)
    if ending.timed_out or ending.killed:
        return None
    used_up = limits.cpu_secs is not None and status == -signal.SIGKILL and ending.cpu_secs >= limits.cpu_secs
    if limits.cpu_secs is not None and (used_up or status == -signal.SIGXCPU):
        return RunError.of(ErrorKind.LIMIT, f"{breach_text(limits, 'cpu_secs')}: the system ended the run.")
    if limits.memory_bytes is not None and (ending.memory_exceeded or ending.out_of_memory):
        text = f"{breach_text(limits, 'memory_bytes')}: the system's OOM killer ended the run."
        return RunError.of(ErrorKind.LIMIT, text)
    return None


def _not_started(reported: JsonObject, request: RunRequest) -> RunError:
    if reported.get("errno") == "E2BIG":
        total = sum(len(name) + len(value) + 2 for name, value in request.environment.items())
        largest = max(request.environment, key=lambda name: len(request.environment[name]))
        return RunError.of(
            ErrorKind.INVALID_REQUEST,
            f"The environment is too large for the system: {total:,} bytes in all, most of them in "
            f"{largest.decode(errors='replace')}. Pass large values as data instead.",
        )
    where = f"{reported.get('path')}: " if reported.get("path") else ""
    return RunError.of(ErrorKind.LAUNCH, f"The run could not be started: {where}{reported.get('reason')}.")


def _interpreter_failed(ending: Ending) -> str:
    """An interpreter that ended by itself before it came to our program: a variable of its own is wrong."""
    lines = [line.strip() for line in ending.stderr.splitlines() if line.strip()]
    fatal = next((line for line in lines if line.startswith("Fatal Python error")), lines[-1] if lines else "")
    how = (
        f"exit status {ending.exit_status}"
        if (ending.exit_status or 0) >= 0
        else _death_by(-(ending.exit_status or 0))
    )
    return f"The interpreter could not start ({how})" + (f": {fatal[:LONGEST_QUOTE]}" if fatal else ".")


def _death_of(ending: Ending, request: RunRequest) -> str:
    if ending.out_of_memory:
        return "The process was killed by the system's OOM killer: there was not enough memory (SIGKILL)."
    memory = request.limits.memory_bytes
    held = f" Its memory limit was {size_text(memory)}." if memory is not None else ""
    return _death_by(-(ending.exit_status or 0)) + held


def _death_by(number: int) -> str:
    try:
        name, meaning = signal.Signals(number).name, signal.strsignal(number)
    except ValueError:  # a real-time signal
        name, meaning = f"signal {number}", None
    cause = {
        "SIGKILL": "killed from outside, or by the system for want of memory",
        "SIGSEGV": "a segmentation fault: a crash in native code, or a stack that ran out",
    }.get(name, meaning)
    return f"The process died by signal {number} ({name})" + (f": {cause}." if cause else ".")


def _left_with(ending: Ending, outcome: JsonObject) -> str:
    message = outcome.get("exit_message")
    because = f": {message}" if message is not None else ""
    return f"The process ended with exit status {ending.exit_status}{because}"


def _no_result(ending: Ending, outcome: JsonObject) -> str:
    found = outcome.get("found") or "the process ended before its code did"
    last_line = next((line.strip() for line in reversed(ending.stdout.split("\n")) if line.strip()), "")
    if last_line and "nothing was printed" in str(found):
        quote = last_line if len(last_line) <= LONGEST_QUOTE else last_line[:LONGEST_QUOTE] + "..."
        found = f"the last line printed is {quote!r}, which is no JSON object"
    return f"Invalid JSON response from subprocess: {found}.\n{WHAT_WOULD_COUNT}"
