"""Where the tasks of an evaluation run: what each way of running them has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.executors.tasks import Task
    from isolated_magic.models import RunResult


class Reports(NamedTuple):
    """What an evaluation is told of its tasks, from any thread.

    Args:
        ended: a run of a task has ended; when to run it again, by time.monotonic(), or None for never.
        failed: there is a fault of ours, which would otherwise be waited for for ever.
        stopped: no further task can be run, for the reason given.
        gone: nothing runs any more, and nothing will.
    """

    ended: Callable[[Task, RunResult], float | None]
    failed: Callable[[BaseException], object]
    stopped: Callable[[str], object]
    gone: Callable[[], object]


class Dispatch(ABC):
    """Runs the tasks of one evaluation, which adds them as it reads them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the tasks were run, for the result."""
        return ()

    @property
    @abstractmethod
    def most_ahead(self) -> int:
        """How many tasks to add before they have ended."""

    @abstractmethod
    def add(self, task: Task) -> None:
        """Have a task run, as soon as it may.

        Raises:
            LaunchError: none can be run.
        """

    @abstractmethod
    def stop(self) -> None:
        """Begin nothing more, and kill what runs. Does not wait; called once or more."""

    @abstractmethod
    def finish(self) -> None:
        """All tasks have ended: have processes that wait for further ones end in order."""

    @abstractmethod
    def close(self) -> None:
        """Wait until nothing runs."""
