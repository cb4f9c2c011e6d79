"""One run: a request in, the user's code as ``__main__``, one outcome out.

The channel is a private descriptor, so nothing that the code prints can be taken for the outcome. The code
owns descriptors 0, 1 and 2. The owner sends the request as JSON and then the payload; this end sends

- ``{"ask": "metric"}`` when the code defines a metric class and nothing else came of it: only the owner sees
  all that was printed, through whatever way to descriptor 1, and answers whether that is the result already;
- ``{"outcome": {...}}`` once, before the interpreter shuts down (threads, atexit).
"""

from __future__ import annotations

import builtins
import os
import sys
from io import FileIO

from . import outcome, stdlib, streams, wire
from .report import call_users_excepthook, describe, text_of

with stdlib.Imports():
    import __future__

    import fcntl
    from json import dumps, loads

AST_ONLY = 0x400  # PyCF_ONLY_AST (Include/cpython/compile.h): importing ast for it costs 5 ms
PRIVATE_DESCRIPTOR = 500  # above what code expects to be handed by open(), below common limits


class Owner:
    """The other end of the channel.

    Args:
        descriptor: the one that this process was started with.
    """

    def __init__(self, descriptor: int) -> None:
        self._stream = FileIO(_moved_away(descriptor), "r+")
        self._pid = os.getpid()

    def receive(self) -> bytes | bytearray:
        """The next frame."""
        return wire.read_frame(self._stream)

    def send(self, message: dict[str, object]) -> bool:
        """Send a message; False when the code closed the channel.

        Args:
            message: what JSON can hold.

        Raises:
            ValueError: it holds something that JSON, or this interpreter's limits, cannot.
        """
        body = dumps(message).encode()
        try:
            wire.write_frame(self._stream, body)
        except OSError:
            return False
        return True

    @property
    def is_mine(self) -> bool:
        """False in a fork of the run: it has nothing to tell."""
        return os.getpid() == self._pid

    def close(self) -> None:
        """Hang up."""
        try:
            self._stream.close()
        except OSError:  # the code closed the descriptor
            return

    def prints_the_result(self) -> bool:
        """Ask whether the last line printed so far is the result."""
        streams.flush()
        if not self.is_mine:
            return True  # nobody would hear of the metric's scores
        try:
            return self.send({"ask": "metric"}) and self.receive() == b"printed"
        except (OSError, EOFError):
            return True


class Program:
    """The user's code, ready to run: all but the last expression, and that.

    Args:
        source: text, or the bytes of a file.
        filename: what tracebacks call it.

    Raises:
        Exception: whatever compile() raises; mostly SyntaxError.
    """

    def __init__(self, source: str | bytes, filename: str) -> None:
        import _ast  # noqa: PLC0415 - built in; the ast module around it costs 5 ms

        tree = compile(source, filename, "exec", AST_ONLY, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        self.body = compile(tree, filename, "exec", dont_inherit=True)
        self.last = None
        if last is not None:
            # The features that `from __future__` switched on in the body hold for the last expression too.
            features = self.body.co_flags & _future_flags()
            self.last = compile(_ast.Expression(last.value), filename, "eval", features, dont_inherit=True)

    def execute(self, names: dict[str, object]) -> object:
        """Run it and return the value of the last expression, None when there is none.

        Args:
            names: the globals to run in.
        """
        exec(self.body, names)  # noqa: S102 - running the user's code is what we are for
        return eval(self.last, names) if self.last is not None else None  # noqa: S307 - likewise


def _future_flags() -> int:
    return sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def main(args: list[str]) -> int:
    """Be a run. Returns the exit status of the process.

    Args:
        args: the descriptor of the channel.
    """
    owner = Owner(int(args[0]))
    request = loads(owner.receive())
    payload = owner.receive()
    owner.send({"started": {}})
    streams.connect(payload)
    names = _become_main(request)
    stdlib.give_way()
    try:
        message = _decoded(payload)
    except RecursionError:
        result, status = _refused("data is nested too deeply for the interpreter of the run."), 1
    else:
        names.update(message)
        del payload
        result, status = _run(request, names, message, owner)
    streams.flush()
    if owner.is_mine:
        _report(result, owner)
    owner.close()
    return status


def _decoded(payload: bytes | bytearray) -> dict[str, object]:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # what the owner could write, this end can read
    try:
        message: dict[str, object] = loads(payload)
    finally:
        sys.set_int_max_str_digits(limit)
    return message


def _refused(reason: str) -> dict[str, object]:
    return {"error": {"text": reason, "summary": reason}}


def _report(result: dict[str, object], owner: Owner) -> None:
    try:
        heard = owner.send({"outcome": result})
    except (ValueError, RecursionError) as problem:
        found = f"the result cannot be written as JSON ({problem})"
        result = {"found": found}
        heard = owner.send({"outcome": result})
    if heard:
        return
    # The code closed our channel. Its result can still go out as code prints it, and an error as Python does it.
    error = result.get("error")
    if isinstance(error, dict):
        os.write(2, f"{error['text']}\n".encode("utf-8", "backslashreplace"))
    elif "result" in result:
        os.write(1, f"\n{dumps(result['result'])}\n".encode())


def _run(
    request: dict[str, str], names: dict[str, object], message: dict[str, object], owner: Owner
) -> tuple[dict[str, object], int]:
    """Run the code; the outcome and the exit status."""
    path = _path_in(request)
    filename = path or request["filename"]
    try:
        source = request["source"] if path is None else _read(path)
        value = Program(source, filename).execute(names)
        return _outcome_of(value, names, message, owner), 0
    except SystemExit as leaving:
        return _exit_outcome(leaving)
    except outcome.NotAResultError as problem:
        return {"found": str(problem)}, 0
    except BaseException as problem:  # noqa: BLE001 - whatever the code raises is its outcome
        described = describe(problem, request["source"], filename)
        call_users_excepthook(problem)
        return {"error": described}, 1


def _outcome_of(
    value: object, names: dict[str, object], message: dict[str, object], owner: Owner
) -> dict[str, object]:
    found = "nothing was printed and the code does not end with a value"
    if value is not None:
        try:
            return {"result": outcome.result_of(value)}
        except outcome.NotAResultError as problem:
            found = f"the value of the last line is {problem}"
    metric = outcome.find_metric(names)
    if metric is None or owner.prints_the_result():
        return {"found": found}
    # From the message: the code may use the names data and payload_type for something of its own.
    return {"result": outcome.score_with(metric, message["data"], message["payload_type"])}


def _exit_outcome(leaving: SystemExit) -> tuple[dict[str, object], int]:
    """What sys.exit() means (Python/pythonrun.c): a status, or a message for stderr and status 1."""
    if leaving.code is None:
        return {"found": "the code left with sys.exit() before it printed a result"}, 0
    if isinstance(leaving.code, int):
        status = leaving.code & 0xFF
        return {"found": f"the code left with sys.exit({leaving.code}) before it printed a result"}, status
    message = text_of(leaving.code)
    try:
        sys.stderr.write(f"{message}\n")
    except Exception:  # noqa: BLE001 - the code replaced or closed it; the owner hears the message all the same
        return {"exit_message": message}, 1
    return {"exit_message": message}, 1


def _become_main(request: dict[str, str]) -> dict[str, object]:
    """Make the module, arguments and path that ``python -c`` or ``python FILE`` would have made."""
    module = type(sys)("__main__")
    names = vars(module)
    names.update(__builtins__=builtins, __annotations__={})
    path = _path_in(request)
    if path is None:
        first, argv, folder = "-c", ["-c", request["source"]], ""
        module.__loader__ = sys.__spec__.loader  # as python -c has it
    else:
        first, argv = path, [path]
        folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - pathlib costs the child 5 ms
        module.__file__ = os.path.abspath(path)  # noqa: PTH100 - likewise
        names["__cached__"] = None
        module.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    sys.argv = [first]
    sys.orig_argv = [sys.executable, *argv]
    if not sys.flags.safe_path:  # otherwise start.py's folder was not put there either
        sys.path[0] = folder
    sys.modules["__main__"] = module
    return names


def _path_in(request: dict[str, str]) -> str | None:
    # As bytes, one a character: this interpreter may encode file names in another way than the owner's.
    path = request["path"]
    return None if path is None else os.fsdecode(path.encode("latin-1"))


def _read(path: str) -> bytes:
    with FileIO(path) as file:
        return file.readall()


def _moved_away(descriptor: int) -> int:
    try:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, PRIVATE_DESCRIPTOR)
    except OSError:  # a lower limit of open files
        os.set_inheritable(descriptor, False)
        return descriptor
    os.close(descriptor)
    return moved
