"""One run: receive a request, run the user's code as ``__main__``, send one outcome."""

from __future__ import annotations

import os
import sys

from . import code, display_hooks, metric, modules, signals, stdio
from .channel import Channel, decode_payload, encode, is_packed, payload_as_json
from .error_report import call_users_excepthook, describe, text_of
from .event_loop import EventLoop
from .metric_arguments import DataHint, Inputs, MetricCallError
from .plain import NotAResultError
from .result import (
    LONGEST_LINE,
    LONGEST_TEXT,
    LONGEST_VALUE,
    SENT,
    check_is_not_data,
    elide_middle,
    has_scores,
    result_of,
)
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from .limits import ImposedLimits

    Work = Callable[[Inputs, metric.Notes, EventLoop], dict[str, object]]
    # Given metrics, notes on how they were found, and whether those are left out that do not take the data.
    OnMetrics = Callable[[metric.Named, list[str], bool], None]

with modules.StandardImports():
    import _thread
    import atexit
    from functools import partial
    from json import dumps

_AnyError = BaseException  # whatever the code does to its builtins


def main(args: list[str]) -> int:
    """The role of a process that serves one run; its argument is the descriptor of the channel."""
    before = set(sys.modules)
    channel = Channel(int(args[0]))
    signals.write_stacks_on_signal(channel.descriptor)
    stdio.install_stdin()
    display_hooks.install()
    code.new_main()
    status = run_next_request(channel, before)
    channel.close()
    users_code.resume()
    return status


def run_next_request(channel: Channel, before: Collection[str]) -> int:
    """Receive a request and run it; see :func:`run_request`."""
    request = channel.receive_request()
    status = run_request(channel, request, before)
    # Whether a limit was exceeded is known when nothing of the run is left.
    channel.may_tell_over = not (channel.has_given_up or request["limits"] or request["groups"])
    channel.tells_pages = request["reports_pages"]
    return status


def run_request(
    channel: Channel,
    request: dict[str, Any],
    before: Collection[str],
) -> int:
    """Run a request whose payload is still in the channel, and send the outcome.

    Args:
        channel: to the owner.
        request: what to run.
        before: names of the modules that were there before, which this run is not said to have imported.

    Returns:
        The exit status that the process should have.
    """
    payload = channel.receive()
    try:
        connect_streams(payload, request)
        names = code.prepare_main(request)
        modules.give_way()
        message = decode_payload(payload)
    except RecursionError:
        channel.start()
        _send_result(channel, refusal("data is nested too deeply for the interpreter of the run."), before)
        return 1
    except OSError as problem:
        channel.refuse(problem.errno or 0)
        return 1
    except Exception:  # noqa: BLE001 - an earlier run of a worker took apart what we are made of
        channel.refuse()
        return 1
    channel.start()
    names.update(message)
    del payload
    display_hooks.begin(channel, request["figures"])
    try:
        result, status = _run_limited(request, names, message, channel)
        _send_result(channel, result, before)
    except _AnyError:  # the code took apart what we are made of
        channel.give_up()
        return 1
    return status


def connect_streams(payload: bytes | bytearray, request: dict[str, Any]) -> None:
    """Put the payload on stdin as JSON: one that is packed only when it is read, for that takes long."""
    if not is_packed(payload):
        stdio.connect_streams(payload)
    elif code.may_read_descriptor(request):
        stdio.connect_streams(payload_as_json(payload))
    else:
        stdio.connect_streams(b"", lambda: payload_as_json(payload))


def _send_result(
    channel: Channel,
    result: dict[str, object],
    before: Collection[str],
) -> None:
    channel.end_displays()
    stdio.flush()
    if channel.is_mine:
        send_imports(channel, before)
        send_outcome(channel, result, as_outcome)


def as_outcome(result: dict[str, object]) -> dict[str, object]:
    """The message with the outcome."""
    return {"outcome": result}


def send_imports(channel: Channel, before: Collection[str]) -> None:
    """Say what was imported beside the modules with these names."""
    try:
        if len(sys.modules) == len(before):  # as after most runs; the walk would write to many pages of a fork
            return
        new = [name for name in sys.modules if name not in before and not name.startswith(__package__)]
        installed, files = modules.split_installed(new)
    except Exception:  # noqa: BLE001 - the code put something odd there: nothing is to be learned from this run
        return
    if installed or files:
        channel.send({"imported": {"installed": installed, "files": files}})


def send_outcome(
    channel: Channel, result: dict[str, object], message_for: Callable[[dict[str, object]], dict[str, object]]
) -> bool:
    """Send the outcome in a message; False if the code closed the channel."""
    try:
        is_sent = channel.send(message_for(result))
    except Exception as problem:  # noqa: BLE001 - too many digits, or too little memory
        is_deep = isinstance(problem, RecursionError)
        why = "it is nested too deeply" if is_deep else text_of(problem) or type(problem).__name__
        result = {"found": f"the result cannot be written as JSON ({why})"}
        is_sent = channel.send(message_for(result))
    if is_sent:
        return True
    # The code closed the channel. Its result can still be printed as code prints it, and an error as Python does.
    error = result.get("error")
    if isinstance(error, dict):
        os.write(2, f"{error['text']}\n".encode("utf-8", "backslashreplace"))
    elif "result" in result:
        os.write(1, f"\n{encode(result['result'])}\n".encode())
    return False


def _run_limited(
    request: dict[str, Any], names: dict[str, object], message: dict[str, object], channel: Channel
) -> tuple[dict[str, object], int]:
    """Run the code under its limits; an error says which of them it comes from."""
    work = partial(run_code, request, names, channel)
    if not request["limits"]:
        return outcome_of(request, message, work)
    with modules.StandardImports():
        from .limits import ImposedLimits  # noqa: PLC0415 - most runs have none

    try:
        imposed = ImposedLimits(request["limits"], request["groups"])
    except OSError as problem:
        return refusal(f"The run could not be put under its limits: {problem}."), 1
    return within_limits(imposed, request, message, work)


def within_limits(
    imposed: ImposedLimits,
    request: dict[str, Any],
    message: dict[str, object],
    work: Work,
    loop: EventLoop | None = None,
) -> tuple[dict[str, object], int]:
    """:func:`outcome_of` under limits, which are lifted in the end."""
    result, status = outcome_of(request, message, work, imposed.lift, loop)
    imposed.lift()
    error = result.get("error")
    if isinstance(error, dict):
        error["limit"] = imposed.breached
    return result, status


def outcome_of(
    request: dict[str, Any],
    message: dict[str, object],
    work: Work,
    on_failure: Callable[[BaseException], object] = bool,
    loop: EventLoop | None = None,
) -> tuple[dict[str, object], int]:
    """Have the code do its work; return the outcome and the exit status.

    Args:
        request: the run.
        message: its data.
        work: given the inputs of the run, where to put notes, and the event loop.
        on_failure: called with what the code raised.
        loop: to use, instead of a new one.
    """
    notes = metric.Notes()
    inputs = Inputs(message["data"], message["payload_type"], DataHint(request["row"]))
    try:
        with users_code, display_hooks.OpenFigures(), loop or EventLoop() as current:
            return _with_notes(work(inputs, notes, current), notes), 0
    except SystemExit as leaving:
        return _exit_outcome(leaving)
    except NotAResultError as problem:
        return _with_notes(_no_result(str(problem), "metric"), notes), 0
    except MetricCallError as problem:
        return _with_notes(refusal(problem.text, problem.hint), notes, problem.hint), 1
    except BaseException as problem:  # noqa: BLE001 - whatever the code raises is its outcome
        on_failure(problem)
        described = describe(problem, request["source"], code.path_in(request) or request["filename"])
        call_users_excepthook(problem)
        described["hint"] = "\n".join([*filter(None, [described["hint"]]), *notes.current])
        return _with_notes({"error": described}, notes, *notes.current), 1


def run_code(
    request: dict[str, Any],
    names: dict[str, object],
    channel: Channel,
    inputs: Inputs,  # of the message: the code may use the names data and payload_type for something of its own
    notes: metric.Notes,
    loop: EventLoop,
    on_metrics: OnMetrics | None = None,
) -> dict[str, object]:
    """Run the code with these globals; what its result is.

    Args:
        request: the run.
        names: the globals.
        channel: to the owner.
        inputs: of the run.
        notes: collects notes.
        loop: of the run.
        on_metrics: called with the metrics that the code comes to, before they score.
    """
    path = code.path_in(request)
    filename = path or request["filename"]
    if path is None:
        code.publish_source(request["source"], filename)
    activity = _activity()
    source = request["source"] if path is None else code.read_file(path)
    value = loop.settle(code.compiled.get(source, filename).run(names, loop))
    found = _found(value, names, inputs, channel, notes, loop, on_metrics or _on_no_metrics)
    if "result" in found and "is_bare" not in found and _activity() != activity:
        channel.mark()
    return found


def _on_no_metrics(_named: metric.Named, _texts: list[str], _selects: bool) -> None:
    return


def _activity() -> tuple[int, int]:
    """Exit functions and threads: what may still print when the code is over."""
    return atexit._ncallbacks(), _thread._count()


def _found(
    value: object,
    names: dict[str, object],
    inputs: Inputs,
    channel: Channel,
    notes: metric.Notes,
    loop: EventLoop,
    on_metrics: OnMetrics,
) -> dict[str, object]:
    nothing = _no_result("nothing was printed and the code does not end with a value", "nothing")
    if value is not None:
        try:
            named = metric.named_by(value, names)
        except NotAResultError as problem:
            return _no_value(value, problem)
        if named is not None:
            on_metrics(named, [], False)
            return {"result": metric.score_all(named, inputs, notes, loop)}
        try:
            check_is_not_data(value, inputs.data)
            result: dict[str, object] = {"result": result_of(value)}
            return result if has_scores(value) else {**result, "is_bare": True}
        except NotAResultError as problem:
            named = metric.scoring_by_method(value, inputs)
            if named is not None:
                on_metrics(named, [], False)
                return {"result": metric.score_all(named, inputs, notes, loop)}
            nothing = _no_value(value, problem)
    texts: list[str] = []
    metrics = metric.defined_in(names, texts)
    if not metrics:
        notes.texts += metric.ways_to_score(names, inputs)
        return nothing
    if channel.printed_scores():
        return nothing
    notes.texts += texts
    named = metric.Named(metrics)
    on_metrics(named, texts, True)
    return {"result": metric.score_all(named, inputs, notes, loop, selects=True)}


def _exit_outcome(leaving: SystemExit) -> tuple[dict[str, object], int]:
    """What sys.exit() means (Python/pythonrun.c): a status, or a message for stderr and status 1."""
    if leaving.code is None:
        return _no_result("the code left with sys.exit() before it printed a result", "exit"), 0
    if isinstance(leaving.code, int):
        status = leaving.code & 0xFF
        found = _no_result(f"the code left with sys.exit({leaving.code}) before it printed a result", "exit")
        return {**found, "status": status}, status
    message = text_of(leaving.code)
    outcome: dict[str, object] = {"exit_message": elide_middle(message, SENT * LONGEST_TEXT)}
    try:
        sys.stderr.write(f"{message}\n")
    except Exception:  # noqa: BLE001 - the code replaced or closed it; the owner gets the message all the same
        return outcome, 1
    return outcome, 1


def refusal(text: str, hint: str = "") -> dict[str, object]:
    """The outcome of a run that could not begin, or whose metric could not be called."""
    return {"error": {"text": text, "summary": text, "excerpt": "", "hint": hint}}


def _no_result(found: str, kind: str) -> dict[str, object]:
    return {"found": elide_middle(found, SENT * LONGEST_LINE), "found_kind": kind}


def _no_value(value: object, problem: Exception) -> dict[str, object]:
    found = _no_result(f"the value of the last line is {problem}", "value")
    if display_hooks.is_drawn(value):
        return _no_result("the code ends with what it drew", "nothing")
    if display_hooks.show_value(value):
        return found
    return {**found, "found_repr": elide_middle(text_of(value, repr), SENT * LONGEST_VALUE)}


def _with_notes(found: dict[str, object], notes: metric.Notes, *without: str) -> dict[str, object]:
    if not notes.texts:
        return found
    texts = [elide_middle(text, SENT * LONGEST_LINE) for text in notes.texts if text not in without]
    return {**found, "notes": texts} if texts else found


REHEARSAL = """
import json
def f(data):
    return {"scores": [{"name": "a", "value": len(data["answer"])}]}
text = json.dumps(f(data))
"""


def rehearse() -> None:
    """Do in the fork server what most runs do, so that what is made at first use is there before the fork."""
    names = decode_payload(
        dumps({"data": {"answer": "yes", "items": [1, 2.5, None]}, "payload_type": None}).encode()
    )
    with EventLoop() as loop:
        code.Code(REHEARSAL, "<string>").run(names, loop)
    metric.defined_in(names, [])
    result_of({"scores": [{"name": "a", "value": 1}]})
    result_of({"a": 1})
