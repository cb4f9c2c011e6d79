"""Every error that isolated_magic raises.

::

    IsolatedError(Exception)
    |-- InvalidRequestError(ValueError)         what was asked for cannot be run: code 400
    |-- LaunchError                             no process could be started, or it was lost: code 500
    |-- MissingLibraryError(ImportError)        a method needs a library that is not installed
    |-- NoSuchScoreError(KeyError)              result["name"] of a result that has no such score
    |-- OptionError                             the magic's line is wrong: an option, a variable, a file
    |-- RunFailedError                          raised by the magic for a failed run; has .result (see models.py)
    |-- SettingError(ValueError)                a setting in a profile or in pyproject.toml cannot be
    |-- StillRunningError(RuntimeError)         scores of a run in the background that has not ended
    `-- UnsupportedPlatformError(RuntimeError)  no processes here at all
    RunInterrupted(KeyboardInterrupt)           the kernel was interrupted; the run is gone
    LimitWarning(UserWarning)                   a warning: a limit holds less here than its name says

The library reports a failed run in its result. Only the magic raises, so that Run All, papermill and
nbval stop at the failing cell.
"""

from __future__ import annotations

from isolated_magic.sanitize import wrapped


class IsolatedError(Exception):
    """Base of every error of ours. IPython shows its one line and none of our frames."""

    def _render_traceback_(self) -> list[str]:
        """The lines IPython prints instead of a traceback; a hook of IPython's, for any exception."""
        return wrapped(f"{type(self).__name__}: {self}").split("\n")


class InvalidRequestError(IsolatedError, ValueError):
    """The code, the data, the environment or a setting cannot be run as given."""


class LaunchError(IsolatedError):
    """No process could be started for the run, or the processes that keep it were lost."""


class MissingLibraryError(IsolatedError, ImportError):
    """Something that is asked for needs a library that is not installed. The message says how to install it."""


class NoSuchScoreError(IsolatedError, KeyError):
    """A result has no score of that name, or several."""

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class OptionError(IsolatedError):
    """The line of the magic is wrong. The message names the option and says what to write.

    Not IPython's ``UsageError``: that one sends no error message to the front end, so that nbval and
    papermill pass over it.
    """


class SettingError(IsolatedError, ValueError):
    """A setting of the extension cannot be. The message says which, where it is set, and why."""


class StillRunningError(IsolatedError, RuntimeError):
    """A run in the background has not ended, and has no scores yet. The message says how to wait for it."""


class UnsupportedPlatformError(IsolatedError, RuntimeError):
    """This platform has no processes, or none that can be kept in hand."""


class RunInterrupted(KeyboardInterrupt):
    """The kernel was interrupted while a run was going on, or the run was stopped; nothing of it is left.

    Args:
        text: what was stopped.
    """

    def __init__(self, text: str = "The run was stopped, with everything that it had started.") -> None:
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class LimitWarning(UserWarning):
    """A limit holds less than its name says, for want of a control group. Said once for each in a process."""
