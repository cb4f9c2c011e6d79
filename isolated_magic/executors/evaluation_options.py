"""The options of an evaluation: checked once, frozen, and the same for ``evaluate``, ``aevaluate`` and ``map``."""

from __future__ import annotations

import inspect
import math
import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.retries import check_retry_on
from isolated_magic.request import listing, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import TypeAlias

    from isolated_magic.environment import EnvValue
    from isolated_magic.evaluation.checkpoint import CheckpointMode
    from isolated_magic.limits import Limits
    from isolated_magic.packages.requirements import Packages

    OfRow: TypeAlias = Callable[..., object]
    Variables: TypeAlias = Mapping[str, EnvValue] | Callable[..., Mapping[str, EnvValue] | None] | None
    FieldOrFunction: TypeAlias = str | OfRow

P = ParamSpec("P")
R = TypeVar("R")

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|sec|second|m|min|minute|h|hour)\s*\Z")
_UNIT_SECS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class EvaluateOptions(TypedDict, total=False):
    """Options of an evaluation, by keyword.

    Args:
        data: a function of the row that gives the data of its run; None for the row itself. Anything else is the
            data of every row.
        jobs: number of rows that run at once; None for one for each processor.
        per: a function of the row, or the name of a field: rows with equal values share one process. Code whose
            result is a metric, and that does not use ``data`` or stdin elsewhere, runs once in it; the metric is
            made once. Other code runs for each row, with a new ``__main__`` and imports kept. A row that crashes
            or hangs takes only itself: rows that had not begun go to a new process. None for a process of its own
            for each row.
        key: a function of the row that gives its key, or the name of a field; None for one made of its content.
        cluster: likewise: rows with equal values belong together, for the intervals.
        repeat: how often each row is run.
        limit: number of rows to take from the beginning; None for all.
        sample: number of rows to take at random, of those that ``limit`` leaves, the same ones every time; None
            for all. All rows are read where nobody knows beforehand how many there are.
        seed: of the sample.
        retries: how often a row is run again whose code raised an exception, after a wait that doubles each time,
            with jitter. A wrong option or data that does not fit is no such exception.
        retry_on: names of exceptions, or kinds of errors such as ``"timeout"``, after which a row is run again;
            empty for any exception that the code raised.
        fail_on_error: stop when so many rows have failed, after all retries; a number below 1 is a share of all
            rows; 0 and True stop at the first. None or False for never.
        checkpoint: file to which each finished row is appended, and from which the evaluation goes on; None for
            none. It notices that the code changed, but not variables, packages or modules of your own.
        checkpoint_mode: when the code has changed since, ``"resume"`` keeps what it scored before, and None
            refuses; ``"restart"`` runs all rows, and keeps the old file with ``.bak`` behind its name. Rows that
            have changed run again in any case.
        rate: runs to begin in a time, such as ``"10/s"`` or ``"600/min"``, for each value of ``per`` where that is
            given; None for no limit.
        timeout_secs: time limit of each attempt in seconds; None for the executor's default.
        payload_type: as for ``execute``.
        secrets: as for ``execute``, or a function of the row that gives them. Their values are hidden in all that
            is kept of a row, too.
        inherit_env: as for ``execute``.
        source_name: as for ``execute``.
        data_name: as for ``execute``.
        fresh: as for ``execute``.
        limits: as for ``execute``.
        strict: as for ``execute``.
        packages: as for ``execute``.
        python: as for ``execute``.
    """

    data: object
    jobs: int | None
    per: FieldOrFunction | None
    key: FieldOrFunction | None
    cluster: FieldOrFunction | None
    repeat: int
    limit: int | None
    sample: int | None
    seed: int
    retries: int
    retry_on: Collection[str]
    fail_on_error: float | None
    checkpoint: str | os.PathLike[str] | None
    checkpoint_mode: CheckpointMode | None
    rate: str | float | None
    timeout_secs: float | None
    payload_type: str | None
    secrets: Collection[str] | OfRow
    inherit_env: bool
    source_name: str
    data_name: str | None
    fresh: bool
    limits: Limits | None
    strict: bool
    packages: Packages | Sequence[str] | None
    python: str | os.PathLike[str] | None


@dataclass(frozen=True)
class EvaluationSettings:
    """:class:`EvaluateOptions`, complete and checked.

    Raises:
        InvalidRequestError: one of them is not what it should be.
    """

    data: object = None
    jobs: int | None = None
    per: FieldOrFunction | None = None
    key: FieldOrFunction | None = None
    cluster: FieldOrFunction | None = None
    repeat: int = 1
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    retries: int = 0
    retry_on: Collection[str] = ()
    fail_on_error: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_mode: CheckpointMode | None = None
    rate: str | float | None = None
    timeout_secs: float | None = None
    payload_type: str | None = None
    secrets: Collection[str] | OfRow = ()
    inherit_env: bool = True
    source_name: str = "<string>"
    data_name: str | None = None
    fresh: bool = False
    limits: Limits | None = None
    strict: bool = False
    packages: Packages | Sequence[str] | None = None
    python: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("repeat", 1), ("limit", 0), ("sample", 0), ("retries", 0)):
            _check_count(name, getattr(self, name), least)
        for name in ("per", "key", "cluster"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and not callable(value):
                raise InvalidRequestError(
                    f"{name} is {type(value).__name__}: give a function of the row, or the name of a field."
                )
        if not isinstance(self.seed, int):
            raise InvalidRequestError(f"seed is {self.seed!r}: give a whole number.")
        check_retry_on(self.retry_on)
        _check_checkpoint(self.checkpoint, self.checkpoint_mode)
        self.rate_per_sec  # noqa: B018 - checks it
        self.most_failed(0)

    def most_failed(self, total: int) -> float:
        """How many failed rows of so many end the evaluation; infinity for any number."""
        most = self.fail_on_error
        if most is None or most is False:
            return math.inf
        if not isinstance(most, (int, float)) or not 0 <= most < math.inf:
            raise InvalidRequestError(
                f"fail_on_error is {most!r}: give a number of rows, or a share of them below 1, such as 0.1."
            )
        return max(1, most * total if most < 1 else most)

    @property
    def rate_per_sec(self) -> float:
        """How many runs may begin in a second; infinity for any number."""
        if self.rate is None:
            return math.inf
        if isinstance(self.rate, str) and (match := _RATE.match(self.rate)) and float(match[1]) > 0:
            return float(match[1]) / _UNIT_SECS[match[2][0]]
        if isinstance(self.rate, (int, float)) and not isinstance(self.rate, bool) and self.rate > 0:
            return float(self.rate)
        raise InvalidRequestError(
            f"rate is {self.rate!r}: give a number of runs in a time, such as '10/s' or '600/min'."
        )


def _check_count(name: str, value: object, least: int) -> None:
    if value is None and name in {"jobs", "limit", "sample"}:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidRequestError(f"{name} is {value!r}: give a whole number, {least} or more.")


def _check_checkpoint(checkpoint: object, mode: object) -> None:
    if checkpoint is not None and not (checkpoint and isinstance(checkpoint, (str, os.PathLike))):
        raise InvalidRequestError(f"checkpoint is {checkpoint!r}: give the path of a file.")
    if mode not in {None, "resume", "restart"}:
        raise InvalidRequestError(f"checkpoint_mode is {mode!r}: give 'resume', 'restart' or None.")
    if mode is not None and checkpoint is None:
        raise InvalidRequestError(f"checkpoint_mode is {mode!r} without a checkpoint: give its file, too.")


_OPTIONS = tuple(
    inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default)
    for each in fields(EvaluationSettings)
)


def lists_evaluate_options(method: Callable[P, R]) -> Callable[P, R]:
    """Have ``help()`` and ``inspect.signature()`` list each option of an evaluation; see :func:`listing`."""
    return listing(method, _OPTIONS)


def check_evaluate_options(options: Collection[str]) -> None:
    """Refuse options that an evaluation does not have; see :func:`refuse_unknown`."""
    refuse_unknown(options, _OPTIONS, "an evaluation")
