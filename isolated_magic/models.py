"""The frozen values that a run returns: RunResult, its scores, timings and error."""

from __future__ import annotations

import math
import reprlib
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from isolated_magic.child.result import elide_middle
from isolated_magic.data_frame import to_data_frame
from isolated_magic.errors import InvalidRequestError, IsolatedError, NoSuchScoreError
from isolated_magic.sanitize import without_nan
from isolated_magic.strict_json import comparable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas

    from isolated_magic.strict_json import JsonObject, JsonValue

ProcessLaunchMethod: TypeAlias = Literal["forked", "cold"]
LaunchMethod: TypeAlias = ProcessLaunchMethod | Literal["reused"]

NanStyle: TypeAlias = Literal["float", "null"]

MOST_IN_REPR = 10  # scores
MOST_COMPARED, LONGEST_COMPARED = 1000, 60  # names, and characters of each, when looking for similar ones
MOST_FAILURES, LONGEST_FAILURE = 10, 300  # scores named in one line, and characters of each name and reason
TEXT_TYPES = ("text/plain", "text/markdown", "text/latex")
DEFAULT_NAME = "score"  # of a score that is a bare number
PASS, FAIL = "\N{CHECK MARK} PASS", "\N{BALLOT X} FAIL"
NO_VALUE = "no value"  # first part of the reason of a score without a value

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
    NO_SCORE = "no_score"  # there are scores, but none of them could be computed
    STRICT = "strict"


_CALLER_IS_AT_FAULT = frozenset(
    {ErrorKind.INVALID_REQUEST, ErrorKind.USER_CODE, ErrorKind.NO_SCORE, ErrorKind.STRICT}
)


class Found(StrEnum):
    """What a run that ended normally produced instead of a result.

    Example:
        >>> from isolated_magic import Found, IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run("'a text is no score'")
        >>> result.error.found_kind is Found.VALUE
        True
        >>> result.error.found
        'the value of the last line is a str'
    """

    NOTHING = "nothing"  # neither output nor a value
    OUTPUT = "output"  # printed text, but no value
    LINE = "line"  # a printed line that begins like a JSON object, but is invalid or refused
    VALUE = "value"  # a last expression that is no result
    METRIC = "metric"  # a return value of score() that is no result
    EXIT = "exit"  # sys.exit() before there was a result


@dataclass(frozen=True)
class RunError:
    """Why a run failed.

    Args:
        kind: the category of the error.
        text: the full text; for an exception in the code, its traceback with lines of the code.
        summary: one line of the text.
        excerpt: the lines of code around the error, with the place marked. In a notebook, for a run without a
            result, two lines that would give one. Empty if there are none.
        hint: how to fix it; empty if unknown.
        stack: the traceback of the code at a timeout; empty for other errors.
        found: what a run without a result produced instead, such as ``the value of the last line is a str``;
            empty for other errors.
        found_kind: the category of ``found``; None if unknown.
        found_repr: repr of the value of the last line, if that is what was found.
        raised: names of the exception's class and of its bases, separated by spaces, such as
            ``"httpx.ReadTimeout httpx.TimeoutException"``, up to Exception; empty for other errors.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     error = executor.run("1 / len(data['answers'])", {"answers": []}).error
        >>> error.code, error.kind.value, error.summary
        (400, 'user_code', 'ZeroDivisionError: division by zero (line 1)')
        >>> error.raised
        'ZeroDivisionError ArithmeticError Exception'
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
    raised: str = field(default="", repr=False, compare=False)

    @classmethod
    def from_text(cls, kind: ErrorKind, text: str) -> RunError:
        """An error with the first line of its text as summary.

        Args:
            kind: the category of the error.
            text: the full text.

        Returns:
            The error, without excerpt, hint and stack.

        Example:
            >>> from isolated_magic import RunError
            >>> RunError.from_text("died", "It died: signal 9.").summary
            'It died: signal 9.'
        """
        return cls(kind, text, text.split("\n", 1)[0])

    def __str__(self) -> str:
        return self.text

    def map_texts(self, change: Callable[[str], str]) -> RunError:
        """A copy with ``change`` applied to each text.

        Args:
            change: called with each text: ``text``, ``summary``, ``excerpt``, ``hint``, ``stack``, ``found``,
                ``found_repr`` and ``raised``.

        Returns:
            The changed copy.

        Example:
            >>> from isolated_magic import RunError
            >>> error = RunError("user_code", "no key abc", "no key abc")
            >>> error.map_texts(lambda text: text.replace("abc", "***")).text
            'no key ***'
        """
        return replace(
            self,
            text=change(self.text),
            summary=change(self.summary),
            excerpt=change(self.excerpt),
            hint=change(self.hint),
            stack=change(self.stack),
            found=change(self.found),
            found_repr=change(self.found_repr),
            raised=change(self.raised),
        )

    @property
    def text_with_hint(self) -> str:
        """The full text, followed by the hint."""
        return f"{self.text}\n\n{self.hint}" if self.hint else self.text

    @property
    def code(self) -> int:
        """400 if the caller's code or arguments caused the error, 500 otherwise."""
        return 400 if self.kind in _CALLER_IS_AT_FAULT else 500


@dataclass(frozen=True, slots=True)
class Score:
    """One score of a result.

    Args:
        name: the name of what is measured.
        value: usually a number, shown with a bar if in [0, 1]. True and False become 1 and 0; text is a label.
        reason: the metric's explanation of the value.
        category_name: the category, as in Opik's ``ScoreResult``.
        metadata: further JSON from the metric.
        scoring_failed: True if the metric reports a failure, or gave no value.
        passed: whether the value is good enough, as the metric decides; None if it does not say.
        threshold: the value from which the metric lets it pass; None if it has none.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run("{'scores': [{'name': 'polite', 'value': True, 'reason': 'please'}]}")
        >>> result.scores
        (Score('polite', 1.0, reason='please'),)
    """

    name: str
    value: JsonValue
    reason: str | None = None
    category_name: str | None = None
    metadata: JsonValue = None
    scoring_failed: bool = False
    passed: bool | None = None
    threshold: float | None = None

    @classmethod
    def from_json(cls, item: JsonValue) -> Score | None:
        """The score for one element of a result's ``scores``, or None if it is not a score.

        Args:
            item: any JSON value.

        Returns:
            The score; None if the item is no dict, or its ``name`` is no text.

        Example:
            >>> from isolated_magic import Score
            >>> Score.from_json({"name": "polite", "value": 0.5})
            Score('polite', 0.5)
            >>> Score.from_json({"value": 0.5}) is None
            True
        """
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            return None
        value, category, passed = item.get("value"), item.get("category_name"), item.get("passed")
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
            passed=None if passed is None else _is_true(passed),
            threshold=_number_or_none(item.get("threshold")),
        )

    def __repr__(self) -> str:
        told = [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]
        rest = "".join(
            f", {name}={value!r}" for name, value in told if value or (name == "passed" and value is False)
        )
        return f"{type(self).__name__}({self.name!r}, {self.value!r}{rest})"


def _is_true(flag: JsonValue) -> bool:
    """Whether a JSON flag of another program is set: true, a number but 0, or "true", "1", "yes"."""
    if isinstance(flag, str):
        return flag.strip().lower() in {"true", "1", "yes"}
    return isinstance(flag, (bool, int, float)) and bool(flag)


def _number_or_none(value: JsonValue) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text_or_none(value: JsonValue) -> str | None:
    try:
        return None if value is None else str(value)
    except RecursionError:
        return "(nested too deeply)"


@dataclass(frozen=True, slots=True)
class Timings:
    """The durations of a run in milliseconds; NaN where unknown.

    Args:
        creation_ms: from the call until the process exists.
        execution_ms: from the call until the process, and all processes that it started, have ended.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     timings = executor.run("0.5").timings
        >>> 0 < timings.creation_ms < timings.execution_ms
        True
    """

    creation_ms: float = math.nan
    execution_ms: float = math.nan


@dataclass(frozen=True)
class DisplayData:
    """Something that a run displayed: a figure, a table, an object with a rich representation.

    Args:
        data: the representations by MIME type: text, base64 for binary formats, JSON for ``application/json`` and
            the like.
        metadata: what the notebook format keeps beside them, such as the size of an image.
        stdout_at: characters of the run's stdout that were printed before it.
        stderr_at: likewise of its stderr.
        display_id: the code's own name for it, if it may update it; None if not.
        action: ``"show"``. ``on_display`` also gets ``"update"``, the new data of what has the same
            ``display_id``; and ``"clear"``, without data: the code has taken away what it showed
            (``clear_output()``).

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> code = "from IPython.display import HTML, display; display(HTML('<b>bold</b>')); 0.5"
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run(code)
        >>> result.displays[0].data["text/html"]
        '<b>bold</b>'
    """

    data: Mapping[str, JsonValue]
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    stdout_at: int = 0
    stderr_at: int = 0
    display_id: str | None = None
    action: Literal["show", "update", "clear"] = "show"

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    @property
    def text(self) -> str:
        """Its text form, as a terminal shows it."""
        texts = [self.data[mime] for mime in TEXT_TYPES if isinstance(self.data.get(mime), str)]
        return str(texts[0]) if texts else f"<{', '.join(self.data)}>"

    def __repr__(self) -> str:
        """The formats with their sizes; of a text, its beginning."""
        told = [f"{mime}: {_told_format(mime, value)}" for mime, value in self.data.items()]
        return f"{type(self).__name__}({{{', '.join(told)}}})"


def _told_format(mime: str, value: JsonValue) -> str:
    if mime == "text/plain" or not isinstance(value, str):
        return _short(value)
    return f"<{len(value):,} characters>"


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """The result of one run. ``result["name"]`` is the score of that name; ``bool(result)`` is :attr:`ok`.

    Equality ignores pid, launch, timings and peak memory, and treats NaN as equal to itself.

    Args:
        payload: the JSON object that is the result; None if the run failed.
        scores: the scores in the payload, in its order; empty if its ``scores`` is not a list of scores. A run
            whose scores all failed has them beside its error.
        stdout: text that the code printed, without the line that is its result.
        stderr: text that the code wrote to stderr.
        error: why the run failed, or None.
        exit_status: of the process, negative for the signal that ended it; None if none was started.
        pid: of the process; None if none was started.
        launch: how the process was started: ``"forked"`` from a fork server that had imported the packages of the
            code; ``"cold"`` if the run imported them itself, like a new interpreter; ``"reused"`` for a worker
            that may have served other runs; None if no process was started.
        timings: durations in milliseconds.
        peak_memory_bytes: peak memory of all processes of the run together, in bytes, page cache included. None
            without a limit on memory or processes, or without a control group that enforces it.
        compared_with: scores of the earlier run to compare with; empty if there was none, None for no comparison.
        differs_in: inputs that differ between the two runs: ``"data"``, ``"code"``, and ``"environment"`` with
            names of some variables in parentheses.
        notes: sentences to show beside the scores: the run succeeded, but may not mean what you think.
        displays: what the code displayed, in its order; each with its last update.
        score_label: what scores that are only called ``score`` are called where they are shown; empty for that.
        worker: the process of a cluster that ran it, such as ``"tcp://10.0.0.7:40331"``; else None.
        packages: versions by name of what was installed for the run, and of Python as ``"python"``; empty for a
            run with the interpreter and the packages of this process.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run("print('scoring'); {'overlap': 0.8, 'length': 3}")
        >>> result
        RunResult(scores={'overlap': 0.8, 'length': 3}, exit_status=0)
        >>> result["overlap"].value, result.stdout.strip(), "brevity" in result, result.ok
        (0.8, 'scoring', False, True)
    """

    payload: JsonObject | None = None
    scores: tuple[Score, ...] = ()
    stdout: str = ""
    stderr: str = ""
    error: RunError | None = None
    exit_status: int | None = None
    pid: int | None = None
    launch: LaunchMethod | None = None
    timings: Timings = field(default=Timings())
    peak_memory_bytes: int | None = None
    compared_with: tuple[Score, ...] | None = None
    differs_in: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    displays: tuple[DisplayData, ...] = ()
    score_label: str = ""
    worker: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        told = self.stdout, self.stderr, self.error, self.exit_status, self.notes, self.displays
        return (comparable(self.payload), *told)

    def __repr__(self) -> str:
        """A short text for failing tests, the same in every run."""
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
        """Whether the run succeeded: it has no error."""
        return self.error is None

    def with_notes(self, notes: Iterable[str], *, strict: bool = False) -> RunResult:
        """A copy with more notes; with ``strict=True``, notes make it an error.

        Args:
            notes: sentences to show beside the scores.
            strict: whether notes make the run a failed one.

        Returns:
            The copy. A run that had failed before keeps its error.

        Example:
            >>> from isolated_magic import RunResult, Score
            >>> result = RunResult(scores=(Score("overlap", 0.5),)).with_notes(["half of the rows are empty"])
            >>> result.ok, result.notes
            (True, ('half of the rows are empty',))
            >>> result.with_notes([], strict=True).ok
            False
        """
        told = (*self.notes, *notes)
        if not strict or not told or self.error is not None:
            return replace(self, notes=told)
        error = RunError.from_text(ErrorKind.STRICT, "\n".join(told))
        return replace(self, payload=None, scores=(), error=error, notes=told)

    def __bool__(self) -> bool:
        """Whether the run succeeded, as :attr:`ok`."""
        return self.ok

    def __getitem__(self, name: str) -> Score:
        """The score of that name.

        Args:
            name: the name of the score, or :attr:`score_label` for one that is only called ``score``.

        Raises:
            NoSuchScoreError: no score has that name, or several have.
        """
        found = self._called(name)
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
        """Whether a score has that name."""
        return bool(self._called(name))

    def _called(self, name: object) -> list[Score]:
        found = [score for score in self.scores if score.name == name]
        if found or not self.score_label or name != self.score_label:
            return found
        return [score for score in self.scores if score.name == DEFAULT_NAME]

    def __iter__(self) -> Iterator[Score]:
        """Iterate over the scores, in their order."""
        return iter(self.scores)

    def to_dict(self, *, nan: NanStyle = "float", displays: bool = False) -> JsonObject:
        """The result as ``execute()`` returns it: the JSON object, or ``{"code": ..., "error": ...}``.

        Args:
            nan: ``"float"`` keeps NaN and infinities, which strict JSON cannot represent; ``"null"`` replaces them
                by None, at any depth.
            displays: True adds ``"displays"``, a list of ``{"data": ..., "metadata": ...}``.

        Returns:
            The payload, or ``{"code": 400 or 500, "error": text}`` for a failed run.

        Raises:
            InvalidRequestError: ``nan`` is neither.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.run("{'scores': [{'name': 'ratio', 'value': float('nan')}]}")
            >>> result.to_dict()
            {'scores': [{'name': 'ratio', 'value': nan}]}
            >>> result.to_dict(nan="null")
            {'scores': [{'name': 'ratio', 'value': None}]}
        """
        if nan != "float" and nan not in get_args(NanStyle):
            raise InvalidRequestError(f"nan is {nan!r}: give one of {', '.join(map(repr, get_args(NanStyle)))}.")
        if self.error is not None:
            answer: JsonObject = {"code": self.error.code, "error": self.error.text_with_hint}
        else:
            answer = dict(self.payload or {}) if nan == "float" else without_nan(self.payload or {})
        if displays:
            answer["displays"] = [{"data": {**one.data}, "metadata": {**one.metadata}} for one in self.displays]
        return answer

    def to_pandas(self) -> pandas.DataFrame:
        """The scores as a data frame: one row for each score, the fields of :class:`Score` as columns.

        Returns:
            A frame of shape (scores, 8), in the order of the scores; its index counts from 0.

        Raises:
            MissingLibraryError: pandas is not installed.

        Example:
            >>> from isolated_magic import RunResult, Score
            >>> frame = RunResult(scores=(Score("overlap", 0.5), Score("length", 3))).to_pandas()
            >>> frame[["name", "value"]].values.tolist()
            [['overlap', 0.5], ['length', 3.0]]
        """
        return to_data_frame([asdict(score) for score in self.scores], [field.name for field in fields(Score)])


class RunFailedError(IsolatedError):
    """A run of ``%%isolated`` failed.

    Args:
        result: the complete result; ``result.error`` holds code, kind and full text.
        shown: the text that IPython shows instead of a traceback; empty for the full text.
        painted: the same with terminal colours; empty for none.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> from isolated_magic import RunFailedError
        >>> shell = InteractiveShell.instance()
        >>> _ = shell.run_line_magic("load_ext", "isolated_magic")
        >>> try:
        ...     shell.run_cell_magic("isolated", "", "1 / 0")
        ... except RunFailedError as problem:
        ...     print(problem, problem.result.error.code)
        ZeroDivisionError: division by zero (line 2) 400
        >>> _ = shell.run_line_magic("unload_ext", "isolated_magic")
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
    """The names of scores with their counts, those similar to the wanted one first."""
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
    if score.scoring_failed:
        return "FAILED"
    return _short(score.value) + ("" if score.passed is None else f" {PASS if score.passed else FAIL}")


def _short(value: JsonValue) -> str:
    """The abbreviated repr."""
    return reprlib.repr(value)


def parse_scores(payload: JsonObject) -> tuple[Score, ...]:
    """The scores in a result's JSON object; empty unless its ``scores`` is a list of scores."""
    items = payload.get("scores")
    if not isinstance(items, list):
        return ()
    scores = [Score.from_json(item) for item in items]
    return tuple(filter(None, scores)) if all(scores) else ()


def failures_of(failed: Sequence[Score]) -> str:
    """The names of failed scores with their reasons, in one line."""
    told = [_failure(score) for score in failed[:MOST_FAILURES]]
    told += [f"and {len(failed) - MOST_FAILURES:,} more"] * (len(failed) > MOST_FAILURES)
    return "; ".join(told)


def _failure(score: Score) -> str:
    name, reason = (" ".join(text.split()) for text in (score.name, score.reason or "scoring failed"))
    return f"{elide_middle(name, LONGEST_FAILURE)}: {elide_middle(reason.rstrip('.'), LONGEST_FAILURE)}"
