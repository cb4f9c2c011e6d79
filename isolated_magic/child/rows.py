"""One row after the other in one process, whose data the owner sends ahead.

Code that comes to metrics runs once, which are then made once, unless it uses the data itself; any other code
runs for each row, as in a worker. First comes a request without data; then payloads, until the owner hangs up.
Each row is answered by one message, ``row``, and by the marker of the request in stdout and stderr, which parts
what rows printed: whatever wrote it, a pipe keeps the order.
"""

from __future__ import annotations

import os
import sys
import time

from . import code, display_hooks, metric, modules, run, signals, stdio
from .channel import Channel, decode_payload, move_descriptor, payload_as_json
from .event_loop import EventLoop
from .metric_arguments import remember_parameters
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType
    from typing import Any

    from .limits import ImposedLimits
    from .metric_arguments import Inputs

with modules.StandardImports():
    import gc

# Names and attributes by which code gets at its data, or may.
USES_DATA = frozenset({"data", "payload_type", "input", "exec", "eval", "globals", "locals", "vars", "stdin"})
MAIN = "__main__"
LOADS_NAME = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")


def main(args: list[str]) -> int:
    """The role of a process that runs rows; its argument is the descriptor of the channel."""
    before = set(sys.modules)
    channel = Channel(int(args[0]))
    signals.hold_interrupts()
    stdio.install_stdin()
    display_hooks.install()
    status = serve(channel, before)
    users_code.resume()
    return status


def serve(channel: Channel, before: Collection[str]) -> int:
    """Run rows until the owner hangs up.

    Args:
        channel: to the owner.
        before: names of the modules that no row is said to have imported.

    Returns:
        The exit status that the process should have.
    """
    request = channel.receive_request()
    signals.write_stacks_on_signal(channel.descriptor)
    try:
        rows = _Rows(channel, request, before)
    except OSError as problem:
        channel.refuse(problem.errno or 0)
        return 1
    channel.start()
    while True:
        try:
            payload = channel.ahead.pop(0) if channel.ahead else channel.receive()
        except (EOFError, OSError):  # the owner hung up
            return rows.end()
        if not rows.run(payload):
            return rows.status


class _Rows:
    """The rows of one process."""

    def __init__(self, channel: Channel, request: dict[str, Any], before: Collection[str]) -> None:
        self.status = 0
        self._channel = channel
        self._request = request
        self._before = before
        self._marker: bytes = bytes.fromhex(request["marker"])
        self._outputs = [move_descriptor(os.dup(number)) for number in (1, 2)]
        self._surroundings = _Surroundings()
        self._main = code.WorkerMain()
        self._stdin = _Stdin(reads_descriptor=code.may_read_descriptor(request))
        self._names: dict[str, object] = {}
        self._loop = _Loop()
        self._metrics: _Metrics | None = None  # those that score all further rows
        self._limits: ImposedLimits | None = None
        self._refusal = ""

    def run(self, payload: bytes | bytearray) -> bool:
        """Run a row; whether the process can go on with the next one."""
        begun_at = time.perf_counter()
        channel = self._channel
        try:
            result, self.status = self._result_of(payload)
            channel.end_displays()
            stdio.flush()
            if not channel.is_mine:
                return False
            # A row that broke a limit may have left too little for the next one: a new process runs that.
            goes_on = not _broke_limit(result) and self._mark_outputs()
            run.send_imports(channel, self._before)

            def message(outcome: dict[str, object]) -> dict[str, object]:
                if not goes_on:  # it is the last one of this process
                    return run.as_outcome(outcome)
                ms = (time.perf_counter() - begun_at) * 1000
                return {"row": {"outcome": outcome, "ms": ms, "status": self.status}}

            if not run.send_outcome(channel, result, message) or not goes_on:
                return False
            self._clean_up()
        except BaseException:  # noqa: BLE001 - the code took apart what we are made of
            channel.give_up()
            self.status = 1
            return False
        return True

    def _result_of(self, payload: bytes | bytearray) -> tuple[dict[str, object], int]:
        try:
            message = decode_payload(payload)
            self._stdin.offer(payload)
        except RecursionError:
            return run.refusal("data is nested too deeply for the interpreter of the run."), 1
        if self._metrics is None:
            self._names = code.prepare_main(self._request)
            modules.give_way()
        self._names.update(message)
        display_hooks.begin(self._channel, self._request["figures"])
        if not self._request["limits"]:
            return run.outcome_of(self._request, message, self._work, loop=self._loop)
        if not self._is_limited():
            return run.refusal(self._refusal), 1
        assert self._limits is not None  # noqa: S101 - it is limited
        return run.within_limits(self._limits, self._request, message, self._work, self._loop)

    def _is_limited(self) -> bool:
        if self._limits is not None:
            self._limits.impose()
            return True
        with modules.StandardImports():
            from .limits import ImposedLimits  # noqa: PLC0415 - most rows have none

        try:
            self._limits = ImposedLimits(self._request["limits"], self._request["groups"])
        except OSError as problem:
            self._refusal = f"The run could not be put under its limits: {problem}."
            return False
        return True

    def _work(self, inputs: Inputs, notes: metric.Notes, loop: EventLoop) -> dict[str, object]:
        if self._metrics is not None:
            return {"result": self._metrics.score(inputs, notes, loop)}
        return run.run_code(self._request, self._names, self._channel, inputs, notes, loop, self._on_metrics)

    def _on_metrics(self, named: metric.Named, texts: list[str], selects: bool) -> None:
        """Keep the metrics that the code came to, if it does not use the data to make them."""
        if not self._stdin.was_read and not _uses_data(self._request):
            self._metrics = _Metrics(named, texts, selects=selects)
            self._loop.is_kept = named.is_kept = True
            remember_parameters()

    def _mark_outputs(self) -> bool:
        """Write the marker behind what the row printed; False if the code took the descriptors away."""
        for descriptor in self._outputs:
            try:
                os.write(descriptor, self._marker)
            except BlockingIOError:  # the code has changed that
                os.set_blocking(descriptor, True)
                os.write(descriptor, self._marker)
            except OSError:
                return False
        return True

    def _clean_up(self) -> None:
        """Have the next row begin as this one did."""
        if self._metrics is None:
            self._surroundings.restore()
            self._names = {}
            self._main.renew()
        if len(sys.modules) != len(self._before):
            self._before = frozenset(sys.modules)
            if self._metrics is None:
                gc.freeze()  # modules stay: the collector need not look at them after each row
                self._main.renew()  # frozen with them, it would not be collected

    def end(self) -> int:
        """The owner hung up; the exit status."""
        with users_code:
            self._loop.close()
        return 0


class _Loop(EventLoop):
    """An event loop that lasts for one row; or for all, as metrics that are kept may have connections in it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_kept = False

    def __exit__(self, *_: object) -> None:
        if not self.is_kept:
            self.close()

    def close(self) -> None:
        """Close it; the next row makes a new one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


class _Metrics:
    """Metrics that score one row after the other.

    Args:
        named: the metrics.
        texts: notes about how they were found.
        selects: leave out those that do not take the data of a row, when others do.
    """

    def __init__(self, named: metric.Named, texts: list[str], *, selects: bool) -> None:
        self._named = named
        self._texts = texts
        self._selects = selects

    def score(self, inputs: Inputs, notes: metric.Notes, loop: EventLoop) -> dict[str, Any]:
        """Score a row; see :func:`metric.score_all`."""
        notes.texts += self._texts
        return metric.score_all(self._named, inputs, notes, loop, selects=self._selects)


class _Surroundings:
    """What code that runs for each row finds as the row before did: streams, working directory, environment."""

    def __init__(self) -> None:
        self._streams = sys.stdout, sys.stderr
        self._folder = os.getcwd()  # noqa: PTH109 - pathlib costs the child 5 ms
        self._variables: Any = os.environ._data  # type: ignore[attr-defined]  # whose copy takes 60 microseconds
        self._environ, self._environment = os.environ, dict(self._variables)

    def restore(self) -> None:
        """Have them again."""
        sys.stdout, sys.stderr = self._streams
        os.environ = self._environ  # noqa: B003 - as it was
        if self._variables != self._environment:
            os.environ.clear()
            for name, value in self._environment.items():
                os.environb[name] = value
        try:
            os.chdir(self._folder)
        except OSError:  # it is gone, or may not be entered any more
            return


class _Stdin:
    """The row's data on stdin. It is put there when it is read, unless the code may read past ``sys.stdin``."""

    def __init__(self, *, reads_descriptor: bool) -> None:
        self._reads_descriptor = reads_descriptor
        self._payload: bytes | bytearray = b""
        self._stream: object = None
        self.was_read = reads_descriptor

    def offer(self, payload: bytes | bytearray) -> None:
        """Have the code find this."""
        if self._reads_descriptor:
            stdio.connect_streams(payload_as_json(payload))
            return
        self._payload = payload
        if self.was_read or sys.stdin is not self._stream or not stdio.holds_data():
            stdio.connect_streams(b"", self._make)
            self._stream = sys.stdin
            self.was_read = False

    def _make(self) -> bytes | bytearray:
        self.was_read = True
        return payload_as_json(self._payload)


def _broke_limit(result: dict[str, Any]) -> bool:
    error = result.get("error")
    return isinstance(error, dict) and error.get("limit") is not None


def _uses_data(request: dict[str, Any]) -> bool:
    """Whether the code uses its data other than as the arguments of a metric, or may."""
    path = code.path_in(request)
    source = request["source"] if path is None else code.read_file(path)
    compiled = code.compiled.get(source, path or request["filename"])
    parts = [part for part in (compiled.body, compiled.last) if part is not None]
    return any(map(_part_uses_data, parts))


def _part_uses_data(part: CodeType) -> bool:
    dis: Any = modules.standard_module("dis")
    for step in dis.get_instructions(part):
        if step.argval == MAIN and step.opname.startswith("IMPORT"):
            return True
        if step.argval in USES_DATA and (step.opname in LOADS_NAME or step.argval == "stdin"):
            return True
    return any(map(_part_uses_data, _inner(part)))


def _inner(part: CodeType) -> Iterator[CodeType]:
    return (constant for constant in part.co_consts if isinstance(constant, type(part)))
