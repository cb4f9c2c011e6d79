"""A run that goes on while its caller does something else."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.executors.live import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Protocol

    from isolated_magic.executors.live import LiveRun
    from isolated_magic.models import RunResult
    from isolated_magic.output import OnOutput

    class _Work(Protocol):
        def __call__(self, *, on_output: OnOutput) -> RunResult: ...


DEFAULT_KILL_TIMEOUT_SECS = 5.0


class BackgroundRun:
    """The handle of a run. What the run prints is kept here and shown nowhere.

    Args:
        live: the run.
        work: does it, in a thread of its own.
    """

    def __init__(self, live: LiveRun, work: _Work) -> None:
        self.label = live.label
        self._live = live
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._future = in_thread(partial(work, on_output=self._keep))
        self._future.add_done_callback(lambda _: live.end())

    def _keep(self, stream: str, text: str) -> None:
        self._parts[stream].append(text)

    @property
    def pid(self) -> int | None:
        """Of its process, which this waits for if need be; None when there was none."""
        return self._live.wait_for_pid()

    @property
    def stdout(self) -> str:
        """What the code has printed so far, without the line that may be its result."""
        return "".join(self._parts["stdout"])

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return "".join(self._parts["stderr"])

    def done(self) -> bool:
        """Whether the run is over and nothing of it is left."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> RunResult:
        """Wait for the result of the run, a failed one's too.

        Args:
            timeout: seconds to wait, None for as long as it takes.

        Raises:
            TimeoutError: the run is still going on.
        """
        try:
            return self._future.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"The run {self.label} is still going on after {timeout:g} seconds.") from None

    def add_done_callback(self, callback: Callable[[RunResult], object]) -> None:
        """Have something called with the result when the run is over, in whatever thread that is.

        Args:
            callback: called once; what it raises is logged.
        """

        def when_done(future: Future[RunResult]) -> None:
            if future.exception() is None:
                callback(future.result())

        self._future.add_done_callback(when_done)

    def kill(self, timeout: float = DEFAULT_KILL_TIMEOUT_SECS) -> bool:
        """Kill the run and everything that it started.

        Args:
            timeout: seconds to wait until it is gone.

        Returns:
            Whether it is gone; True also when it was over already.
        """
        self._live.stop()
        with suppress(TimeoutError):
            self._future.exception(timeout)
        return self._future.done()

    def interrupt(self) -> None:
        """Ask the run to end as Ctrl-C does, and see to it that it does. Does not wait."""
        self._live.interrupt()

    def __repr__(self) -> str:
        # Neither pid nor state: in a saved notebook, they would differ on every run.
        return f"<{type(self).__name__} {self.label!r}>"
