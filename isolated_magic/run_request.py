"""The frozen value that goes down into a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isolated_magic.limits import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isolated_magic.payload.encode import Arrival


@dataclass(frozen=True)
class Confinement:
    """How the limits of a run are held.

    Args:
        limits: by name (see ``child/limits.py``), empty for none.
        groups: files of control groups that its processes belong to.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    groups: Sequence[str] = ()


@dataclass(frozen=True)
class Elsewhere:
    """How a run differs that has nothing of this machine: neither its files nor its environment.

    Args:
        without: names of variables that it is not to have, whatever is there.
        folder: where the child program lies there.
        memory_bytes: that all processes of it have together, None for as much as there is.
    """

    without: frozenset[bytes] = frozenset()
    folder: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True)
class RunRequest:
    """One run, complete: what a launcher and the child program need, and nothing else.

    Args:
        source: Python source, or None when a file runs.
        path: the file to run as ``python path`` would, or None when source runs.
        source_name: what tracebacks call the source.
        payload: ``{"data": ..., "payload_type": ...}`` as JSON or packed (see ``child/packed.py``); any size.
        environment: the whole environment of the process, encoded as the system takes it.
        cwd: the working directory the process starts in.
        timeout_secs: seconds from launch to the end of the process; infinity for no limit.
        limits: what it may use.
        fresh: a new interpreter for this run, whatever else would do.
        secrets: values of its environment that are hidden in all that it prints and comes to.
        confinement: how its limits are held; made when it is launched.
        data_name: the expression that stands for the data on the magic's line, None where there is no line.
        strict: a result with notes is an error.
        arrivals: parts of the data that are something else in the run.
        elsewhere: how it differs from a run of this machine, None when it is one. The environment is then what is
            set over the one that is there.
    """

    source: str | None = field(repr=False)
    path: str | None
    source_name: str
    payload: bytes = field(repr=False)
    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: str
    timeout_secs: float
    limits: Limits = NO_LIMITS
    fresh: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    data_name: str | None = None
    strict: bool = False
    confinement: Confinement = Confinement()
    arrivals: tuple[Arrival, ...] = field(default=(), repr=False)
    elsewhere: Elsewhere | None = None
