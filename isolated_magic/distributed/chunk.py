"""What travels: some rows of an evaluation to a worker, and their results back. None of it shows a value."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from isolated_magic.distributed.news import News
    from isolated_magic.models import RunResult
    from isolated_magic.payload.encode import Arrival
    from isolated_magic.request import RemoteTarget, RunRequest

    class Cipher(Protocol):
        """Makes bytes unreadable for those who carry them."""

        def encrypt(self, content: bytes) -> bytes: ...  # noqa: D102
        def decrypt(self, sealed: bytes) -> bytes: ...  # noqa: D102


class Variant(NamedTuple):
    """What the rows of one tenant have in common."""

    environment: Mapping[bytes, bytes]  # over that of the worker
    secrets: tuple[str, ...]
    remote: RemoteTarget


class SentRow(NamedTuple):
    """What is a row's own."""

    variant: int  # position among those of the chunk
    payload: bytes
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True)
class Content:
    """The content of a chunk.

    Args:
        program: the run without data, variables and secrets; None where the worker has it already.
        variants: of its rows.
        rows: at least one.
    """

    program: RunRequest | None
    variants: tuple[Variant, ...]
    rows: tuple[SentRow, ...]


@dataclass(frozen=True)
class Chunk:
    """Rows on their way to a worker.

    Args:
        id: its own.
        executor: the id of the executor that sends it.
        dispatch: the id of the evaluation or run that it belongs to; also that of its program.
        count: of rows.
        lane: where rows share processes, which of them; else None.
        keeps_lane: whether the process of its lane is to wait for further rows.
        sealed: a pickled :class:`Content`, encrypted if there is a cipher.
        is_followed: whether it is one run, which somebody wants to see while it runs.
    """

    id: str
    executor: str
    dispatch: str
    count: int
    lane: int | None
    keeps_lane: bool
    sealed: bytes = field(repr=False)
    is_followed: bool = False

    def content(self, cipher: Cipher | None) -> Content:
        """What it holds."""
        content: Content = opened(self.sealed, cipher)
        return content


def sealed(content: Content | Outcome | list[News], cipher: Cipher | None) -> bytes:
    """The content as bytes that show nothing of it, if there is a cipher."""
    packed = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return packed if cipher is None else cipher.encrypt(packed)


def opened(content: bytes, cipher: Cipher | None) -> Any:  # noqa: ANN401 - whatever was sealed
    """What :func:`sealed` sealed."""
    packed = content if cipher is None else cipher.decrypt(content)
    return pickle.loads(packed)  # noqa: S301 - whoever sends chunks may run code here, and whom they are sent to is trusted


def program_of(request: RunRequest) -> RunRequest:
    """What all runs of an evaluation have in common."""
    return replace(request, payload=b"", environment={}, secrets=(), arrivals=(), remote=None)


class Done(NamedTuple):
    """A chunk has run.

    Args:
        results: of its rows, in their order. Fewer if it was stopped.
        secs: that they took together.
        worker: the process that ran them: what the engine calls it.
        news: of a followed run, those that may not have arrived, with the number of the first one.
    """

    results: tuple[RunResult, ...]
    secs: float
    worker: str
    news: tuple[int, tuple[News, ...]] = (0, ())


class Lost(NamedTuple):
    """The worker process died, or was lost, before the chunk had ended."""

    reason: str


class Refused(NamedTuple):
    """The worker did not begin: it is another process than the one that was prepared, or lacks the program."""

    lacks_program: bool


class Failed(NamedTuple):
    """The chunk could not be sent, run or fetched, on any worker. Its rows have failed, for the reason given."""

    reason: str


class Cancelled(NamedTuple):
    """It was cancelled, by us or by somebody else."""


Outcome: TypeAlias = Done | Lost | Refused | Failed | Cancelled
