"""A new process for every run: for tenants, keys and configurations that differ."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, NotRequired, TypedDict, Unpack

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.launch.fork_server.launcher import CAN_FORK, ForkedLauncher
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.spawn import ColdLauncher
from isolated_magic.limits import NO_LIMITS
from isolated_magic.packages.requirements import script_block, wanted
from isolated_magic.request import lists_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isolated_magic.environment import EnvValue
    from isolated_magic.launch.base import Launcher, ProcessLauncher
    from isolated_magic.launch.fork_server.launcher import Preload
    from isolated_magic.limits import Limits
    from isolated_magic.models import ProcessLaunchMethod
    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.packages.requirements import Packages, Wanted
    from isolated_magic.packages.uv import OnProgress
    from isolated_magic.request import RunOptions, RunRequest

DEFAULT_STANDBY = 2
MOST_STANDBY = 64  # each is a process
DEFAULT_IDLE_SECS = 600.0
LONGEST_IDLE_SECS = 1e9  # thirty years
DEFAULT_MAX_ENVIRONMENTS = 4
REMEMBER_VARIABLE = "ISOLATED_MAGIC_REMEMBER"


class LaunchSettings(TypedDict):
    """How runs start: see :class:`IsolatedSubprocessExecutor`."""

    launch: ProcessLaunchMethod
    preload: Preload
    standby: int
    idle_secs: float
    remember: bool
    max_environments: NotRequired[int]


class IsolatedSubprocessExecutor(Executor):
    """Runs each piece of code in a new Python process with its own environment.

    Args:
        timeout_secs: default time limit of a run in seconds; infinity for no limit.
        launch: ``"forked"`` forks from a server that has the run's modules imported, where the fork behaves like
            a new interpreter; ``"cold"`` starts a new interpreter every time, as always happens except on Linux.
        preload: modules that fork servers import: ``"learned"`` for those that earlier runs of programs with the
            same imports imported; a list of names for every run; None for none.
        standby: number of forks of a fork server that wait for a run, 64 at most.
        idle_secs: seconds after which an unused fork server ends. The next run starts another one.
        remember: whether what was learned is kept for later processes in the same working directory: names of
            installed modules, in the user's cache folder. The environment variable ``ISOLATED_MAGIC_REMEMBER``,
            ``on`` or ``off``, goes over it.
        limits: default limits of a run.
        packages: requirements that runs have installed over the packages of their interpreter, such as
            ``["rapidfuzz>=3"]``, or :class:`Packages`; None for none. They are installed with the first run.
        python: the interpreter of runs: a version such as ``"3.13"``, or a path, of a virtual environment too;
            None for that of this process.
        max_environments: number of other environments than that of this process that have fork servers; the one
            that was used longest ago gives way.

    Raises:
        InvalidRequestError: one of these is invalid.
        UnsupportedPlatformError: this platform has no processes.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> code = "import os; print('for', os.environ['TENANT_ID']); {'length': len(data['answer'])}"
        >>> with IsolatedSubprocessExecutor(timeout_secs=30) as executor:
        ...     result = executor.run(code, {"answer": "yes"}, env_vars={"TENANT_ID": "t1"})
        >>> result["length"].value, result.stdout.strip()
        (3, 'for t1')
    """

    def __init__(  # noqa: PLR0913 - each by name
        self,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        launch: ProcessLaunchMethod = "forked",
        preload: Preload = "learned",
        standby: int = DEFAULT_STANDBY,
        idle_secs: float = DEFAULT_IDLE_SECS,
        remember: bool = True,
        limits: Limits = NO_LIMITS,
        packages: Packages | Sequence[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        max_environments: int = DEFAULT_MAX_ENVIRONMENTS,
    ) -> None:
        wanted(packages, python)  # which refuses what is none
        settings: LaunchSettings = {
            "launch": launch,
            "preload": preload,
            "standby": standby,
            "idle_secs": idle_secs,
            "remember": remember,
            "max_environments": max_environments,
        }
        self._packages, self._python = packages, python
        self._environments = _Environments(settings)
        super().__init__(_launcher_with(settings), "isolated_subprocess", timeout_secs, limits)

    def configure(self, settings: LaunchSettings) -> None:
        """Start runs with these settings of the constructor from now on. Those that go on are left alone.

        Args:
            settings: all of ``launch``, ``preload``, ``standby``, ``idle_secs`` and ``remember``.

        Raises:
            InvalidRequestError: one of them is not what it should be.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.configure(
            ...         {"launch": "cold", "preload": None, "standby": 0, "idle_secs": 60, "remember": False}
            ...     )
            ...     executor.run("0.5").launch
            'cold'
        """
        launcher = _launcher_with(settings)
        self._environments = _Environments(settings)
        self._launcher = launcher  # the one before ends with the last run that has it

    def start_ahead(self) -> None:
        """Start fork servers for what earlier processes ran here, in the background. Returns at once.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.start_ahead()
        """
        self._launcher.start_ahead(super()._any_request)

    @lists_options
    def prepare(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest:
        """As :meth:`Executor.prepare`; missing packages of the run are installed first, which may take long.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The frozen run.

        Raises:
            InvalidRequestError: it cannot be run as given, or its packages cannot be installed.
            TypeError: there is no such option.
            KeyboardInterrupt: this thread was interrupted while packages were installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     request = executor.prepare("0.5", timeout_secs=10)
            >>> request.timeout_secs
            10.0
        """
        packages, python = options.pop("packages", None), options.pop("python", None)
        request = super().prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        asked_for = self._wanted(request, packages, python)
        return request if asked_for is None else replace(request, interpreter=_interpreter_for(asked_for))

    def install(
        self,
        code: str | os.PathLike[str] = "",
        *,
        packages: Packages | Sequence[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        upgrade: bool = False,
        on_progress: OnProgress | None = None,
    ) -> dict[str, str]:
        """Install what runs of this code need, unless it is there; runs do so by themselves, and say nothing.

        Args:
            code: as for :meth:`execute`: what an inline script block in it says counts.
            packages: requirements, or Packages; None for those of the executor.
            python: a version or a path; None for that of the executor.
            upgrade: whether versions are chosen anew. Runs that go on keep theirs.
            on_progress: called with a line of text, a few times a second.

        Returns:
            The version of Python, and of each package that was installed, by name; empty for runs that have the
            environment of this process.

        Raises:
            InvalidRequestError: it cannot be installed.
            KeyboardInterrupt: this thread was interrupted; nothing is left half installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.install("0.5")  # needs nothing
            {}
        """
        asked_for = self._wanted(super().prepare(code), packages, python)
        if asked_for is None:
            return {}
        interpreter = _interpreter_for(asked_for, upgrade=upgrade, on_progress=on_progress)
        return {} if interpreter is None else interpreter.told

    def _wanted(self, request: RunRequest, packages: object, python: object) -> Wanted | None:
        """What a run is to have installed, by its options or else by those of the executor, and by its code."""
        script = script_block(request.source, request.path)
        packages = self._packages if packages is None and script is None else packages
        python = self._python if python is None and script is None else python
        return wanted(packages, python, script)

    def _any_request(self) -> RunRequest:
        return self.prepare("")

    def _launcher_for(self, request: RunRequest) -> Launcher:
        if request.interpreter is None:
            return self._launcher
        return self._environments.launcher_for(request.interpreter)

    def _launchers(self) -> Sequence[Launcher]:
        return (self._launcher, *self._environments.launchers())


class _Environments:
    """The launchers of interpreters other than that of this process.

    One that gives way is dropped, and ends with the last run that has it.

    Args:
        settings: of all of them.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings = settings
        self._launchers: OrderedDict[Interpreter, ProcessLauncher] = OrderedDict()  # used last is last
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        forget_in_forks(self)

    def launcher_for(self, interpreter: Interpreter) -> ProcessLauncher:
        """That of this interpreter."""
        with self._lock:
            launcher = self._launchers.get(interpreter)
            if launcher is None:
                launcher = self._launchers[interpreter] = _launcher_with(self._settings, interpreter)
            self._launchers.move_to_end(interpreter)
            while len(self._launchers) > self._settings.get("max_environments", DEFAULT_MAX_ENVIRONMENTS):
                self._launchers.popitem(last=False)
            return launcher

    def launchers(self) -> Sequence[ProcessLauncher]:
        """All of them."""
        with self._lock:
            return [*self._launchers.values()]

    def forget(self) -> None:
        """In a fork of the owner: a lock may be held by nobody."""
        self._lock = threading.RLock()


def _interpreter_for(
    asked_for: Wanted, *, upgrade: bool = False, on_progress: OnProgress | None = None
) -> Interpreter | None:
    from isolated_magic.packages.environments import interpreter_for  # noqa: PLC0415 - most runs need none

    return interpreter_for(asked_for, upgrade=upgrade, on_progress=on_progress)


def _launcher_with(settings: LaunchSettings, interpreter: Interpreter | None = None) -> ProcessLauncher:
    check_launch(**settings)
    return process_launcher(
        settings["launch"],
        settings["preload"],
        settings["standby"],
        settings["idle_secs"],
        remember=settings["remember"],
        interpreter=interpreter,
    )


def check_launch(
    launch: ProcessLaunchMethod,
    preload: Preload,
    standby: int,
    idle_secs: float,
    remember: bool = True,
    max_environments: int = DEFAULT_MAX_ENVIRONMENTS,
) -> None:
    """Refuse settings that :class:`IsolatedSubprocessExecutor` cannot take.

    Raises:
        InvalidRequestError: the message says which one and what to give instead.
    """
    if launch not in {"forked", "cold"}:
        raise InvalidRequestError(f"launch is {launch!r}: give 'forked' or 'cold'.")
    is_number = isinstance(standby, int) and not isinstance(standby, bool)
    if not is_number or standby < 0:
        raise InvalidRequestError(f"standby is {standby!r}: give a number of processes, 0 for none.")
    if standby > MOST_STANDBY:
        raise InvalidRequestError(
            f"standby is too large: each is a process that waits. Give {MOST_STANDBY} at most."
        )
    if not isinstance(idle_secs, (int, float)) or isinstance(idle_secs, bool) or not idle_secs > 0:
        raise InvalidRequestError(f"idle_secs is {idle_secs!r}: give a number of seconds greater than zero.")
    if preload is not None and preload != "learned":
        _check_names(preload)
    if not isinstance(remember, bool):
        raise InvalidRequestError(f"remember is {remember!r}: give True or False.")
    if not isinstance(max_environments, int) or isinstance(max_environments, bool) or max_environments < 1:
        raise InvalidRequestError(f"max_environments is {max_environments!r}: give a number greater than zero.")


def process_launcher(
    launch: ProcessLaunchMethod = "forked",
    preload: Preload = "learned",
    standby: int = DEFAULT_STANDBY,
    idle_secs: float = DEFAULT_IDLE_SECS,
    *,
    remember: bool = True,
    interpreter: Interpreter | None = None,
) -> ProcessLauncher:
    """A launcher with these settings of :class:`IsolatedSubprocessExecutor`.

    Raises:
        InvalidRequestError: one of them is not what it should be.
    """
    check_launch(launch, preload, standby, idle_secs, remember)
    remembers = _remembers(remember)
    if launch == "cold" or not CAN_FORK:
        return ColdLauncher()
    return ForkedLauncher(
        preload, standby, min(idle_secs, LONGEST_IDLE_SECS), remember=remembers, interpreter=interpreter
    )


def _remembers(setting: bool) -> bool:
    """Whether to remember: the environment variable goes over the setting."""
    text = os.environ.get(REMEMBER_VARIABLE, "").strip().lower()
    if text not in {"", "on", "off"}:
        raise InvalidRequestError(f"The environment variable {REMEMBER_VARIABLE} is {text!r}: give on or off.")
    return text == "on" if text else setting


def _check_names(preload: object) -> None:
    names = list(preload) if isinstance(preload, (list, tuple, set, frozenset)) else None
    if names is None or not all(isinstance(name, str) and _is_module_name(name) for name in names):
        raise InvalidRequestError(
            f"preload is {preload!r}: give 'learned', a list of module names such as ['numpy'], or None."
        )


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
