"""Build a RunResult from a finished child process."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.child.error_report import LONGEST_CODE_LINE
from isolated_magic.child.result import LEFT_OUT, LONGEST_LINE, LONGEST_VALUE, elide_middle
from isolated_magic.child.wire import LOST_OUTPUT_STATUS
from isolated_magic.launch.resources import explain_errno, memory_limit_note
from isolated_magic.limits import format_size, limit_exceeded_text
from isolated_magic.models import ErrorKind, Found, RunError, RunResult, Timings, failures_of, parse_scores
from isolated_magic.payload.encode import hint_about
from isolated_magic.redaction.redactor import MASK, redactor_for
from isolated_magic.sanitize import printable, without_addresses, without_ansi
from isolated_magic.strict_json import LONGEST_QUOTE, quoted
from isolated_magic.supervisor import timeout_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.launch.protocol import NotStarted
    from isolated_magic.models import LaunchMethod, Score
    from isolated_magic.redaction.redactor import Redactor
    from isolated_magic.request import RunRequest
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.supervisor import ExitReport


HAD_FINISHED = " (the code had finished; a thread, an exit function or a finalizer of its had not)"
CUT_OFF = "A finalizer (such as __del__) took too long after the code had finished: it was cut off."
WHAT_WOULD_COUNT = (
    "A run's result is a JSON object printed as the last line; a score, a number, a dict of numbers by name, or a "
    "function or metric to call as the last expression; or a metric class that the code defines."
)
WHAT_A_PROGRAM_PRINTS = "The result of a program is a JSON object on one line, printed to stdout as the last line."
HIDES_TOO_DEEPLY = (
    "Invalid JSON response from subprocess: the result holds a secret and is nested too deeply to hide it.\n"
    f"{WHAT_WOULD_COUNT}"
)


_LEFT_OUT = re.compile(rf"( \.\.\. \[[\d,]+ {LEFT_OUT}\] \.\.\. )")
_PLACE = re.compile(r" \(line \d+\)\Z")


def build_result(
    report: ExitReport, request: RunRequest, timings: Timings, launch: LaunchMethod | None = None
) -> RunResult:
    """The result of a run whose child ended as reported."""
    redactor = redactor_for(request.secrets)
    error = _breached_limit(report, request) or _error_of(report, request)
    payload = None if error else _payload_of(report)
    if redactor is not None and payload is not None:
        try:
            payload = redactor.object(payload)
        except RecursionError:
            error, payload = RunError.from_text(ErrorKind.NO_RESULT, HIDES_TOO_DEEPLY), None
    is_printed = payload is not None and report.printed is not None  # then the notes are of something else
    notes = report.messages.outcome.notes if report.messages.outcome is not None and not is_printed else ()
    scores = parse_scores(payload) if payload else ()
    failed = [score for score in scores if score.scoring_failed]
    if failed and len(failed) == len(scores):
        error, payload = _no_score_error(failed), None
    elif failed:
        usable = len(scores) - len(failed)
        notes = (*notes, f"{usable:,} of {len(scores):,} scores could be computed; failed: {failures_of(failed)}")
    if error is not None:
        error = error if error.hint else replace(error, hint=hint_about(error, request.arrivals))
        error = _presentable(error, redactor)
    result = RunResult(
        payload=payload,
        scores=scores,
        stdout=report.stdout,
        stderr=report.stderr,
        error=error,
        exit_status=report.exit_status,
        pid=report.pid,
        launch=launch,
        timings=timings,
        peak_memory_bytes=report.peak_memory_bytes,
        displays=report.displays,
        notes=tuple([_note(note, redactor) for note in (*notes, *_exit_notes(report, request))]),
    )
    if request.interpreter is not None:
        result = replace(result, packages=request.interpreter.told)
    return result.with_notes((), strict=True) if request.strict else result


def plain_result(report: ExitReport, timings: Timings) -> RunResult | None:
    """The result of a row that has one, printed nothing, and holds no secret; None if there is more to say."""
    outcome = report.messages.outcome
    payload = outcome.result if outcome is not None else None
    scores = parse_scores(payload) if payload is not None else ()
    if report.exit_status != 0 or not scores or any(score.scoring_failed for score in scores):
        return None
    return RunResult(payload, scores, exit_status=0, pid=report.pid, launch="reused", timings=timings)


def _no_score_error(failed: Sequence[Score]) -> RunError:
    """The error for scores of which none can be used: a 400, as from the backend of Opik."""
    if len(failed) == 1:
        return RunError.from_text(ErrorKind.NO_SCORE, f"The score could not be computed: {failures_of(failed)}.")
    what = f"None of the {len(failed):,} scores could be computed"
    summary = f"{what}: {failures_of(failed)}."
    lines = (f"  {failures_of([score])}" for score in failed)
    return RunError(ErrorKind.NO_SCORE, "\n".join([f"{what}:", *lines]), summary)


def _note(text: str, redactor: Redactor | None) -> str:
    """The note on one line, without secrets and without what could be neither shown nor saved."""
    shown = text if redactor is None else _hidden(text, redactor)
    return elide_middle(" ".join(printable(without_ansi(shown)).split()), LONGEST_LINE)


def _presentable(error: RunError, redactor: Redactor | None) -> RunError:
    """The error without secrets and without what could be neither shown nor saved, not too long."""
    if redactor is not None:
        hidden = error.map_texts(lambda text: _hidden(text, redactor))
        error = replace(
            hidden,
            summary=_hidden_summary(error.summary, redactor),
            excerpt=_hidden_excerpt(error.excerpt, redactor),
        )
    error = error.map_texts(lambda text: elide_middle(printable(text)))
    value = elide_middle(without_addresses(error.found_repr), LONGEST_VALUE)
    return replace(error, summary=elide_middle(error.summary, LONGEST_LINE), found_repr=value)


def _hidden(text: str, redactor: Redactor) -> str:
    """The text without secrets, nor halves of them beside what the child left out."""
    parts = _LEFT_OUT.split(text)
    last = len(parts) - 1
    return "".join(
        part if index % 2 else redactor.cut_text(part, at_start=index > 0, at_end=index < last)
        for index, part in enumerate(parts)
    )


def _hidden_summary(text: str, redactor: Redactor) -> str:
    """The first line of a message: a secret of several lines may begin in it."""
    found = _PLACE.search(text)
    message, place = (text[: found.start()], found[0]) if found is not None else (text, "")
    following = f"{message}\n"
    certain = redactor.undecided_from(following)
    goes_on = certain < len(message)
    return _hidden(message[:certain] if goes_on else message, redactor) + (MASK if goes_on else "") + place


def _hidden_excerpt(text: str, redactor: Redactor) -> str:
    lines = text.split("\n")
    return "\n".join(redactor.cut_text(line, at_end=len(line) >= LONGEST_CODE_LINE) for line in lines)


def _payload_of(report: ExitReport) -> JsonObject | None:
    printed, outcome = report.printed, report.messages.outcome
    if printed is not None and printed.counts:
        return printed.value
    return outcome.result if outcome is not None else None


def _error_of(report: ExitReport, request: RunRequest) -> RunError | None:
    """Why there is no result; the first cause that applies."""
    messages = report.messages
    if report.failure is not None:
        return RunError.from_text(ErrorKind.LAUNCH, f"The run could not be started: {report.failure}.")
    if messages.not_started is not None:
        return _not_started(messages.not_started, request)
    stopped = report.exit_status != 0  # else it ended by itself, just before it was to be killed
    if report.interrupted and stopped:
        return RunError.from_text(ErrorKind.INTERRUPTED, "The run was stopped before it ended.")
    if messages.outcome is not None and messages.outcome.error is not None:
        raised = messages.outcome.error
        hint = raised.hint or (
            f"{limit_exceeded_text(request.limits, 'processes')}." if report.processes_exceeded else ""
        )
        return RunError(
            ErrorKind.USER_CODE, raised.text, raised.summary, raised.excerpt, hint, raised=raised.raised
        )
    if report.timed_out and stopped:
        text = f"Execution timed out after {request.timeout_secs:g} seconds"
        text += HAD_FINISHED if messages.outcome is not None else ""
        place = timeout_stack.place_in(messages.stack, request)
        return RunError(ErrorKind.TIMEOUT, text, text, excerpt=place.excerpt, stack=place.stack)
    if report.killed and stopped:
        return RunError.from_text(ErrorKind.KILLED, "The run was killed before it ended.")
    if report.exit_status is None:
        why = report.lost or "the guardian process was killed, or has no room for it"
        return RunError.from_text(ErrorKind.LAUNCH, f"The run was lost: {why}.")
    if not messages.started and messages.broken is None:
        return RunError.from_text(ErrorKind.LAUNCH, _interpreter_failed(report))
    if report.exit_status < 0 and not _has_finished(report):
        return RunError.from_text(ErrorKind.DIED, _death_of(report, request))
    if report.exit_status > 0 and not _has_finished(report):
        return RunError.from_text(ErrorKind.NO_RESULT, _exit_text(report))
    if _payload_of(report) is None:
        return _no_result(report, request)
    return None


def _breached_limit(report: ExitReport, request: RunRequest) -> RunError | None:
    """The limit that ended the run, when one did."""
    limits, status = request.limits, report.exit_status
    if report.interrupted or status == 0:
        return None
    outcome = report.messages.outcome
    if outcome is not None and outcome.error is not None:
        raised = outcome.error
        name = "memory_bytes" if report.memory_exceeded else raised.limit
        if name not in limits.of_resources:
            return None
        summary = f"{limit_exceeded_text(limits, name)} ({raised.summary})"
        return RunError(ErrorKind.LIMIT, f"{summary}\n\n{raised.text}", summary, raised.excerpt, raised.hint)
    if report.timed_out or report.killed:
        return None
    if not _has_finished(report) and (text := _breach(report, request)):
        return RunError.from_text(ErrorKind.LIMIT, text)
    if limits.processes is not None and report.processes_exceeded and (died := _error_of(report, request)):
        return RunError.from_text(ErrorKind.LIMIT, f"{limit_exceeded_text(limits, 'processes')}: {died.text}")
    return None


def _breach(report: ExitReport, request: RunRequest) -> str | None:
    """That the system ended the process for a limit of the run's; None when it did not."""
    limits, status = request.limits, report.exit_status
    used_up = limits.cpu_secs is not None and status == -signal.SIGKILL and report.cpu_secs >= limits.cpu_secs
    if limits.cpu_secs is not None and (used_up or status == -signal.SIGXCPU):
        return f"{limit_exceeded_text(limits, 'cpu_secs')}: the system ended the run."
    if limits.file_size_bytes is not None and status == -signal.SIGXFSZ:  # Python gets an exception instead
        return f"{limit_exceeded_text(limits, 'file_size_bytes')}: the system ended the run."
    if limits.memory_bytes is not None and (report.memory_exceeded or report.out_of_memory):
        return f"{limit_exceeded_text(limits, 'memory_bytes')}: the system's OOM killer ended the run."
    return None


def _has_finished(report: ExitReport) -> bool:
    """Whether the code came to its end, and nobody made the process end after that."""
    outcome = report.messages.outcome
    was_ended = report.timed_out or report.killed or report.interrupted
    return outcome is not None and outcome.is_end and report.exit_status is not None and not was_ended


def _exit_notes(report: ExitReport, request: RunRequest) -> list[str]:
    """What there is to say of a process that did not end well after its code did."""
    status = report.exit_status
    if report.messages.was_cut:
        return [CUT_OFF]
    if not status or not _has_finished(report):
        return []
    if status < 0:
        what = (_breach(report, request) or _death_of(report, request)).rstrip(".").partition(": ")[0]
        return [f"{what[0].upper()}{what[1:]} after the code had finished."]
    why = ": what it printed last could not be written" if status == LOST_OUTPUT_STATUS else ""
    return [f"The process ended with exit status {status} after the code had finished{why}."]


def _not_started(reported: NotStarted, request: RunRequest) -> RunError:
    if reported.errno == errno.E2BIG:
        sizes = {name: len(name) + len(value) + 2 for name, value in request.environment.items()}
        largest = max(sizes, key=lambda name: sizes[name], default=b"none")
        return RunError.from_text(
            ErrorKind.INVALID_REQUEST,
            f"The environment is too large for the system: {sum(sizes.values()):,} bytes in all, most of them in "
            f"{largest.decode(errors='replace')}. Pass large values as data instead.",
        )
    where = f"{reported.path}: " if reported.path else ""
    return RunError.from_text(
        ErrorKind.LAUNCH, f"The run could not be started: {where}{explain_errno(reported.errno)}."
    )


def _interpreter_failed(report: ExitReport) -> str:
    """An interpreter that ended by itself before it came to our program: a variable of its own is wrong."""
    lines = [line.strip() for line in report.stderr.splitlines() if line.strip()]
    fatal = next((line for line in lines if line.startswith("Fatal Python error")), lines[-1] if lines else "")
    how = (
        f"exit status {report.exit_status}"
        if (report.exit_status or 0) >= 0
        else _death_by(-(report.exit_status or 0))
    )
    why = f": {fatal[:LONGEST_QUOTE]}" if fatal else ""
    hint = memory_limit_note()
    return f"The interpreter could not start ({how}){why}" + (f".{hint}" if hint or not fatal else "")


def _death_of(report: ExitReport, request: RunRequest) -> str:
    if report.out_of_memory:
        return "The process was killed by the system's OOM killer: there was not enough memory (SIGKILL)."
    memory = request.limits.memory_bytes
    held = f" Its memory limit was {format_size(memory)}." if memory is not None else ""
    return _death_by(-(report.exit_status or 0)) + held


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


def _exit_text(report: ExitReport) -> str:
    outcome = report.messages.outcome
    message = outcome.exit_message if outcome is not None else report.messages.broken
    because = f": {message}" if message else ""
    return f"The process ended with exit status {report.exit_status}{because}"


def _no_result(report: ExitReport, request: RunRequest) -> RunError:
    outcome = report.messages.outcome
    found, kind = report.messages.broken or "the process ended before its code did", None
    if outcome is not None and outcome.found is not None:
        found, kind = outcome.found, outcome.found_kind
    if kind is Found.NOTHING:
        shown = ("the code displays something, and does not end with a value", kind) if report.displays else None
        found, kind = _printed_instead(report) or shown or (found, kind)
    elif report.printed is not None:
        found, kind = f"{report.printed.problem}; {found}", Found.LINE
    notes = outcome.notes if outcome is not None else ()
    is_program = request.container is not None and request.container.command
    wanted = WHAT_A_PROGRAM_PRINTS if is_program else WHAT_WOULD_COUNT
    text = "\n".join([f"Invalid JSON response from subprocess: {found}.", wanted, *notes])
    value = outcome.found_repr if outcome is not None else ""
    return replace(RunError.from_text(ErrorKind.NO_RESULT, text), found=found, found_kind=kind, found_repr=value)


def _printed_instead(report: ExitReport) -> tuple[str, Found] | None:
    if report.printed is not None:
        return report.printed.problem, Found.LINE
    last_line = next((line.strip() for line in reversed(report.stdout.split("\n")) if line.strip()), "")
    if not last_line:
        return None
    return f"the last line printed is {quoted(last_line)}, which is no JSON object", Found.OUTPUT
