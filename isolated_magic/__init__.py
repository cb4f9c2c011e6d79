"""Run a piece of Python in its own process with its own environment, from a notebook or from code.

In a notebook::

    %load_ext isolated_magic

    %%isolated --env TENANT_ID=t1 --data row
    ...

In code::

    from isolated_magic import IsolatedSubprocessExecutor
    IsolatedSubprocessExecutor().execute("len(data['answer'])", {"answer": "yes"})

The names below are loaded on first use, so importing the package imports neither IPython nor OpenTelemetry.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.distributed.executor import DistributedExecutor
    from isolated_magic.errors import (
        EvaluationStoppedError,
        InvalidRequestError,
        IsolatedError,
        LaunchError,
        LimitWarning,
        MissingLibraryError,
        NoSuchRowError,
        NoSuchScoreError,
        OptionError,
        RunInterrupted,
        SettingError,
        StillRunningError,
        UnsupportedPlatformError,
    )
    from isolated_magic.evaluation.compare import Comparison, MetricComparison
    from isolated_magic.evaluation.groups import Groups
    from isolated_magic.evaluation.progress import Progress
    from isolated_magic.evaluation.result import EvaluationInterrupted, EvaluationResult
    from isolated_magic.evaluation.row_result import Attempt, RowResult
    from isolated_magic.executors.background import BackgroundRun
    from isolated_magic.executors.base import Executor
    from isolated_magic.executors.docker import DockerExecutor
    from isolated_magic.executors.factory import Recommendation, create_executor, recommend
    from isolated_magic.executors.isolated import IsolatedSubprocessExecutor
    from isolated_magic.executors.process import ProcessExecutor
    from isolated_magic.history import History
    from isolated_magic.launch.base import Preloaded
    from isolated_magic.limits import Limits
    from isolated_magic.models import DisplayData, Found, RunError, RunFailedError, RunResult, Score, Timings
    from isolated_magic.packages.requirements import Packages
    from isolated_magic.redaction.redactor import Secret
    from isolated_magic.request import FigureSettings

__version__ = "0.1.0"

_HOMES = {
    "Attempt": "isolated_magic.evaluation.row_result",
    "BackgroundRun": "isolated_magic.executors.background",
    "Comparison": "isolated_magic.evaluation.compare",
    "DisplayData": "isolated_magic.models",
    "DistributedExecutor": "isolated_magic.distributed.executor",
    "DockerExecutor": "isolated_magic.executors.docker",
    "EvaluationInterrupted": "isolated_magic.evaluation.result",
    "EvaluationResult": "isolated_magic.evaluation.result",
    "EvaluationStoppedError": "isolated_magic.errors",
    "Executor": "isolated_magic.executors.base",
    "FigureSettings": "isolated_magic.request",
    "Found": "isolated_magic.models",
    "Groups": "isolated_magic.evaluation.groups",
    "History": "isolated_magic.history",
    "InvalidRequestError": "isolated_magic.errors",
    "IsolatedError": "isolated_magic.errors",
    "IsolatedSubprocessExecutor": "isolated_magic.executors.isolated",
    "LaunchError": "isolated_magic.errors",
    "LimitWarning": "isolated_magic.errors",
    "Limits": "isolated_magic.limits",
    "MetricComparison": "isolated_magic.evaluation.compare",
    "MissingLibraryError": "isolated_magic.errors",
    "NoSuchRowError": "isolated_magic.errors",
    "NoSuchScoreError": "isolated_magic.errors",
    "OptionError": "isolated_magic.errors",
    "Packages": "isolated_magic.packages.requirements",
    "Preloaded": "isolated_magic.launch.base",
    "ProcessExecutor": "isolated_magic.executors.process",
    "Progress": "isolated_magic.evaluation.progress",
    "Recommendation": "isolated_magic.executors.factory",
    "RowResult": "isolated_magic.evaluation.row_result",
    "RunError": "isolated_magic.models",
    "RunFailedError": "isolated_magic.models",
    "RunInterrupted": "isolated_magic.errors",
    "RunResult": "isolated_magic.models",
    "Score": "isolated_magic.models",
    "Secret": "isolated_magic.redaction.redactor",
    "SettingError": "isolated_magic.errors",
    "StillRunningError": "isolated_magic.errors",
    "Timings": "isolated_magic.models",
    "UnsupportedPlatformError": "isolated_magic.errors",
    "create_executor": "isolated_magic.executors.factory",
    "recommend": "isolated_magic.executors.factory",
}

__all__ = [
    "Attempt",
    "BackgroundRun",
    "Comparison",
    "DisplayData",
    "DistributedExecutor",
    "DockerExecutor",
    "EvaluationInterrupted",
    "EvaluationResult",
    "EvaluationStoppedError",
    "Executor",
    "FigureSettings",
    "Found",
    "Groups",
    "History",
    "InvalidRequestError",
    "IsolatedError",
    "IsolatedSubprocessExecutor",
    "LaunchError",
    "LimitWarning",
    "Limits",
    "MetricComparison",
    "MissingLibraryError",
    "NoSuchRowError",
    "NoSuchScoreError",
    "OptionError",
    "Packages",
    "Preloaded",
    "ProcessExecutor",
    "Progress",
    "Recommendation",
    "RowResult",
    "RunError",
    "RunFailedError",
    "RunInterrupted",
    "RunResult",
    "Score",
    "Secret",
    "SettingError",
    "StillRunningError",
    "Timings",
    "UnsupportedPlatformError",
    "create_executor",
    "load_ipython_extension",
    "recommend",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%%isolated`` and ``%isolated``; called by ``%load_ext isolated_magic``.

    Args:
        shell: the IPython shell that loads the extension.

    Raises:
        UnsupportedPlatformError: the platform has no processes (Pyodide), or this version cannot supervise them
            (Windows).

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> from isolated_magic import load_ipython_extension, unload_ipython_extension
        >>> shell = InteractiveShell.instance()
        >>> load_ipython_extension(shell)
        >>> "isolated" in shell.magics_manager.magics["cell"]
        True
        >>> unload_ipython_extension(shell)
    """
    from isolated_magic.launch.base import require_processes  # noqa: PLC0415 - import stays cheap

    require_processes()
    from isolated_magic.magic.magics import load  # noqa: PLC0415 - needs IPython

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and stop their runs; called by ``%unload_ext isolated_magic``.

    Args:
        shell: the IPython shell that unloads the extension.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> from isolated_magic import load_ipython_extension, unload_ipython_extension
        >>> shell = InteractiveShell.instance()
        >>> load_ipython_extension(shell)
        >>> unload_ipython_extension(shell)
        >>> "isolated" in shell.magics_manager.magics["cell"]
        False
    """
    from isolated_magic.magic.magics import unload  # noqa: PLC0415 - needs IPython

    unload(shell)
