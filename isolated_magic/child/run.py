"""One run: a request in, the user's code as ``__main__``, one outcome out."""

from __future__ import annotations

import gc
import os
import sys

from . import code, metric, modules, signals, stdio
from .channel import Channel, encode, is_packed, unpack
from .error_report import call_users_excepthook, describe, repr_of, text_of
from .metric_arguments import DataHint, UnfitError
from .result import (
    LONGEST_LINE,
    LONGEST_TEXT,
    LONGEST_VALUE,
    SENT,
    NotAResultError,
    elide_middle,
    has_scores,
    result_of,
)
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

with modules.StandardImports():
    import _thread
    import atexit
    from json import dumps, loads

_Anything = BaseException  # whatever the code does to its builtins


def main(args: list[str]) -> int:
    """Be a run. Returns the exit status of the process.

    Args:
        args: the descriptor of the channel.
    """
    before = set(sys.modules)
    owner = Channel(int(args[0]))
    stdio.install_stdin()
    code.new_main()
    status = perform(owner, before)
    owner.close()
    users_code.resume()
    return status


def perform(owner: Channel, before: Collection[str], own_pages: Callable[[], list[int]] | None = None) -> int:
    """Take a request from the channel, do what it says, and tell what came of it.

    Args:
        owner: who asks.
        before: names of the modules that no run has to account for.
        own_pages: what tells which memory this process has written to, in a fork.

    Returns:
        The exit status of the process.
    """
    return do(owner, loads(owner.receive()), before, own_pages)


def do(
    owner: Channel,
    request: dict[str, Any],
    before: Collection[str],
    own_pages: Callable[[], list[int]] | None = None,
) -> int:
    """Do what a request says, whose data is still in the channel, and tell what came of it.

    Args:
        owner: who asks.
        request: what to run.
        before: as for :func:`perform`.
        own_pages: likewise.

    Returns:
        The exit status that the process would have.
    """
    signals.write_stacks_on_signal(owner.descriptor)
    payload = owner.receive()
    try:
        _connect_stdin(payload, request)
        names = code.become_main(request)
        modules.give_way()
        names_of_data = _decoded(payload)
    except RecursionError:
        owner.start()
        result, status = _refused("data is nested too deeply for the interpreter of the run."), 1
        _tell(result, owner, before, None)
    except OSError as problem:
        owner.refuse(problem.errno or 0)
        return 1
    except Exception:  # noqa: BLE001 - an earlier run of a worker took apart what we are made of
        owner.refuse()
        return 1
    else:
        owner.start()
        names.update(names_of_data)
        del payload
        pages = own_pages if request["reports_pages"] else None
        try:
            result, status = _run_limited(request, names, names_of_data, owner)
            _tell(result, owner, before, pages)
        except _Anything:  # the code took apart what we are made of
            owner.give_up()
            status = 1
    return status


def _tell(
    result: dict[str, object], owner: Channel, before: Collection[str], own_pages: Callable[[], list[int]] | None
) -> None:
    stdio.flush()
    if owner.is_mine:
        _tell_imports(before, owner)
        if own_pages is not None:
            _tell_pages(owner, own_pages)
        _report(result, owner)


def _tell_imports(before: Collection[str], owner: Channel) -> None:
    try:
        new = _new_modules(before)
        installed, files = modules.split_installed(new) if new else ([], [])
    except Exception:  # noqa: BLE001 - the code put something odd there: nothing is to be learned from this run
        return
    if installed or files:
        owner.send({"imported": {"installed": installed, "files": files}})


def _tell_pages(owner: Channel, own_pages: Callable[[], list[int]]) -> None:
    try:
        owner.send({"memory": {"pages": own_pages()}})
    except Exception:  # noqa: BLE001 - hidden from us, or the code took apart what we need: the next run will tell
        return


def _new_modules(before: Collection[str]) -> list[str]:
    if len(sys.modules) == len(before):  # as after most runs; the walk would write to many pages of a fork
        return []
    return [name for name in sys.modules if name not in before and not name.startswith(__package__)]


def _connect_stdin(payload: bytes | bytearray, request: dict[str, Any]) -> None:
    """Put the request on stdin. To write much of it as text takes long, and waits until somebody reads it."""
    if is_packed(payload) and not code.may_read_descriptor(request):
        stdio.connect_streams(b"", lambda: _as_json(payload))
    else:
        stdio.connect_streams(_as_json(payload) if is_packed(payload) else payload)


def _as_json(payload: bytes | bytearray) -> bytes:
    message = _decoded(payload)
    text: str = _unhindered(lambda: encode(message))
    return text.encode()


def _decoded(payload: bytes | bytearray) -> dict[str, object]:
    message: dict[str, object] = _unhindered(lambda: unpack(payload) if is_packed(payload) else loads(payload))
    return message


def _unhindered(convert: Callable[[], Any]) -> Any:  # noqa: ANN401 - of whatever type the conversion has
    """Convert data: what the owner could write, this end can read, and nothing of it is garbage meanwhile."""
    limit, collects = sys.get_int_max_str_digits(), gc.isenabled()
    sys.set_int_max_str_digits(0)
    gc.disable()
    try:
        return convert()
    finally:
        sys.set_int_max_str_digits(limit)
        if collects:
            gc.enable()


def _refused(reason: str) -> dict[str, object]:
    return {"error": {"text": reason, "summary": reason, "excerpt": "", "hint": ""}}


def _report(result: dict[str, object], owner: Channel) -> None:
    try:
        heard = owner.send({"outcome": result})
    except Exception as problem:  # noqa: BLE001 - too many digits, or too little memory
        deep = isinstance(problem, RecursionError)
        why = "it is nested too deeply" if deep else text_of(problem) or type(problem).__name__
        result = {"found": f"the result cannot be written as JSON ({why})"}
        heard = owner.send({"outcome": result})
    if heard:
        return
    # The code closed our channel. Its result can still go out as code prints it, and an error as Python does it.
    error = result.get("error")
    if isinstance(error, dict):
        os.write(2, f"{error['text']}\n".encode("utf-8", "backslashreplace"))
    elif "result" in result:
        os.write(1, f"\n{encode(result['result'])}\n".encode())


def _run_limited(
    request: dict[str, Any], names: dict[str, object], message: dict[str, object], owner: Channel
) -> tuple[dict[str, object], int]:
    """Run the code under the limits that it has; an error tells which of them it comes from."""
    if not request["limits"]:
        return _run(request, names, message, owner)
    with modules.StandardImports():
        from .limits import Imposed  # noqa: PLC0415 - most runs have none

    try:
        imposed = Imposed(request["limits"], request["groups"])
    except OSError as problem:
        return _refused(f"The run could not be put under its limits: {problem}."), 1
    result, status = _run(request, names, message, owner, imposed.lift)
    imposed.lift()
    error = result.get("error")
    if isinstance(error, dict):
        error["limit"] = imposed.breached
    return result, status


def _run(
    request: dict[str, Any],
    names: dict[str, object],
    message: dict[str, object],
    owner: Channel,
    on_failure: Callable[[BaseException], object] = bool,
) -> tuple[dict[str, object], int]:
    """Run the code; the outcome and the exit status."""
    path = code.path_in(request)
    filename = path or request["filename"]
    if path is None:
        code.publish(request["source"], filename)
    told = metric.Told(DataHint(request["row"]))
    activity = _activity()
    try:
        with users_code:
            source = request["source"] if path is None else code.read(path)
            value = code.programs.of(source, filename).execute(names)
            found = _outcome_of(value, names, message, owner, told)
            if "result" in found and "is_bare" not in found and _activity() != activity:
                owner.mark()
            return _with_notes(found, told), 0
    except SystemExit as leaving:
        return _exit_outcome(leaving)
    except NotAResultError as problem:
        return _with_notes(_no_result(str(problem), "metric"), told), 0
    except UnfitError as problem:
        error = {"text": problem.text, "summary": problem.text, "excerpt": "", "hint": problem.hint}
        return _with_notes({"error": error}, told, problem.hint), 1
    except BaseException as problem:  # noqa: BLE001 - whatever the code raises is its outcome
        on_failure(problem)
        described = describe(problem, request["source"], filename)
        call_users_excepthook(problem)
        described["hint"] = "\n".join([*filter(None, [described["hint"]]), *told.current])
        return _with_notes({"error": described}, told, *told.current), 1


def _activity() -> tuple[int, int]:
    """What may go on when the code is over, and print: exit functions and threads."""
    return atexit._ncallbacks(), _thread._count()


def _with_notes(found: dict[str, object], told: metric.Told, *but: str) -> dict[str, object]:
    notes = [elide_middle(note, SENT * LONGEST_LINE) for note in told.notes if note not in but]
    return {**found, "notes": notes} if notes else found


def _no_result(found: str, kind: str) -> dict[str, object]:
    return {"found": elide_middle(found, SENT * LONGEST_LINE), "found_kind": kind}


def _no_value(value: object, problem: Exception) -> dict[str, object]:
    found = _no_result(f"the value of the last line is {problem}", "value")
    if type(value).__name__ == "coroutine":  # or its end is a warning with our line in it
        getattr(value, "close", str)()
    return {**found, "found_repr": elide_middle(repr_of(value), SENT * LONGEST_VALUE)}


def _outcome_of(
    value: object, names: dict[str, object], message: dict[str, object], owner: Channel, told: metric.Told
) -> dict[str, object]:
    # From the message: the code may use the names data and payload_type for something of its own.
    data, payload_type = message["data"], message["payload_type"]
    nothing = _no_result("nothing was printed and the code does not end with a value", "nothing")
    if value is not None:
        try:
            named = metric.named_by(value)
        except NotAResultError as problem:
            return _no_value(value, problem)
        if named:
            return {"result": metric.score_all(named, data, payload_type, told)}
        try:
            result: dict[str, object] = {"result": result_of(value)}
            return result if has_scores(value) else {**result, "is_bare": True}
        except NotAResultError as problem:
            nothing = _no_value(value, problem)
    notes: list[str] = []
    metrics = metric.defined_in(names, notes)
    if not metrics:
        held = metric.held_by_variables(names)
        told.notes += [f"{name} is a metric: as the last line, it scores." for name in held]
        return nothing
    if owner.printed_scores():
        return nothing
    told.notes += notes
    return {"result": metric.score_all(metrics, data, payload_type, told, selects=True)}


def _exit_outcome(leaving: SystemExit) -> tuple[dict[str, object], int]:
    """What sys.exit() means (Python/pythonrun.c): a status, or a message for stderr and status 1."""
    if leaving.code is None:
        return _no_result("the code left with sys.exit() before it printed a result", "exit"), 0
    if isinstance(leaving.code, int):
        status = leaving.code & 0xFF
        found = _no_result(f"the code left with sys.exit({leaving.code}) before it printed a result", "exit")
        return {**found, "status": status}, status
    message = text_of(leaving.code)
    leaves_with: dict[str, object] = {"exit_message": elide_middle(message, SENT * LONGEST_TEXT)}
    try:
        sys.stderr.write(f"{message}\n")
    except Exception:  # noqa: BLE001 - the code replaced or closed it; the owner hears the message all the same
        return leaves_with, 1
    return leaves_with, 1


REHEARSAL = """
import json
def f(data):
    return {"scores": [{"name": "a", "value": len(data["answer"])}]}
text = json.dumps(f(data))
"""


def rehearse() -> None:
    """Do what most runs do, with nothing to show for it: what is made at first use is there before the fork."""
    names = _decoded(dumps({"data": {"answer": "yes", "items": [1, 2.5, None]}, "payload_type": None}).encode())
    code.Program(REHEARSAL, "<string>").execute(names)
    metric.defined_in(names, [])
    result_of({"scores": [{"name": "a", "value": 1}]})
