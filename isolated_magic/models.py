"""The frozen values that go down into a run and come up from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from isolated_magic.limits import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

Launch: TypeAlias = Literal["forked", "cold"]


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
class RunRequest:
    """One run, complete: what a launcher and the child program need, and nothing else.

    Args:
        source: Python source, or None when a file runs.
        path: the file to run as ``python path`` would, or None when source runs.
        source_name: what tracebacks call the source.
        payload: ``{"data": ..., "payload_type": ...}`` as UTF-8 JSON; any size.
        environment: the whole environment of the process, encoded as the system takes it.
        cwd: the working directory the process starts in.
        timeout_secs: seconds from launch to the end of the process; infinity for no limit.
        limits: what it may use.
        fresh: a new interpreter for this run, whatever else would do.
        confinement: how its limits are held; made when it is launched.
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
    confinement: Confinement = Confinement()


class ErrorKind(StrEnum):
    """Why a run has no result."""

    INVALID_REQUEST = "invalid_request"
    USER_CODE = "user_code"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    LAUNCH = "launch"
    DIED = "died"
    KILLED = "killed"
    INTERRUPTED = "interrupted"
    NO_RESULT = "no_result"


_CALLER_IS_AT_FAULT = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.USER_CODE})


@dataclass(frozen=True)
class RunError:
    """Why a run failed.

    Args:
        kind: the case.
        text: the whole text; for an exception in the code, its traceback with the code's own lines.
        summary: one line of it.
    """

    kind: ErrorKind
    text: str
    summary: str

    @classmethod
    def of(cls, kind: ErrorKind, text: str) -> RunError:
        """An error whose first line is its summary."""
        return cls(kind, text, text.split("\n", 1)[0])

    def __str__(self) -> str:
        return self.text

    @property
    def code(self) -> int:
        """400 when the caller's code or arguments are at fault, 500 otherwise."""
        return 400 if self.kind in _CALLER_IS_AT_FAULT else 500


@dataclass(frozen=True)
class Score:
    """One score of a result.

    Args:
        name: what was measured.
        value: usually a number, in [0, 1] when it can be drawn as a bar.
        reason: why, in the metric's words.
        category_name: the metric's category, as Opik has it.
        metadata: whatever else the metric attached.
        scoring_failed: True when the metric says that it could not score.
    """

    name: str
    value: JsonValue
    reason: str | None = None
    category_name: str | None = None
    metadata: JsonValue = None
    scoring_failed: bool = False

    @classmethod
    def from_json(cls, item: JsonValue) -> Score | None:
        """The score that a JSON object stands for, or None when it is not one.

        Args:
            item: one element of a result's ``scores``.
        """
        if not isinstance(item, dict) or "value" not in item or not isinstance(item.get("name"), str):
            return None
        reason, category = item.get("reason"), item.get("category_name")
        return cls(
            name=str(item["name"]),
            value=item["value"],
            reason=_text_or_none(reason),
            category_name=_text_or_none(category),
            metadata=item.get("metadata"),
            scoring_failed=bool(item.get("scoring_failed")),
        )


def _text_or_none(value: JsonValue) -> str | None:
    try:
        return None if value is None else str(value)
    except RecursionError:
        return "(nested too deeply)"


@dataclass(frozen=True)
class Timings:
    """How long a run took, in milliseconds.

    Args:
        creation_ms: from the call to the moment its process exists.
        execution_ms: from the call to the end of the process and of all it started.
    """

    creation_ms: float = math.nan
    execution_ms: float = math.nan


@dataclass(frozen=True)
class RunResult:
    """What one run came to. Two results are equal when all but their pids and timings are.

    Args:
        payload: the JSON object that is the result, None when the run failed.
        scores: the scores in it, in its order; empty when its ``scores`` are not a list of scores.
        stdout: what the code printed, without the line that is its result.
        stderr: what the code wrote to stderr.
        error: why there is no result, or None.
        exit_status: of the process; negative for the signal that ended it; None when none was started.
        pid: of the process, None when none was started.
        launch: ``"forked"`` from a template or ``"cold"``, a new interpreter; None when none was started.
        timings: in milliseconds.
    """

    payload: JsonObject | None = None
    scores: tuple[Score, ...] = ()
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)
    error: RunError | None = None
    exit_status: int | None = None
    pid: int | None = field(default=None, compare=False)
    launch: Launch | None = field(default=None, compare=False)
    timings: Timings = field(default=Timings(), compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """True when the run has a result."""
        return self.error is None

    def to_dict(self) -> JsonObject:
        """The result as ``execute()`` returns it: the JSON object, or ``{"code": ..., "error": ...}``."""
        if self.error is not None:
            return {"code": self.error.code, "error": self.error.text}
        return dict(self.payload or {})


def scores_of(payload: JsonObject) -> tuple[Score, ...]:
    """The scores of a result's JSON object, empty unless its ``scores`` are a list of scores.

    Args:
        payload: any JSON object.
    """
    items = payload.get("scores")
    if not isinstance(items, list):
        return ()
    scores = [Score.from_json(item) for item in items]
    return tuple(score for score in scores if score is not None) if None not in scores else ()
