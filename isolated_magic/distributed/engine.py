"""What a dispatch needs of what carries its chunks to other processes: Dask, or an executor of the user's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.distributed.needs import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from isolated_magic.distributed.chunk import Chunk, Cipher, Outcome
    from isolated_magic.distributed.needs import Needs


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
    """Carries chunks. Thread-safe; no method but :meth:`check`, :meth:`settle` and :meth:`close` waits.

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
