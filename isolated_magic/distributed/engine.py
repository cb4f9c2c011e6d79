"""What a dispatch needs of what carries its chunks to other processes: Dask, or an executor of the user's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.distributed.needs import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from isolated_magic.distributed.chunk import Chunk, Cipher, Outcome
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.distributed.news import News


class Worker(NamedTuple):
    """A worker process that takes chunks.

    Args:
        id: its own, which no other process ever has.
        name: what people call it: its address.
        threads: chunks that it runs at once.
        is_silent: whether it has not been heard of lately. It takes no chunks then, and what it has may be run by
            another one as well.
    """

    id: str
    name: str
    threads: int
    is_silent: bool = False


class Engine(ABC):
    """Carries chunks. Thread-safe. :meth:`check`, :meth:`settle`, :meth:`ask_all` and :meth:`close` alone wait.

    Args:
        id: of the executor that it carries for.
        cipher: what seals chunks; None where nobody looks into them on their way.
        keeps_lanes: whether a chunk can be sent to the worker that ran another one.
    """

    id: str
    cipher: Cipher | None
    keeps_lanes: bool

    @abstractmethod
    def check(self, needs: Needs, timeout_secs: float) -> None:
        """Wait for a worker, and find those that cannot run the code as this process would.

        Args:
            needs: of the code.
            timeout_secs: to wait for a first worker.

        Raises:
            InvalidRequestError: a worker lacks something, or has it in another version; the message names it.
            LaunchError: there is no worker, or nothing that has any.
        """

    @abstractmethod
    def watch(self, changed: Callable[[], object], needs: Needs = NOTHING) -> None:
        """Call this, from any thread, when workers have come, gone, fallen silent or been heard of again.

        Those that come are asked whether they can run code with these needs.
        """

    @abstractmethod
    def unwatch(self, changed: Callable[[], object]) -> None:
        """Do not any more."""

    @abstractmethod
    def workers(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:
        """Those that are there now and have been found fit for code with these needs."""

    def unfit(self, needs: Needs) -> Mapping[str, str]:  # noqa: ARG002 - of this one
        """What workers lack that are there now and cannot run such code, by their names."""
        return {}

    @property
    @abstractmethod
    def gone(self) -> str:
        """Why nothing will ever run again, in one sentence; empty as long as that is not known."""

    @abstractmethod
    def submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:
        """Have a worker run a chunk. ``ended`` is called once, from any thread."""

    @abstractmethod
    def cancel(self, chunk_ids: Collection[str]) -> None:
        """Kill what runs of these chunks, and begin nothing of them."""

    @abstractmethod
    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """Wait until nothing of an evaluation runs on any worker that can be reached."""

    @abstractmethod
    def end_lanes(self, dispatch: str, timeout_secs: float) -> None:
        """Have processes that wait for rows of this evaluation end in order, and wait for that."""

    @abstractmethod
    def warm_up(self, timeout_secs: float) -> bool:
        """Wait until runs are fast on all workers; whether they are."""

    @abstractmethod
    def close(self) -> None:
        """End what was started on the workers. A later :meth:`submit` starts it again."""

    # What only some can do: to call the executors in the workers, beside the chunks that they run.

    def follow(  # noqa: B027 - others tell it when the chunk has ended
        self, worker: Worker, chunk_id: str, told: Callable[[int, Sequence[News]], object]
    ) -> None:
        """Tell news of a followed chunk, from any thread, as long as it runs; with the number of the first one."""

    def ask(
        self,
        worker: Worker,  # noqa: ARG002 - of those who can
        method: str,  # noqa: ARG002
        *args: object,  # noqa: ARG002
        timeout_secs: float,  # noqa: ARG002
        answered: Callable[[object], object],
    ) -> None:
        """Call a method of a worker's :class:`WorkerExecutor`. Does not wait.

        Args:
            worker: that has it.
            method: its name.
            args: its arguments.
            timeout_secs: to wait for the answer.
            answered: called, from any thread, with what it returned; None without an answer.
        """
        answered(None)

    def ask_all(
        self,
        method: str,  # noqa: ARG002 - likewise
        *args: object,  # noqa: ARG002
        timeout_secs: float,  # noqa: ARG002
        only: str = "",  # noqa: ARG002
    ) -> dict[str, object]:
        """The answers of all workers that answer in time, or of one alone, by their names. Waits for them."""
        return {}
