"""The frozen values that come up from a run."""

from __future__ import annotations

import math
import reprlib
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from isolated_magic.errors import InvalidRequestError, IsolatedError, MissingLibraryError, NoSuchScoreError
from isolated_magic.sanitize import without_nan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas

    from isolated_magic.strict_json import JsonObject, JsonValue

ProcessLaunch: TypeAlias = Literal["forked", "cold"]
Launch: TypeAlias = ProcessLaunch | Literal["reused"]

NanStyle: TypeAlias = Literal["float", "null"]

MOST_IN_REPR = 10  # scores
MOST_COMPARED, LONGEST_COMPARED = 1000, 60  # names and their characters, in search of a similar one
NO_PANDAS = (
    "to_pandas() needs pandas, which is not installed: pip install 'isolated-magic[notebooks]', "
    "or pandas by itself: pip install pandas"
)
NO_VALUE = "no value"  # the reason of a score without one, before its own

_repr_of_notes = reprlib.Repr()
_repr_of_notes.maxstring, _repr_of_notes.maxtuple = 200, 3


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
    STRICT = "strict"


_CALLER_IS_AT_FAULT = frozenset({ErrorKind.INVALID_REQUEST, ErrorKind.USER_CODE, ErrorKind.STRICT})


class Found(StrEnum):
    """What a run that ended normally had instead of a result."""

    NOTHING = "nothing"  # neither output nor a value
    OUTPUT = "output"  # it printed something, and does not end with a value
    LINE = "line"  # a printed line that begins like a JSON object and is none, or one that is refused
    VALUE = "value"  # of the last line
    METRIC = "metric"  # what its score() returned
    EXIT = "exit"  # sys.exit() came first


@dataclass(frozen=True)
class RunError:
    """Why a run failed.

    Args:
        kind: the case.
        text: the whole text; for an exception in the code, its traceback with the code's own lines.
        summary: one line of it.
        excerpt: the lines of the code around the place, the place marked; in a notebook, where there is no result,
            two lines that would be one; empty when there are none.
        hint: what to do about it; empty when there is nothing to say.
        stack: where the code was when time ran out, as a traceback has it; empty for any other error.
        found: what there was instead of a result, such as ``the value of the last line is a str``; empty for any
            other error.
        found_kind: what kind of thing that is; None when it is not known.
        found_repr: of the value of the last line, where that is what was found.
    """

    kind: ErrorKind
    text: str
    summary: str
    excerpt: str = ""
    hint: str = ""
    stack: str = ""
    found: str = ""
    found_kind: Found | None = None
    found_repr: str = ""

    @classmethod
    def of(cls, kind: ErrorKind, text: str) -> RunError:
        """An error whose first line is its summary."""
        return cls(kind, text, text.split("\n", 1)[0])

    def __str__(self) -> str:
        return self.text

    def with_texts(self, change: Callable[[str], str]) -> RunError:
        """The same error with each of its texts changed."""
        return replace(
            self,
            text=change(self.text),
            summary=change(self.summary),
            excerpt=change(self.excerpt),
            hint=change(self.hint),
            stack=change(self.stack),
            found=change(self.found),
            found_repr=change(self.found_repr),
        )

    @property
    def text_with_hint(self) -> str:
        """The whole text, and below it what to do about it."""
        return f"{self.text}\n\n{self.hint}" if self.hint else self.text

    @property
    def code(self) -> int:
        """400 when the caller's code or arguments are at fault, 500 otherwise."""
        return 400 if self.kind in _CALLER_IS_AT_FAULT else 500


@dataclass(frozen=True)
class Score:
    """One score of a result.

    Args:
        name: what was measured.
        value: usually a number, in [0, 1] when it can be drawn as a bar. True and False are 1 and 0, text is a
            label.
        reason: why, in the metric's words.
        category_name: the metric's category, as Opik has it.
        metadata: whatever else the metric attached.
        scoring_failed: True when the metric says that it could not score, or gave no value.
    """

    name: str
    value: JsonValue
    reason: str | None = None
    category_name: str | None = None
    metadata: JsonValue = None
    scoring_failed: bool = False

    @classmethod
    def from_json(cls, item: JsonValue) -> Score | None:
        """The score that a JSON object stands for, or None when it is not one."""
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            return None
        value, category = item.get("value"), item.get("category_name")
        reason = _text_or_none(item.get("reason"))
        if value is None:
            reason = f"{NO_VALUE}: {reason}" if reason else NO_VALUE
        return cls(
            name=str(item["name"]),
            value=float(value) if isinstance(value, bool) else value,
            reason=reason,
            category_name=_text_or_none(category),
            metadata=item.get("metadata"),
            scoring_failed=value is None or _is_true(item.get("scoring_failed")),
        )

    def __repr__(self) -> str:
        told = [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]
        rest = "".join(f", {name}={value!r}" for name, value in told if value)
        return f"{type(self).__name__}({self.name!r}, {self.value!r}{rest})"


def _is_true(flag: JsonValue) -> bool:
    """Whether a flag is set, as JSON of other programs writes it: true, 1, or the word."""
    if isinstance(flag, str):
        return flag.strip().lower() in {"true", "1", "yes"}
    return isinstance(flag, (bool, int, float)) and bool(flag)


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


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """What one run came to. ``result["name"]`` is the score of that name; ``if result`` asks whether it is ok.

    Two results are equal when all but pid, launch, timings and peak memory are; NaN counts as equal to itself.

    Args:
        payload: the JSON object that is the result, None when the run failed.
        scores: the scores in it, in its order; empty when its ``scores`` are not a list of scores.
        stdout: what the code printed, without the line that is its result.
        stderr: what the code wrote to stderr.
        error: why there is no result, or None.
        exit_status: of the process; negative for the signal that ended it; None when none was started.
        pid: of the process, None when none was started.
        launch: how its process came to life: ``"forked"`` from a template that had imported the packages that
            the code imports, ``"cold"`` where it had to import them itself, as a new interpreter does,
            ``"reused"`` for a worker that may have done runs before; None when there was none.
        timings: in milliseconds.
        peak_memory_bytes: the most memory that all processes of the run had together, page cache included; None
            where nobody can say: without a limit of memory or processes, or without a control group to hold it.
        compared_with: the scores of an earlier run that it is shown against; empty when there was none, None when
            it is not to be compared.
        differs_in: what the two runs were not given alike: ``"data"``, ``"code"``, and ``"environment"`` with the
            names of some of the variables in parentheses.
        notes: sentences that stand beside the scores: the run did not fail, but may not mean what you think.
    """

    payload: JsonObject | None = None
    scores: tuple[Score, ...] = ()
    stdout: str = ""
    stderr: str = ""
    error: RunError | None = None
    exit_status: int | None = None
    pid: int | None = None
    launch: Launch | None = None
    timings: Timings = field(default=Timings())
    peak_memory_bytes: int | None = None
    compared_with: tuple[Score, ...] | None = None
    differs_in: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        return (_comparable(self.payload), self.stdout, self.stderr, self.error, self.exit_status, self.notes)

    def __repr__(self) -> str:
        """What a failing test should show; nothing in it differs from run to run."""
        if self.error is not None:
            told = f"error={self.error.summary!r}, kind={str(self.error.kind)!r}"
        elif self.scores:
            values = [f"{_short(score.name)}: {_told_value(score)}" for score in self.scores[:MOST_IN_REPR]]
            values += [f"... {len(self.scores)} in all"] * (len(self.scores) > MOST_IN_REPR)
            told = f"scores={{{', '.join(values)}}}"
        else:
            told = f"payload={_short(self.payload)}"
        notes = f", notes={_repr_of_notes.repr(self.notes)}" if self.notes else ""
        return f"{type(self).__name__}({told}, exit_status={self.exit_status}{notes})"

    @property
    def ok(self) -> bool:
        """True when the run has a result."""
        return self.error is None

    def with_notes(self, notes: Iterable[str], *, strict: bool = False) -> RunResult:
        """The same result with more notes."""
        told = (*self.notes, *notes)
        if not strict or not told or self.error is not None:
            return replace(self, notes=told)
        error = RunError.of(ErrorKind.STRICT, "\n".join(told))
        return replace(self, payload=None, scores=(), error=error, notes=told)

    def __bool__(self) -> bool:
        """Whether the run has a result, as :attr:`ok`."""
        return self.ok

    def __getitem__(self, name: str) -> Score:
        """The score of that name.

        Args:
            name: of the score.

        Raises:
            NoSuchScoreError: there is none, or more than one.
        """
        found = [score for score in self.scores if score.name == name]
        if len(found) == 1:
            return found[0]
        told = _short(name)
        if self.error is not None:
            raise NoSuchScoreError(f"There is no score {told}: the run failed ({self.error.summary}).")
        if found:
            raise NoSuchScoreError(
                f"result[{told}] is ambiguous: {len(found):,} scores are called {told}. "
                "result.scores has them in order, result.to_pandas() as a table."
            )
        raise NoSuchScoreError(f"There is no score {told} among those of the run: {_names(self.scores, name)}.")

    def __contains__(self, name: object) -> bool:
        """Whether there is a score of that name."""
        return any(score.name == name for score in self.scores)

    def __iter__(self) -> Iterator[Score]:
        """The scores, in their order."""
        return iter(self.scores)

    def to_dict(self, *, nan: NanStyle = "float") -> JsonObject:
        """The result as ``execute()`` returns it: the JSON object, or ``{"code": ..., "error": ...}``.

        Args:
            nan: ``"float"`` leaves NaN and infinities as they are, which strict JSON cannot hold;
                ``"null"`` puts None in their place, at any depth.

        Raises:
            InvalidRequestError: ``nan`` is neither.
        """
        if nan not in get_args(NanStyle):
            raise InvalidRequestError(f"nan is {nan!r}: give one of {', '.join(map(repr, get_args(NanStyle)))}.")
        if self.error is not None:
            return {"code": self.error.code, "error": self.error.text_with_hint}
        payload = dict(self.payload or {})
        return payload if nan == "float" else without_nan(payload)

    def to_pandas(self) -> pandas.DataFrame:
        """The scores as a data frame, one row for each, with the fields of Score as columns.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        return frame_of([asdict(score) for score in self.scores], [field.name for field in fields(Score)])


class RunFailedError(IsolatedError):
    """A run of ``%%isolated`` failed.

    Args:
        result: the whole result; ``result.error`` holds the code, the kind and the full text.
        shown: what IPython shows of it instead of a traceback; empty for the full text.
        painted: the same with codes for the terminal that it is printed in; empty for none.
    """

    def __init__(self, result: RunResult, shown: str = "", painted: str = "") -> None:
        self.result = result
        self._shown = shown or str(result.error)
        self._painted = painted
        super().__init__(result.error.summary if result.error else "the run failed")

    def _render_traceback_(self) -> list[str]:
        # IPython asks first to print it, and then, since version 9, to keep it for a saved notebook.
        shown, self._painted = self._painted or self._shown, ""
        return shown.split("\n")


def _names(scores: Iterable[Score], wanted: str) -> str:
    """The names of scores, those first that are like the one that is wanted, with how many there are of each."""
    import difflib  # noqa: PLC0415 - for an error alone

    counts: dict[str, int] = {}
    for score in scores:
        counts[score.name] = counts.get(score.name, 0) + 1
    some = {name.casefold()[:LONGEST_COMPARED]: name for name in reversed([*islice(counts, MOST_COMPARED)])}
    near = difflib.get_close_matches(str(wanted).casefold()[:LONGEST_COMPARED], some, n=MOST_IN_REPR)
    names = [*dict.fromkeys([*(some[name] for name in near), *counts])]
    told = [f"{_short(name)}{f' ({counts[name]:,})' * (counts[name] > 1)}" for name in names[:MOST_IN_REPR]]
    told += [f"and {len(names) - MOST_IN_REPR:,} more names"] * (len(names) > MOST_IN_REPR)
    return ", ".join(told) or "none at all"


def _told_value(score: Score) -> str:
    return "FAILED" if score.scoring_failed else _short(score.value)


def _short(value: JsonValue) -> str:
    """Its repr, without most of what is long or deep in it."""
    return reprlib.repr(value)


def _comparable(value: JsonValue) -> list[object]:
    """What tells the value from others, however deep it is, with something that equals itself in place of NaN."""
    told: list[object] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            keys = sorted(item)
            told.append(("object", keys))
            waiting += [item[key] for key in keys]
        elif isinstance(item, list):
            told.append(("list", len(item)))
            waiting += item
        else:
            told.append(math.nan if isinstance(item, float) and math.isnan(item) else item)  # one object
    return told


def scores_of(payload: JsonObject) -> tuple[Score, ...]:
    """The scores of a result's JSON object, empty unless its ``scores`` are a list of scores."""
    items = payload.get("scores")
    if not isinstance(items, list):
        return ()
    scores = [Score.from_json(item) for item in items]
    return tuple(score for score in scores if score is not None) if None not in scores else ()


def frame_of(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pandas.DataFrame:
    """A data frame.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    try:
        import pandas  # noqa: PLC0415 - half a second, and not installed everywhere
    except ImportError:
        raise MissingLibraryError(NO_PANDAS) from None
    return pandas.DataFrame(list(rows), columns=list(columns))
