"""The handle of a run in the background."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from isolated_magic.errors import StillRunningError
from isolated_magic.executors.lifecycle import in_thread
from isolated_magic.executors.runner import failed_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    import pandas

    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.models import DisplayData, LaunchMethod, NanStyle, RunError, RunResult, Score, Timings
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.output import OnOutput

DEFAULT_KILL_TIMEOUT_SECS = 5.0

State: TypeAlias = Literal["running", "done", "failed"]


class BackgroundRun:
    """The handle of a background run, made by :meth:`Executor.start`. Output is kept here and not shown.

    After the run has ended, the handle has all attributes and methods of its :class:`RunResult`: ``run["name"]``,
    ``run.scores``, ``"name" in run``, ``for score in run``, ``if run`` and so on. Until then, each of these raises
    StillRunningError, and :meth:`result` waits.

    Args:
        live: the live run.
        run: a function that performs the run, called in a new thread.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     run = executor.start("print('scoring'); {'overlap': 0.8}", label="nightly")
        ...     result = run.result(timeout=60)
        >>> run
        <BackgroundRun 'nightly' done: RunResult(scores={'overlap': 0.8}, exit_status=0)>
        >>> run.state, run["overlap"].value, run.stdout.strip()
        ('done', 0.8, 'scoring')
    """

    def __init__(self, live: LiveRun, run: Callable[[OnOutput], RunResult]) -> None:
        self.label = live.label
        self.end_was_seen = False  # by the caller: in a result, in what a result has, or by done()
        self._live = live
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._future = in_thread(lambda: run(self._keep), failed_run)
        self._future.add_done_callback(lambda _: live.end())
        self._change: Callable[[RunResult], RunResult] | None = None
        self._changed: RunResult | None = None

    def amend(self, change: Callable[[RunResult], RunResult]) -> None:
        """Have the result changed, in the thread that asks for it first, before anybody gets it."""
        self._change = change

    def _amended(self, result: RunResult) -> RunResult:
        if self._change is None:
            return result
        if self._changed is None:
            self._changed = self._change(result)
        return self._changed

    def _keep(self, stream: str, text: str) -> None:
        self._parts[stream].append(text)

    @property
    def pid(self) -> int | None:
        """The pid of its process; waits until there is one. None if none was started."""
        return self._live.wait_for_pid()

    @property
    def stdout(self) -> str:
        """Text printed so far, without the line that may be its result."""
        return "".join(self._parts["stdout"])

    @property
    def stderr(self) -> str:
        """Text written to stderr so far."""
        return "".join(self._parts["stderr"])

    @property
    def state(self) -> State:
        """``"running"``, ``"done"`` for a run that succeeded, ``"failed"`` for one that did not."""
        if not self._future.done():
            return "running"
        result = self.peek()
        return "done" if result is not None and result.ok else "failed"

    def peek(self) -> RunResult | None:
        """The result as far as there is one now, without waiting and without :attr:`end_was_seen`."""
        has_result = self._future.done() and self._future.exception() is None
        return self._amended(self._future.result()) if has_result else None

    def done(self) -> bool:
        """Whether the run has ended, with all its processes.

        Returns:
            True when it has; it does not wait.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("import time; time.sleep(60)")
            ...     run.done()
            False
            >>> run.done()  # the executor has killed it
            True
        """
        self.end_was_seen = self._future.done()
        return self.end_was_seen

    def result(self, timeout: float | None = None) -> RunResult:
        """Wait for the result of the run. A failed run has one, too.

        Args:
            timeout: seconds to wait; None to wait without limit.

        Returns:
            The result, the same one each time.

        Raises:
            TimeoutError: the run has not ended within the timeout.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.start("0.5").result(timeout=60).ok
            True
        """
        try:
            result = self._amended(self._future.result(timeout))
        except TimeoutError:
            raise TimeoutError(f"The run {self.label} is still going on after {timeout:g} seconds.") from None
        self.end_was_seen = True
        return result

    def _ended(self) -> RunResult:
        """The result of the run; raises StillRunningError unless it is over."""
        if not self._future.done():
            raise StillRunningError(
                f"The run {self.label} is still running and has no result yet: wait for it with .result(), "
                "or ask with .done() whether it is over."
            )
        return self.result()

    @property
    def payload(self) -> JsonObject | None:
        """As :attr:`RunResult.payload`."""
        return self._ended().payload

    @property
    def scores(self) -> tuple[Score, ...]:
        """As :attr:`RunResult.scores`."""
        return self._ended().scores

    @property
    def error(self) -> RunError | None:
        """As :attr:`RunResult.error`."""
        return self._ended().error

    @property
    def exit_status(self) -> int | None:
        """As :attr:`RunResult.exit_status`."""
        return self._ended().exit_status

    @property
    def launch(self) -> LaunchMethod | None:
        """As :attr:`RunResult.launch`."""
        return self._ended().launch

    @property
    def timings(self) -> Timings:
        """As :attr:`RunResult.timings`."""
        return self._ended().timings

    @property
    def peak_memory_bytes(self) -> int | None:
        """As :attr:`RunResult.peak_memory_bytes`."""
        return self._ended().peak_memory_bytes

    @property
    def compared_with(self) -> tuple[Score, ...] | None:
        """As :attr:`RunResult.compared_with`."""
        return self._ended().compared_with

    @property
    def differs_in(self) -> tuple[str, ...]:
        """As :attr:`RunResult.differs_in`."""
        return self._ended().differs_in

    @property
    def notes(self) -> tuple[str, ...]:
        """As :attr:`RunResult.notes`."""
        return self._ended().notes

    @property
    def displays(self) -> tuple[DisplayData, ...]:
        """As :attr:`RunResult.displays`."""
        return self._ended().displays

    @property
    def score_label(self) -> str:
        """As :attr:`RunResult.score_label`."""
        return self._ended().score_label

    @property
    def worker(self) -> str | None:
        """As :attr:`RunResult.worker`."""
        return self._ended().worker

    @property
    def packages(self) -> Mapping[str, str]:
        """As :attr:`RunResult.packages`."""
        return self._ended().packages

    @property
    def ok(self) -> bool:
        """As :attr:`RunResult.ok`."""
        return self._ended().ok

    def __bool__(self) -> bool:
        """As of a result, so that ``if run:`` is never True for what may yet fail."""
        return bool(self._ended())

    def __getitem__(self, name: str) -> Score:
        """As :meth:`RunResult.__getitem__`."""
        return self._ended()[name]

    def __contains__(self, name: object) -> bool:
        """As :meth:`RunResult.__contains__`."""
        return name in self._ended()

    def __iter__(self) -> Iterator[Score]:
        """As :meth:`RunResult.__iter__`."""
        return iter(self._ended())

    def to_dict(self, *, nan: NanStyle = "float", displays: bool = False) -> JsonObject:
        """As :meth:`RunResult.to_dict`.

        Args:
            nan: ``"float"`` keeps NaN and infinities; ``"null"`` replaces them by None.
            displays: True adds ``"displays"``, a list of ``{"data": ..., "metadata": ...}``.

        Returns:
            The payload, or ``{"code": 400 or 500, "error": text}`` for a failed run.

        Raises:
            StillRunningError: the run has not ended.
            InvalidRequestError: ``nan`` is neither.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("{'scores': [{'name': 'overlap', 'value': 0.8}]}")
            ...     result = run.result()
            >>> run.to_dict()
            {'scores': [{'name': 'overlap', 'value': 0.8}]}
        """
        return self._ended().to_dict(nan=nan, displays=displays)

    def to_pandas(self) -> pandas.DataFrame:
        """As :meth:`RunResult.to_pandas`.

        Returns:
            A frame of shape (scores, 8).

        Raises:
            StillRunningError: the run has not ended.
            MissingLibraryError: pandas is not installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("{'overlap': 0.8, 'length': 3}")
            ...     result = run.result()
            >>> run.to_pandas().shape
            (2, 8)
        """
        return self._ended().to_pandas()

    def add_done_callback(self, callback: Callable[[RunResult], object]) -> None:
        """Call a function with the result when the run has ended, in any thread; at once if it has already.

        Args:
            callback: called once; exceptions that it raises are logged.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> values = []
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("0.5")
            ...     result = run.result()
            ...     run.add_done_callback(lambda result: values.append(result["score"].value))
            >>> values
            [0.5]
        """

        def when_done(future: Future[RunResult]) -> None:
            if future.exception() is None:
                callback(self._amended(future.result()))

        self._future.add_done_callback(when_done)

    def kill(self, timeout: float = DEFAULT_KILL_TIMEOUT_SECS) -> bool:
        """Kill the run and all processes that it started.

        Args:
            timeout: seconds to wait until all have ended.

        Returns:
            Whether all have ended; True also if the run had ended before.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("import time; time.sleep(60)")
            ...     run.kill()
            True
            >>> run.error.summary
            'The run was killed before it ended.'
        """
        self._live.stop()
        with suppress(TimeoutError):
            self._future.exception(timeout)
        return self._future.done()

    def interrupt(self) -> None:
        """Stop the run with SIGINT, like Ctrl-C, then SIGTERM and SIGKILL. Does not wait.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("import time; time.sleep(60)")
            ...     run.interrupt()
            ...     run.result(timeout=60).error.summary
            'The run was stopped before it ended.'
        """
        self._live.interrupt()

    def __repr__(self) -> str:
        # No pid: in a saved notebook, it would differ on every run.
        result = self.peek()
        return f"<{type(self).__name__} {self.label!r} {self.state}{'' if result is None else f': {result!r}'}>"
