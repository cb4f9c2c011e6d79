"""Every error that isolated_magic raises.

::

    IsolatedError(Exception)
    |-- EvaluationStoppedError(RuntimeError)    map() cannot go on; the rows before were yielded
    |-- InvalidRequestError(ValueError)         invalid code, data, environment or settings: code 400
    |-- LaunchError                             a process could not be started, or was lost: code 500
    |-- MissingLibraryError(ImportError)        a method needs a library that is not installed
    |-- NoSuchRowError(KeyError)                an evaluation has no row, or no group of rows, of that name
    |-- NoSuchScoreError(KeyError)              result["name"] for a name without a score, or with several
    |-- OptionError                             invalid line of the magic: an option, a variable, a file
    |-- RunFailedError                          raised by the magic for a failed run; has .result (see models.py)
    |-- SettingError(ValueError)                invalid setting in a profile or in pyproject.toml
    |-- StillRunningError(RuntimeError)         scores of a background run that has not ended
    `-- UnsupportedPlatformError(RuntimeError)  this platform has no processes
    RunInterrupted(KeyboardInterrupt)           the kernel was interrupted, and the run stopped
    LimitWarning(UserWarning)                   a warning: a limit is enforced only in part

The library reports a failed run in its result. Only the magic raises for one, so that Run All, papermill and nbval
stop at the failing cell.
"""

from __future__ import annotations

from isolated_magic.sanitize import wrapped


class IsolatedError(Exception):
    """Base of all our errors. IPython shows one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython prints instead of a traceback: its hook for any exception."""
        return wrapped(f"{type(self).__name__}: {self}").split("\n")


class EvaluationStoppedError(IsolatedError, RuntimeError):
    """An evaluation ended before all rows were done. The results that there are came before, from ``map()``."""


class InvalidRequestError(IsolatedError, ValueError):
    """The code, data, environment or a setting is invalid. The run has code 400."""


class LaunchError(IsolatedError):
    """No process could be started for the run, or its guardian was lost. The run has code 500."""


class MissingLibraryError(IsolatedError, ImportError):
    """A library that the call needs is not installed. The message says how to install it."""


class NoSuchRowError(IsolatedError, KeyError):
    """An evaluation has no row of that key, or several; or no group of rows of that name."""

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class NoSuchScoreError(IsolatedError, KeyError):
    """A result has no score of that name, or several."""

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class OptionError(IsolatedError):
    """The line of the magic is invalid. The message names the option and says what to write.

    Not IPython's ``UsageError``: it sends no error message to the front end, so that nbval passes over it.
    """


class SettingError(IsolatedError, ValueError):
    """A setting of the extension is invalid. The message says which, where it is set, and why."""


class StillRunningError(IsolatedError, RuntimeError):
    """A background run has not ended, so it has no scores yet. The message says how to wait for it."""


class UnsupportedPlatformError(IsolatedError, RuntimeError):
    """This platform has no processes, or cannot supervise them."""


class RunInterrupted(KeyboardInterrupt):
    """The kernel was interrupted during a run, or the run was stopped. All its processes have ended.

    Args:
        text: the message, which says what was stopped.
    """

    def __init__(self, text: str = "The run was stopped, with everything that it had started.") -> None:
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class LimitWarning(UserWarning):
    """A limit is enforced only in part, without a control group. Issued once per process for each limit."""
