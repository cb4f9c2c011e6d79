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
    |-- RunFailedError                          raised by the magic for a failed run; has .result
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
    """Base of all our errors. IPython shows one line instead of a traceback.

    Example:
        >>> from isolated_magic import IsolatedError, Limits
        >>> try:
        ...     Limits(memory_bytes=0)
        ... except IsolatedError as problem:
        ...     print(problem)
        memory_bytes is 0: give a whole number greater than zero, None for no limit.
    """

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython prints instead of a traceback: its hook for any exception."""
        return wrapped(f"{type(self).__name__}: {self}").split("\n")


class EvaluationStoppedError(IsolatedError, RuntimeError):
    """An evaluation ended before all rows were done. The results that there are came before, from ``map()``.

    Example:
        >>> from isolated_magic import EvaluationStoppedError, IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     try:
        ...         for row in executor.map("1 / data['n']", [{"n": 0}, {"n": 1}], jobs=1, fail_on_error=1):
        ...             print(row.error.summary)
        ...     except EvaluationStoppedError as problem:
        ...         print(problem)
        ZeroDivisionError: division by zero (line 1)
        The evaluation was stopped: 1 row failed, and fail_on_error is 1.
    """


class InvalidRequestError(IsolatedError, ValueError):
    """The code, data, environment or a setting is invalid. The run has code 400.

    Example:
        >>> from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     try:
        ...         executor.prepare("0.5", {"words": {"a", "set"}})
        ...     except InvalidRequestError as problem:
        ...         print(problem)
        data["words"]: set cannot be sent as JSON. Convert it to text, numbers, lists or dicts first.
    """


class LaunchError(IsolatedError):
    """No process could be started for the run, or its guardian was lost. The run has code 500.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from isolated_magic import DistributedExecutor, LaunchError
        >>> pool = ThreadPoolExecutor(1)
        >>> pool.shutdown()
        >>> with DistributedExecutor(pool) as executor:
        ...     executor.run("0.5").error.code
        ...     try:
        ...         executor.evaluate("0.5", [{}])
        ...     except LaunchError as problem:
        ...         print(problem)
        500
        The ThreadPoolExecutor takes no tasks: RuntimeError: cannot schedule new futures after shutdown. ...
    """


class MissingLibraryError(IsolatedError, ImportError):
    """A library that the call needs is not installed. The message says how to install it.

    Example:
        >>> import sys
        >>> from unittest.mock import patch
        >>> from isolated_magic import MissingLibraryError, RunResult
        >>> with patch.dict(sys.modules, {"pandas": None}):  # as if it were not installed
        ...     try:
        ...         RunResult().to_pandas()
        ...     except MissingLibraryError as problem:
        ...         print(problem)
        to_pandas() needs pandas, which is not installed: pip install ...
    """


class NoSuchRowError(IsolatedError, KeyError):
    """An evaluation has no row of that key, or several; or no group of rows of that name.

    Example:
        >>> from isolated_magic import EvaluationResult
        >>> EvaluationResult()["row 7"]
        Traceback (most recent call last):
        isolated_magic.errors.NoSuchRowError: There is no row with the key 'row 7' among 0.
    """

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class NoSuchScoreError(IsolatedError, KeyError):
    """A result has no score of that name, or several.

    Example:
        >>> from isolated_magic import RunResult, Score
        >>> RunResult(scores=(Score("overlap", 0.5),))["overlp"]
        Traceback (most recent call last):
        isolated_magic.errors.NoSuchScoreError: There is no score 'overlp' among those of the run: 'overlap'.
    """

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class OptionError(IsolatedError):
    """The line of the magic is invalid. The message names the option and says what to write.

    Not IPython's ``UsageError``: it sends no error message to the front end, so that nbval passes over it.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> from isolated_magic import OptionError
        >>> shell = InteractiveShell.instance()
        >>> _ = shell.run_line_magic("load_ext", "isolated_magic")
        >>> try:
        ...     shell.run_cell_magic("isolated", "--timout 5", "0.5")
        ... except OptionError as problem:
        ...     print(problem)
        unknown option --timout; did you mean --timeout? `%isolated --help` shows the options.
        >>> _ = shell.run_line_magic("unload_ext", "isolated_magic")
    """


class SettingError(IsolatedError, ValueError):
    """A setting of the extension is invalid. The message says which, where it is set, and why.

    Example:
        >>> import contextlib, tempfile
        >>> from pathlib import Path
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> from isolated_magic import SettingError
        >>> shell = InteractiveShell.instance()
        >>> with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ...     written = Path("pyproject.toml").write_text("tool.isolated_magic.timeout = 5")
        ...     try:
        ...         shell.run_line_magic("load_ext", "isolated_magic")
        ...     except SettingError as problem:
        ...         print(str(problem).partition(": ")[2])
        [tool.isolated_magic] timeout: there is no such setting. Did you mean timeout_secs?
    """


class StillRunningError(IsolatedError, RuntimeError):
    """A background run has not ended, so it has no scores yet. The message says how to wait for it.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor, StillRunningError
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     run = executor.start("import time; time.sleep(60)", label="nightly")
        ...     try:
        ...         run.scores
        ...     except StillRunningError as problem:
        ...         print(problem)
        The run nightly is still running and has no result yet: wait for it with ...
    """


class UnsupportedPlatformError(IsolatedError, RuntimeError):
    """This platform has no processes, or cannot supervise them.

    Example:
        >>> from unittest.mock import patch
        >>> from isolated_magic import IsolatedSubprocessExecutor, UnsupportedPlatformError
        >>> with patch("sys.platform", "win32"):  # as if this were Windows
        ...     try:
        ...         IsolatedSubprocessExecutor()
        ...     except UnsupportedPlatformError as problem:
        ...         print(problem)
        isolated_magic does not support Windows itself yet. Run Jupyter under WSL, where it works.
    """


class RunInterrupted(KeyboardInterrupt):
    """The kernel was interrupted during a run, or the run was stopped. All its processes have ended.

    Args:
        text: the message, which says what was stopped.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor, RunInterrupted
        >>> def press_stop(progress):
        ...     raise KeyboardInterrupt
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     try:
        ...         executor.evaluate("0.5", [{}] * 100, progress=press_stop)
        ...     except RunInterrupted as stopped:
        ...         print(stopped)
        The evaluation was interrupted. What was done is in .result of this exception.
    """

    def __init__(self, text: str = "The run was stopped, with everything that it had started.") -> None:
        super().__init__(text)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class LimitWarning(UserWarning):
    """A limit is enforced only in part, without a control group. Issued once per process for each limit.

    Example:
        >>> import warnings
        >>> from isolated_magic import IsolatedSubprocessExecutor, Limits, LimitWarning
        >>> limits = Limits(memory_bytes=2**30)
        >>> with warnings.catch_warnings(), IsolatedSubprocessExecutor(limits=limits) as executor:
        ...     warnings.simplefilter("ignore", LimitWarning)  # a limit on each process is enough here
        ...     executor.execute("0.5")
        {'scores': [{'name': 'score', 'value': 0.5, 'reason': None}]}
    """
