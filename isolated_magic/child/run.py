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
from json import dumps, loads

from . import outcome, wire
from .report import call_users_excepthook, describe

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
        """Send a message; False when the code closed the channel or this is a fork of the run.

        Args:
            message: what JSON can hold.
        """
        if os.getpid() != self._pid:
            return False
        try:
            wire.write_frame(self._stream, dumps(message).encode())
        except (OSError, ValueError):
            return False
        return True

    def prints_the_result(self) -> bool:
        """Ask whether the last line printed so far is the result."""
        flush_output()
        if not self.send({"ask": "metric"}):
            return True  # nobody would hear of the metric's scores
        try:
            return self.receive() == b"printed"
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
    import __future__  # noqa: PLC0415 - only code that ends with an expression needs it

    return sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def main(args: list[str]) -> int:
    """Be a run. Returns the exit status of the process.

    Args:
        args: the descriptor of the channel.
    """
    owner = Owner(int(args[0]))
    request = loads(owner.receive())
    payload = owner.receive()
    _connect_streams(payload)
    message = loads(payload)
    del payload
    names = _become_main(request)
    names["data"], names["payload_type"] = message["data"], message["payload_type"]
    del message
    result, status = _run(request, names, owner)
    flush_output()
    error = result.get("error")
    if not owner.send({"outcome": result}) and isinstance(error, dict):
        sys.stderr.write(f"{error['text']}\n")
    return status


def _run(request: dict[str, str], names: dict[str, object], owner: Owner) -> tuple[dict[str, object], int]:
    """Run the code; the outcome and the exit status."""
    filename = request["filename"]
    try:
        source = request["source"] if request["path"] is None else _read(request["path"])
        value = Program(source, filename).execute(names)
        return _outcome_of(value, names, owner), 0
    except SystemExit as leaving:
        return _exit_outcome(leaving)
    except outcome.NotAResultError as problem:
        return {"found": str(problem)}, 0
    except BaseException as problem:  # noqa: BLE001 - whatever the code raises is its outcome
        call_users_excepthook(problem)
        return {"error": describe(problem, request["source"], filename)}, 1


def _outcome_of(value: object, names: dict[str, object], owner: Owner) -> dict[str, object]:
    found = "nothing was printed and the code does not end with a value"
    if value is not None:
        try:
            return {"result": outcome.result_of(value)}
        except outcome.NotAResultError as problem:
            found = f"the value of the last line is {problem}"
    metric = outcome.find_metric(names)
    if metric is None or owner.prints_the_result():
        return {"found": found}
    return {"result": outcome.score_with(metric, names["data"], names["payload_type"])}  # type: ignore[arg-type]


def _exit_outcome(leaving: SystemExit) -> tuple[dict[str, object], int]:
    """What sys.exit() means (Python/pythonrun.c): a status, or a message for stderr and status 1."""
    if leaving.code is None:
        return {"found": "the code left with sys.exit() before it printed a result"}, 0
    if isinstance(leaving.code, int):
        status = leaving.code & 0xFF
        return {"found": f"the code left with sys.exit({leaving.code}) before it printed a result"}, status
    message = str(leaving.code)
    try:
        sys.stderr.write(f"{message}\n")
    except Exception:  # noqa: BLE001 - the code replaced or closed it; the owner hears the message all the same
        return {"exit_message": message}, 1
    return {"exit_message": message}, 1


def flush_output() -> None:
    """Hand everything printed so far to descriptors 1 and 2."""
    for stream in {sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__}:
        try:
            stream.flush()  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001, S112 - closed, or something that the code put in its place
            continue


def _become_main(request: dict[str, str]) -> dict[str, object]:
    """Make the module, arguments and path that ``python -c`` or ``python FILE`` would have made."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = builtins
    path = request["path"]
    if path is None:
        first, argv, folder = "-c", ["-c", request["source"]], ""
        module.__loader__ = sys.__spec__.loader  # as python -c has it
    else:
        first, argv = path, [path]
        folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - pathlib costs the child 5 ms
        module.__file__ = os.path.abspath(path)  # noqa: PTH100 - likewise
        module.__dict__["__cached__"] = None
        module.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    sys.argv = [first]
    sys.orig_argv = [sys.executable, *argv]
    if not sys.flags.safe_path:  # otherwise start.py's folder was not put there either
        sys.path[0] = folder
    sys.modules["__main__"] = module
    return module.__dict__


def _connect_streams(payload: bytes | bytearray) -> None:
    """Put the request on stdin; let stdout go out line by line, both as UTF-8 whatever the locale."""
    stdin = _descriptor_to_read(payload)
    os.dup2(stdin, 0)
    os.close(stdin)
    for stream, settings in ((sys.stdin, {}), (sys.stdout, {"line_buffering": True}), (sys.stderr, {})):
        if stream is not None:
            stream.reconfigure(encoding="utf-8", **settings)  # type: ignore[union-attr]


def _descriptor_to_read(payload: bytes | bytearray) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
        with FileIO(descriptor, "r+", closefd=False) as file:
            _write_all(file, payload)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor
    readable, writable = os.pipe()
    _feed_in_background(writable, bytes(payload))
    return readable


def _write_all(file: FileIO, payload: bytes | bytearray) -> None:
    rest = memoryview(payload)
    while rest:
        rest = rest[file.write(rest) :]


def _feed_in_background(writable: int, payload: bytes) -> None:
    # Where a pipe is all there is, code that never reads stdin must not be held up by it.
    import threading  # noqa: PLC0415 - only there

    def feed() -> None:
        with FileIO(writable, "w") as file:
            try:
                _write_all(file, payload)
            except OSError:  # nobody reads it any more
                return

    threading.Thread(target=feed, daemon=True).start()


def _read(path: str) -> bytes:
    with FileIO(path) as file:
        return file.readall()


def _moved_away(descriptor: int) -> int:
    import fcntl  # noqa: PLC0415 - POSIX only

    try:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, PRIVATE_DESCRIPTOR)
    except OSError:  # a lower limit of open files
        os.set_inheritable(descriptor, False)
        return descriptor
    os.close(descriptor)
    return moved
