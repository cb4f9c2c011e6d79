"""The run's stdin, stdout and stderr.

Stdin holds the data, on descriptor 0, where code may read it in any way. It is not an answer to a question:
``input()`` and its like raise an error instead of taking the data for a name, a password or a command of a
debugger. Nor is it for the processes that the code starts: however Python starts them, their stdin is empty. Only
what native code starts inherits descriptor 0 as it is.
"""

from __future__ import annotations

import builtins
import os
import sys
from _io import _IOBase as IOBase  # that of io asks more than the type
from io import BufferedReader, FileIO, RawIOBase, TextIOWrapper

from . import modules, wire

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def connect_streams(payload: bytes | bytearray, late: Callable[[], bytes | bytearray] | None = None) -> None:
    """Put the data on stdin, buffer stdout by line, and make all three streams UTF-8 whatever the locale.

    Args:
        payload: what the code can read from stdin.
        late: instead of it, makes what the code can read when ``sys.stdin`` is read.

    Raises:
        OSError: there are too few descriptors.
    """
    offer_stdin(payload, late)
    for stream, by_line in ((sys.stdin, False), (sys.stdout, True), (sys.stderr, True)):
        if stream is not None and (stream.encoding != "utf-8" or stream.line_buffering != by_line):
            # errors: as the interpreter chose them; a new encoding alone would make them strict
            stream.reconfigure(encoding="utf-8", errors=stream.errors, line_buffering=by_line)  # type: ignore[union-attr]  # a file


def flush() -> None:
    """Write everything printed so far to descriptors 1 and 2."""
    for name in ("stdout", "__stdout__", "stderr", "__stderr__"):
        try:
            getattr(sys, name).flush()
        except Exception:  # noqa: BLE001, S112 - closed, gone, or something that the code put in its place
            continue


def flush_all(values: Iterable[object]) -> None:
    """Flush those of these objects that are files."""
    for value in list(values):
        if issubclass(type(value), IOBase):  # no isinstance(), which asks the object
            try:
                value.flush()  # type: ignore[attr-defined]
            except Exception:  # noqa: BLE001, S112 - closed, or not for writing
                continue


PIPE_BYTES = 4096  # any pipe holds so much: pipe(7)
STDIN_OF_CHILD = 6  # which argument of _posixsubprocess.fork_exec(); -1 for what the parent has
NO_KEYBOARD = (
    "An isolated run has no keyboard, so nobody can answer (input, getpass, pdb): pass the value as data (--data, "
    "or data=), a password as a variable (--secret, or env_vars=). The data is JSON on stdin too: "
    "json.load(sys.stdin)."
)
NO_DEBUGGER = (
    "An isolated run has no keyboard, so no debugger can be used in it: print() what you want to see, or debug "
    "the code in the notebook itself. Values for it come as data (--data, or data=), passwords as variables "
    "(--secret, or env_vars=)."
)

_input, _getframe, _fstat = builtins.input, sys._getframe, os.fstat
_request: tuple[int, int] | None = None  # device and inode of what holds it
_is_ready = False  # that is empty, for the data of the next run


def install_stdin() -> None:
    """Replace what asks a person and what starts processes. No code of the user's may have run before."""
    builtins.input = _ask
    _refuse_getpass()
    modules.on_import("pdb", _hook_pdb)
    os.register_at_fork(after_in_child=_empty_in_child)
    os.system = _system
    if hasattr(os, "posix_spawn"):
        os.posix_spawn, os.posix_spawnp = _spawning(os.posix_spawn), _spawning(os.posix_spawnp)
    with modules.StandardImports():
        import _posixsubprocess  # noqa: PLC0415 - ours only now
    starts = _starting(_posixsubprocess.fork_exec)
    _posixsubprocess.fork_exec = starts
    if "subprocess" in sys.modules:  # a hook of site-packages was there before us
        vars(sys.modules["subprocess"])["_fork_exec"] = starts


def offer_stdin(payload: bytes | bytearray, late: Callable[[], bytes | bytearray] | None = None) -> None:
    """Put the data on descriptor 0; see :func:`connect_streams`."""
    _put(payload)
    if late is not None and sys.stdin is not None:
        sys.stdin = sys.__stdin__ = _late_stdin(late, sys.stdin.errors)  # type: ignore[misc]  # as a new process has it
    _refuse_getpass()


def get_ready() -> None:
    """Between two runs of a worker: have an empty descriptor 0, which only has to be filled for the next one.

    Raises:
        OSError: there are too few descriptors.
    """
    global _is_ready  # noqa: PLW0603 - as below
    _put(b"")
    _is_ready = True


def _put(payload: bytes | bytearray) -> None:
    global _request, _is_ready  # noqa: PLW0603 - what descriptor 0 is, is a fact about the process
    was_ready, _is_ready = _is_ready, False
    if was_ready and holds_data() and _fill(0, payload):
        return
    descriptor = _descriptor_to_read(payload)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    _request = _identity()


def _identity() -> tuple[int, int] | None:
    try:
        state = _fstat(0)
    except OSError:  # closed
        return None
    return state.st_dev, state.st_ino


def holds_data() -> bool:
    """Whether descriptor 0 still is what :func:`offer_stdin` put there."""
    return _request is not None and _identity() == _request


class _Late(RawIOBase):
    """Descriptor 0, with a text that is made when it is read."""

    name = "<stdin>"

    def __init__(self, make: Callable[[], bytes | bytearray]) -> None:
        self._make: Callable[[], bytes | bytearray] | None = make

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._fill()
        return 0

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written to
        self._fill()
        return os.readv(0, [buffer])

    def _fill(self) -> None:
        make, self._make = self._make, None
        if make is not None and holds_data():  # otherwise the code put something else there
            _put(make())


def _late_stdin(make: Callable[[], bytes | bytearray], errors: str | None) -> TextIOWrapper:
    stdin: Any = TextIOWrapper(BufferedReader(_Late(make)), encoding="utf-8", errors=errors)
    stdin.mode = "r"  # as that of the interpreter
    return stdin  # type: ignore[no-any-return]  # whose mode is none of its attributes to a type checker


def _asks_person() -> bool:
    """Whether what reads from ``sys.stdin`` now would read the data."""
    stream = sys.stdin
    try:
        return type(stream) is TextIOWrapper and stream.fileno() == 0 and holds_data()
    except ValueError:  # it is closed
        return False


def _ask(prompt: object = "", /) -> str:
    if _asks_person():
        raise RuntimeError(NO_KEYBOARD) from None
    return _input(prompt)


_ask.__name__ = _ask.__qualname__ = "input"


def _hook_pdb(pdb: Any) -> None:  # noqa: ANN401 - a module
    """Have ``breakpoint()`` and ``pdb.set_trace()`` say at once that nobody can answer, before they print."""
    begin = pdb.Pdb.set_trace

    def stand_in(self: Any, frame: Any = None, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - of any version
        if self.use_rawinput and _asks_person():
            raise RuntimeError(NO_DEBUGGER) from None
        return begin(self, _getframe(1) if frame is None else frame, *args, **settings)

    stand_in.__name__ = stand_in.__qualname__ = "set_trace"
    pdb.Pdb.set_trace = stand_in


def _refuse_getpass() -> None:
    stream = sys.stdin
    if type(stream) is TextIOWrapper and "fileno" not in vars(stream):
        vars(stream)["fileno"] = _refusing_getpass(stream.buffer.raw.fileno)


def _refusing_getpass(fileno: Callable[[], int]) -> Callable[[], int]:
    """The method of stdin's that getpass calls before it warns, prompts and reads a line."""

    def stand_in() -> int:
        if _getframe(1).f_globals.get("__name__") == "getpass" and holds_data():
            raise RuntimeError(NO_KEYBOARD) from None
        return fileno()

    stand_in.__name__ = stand_in.__qualname__ = "fileno"
    return stand_in


def _empty_in_child() -> None:
    if holds_data():
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)


def _starting(fork_exec: Callable[..., int]) -> Callable[..., int]:
    def stand_in(*args: Any) -> int:  # noqa: ANN401 - those that this version of Python has
        if args[STDIN_OF_CHILD : STDIN_OF_CHILD + 1] != (-1,) or not holds_data():
            return fork_exec(*args)
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            return fork_exec(*args[:STDIN_OF_CHILD], null, *args[STDIN_OF_CHILD + 1 :])
        finally:
            os.close(null)

    stand_in.__name__ = stand_in.__qualname__ = "fork_exec"
    return stand_in


def _spawning(posix_spawn: Callable[..., int]) -> Callable[..., int]:
    def stand_in(*args: Any, file_actions: Any = (), **settings: Any) -> int:  # noqa: ANN401 - as above
        if holds_data():
            file_actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *(file_actions or ())]
        return posix_spawn(*args, file_actions=file_actions, **settings)

    stand_in.__name__ = stand_in.__qualname__ = posix_spawn.__name__
    return stand_in


def _system(command: Any) -> int:  # noqa: ANN401 - as os.system() has it
    if not holds_data():
        return _run_in_shell(command)
    kept, null = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(null, 0)
        return _run_in_shell(command)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(null)


_run_in_shell = os.system
_system.__name__ = _system.__qualname__ = "system"


def _descriptor_to_read(payload: bytes | bytearray) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
        if _fill(descriptor, payload):
            return descriptor
        os.close(descriptor)
    readable, writable = os.pipe()
    if len(payload) <= PIPE_BYTES:
        os.write(writable, payload)
        os.close(writable)
    else:
        _feed_in_background(writable, bytes(payload))
    return readable


def _fill(descriptor: int, payload: bytes | bytearray) -> bool:
    """Write all of it, to be read from the start; False if the limit on the size of files forbids that."""
    rest, at = memoryview(payload), 0
    try:
        while at < len(payload):
            at += os.pwrite(descriptor, rest[at:], at)
    except OSError:  # RLIMIT_FSIZE, or it is a pipe
        return False
    return True


def _feed_in_background(writable: int, payload: bytes) -> None:
    # Without memfd_create(2) there is only a pipe, and code that never reads stdin must not wait for it.
    with modules.StandardImports():
        import threading  # noqa: PLC0415 - only there

    def feed() -> None:
        with FileIO(writable, "w") as file:
            try:
                wire.write_all(file, payload)
            except OSError:  # it was closed
                return

    threading.Thread(target=feed, daemon=True).start()
