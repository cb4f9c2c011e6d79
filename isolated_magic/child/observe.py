"""What importing modules looks at, other than the modules themselves, and what it would do to anything else.

A template is worth a fresh interpreter only to runs for which all that its imports looked at is still the same:
variables, the working directory, files that are not a part of any package, modules that were not there. What they
drew from the system's randomness is in no other interpreter the same. The ways to all that are patched while the
imports go on, and as before after it. What leaves a trace outside the process is not let through (``effects.py``).
"""

from __future__ import annotations

import _io
import builtins
import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .effects import Effects
from .patches import patched

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from .changes import Changes
    from .patches import Patch

# What those who walk over the whole environment look for there, as fnmatch has it, in lower case.
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

# What these draw when they are imported, each fork draws afresh (randomness.py).
DRAWN_AGAIN = frozenset({"multiprocessing.process", "numpy.random.mtrand"})
# And what is drawn below this function ends up in examples in docstrings.
EXAMPLES = ("scipy.stats._distribution_infrastructure", "_generate_example")

# Special files, and what every process reads that starts a process or loads a library.
UNWATCHED = ("/proc/", "/sys/", "/dev/", "/etc/ld.so")


class Observed:
    """What was looked at.

    Args:
        blame: called with what must not happen in a template.
        changes: of variables; they are told which are looked at.

    Attributes:
        listens: whether what happens now is an import's doing, and not ours.
        names: of variables.
        patterns: for names of variables, in lower case.
        exempt: names that no pattern means.
        files: paths.
        folder: whether the working directory was asked for.
        missing: names of modules that were looked for and are not there.
        asked_for_pid: names of modules that asked for the number of this process.
        effects: what was not let through.
    """

    def __init__(self, blame: Callable[[str], None], changes: Changes) -> None:
        self._blame = blame
        self._changes = changes
        self.listens = False
        self.names: set[str] = set()
        self.patterns: set[str] = set()
        self.exempt: set[str] = set()
        self.files: set[str] = set()
        self.folder = False
        self.missing: set[str] = set()
        self.asked_for_pid: set[str] = set()
        self.effects = Effects(self.touch, blame)

    def look_up(self, _environ: object, name: object) -> None:
        """A variable was asked for by name."""
        if _is_walk(sys._getframe(2)):
            return
        text = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)
        self.names.add(text)
        if not _sets_default(sys._getframe(2)):
            self._changes.read(text)

    def _walk(self, pattern: str) -> None:
        self.patterns.add(pattern)
        self._changes.walk(pattern)

    def hand_down(self, *_: object, **__: object) -> None:
        """A process was started: it has the whole environment and the working directory."""
        self._walk(EVERYTHING)
        self.folder = True

    def draw(self, *_: object, **__: object) -> None:
        """Something was drawn from the system's randomness."""
        if _caller() not in DRAWN_AGAIN and not _makes_examples():
            self._blame("it draws secrets")

    def ask_for_pid(self) -> None:
        """The number of this process was asked for."""
        self.asked_for_pid.add(_caller())

    def ask_for_priority(self, *_: object) -> None:
        """While it imports, this process gives way to others, as no run does."""
        self._blame("it asks for the priority of the process, or changes it")

    def find_spec(self, name: str, *_: object) -> None:
        """Called by the import machinery for what no other finder has found."""
        self.missing.add(name.partition(".")[0])

    def walk(self, _environ: object) -> None:
        """Somebody walked over the whole environment."""
        settings = _settings_being_built()
        if settings is None:
            self._walk(WALKERS.get(_caller(), EVERYTHING))
        else:
            prefix = str(settings.model_config.get("env_prefix") or "")
            self._walk(prefix.lower() + EVERYTHING)
            self.exempt |= READ_AGAIN.get(settings.__module__, frozenset())

    def ask_for_folder(self) -> None:
        """The working directory was asked for."""
        self.folder = True

    def touch(self, path: object = ".", *_: object, **__: object) -> None:
        """A file was looked for, or a folder was listed."""
        if isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if text.startswith("/proc/") and text.endswith("/environ"):
                self._walk(EVERYTHING)
            if text.startswith("/"):
                self.files.add(text)
            else:
                self.folder = True
                self.files.add(os.path.join(_getcwd(), text))  # noqa: PTH118 - text in, text out

    def open_file(self, file: object, mode: object = "r", *_: object, **__: object) -> None:
        """A file was opened with ``open()``."""
        self.touch(file)
        self.effects.open_file(file, mode)

    def open_descriptor(self, path: object, flags: object, *_: object, **__: object) -> None:
        """A file was opened with ``os.open()``."""
        self.touch(path)
        self.effects.open_descriptor(path, flags)


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


def _is_walk(frame: Any) -> bool:  # noqa: ANN401 - a frame
    """Whether that is where Mapping.items() or .values() fetches one value after the other."""
    code = frame.f_code
    return bool(code.co_name == "__iter__") and frame.f_globals.get("__name__") == "collections.abc"


def _sets_default(frame: Any) -> bool:  # noqa: ANN401 - a frame
    """Whether a variable is asked for on behalf of ``os.environ.setdefault()``."""
    while frame is not None and frame.f_globals.get("__name__") in {"os", "_collections_abc", "collections.abc"}:
        if frame.f_code.co_name == "setdefault":
            return True
        frame = frame.f_back
    return False


def _caller() -> str:
    """The module that called what is patched."""
    frame: Any = sys._getframe(3)
    while frame is not None and frame.f_globals.get("__name__") in {"os", "collections.abc"}:
        frame = frame.f_back
    if frame is None:
        return ""
    name = str(frame.f_globals.get("__name__"))
    if name == "importlib._bootstrap":  # for a native module, which has no frame of its own
        name = next((str(getattr(thing, "__name__", "")) for thing in frame.f_locals.get("args", ())), name)
    return name


@contextmanager
def observing(observed: Observed, names: Collection[str], others: Iterable[Patch]) -> Iterator[None]:
    """Notes what is looked at inside this block.

    Args:
        observed: notes it.
        names: of the modules that are to be imported there.
        others: more calls to be noted.
    """
    if "sqlite3" in names:
        import sqlite3  # noqa: F401, PLC0415 - before its ways to the outside are looked for
    environ = type(os.environ)
    patches: list[Patch] = [
        (environ, "__getitem__", observed.look_up),
        (environ, "__iter__", observed.walk),
        (environ, "__repr__", observed.walk),
        (os, "system", observed.hand_down),
        (os, "posix_spawn", observed.hand_down),
        (os, "fork", observed.hand_down),
        (os, "urandom", observed.draw),
        (os, "getpid", observed.ask_for_pid),
        *((os, name, observed.ask_for_priority) for name in ("getpriority", "setpriority", "nice")),
        (os, "getcwd", observed.ask_for_folder),
        (os, "getcwdb", observed.ask_for_folder),
        (os, "stat", observed.touch),
        (os, "listdir", observed.touch),
        (os, "scandir", observed.touch),
        (os, "open", observed.open_descriptor),
        *((owner, "open", observed.open_file) for owner in (io, _io, builtins)),
        *observed.effects.patches(),
        *others,
    ]
    import subprocess  # noqa: PLC0415 - a template that imports nothing does without

    patches.append((subprocess.Popen, "_execute_child", observed.hand_down))
    import tempfile  # noqa: PLC0415 - likewise

    patches.append((tempfile, "_get_candidate_names", observed.draw))  # for a name that no other process has
    random = sys.modules.get("random")
    if random is not None:
        patches += [(random.SystemRandom, name, observed.draw) for name in ("random", "getrandbits", "randbytes")]
    sys.meta_path.append(observed)  # a finder that finds nothing
    try:
        with patched(patches, lambda: observed.listens):
            yield
    finally:
        sys.meta_path.remove(observed)
