"""A new process for every run: for tenants, keys and configurations that differ."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.launch.fork_server.launcher import CAN_FORK, ForkedLauncher
from isolated_magic.launch.spawn import ColdLauncher
from isolated_magic.limits import NO_LIMITS

if TYPE_CHECKING:
    from isolated_magic.launch.base import ProcessLauncher
    from isolated_magic.launch.fork_server.launcher import Preload
    from isolated_magic.limits import Limits
    from isolated_magic.models import ProcessLaunchMethod

DEFAULT_STANDBY = 2
MOST_STANDBY = 64  # each is a process
DEFAULT_IDLE_SECS = 600.0
LONGEST_IDLE_SECS = 1e9  # thirty years
REMEMBER_VARIABLE = "ISOLATED_MAGIC_REMEMBER"


class LaunchSettings(TypedDict):
    """How runs start: see :class:`IsolatedSubprocessExecutor`."""

    launch: ProcessLaunchMethod
    preload: Preload
    standby: int
    idle_secs: float
    remember: bool


class IsolatedSubprocessExecutor(Executor):
    """Runs each piece of code in a new Python process with its own environment.

    ::

        with IsolatedSubprocessExecutor(timeout_secs=30) as executor:
            executor.execute("len(data['answer'])", {"answer": "yes"}, env_vars={"TENANT_ID": "t1"})

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

    Raises:
        InvalidRequestError: one of these is invalid.
        UnsupportedPlatformError: this platform has no processes.
    """

    def __init__(
        self,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        launch: ProcessLaunchMethod = "forked",
        preload: Preload = "learned",
        standby: int = DEFAULT_STANDBY,
        idle_secs: float = DEFAULT_IDLE_SECS,
        remember: bool = True,
        limits: Limits = NO_LIMITS,
    ) -> None:
        launcher = process_launcher(launch, preload, standby, idle_secs, remember=remember)
        super().__init__(launcher, "isolated_subprocess", timeout_secs, limits)

    def configure(self, settings: LaunchSettings) -> None:
        """Start runs with these settings of the constructor from now on. Those that go on are left alone.

        Raises:
            InvalidRequestError: one of them is not what it should be.
        """
        self._launcher = process_launcher(**settings)  # the one before ends with the last run that has it

    def start_ahead(self) -> None:
        """Start fork servers for what earlier processes ran here, in the background. Returns at once."""
        self._launcher.start_ahead(self._any_request)


def check_launch(
    launch: ProcessLaunchMethod, preload: Preload, standby: int, idle_secs: float, remember: bool = True
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


def process_launcher(
    launch: ProcessLaunchMethod = "forked",
    preload: Preload = "learned",
    standby: int = DEFAULT_STANDBY,
    idle_secs: float = DEFAULT_IDLE_SECS,
    *,
    remember: bool = True,
) -> ProcessLauncher:
    """A launcher with these settings of :class:`IsolatedSubprocessExecutor`.

    Raises:
        InvalidRequestError: one of them is not what it should be.
    """
    check_launch(launch, preload, standby, idle_secs, remember)
    remembers = _remembers(remember)
    if launch == "cold" or not CAN_FORK:
        return ColdLauncher()
    return ForkedLauncher(preload, standby, min(idle_secs, LONGEST_IDLE_SECS), remember=remembers)


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
