"""The audit of the imports that the fork server makes: what they look at, and what they must not do.

A fork can stand for a new interpreter only in runs for which all that its imports looked at is the same:
variables, the working directory, files that belong to no package, modules that are missing. So the ways to all
that are patched while the imports go on. An import must not print, start a thread or a process, draw secrets, or
change the process. Nor may it have an effect outside: in the fork server that would happen once more, for nobody.
Such calls are stopped before they happen, and the module is refused. What native code does without Python's
functions goes unseen.
"""

from __future__ import annotations

import _io
import builtins
import gc
import io
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import modules
from .import_changes import patched
from .process_state import AUDITED, Snapshot
from .process_tree import children

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .import_changes import Changes, Imports, Patch


_fork = os.fork


class Audit:
    """Blames a module for what it does to this process.

    Args:
        imports: tell which module's code runs.
        observed: what they look at.
        has_written: whether anything was printed since its last call.
        in_detail: whether to look at the process each time.
    """

    def __init__(
        self, imports: Imports, observed: Observed, has_written: Callable[[], bool], *, in_detail: bool
    ) -> None:
        self._imports = imports
        self._observed = observed
        self._has_written = has_written
        self._in_detail = in_detail
        self._state = Snapshot(AUDITED)

    def check(self) -> None:
        """Before the code of another module runs: see what the current one has done."""
        if not self._observed.listens:  # it is we who import
            return
        self._observed.listens = False
        reason = "it prints" if self._has_written() else None
        if self._in_detail:
            before, self._state = self._state, Snapshot(AUDITED)
            reason = reason or before.change(self._state) or threads_and_children()
        if reason:
            self._imports.blame(reason)
        self._observed.listens = True

    def check_origins(self) -> None:
        """Blame modules that belong to no package, and those that noted the pid."""
        for name in self._imports.loaded:
            reason = _foreign_origin(name) or (_kept_pid(name) if name in self._observed.asked_for_pid else None)
            if reason:
                self._imports.reasons.setdefault(name, reason)


def references_to_main() -> int:
    """The number of references to ``__main__``."""
    return sys.getrefcount(sys.modules["__main__"])


def is_main_kept(references: int) -> bool:
    """Whether there are more references to ``__main__`` than before, garbage aside."""
    if "__mp_main__" in sys.modules:  # of multiprocessing; each fork gives it its own (code.py)
        references += 1
    if references_to_main() > references:
        gc.collect()
    return references_to_main() > references


def _foreign_origin(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None and not modules.is_installed(module):
        return "it lies in a folder of the user's"
    return None


def _kept_pid(name: str) -> str | None:
    pid = os.getpid()
    if any(type(value) is int and value == pid for value in vars(sys.modules[name]).values()):
        return "it keeps the number of the process"
    return None


def threads_and_children() -> str | None:
    """What to say when this process has a child, or a second thread that outlives a fork."""
    if children(os.getpid()):
        return "it starts a process"
    if _threads() > 1:
        pid = _fork()  # a library that handles forks itself stops its threads
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        if _threads() > 1:
            return "it starts a thread"
    return None


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - as in process_tree


# What those who walk over the whole environment look for: patterns of fnmatch, in lower case.
WALKERS = {"tqdm.utils": "tqdm_*", "urllib.request": "*_proxy"}
EVERYTHING = "*"

# Opik builds its settings while it is imported, for its log handlers and for Sentry. These it reads again each
# time that it uses them (opik/config.py, and whoever calls OpikConfig() there).
READ_AGAIN = {
    "opik.config": frozenset(
        f"OPIK_{name}"
        for name in ("API_KEY", "WORKSPACE", "URL_OVERRIDE", "PROJECT_NAME", "TRACK_DISABLE", "ANALYTICS_ENABLE")
    )
}

# What these draw when they are imported, each fork draws afresh (after_fork.py).
DRAWN_AGAIN = frozenset({"multiprocessing.process", "numpy.random.mtrand"})
# And what is drawn below this function ends up in examples in docstrings.
EXAMPLES = ("scipy.stats._distribution_infrastructure", "_generate_example")

# Special files, and what starting a process or loading a library reads.
UNWATCHED = ("/proc/", "/sys/", "/dev/", "/etc/ld.so")


class Observed:
    """What the imports looked at.

    Args:
        blame: called with what no import may do.
        changes: of variables; told which are read.
    """

    def __init__(self, blame: Callable[[str], None], changes: Changes) -> None:
        self._blame = blame
        self._changes = changes
        self.listens = False  # whether an import is at work, and not our own code
        self.names: set[str] = set()  # of variables
        self.patterns: set[str] = set()  # for names of variables, in lower case
        self.exempt: set[str] = set()  # names of variables that no pattern means
        self.files: set[str] = set()
        self.folder = False  # whether the working directory matters
        self.missing: set[str] = set()  # modules that were looked for
        self.asked_for_pid: set[str] = set()  # modules
        self._effects = SideEffects(self._touch, blame)

    @contextmanager
    def watched(self, names: Collection[str]) -> Iterator[None]:
        """Note what is looked at inside this block, where modules of these names are to be imported."""
        if "sqlite3" in names:
            import sqlite3  # noqa: F401, PLC0415 - before its functions are patched
        patches = self._patches()
        sys.meta_path.append(self)  # a finder that finds nothing
        try:
            with patched(patches, lambda: self.listens):
                yield
        finally:
            sys.meta_path.remove(self)

    def _patches(self) -> list[Patch]:
        import subprocess  # noqa: PLC0415 - not needed where nothing is imported
        import tempfile  # noqa: PLC0415 - likewise

        environ = type(os.environ)
        patches: list[Patch] = [
            (environ, "__getitem__", self._look_up),
            (environ, "__iter__", self._iterate),
            (environ, "__repr__", self._iterate),
            *((os, name, self._start_process) for name in ("system", "posix_spawn", "fork")),
            (subprocess.Popen, "_execute_child", self._start_process),
            (os, "urandom", self._draw),
            (tempfile, "_get_candidate_names", self._draw),  # for unique names
            (os, "getpid", self._ask_for_pid),
            *((os, name, self._ask_for_priority) for name in ("getpriority", "setpriority", "nice")),
            *((os, name, self._ask_for_folder) for name in ("getcwd", "getcwdb")),
            *((os, name, self._touch) for name in ("stat", "listdir", "scandir")),
            (os, "open", self._open_descriptor),
            *((owner, "open", self._open_file) for owner in (io, _io, builtins)),
            *self._effects.patches(),
            *self._changes.patches(),
        ]
        random = sys.modules.get("random")
        if random is not None:
            patches += [(random.SystemRandom, name, self._draw) for name in ("random", "getrandbits", "randbytes")]
        return patches

    def find_spec(self, name: str, *_: object) -> None:
        """As the last finder on ``sys.meta_path``: nobody has found the module."""
        self.missing.add(name.partition(".")[0])

    def _look_up(self, _environ: object, name: object) -> None:
        if _is_iteration(sys._getframe(2)):
            return
        text = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)
        self.names.add(text)
        if not _sets_default(sys._getframe(2)):
            self._changes.read(text)

    def _iterate(self, _environ: object) -> None:
        settings = _settings_being_built()
        if settings is None:
            self._match(WALKERS.get(_caller(), EVERYTHING))
        else:
            prefix = str(settings.model_config.get("env_prefix") or "")
            self._match(prefix.lower() + EVERYTHING)
            self.exempt |= READ_AGAIN.get(settings.__module__, frozenset())

    def _match(self, pattern: str) -> None:
        self.patterns.add(pattern)
        self._changes.walk(pattern)

    def _start_process(self, *_: object, **__: object) -> None:  # which inherits all of that
        self._match(EVERYTHING)
        self.folder = True

    def _draw(self, *_: object, **__: object) -> None:
        if _caller() not in DRAWN_AGAIN and not _makes_examples():
            self._blame("it draws secrets")

    def _ask_for_pid(self) -> None:
        self.asked_for_pid.add(_caller())

    def _ask_for_priority(self, *_: object) -> None:  # while it imports, this process has one that no run has
        self._blame("it asks for the priority of the process, or changes it")

    def _ask_for_folder(self) -> None:
        self.folder = True

    def _touch(self, path: object = ".", *_: object, **__: object) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if text.startswith("/proc/") and text.endswith("/environ"):
                self._match(EVERYTHING)
            if text.startswith("/"):
                self.files.add(text)
            else:
                self.folder = True
                self.files.add(os.path.join(_getcwd(), text))  # noqa: PTH118 - text in, text out

    def _open_file(self, file: object, mode: object = "r", *_: object, **__: object) -> None:
        self._touch(file)
        self._effects.open_file(file, mode)

    def _open_descriptor(self, path: object, flags: object, *_: object, **__: object) -> None:
        self._touch(path)
        self._effects.open_descriptor(path, flags)


_getcwd = os.getcwd


def _settings_being_built() -> Any:  # noqa: ANN401 - a class of pydantic-settings'
    """The settings class for which pydantic-settings reads the environment, None when it is not that."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("pydantic_settings."):
            settings = frame.f_locals.get("settings_cls")
            if isinstance(settings, type) and isinstance(getattr(settings, "model_config", None), dict):
                return settings
        frame = frame.f_back
    return None


def _makes_examples() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) != EXAMPLES:
        frame = frame.f_back
    return frame is not None


def _is_iteration(frame: Any) -> bool:  # noqa: ANN401 - a frame
    """Whether this frame is of Mapping.items() or .values(), which fetch one value after the other."""
    code = frame.f_code
    return bool(code.co_name == "__iter__") and frame.f_globals.get("__name__") == "collections.abc"


def _sets_default(frame: Any) -> bool:  # noqa: ANN401 - a frame
    """Whether a variable is read by ``os.environ.setdefault()``."""
    while frame is not None and frame.f_globals.get("__name__") in {"os", "_collections_abc", "collections.abc"}:
        if frame.f_code.co_name == "setdefault":
            return True
        frame = frame.f_back
    return False


def _caller() -> str:
    """The module that called a patched function."""
    frame: Any = sys._getframe(3)
    while frame is not None and frame.f_globals.get("__name__") in {"os", "collections.abc"}:
        frame = frame.f_back
    if frame is None:
        return ""
    name = str(frame.f_globals.get("__name__"))
    if name == "importlib._bootstrap":  # for a native module, which has no frame of its own
        name = next((str(getattr(thing, "__name__", "")) for thing in frame.f_locals.get("args", ())), name)
    return name


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
IN_MEMORY = (":memory:", "")  # names of databases (https://www.sqlite.org/inmemorydb.html)

CHANGERS = (
    "chmod",
    "chown",
    "lchown",
    "remove",
    "removexattr",
    "rename",
    "replace",
    "rmdir",
    "setxattr",
    "truncate",
    "unlink",
    "utime",
)
MAKERS = ("mkdir", "mkfifo", "mknod")
LINKERS = ("link", "symlink")
CALLERS = ("connect", "connect_ex", "sendto")


class EffectError(BaseException):
    """An import was stopped. Not an Exception: libraries would handle it and go on."""


class SideEffects:
    """Stops calls that would change something outside of this process.

    Args:
        touch: called with a path whose existence decides what a call does.
        blame: called with what was stopped.
    """

    def __init__(self, touch: Callable[[object], None], blame: Callable[[str], None]) -> None:
        self._touch = touch
        self._blame = blame

    def patches(self) -> list[Patch]:
        """The functions that have such effects, except those that open files."""
        patches: list[Patch] = [
            *((os, name, self._change) for name in CHANGERS),
            *((os, name, self._make) for name in MAKERS),
            *((os, name, self._make_link) for name in LINKERS),
            *((socket.socket, name, self._call) for name in CALLERS),
            (socket.socket, "bind", self._bind),
        ]
        databases = [sys.modules[name] for name in ("sqlite3", "sqlite3.dbapi2") if name in sys.modules]
        patches += [(module, "connect", self._open_database) for module in databases]
        return [patch for patch in patches if hasattr(patch[0], patch[1])]

    def open_file(self, file: object, mode: object) -> None:
        """A file is opened by ``open()``."""
        if isinstance(mode, str) and not set(mode).isdisjoint("wax+"):
            self._write(file)

    def open_descriptor(self, path: object, flags: object) -> None:
        """A file is opened by ``os.open()``."""
        if isinstance(flags, int) and flags & WRITING:
            self._write(path)

    def _write(self, path: object) -> None:
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path) != os.devnull:
            self._prevent("it writes a file")

    def _change(self, path: object = None, *_: object, src: object = None, **settings: object) -> None:
        if self._is_there(src if path is None else path, settings) is not False:  # else it fails by itself
            self._prevent("it changes what is in a folder")

    def _make(self, path: object, *_: object, **settings: object) -> None:
        if self._is_there(path, settings) is not True:  # else it fails by itself
            self._prevent("it changes what is in a folder")

    def _make_link(self, _src: object = None, dst: object = None, *_: object, **settings: object) -> None:
        self._make(dst, **settings)

    def _open_database(self, database: object, *_: object, **__: object) -> None:
        if database not in IN_MEMORY:  # it makes the file if it is missing
            self._prevent("it opens a database")

    def _call(self, *_: object) -> None:
        self._prevent("it opens a connection")

    def _bind(self, _socket: object, address: object) -> None:
        if not (isinstance(address, tuple) and address[1:2] == (0,)):  # a test of the address family
            self._prevent("it can be called")

    def _prevent(self, what: str) -> None:
        self._blame(what)
        raise EffectError(what)

    def _is_there(self, path: Any, settings: dict[str, object]) -> bool | None:  # noqa: ANN401 - whatever was passed
        """Whether something is at this path; None for unknown."""
        if any(name.endswith("dir_fd") and value is not None for name, value in settings.items()):
            return None
        self._touch(path)
        try:
            return isinstance(path, int) or os.path.lexists(path)  # a descriptor is that of something
        except (TypeError, ValueError):
            return None
