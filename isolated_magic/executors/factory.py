"""The strategies by name, and which of them to choose."""

from __future__ import annotations

import difflib
import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from isolated_magic.executors.base import Executor


ExecutorName: TypeAlias = Literal["isolated", "process", "docker", "distributed"]

# Imported when they are asked for: one needs no docker SDK for the others.
HOMES: dict[ExecutorName, tuple[str, str]] = {
    "isolated": ("isolated_magic.executors.isolated", "IsolatedSubprocessExecutor"),
    "process": ("isolated_magic.executors.process", "ProcessExecutor"),
    "docker": ("isolated_magic.executors.docker", "DockerExecutor"),
    "distributed": ("isolated_magic.distributed.executor", "DistributedExecutor"),
}


NAMES = ", ".join(map(repr, HOMES))


def create_executor(name: ExecutorName, **settings: object) -> Executor:
    """Create an executor by the name of its strategy.

    Args:
        name: ``"isolated"``, ``"process"``, ``"docker"`` or ``"distributed"``.
        settings: keyword arguments of its class.

    Returns:
        The executor; use it in a ``with`` statement, or call its ``teardown()``.

    Raises:
        InvalidRequestError: the strategy or a setting does not exist, or a setting is invalid.
        MissingLibraryError: a library that it needs is not installed.
        UnsupportedPlatformError: this platform has no processes.

    Example:
        >>> from isolated_magic import create_executor
        >>> with create_executor("process", workers=1, timeout_secs=10) as executor:
        ...     executor.execute("0.5")
        {'scores': [{'name': 'score', 'value': 0.5, 'reason': None}]}
        >>> create_executor("process", worker=1)
        Traceback (most recent call last):
        isolated_magic.errors.InvalidRequestError: ProcessExecutor has no setting 'worker': did you mean workers?
    """
    if name not in HOMES:
        raise InvalidRequestError(f"There is no executor {name!r}: give one of {NAMES}.")
    module, class_name = HOMES[name]
    kind = getattr(importlib.import_module(module), class_name)
    known = list(inspect.signature(kind).parameters)
    for setting in settings:
        if setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise InvalidRequestError(f"{class_name} has no setting {setting!r}: {hint}")
    made: Executor = kind(**settings)
    return made


@dataclass(frozen=True)
class Recommendation:
    """The strategy that :func:`recommend` recommends.

    Args:
        executor: its name, for ``create_executor()`` and ``--executor``.
        because: the reason, in one sentence.

    Example:
        >>> from isolated_magic import recommend
        >>> print(recommend())
        isolated: each run has a process of its own, so its variables are its own, from its start.
    """

    executor: ExecutorName
    because: str

    def __str__(self) -> str:
        return f"{self.executor}: {self.because}"


def recommend(
    *, trusted: bool = True, own_environment: bool = True, clean_state: bool = True, many_runs: bool = False
) -> Recommendation:
    """Recommend a strategy. The arguments are considered in this order until one decides.

    The defaults: trusted code, own variables and a clean state for each run, few runs.

    Args:
        trusted: whether you would run the code in your own shell: it can read your files and use your network.
        own_environment: whether runs need their own variables, such as the keys of different tenants.
        clean_state: whether a run must not see what earlier runs left in modules: caches, patches, settings.
        many_runs: whether there are thousands of short runs, so that a millisecond each matters.

    Returns:
        The name of a strategy, and the reason.

    Raises:
        InvalidRequestError: an answer is neither True nor False.

    Example:
        >>> from isolated_magic import recommend
        >>> recommend(trusted=False).executor
        'docker'
        >>> recommend(own_environment=False, clean_state=False, many_runs=True).executor
        'process'
    """
    answers = {
        "trusted": trusted,
        "own_environment": own_environment,
        "clean_state": clean_state,
        "many_runs": many_runs,
    }
    for name, answer in answers.items():
        if not isinstance(answer, bool):
            raise InvalidRequestError(f"{name} is {answer!r}: answer True or False.")
    if not trusted:
        return Recommendation(
            "docker",
            "code that nobody trusts needs the walls of a container: no network, no file, no variable of yours.",
        )
    if own_environment:
        return Recommendation(
            "isolated", "each run has a process of its own, so its variables are its own, from its start."
        )
    if clean_state:
        return Recommendation("isolated", "each run starts from nothing, so no run finds what another one left.")
    if many_runs:
        return Recommendation(
            "process", "workers that are used again spare each run its process; all share one environment."
        )
    return Recommendation("isolated", "a few milliseconds a run are not felt, and nothing is shared by accident.")
