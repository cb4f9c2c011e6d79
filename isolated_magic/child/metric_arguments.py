"""Match the data of a run with the parameters of a metric's ``score``."""

from __future__ import annotations

from . import modules
from .plain import mro_of, name_of
from .result import elide_middle

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any


with modules.StandardImports():
    from json import dumps

TRACE_THREAD = "trace_thread"
# Kinds of parameters, as inspect numbers them.
BY_POSITION, BY_EITHER, REST, BY_NAME, REST_BY_NAME = range(5)
NAMED = frozenset({BY_EITHER, BY_NAME})
MOST_KEYS = 8  # that a message lists
LONGEST_KEY = 60  # characters
MOST_COMPARED = 200  # keys
MOST_MISSING = 3  # that a message maps
CLOSE, BARELY = 0.6, 0.3  # ratios of difflib's; the first is the cutoff of its get_close_matches()

# Names for the data as a whole.
WHOLE = frozenset(
    {"data", "row", "item", "record", "sample", "example", "payload", "inputs", "kwargs", "test_case"}
)
# Groups of words for one thing.
ALIKE = (
    "output answer response prediction predicted completion generation generated actual candidate reply outputs "
    "actual_output",
    "reference expected target gold golden truth label ideal correct expected_output ground_truth expected_answer "
    "reference_outputs expectations",
    "input question prompt query instruction inputs user_input",
    "context contexts documents docs passages sources chunks retrieved retrieval_context retrieved_contexts",
    "conversation thread messages turns dialogue history",
)


class MetricCallError(Exception):
    """A metric cannot be made, or cannot be called with the data; the hint says what to do about it."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.text, self.hint = text, hint


class DataHint:
    """How to pass a value under another name: in Python, or in the magic's line, where ``row`` is the data."""

    def __init__(self, row: str | None) -> None:
        self._row = row

    def mapping(self, name: str, key: str | None) -> str:
        """How to pass the value of this key, or the data as a whole, as ``name``."""
        if self._row is None:
            item = "row" if key is None else f"row[{dumps(key, ensure_ascii=False)}]"
            return f"data={{{dumps(name)}: {item}}}"
        item = self._row if key is None else f"{self._row}[{dumps(key, ensure_ascii=False)}]"
        return f"-d {name}={{{item}}}"

    def mappings(self, pairs: Mapping[str, str]) -> str:
        """How to pass the values of these keys under other names, at once."""
        if self._row is None:
            items = (f"{dumps(name)}: row[{dumps(key, ensure_ascii=False)}]" for name, key in pairs.items())
            return f"data={{{', '.join(items)}}}"
        return " ".join(self.mapping(name, key) for name, key in pairs.items())

    def anything(self, name: str) -> str:
        """How to pass some value as ``name``."""
        return f'data={{"{name}": ...}}' if self._row is None else f"-d {name}=..."


class Inputs:
    """What a run has for its metrics.

    Args:
        data: of the run.
        payload_type: of the data.
        hint: for the messages.
    """

    def __init__(self, data: object, payload_type: object, hint: DataHint) -> None:
        self.data, self.payload_type, self.hint = data, payload_type, hint
        self.is_whole = payload_type == TRACE_THREAD or not isinstance(data, dict)
        self.items: dict[str, object] = {} if self.is_whole else data  # type: ignore[assignment]  # a dict

    def missing(self, caller: str, names: Collection[str], takes: Collection[str]) -> MetricCallError:
        """The error for values that the caller needs and the data has not under these names."""
        keys, lacking = list(self.items), list(names)
        there = f"the data ({listed(keys)})" if keys else "the data, which is empty"
        are = "is" if len(lacking) == 1 else "are"
        text = f"TypeError: {caller} needs {listed(lacking)}, which {are} not in {there}."
        if not keys:
            return MetricCallError(text, f"Hand it over: {self.hint.anything(lacking[0])}")
        pairs = {name: _nearest_unused(name, keys, takes) for name in lacking[:MOST_MISSING]}
        return MetricCallError(text, f"Map {'it' if len(pairs) == 1 else 'them'}: {self.hint.mappings(pairs)}")


class ScoreArguments:
    """What ``score`` of a metric gets of the data, and what is missing or unexpected.

    Args:
        metric: the name of its class.
        score: bound, unless it skips self.
        data: of the run.
        payload_type: of the data.
        hint: for the messages.
        skips_self: leave the first parameter out.
    """

    def __init__(
        self,
        metric: str,
        score: object,
        data: object,
        payload_type: object,
        hint: DataHint,
        *,
        skips_self: bool = False,
    ) -> None:
        self.name, self._hint, self._payload_type = metric, hint, payload_type
        self._data = data
        self._is_whole = payload_type == TRACE_THREAD or not isinstance(data, dict)
        self._keys: list[str] = [] if self._is_whole else list(data)  # type: ignore[call-overload]  # a dict
        self._parameters = parameters_of(score)
        if self._parameters is not None and skips_self:
            self._parameters = self._parameters[1:]
        self._needed_to_make: list[str] = []
        parameters = self._parameters or ()
        self._takes = [parameter.name for parameter in parameters if parameter.kind in NAMED]  # by name
        self._needs = [parameter.name for parameter in parameters if is_needed(parameter, NAMED)]
        self._by_position_only = [
            parameter.name for parameter in parameters if is_needed(parameter, {BY_POSITION})
        ]
        takes_any = self._parameters is None or any(parameter.kind == REST_BY_NAME for parameter in parameters)
        self.missing = [] if self._is_whole else [name for name in self._needs if name not in self._keys]
        self.unexpected = [] if takes_any else [key for key in self._keys if key not in self._takes]

    @classmethod
    def of(cls, metric: object, data: object, payload_type: object, hint: DataHint) -> ScoreArguments:
        """The arguments of a metric that may still be a class."""
        if not is_class(metric):
            return cls(name_of(type(metric)), metric.score, data, payload_type, hint)  # type: ignore[attr-defined]  # a metric
        score: Any = next((vars(base)["score"] for base in mro_of(metric) if "score" in vars(base)), None)
        is_bound = type(score) is staticmethod or type(score) is classmethod
        function = metric.score if is_bound else score  # type: ignore[attr-defined]  # a metric
        arguments = cls(name_of(metric), function, data, payload_type, hint, skips_self=not is_bound)
        arguments._needed_to_make = needed_to_make(metric)
        return arguments

    @property
    def notes(self) -> list[str]:
        """A note about each parameter that gets None."""
        return [self._about_missing(name, ": None was passed.") for name in self.missing]

    @property
    def reason(self) -> str:
        """Why ``score`` does not take the data as it is; empty when it does."""
        if self._needed_to_make:
            needed = ", ".join(self._needed_to_make)
            example = call_with_dots(self.name, self._needed_to_make)
            return f"it needs {needed}. Name an object of it on the last line, such as {example}"
        if self.unexpected:
            return f"its score() does not take {listed(self.unexpected)}: add **ignored to its parameters"
        if (problem := self._problem()) is not None:
            return f"{problem.text.removeprefix('TypeError: ')} {problem.hint}"
        return self._about_missing(self.missing[0], ".") if self.missing else ""

    def check(self) -> None:
        """Raise MetricCallError if ``score`` cannot be called."""
        if (problem := self._problem()) is not None:
            raise problem

    def call(self, score: Callable[..., object]) -> object:
        """Call ``score`` with the data, and with None for what is missing."""
        if self._is_whole:
            return score(self._data)
        return score(**{**self._data, **dict.fromkeys(self.missing)})  # type: ignore[dict-item]  # a dict

    def _problem(self) -> MetricCallError | None:
        if self._parameters is None:
            return None
        if self._is_whole:
            return self._problem_as_whole()
        if self._by_position_only:
            names = ", ".join(self._by_position_only)
            return MetricCallError(
                f"TypeError: {self.name}.score() takes {names} by position only.",
                "score() gets each key of the data by its name: take the / out of its parameters.",
            )
        if not self.unexpected:
            return None
        takes = listed(self._takes) or "nothing"
        text = f"TypeError: {self.name}.score() got an unexpected keyword argument {self.unexpected[0]!r}"
        return MetricCallError(
            f"{elide_middle(text, 2 * LONGEST_KEY + len(self.name))}: it takes {takes}.", self._what_to_do()
        )

    def _problem_as_whole(self) -> MetricCallError | None:
        parameters = self._parameters or ()
        by_position = [one for one in parameters if one.kind in {BY_POSITION, BY_EITHER, REST}]
        needed = [one for one in by_position if is_needed(one, {BY_POSITION, BY_EITHER})]
        by_name = [one for one in parameters if is_needed(one, {BY_NAME})]
        if by_position and len(needed) <= 1 and not by_name:
            return None
        takes = listed([one.name for one in parameters]) or "nothing"
        return MetricCallError(
            f"TypeError: {self.name}.score() cannot be called with the data alone: it takes {takes}.",
            f"With payload_type {TRACE_THREAD}, score() gets all of the data as its only argument: "
            "write def score(self, thread).",
        )

    def _what_to_do(self) -> str:
        if self.missing == self._takes and len(self._takes) == 1 and self._means_all(self._takes[0]):
            parameters = ", ".join([*self._keys[:3], "**ignored"])
            return (
                "score() gets each key of the data as an argument of that name, not the data as a whole: write "
                f"def score(self, {parameters}), or hand it over as one value: "
                f"{self._hint.mapping(self._takes[0], None)}"
            )
        keys, are, them = listed(self.unexpected), "are keys", "them"
        if len(self.unexpected) == 1:
            are, them = "is a key", "it"
        told = f"{keys} {are} of the data. Add **ignored to the parameters of score(), or leave {them} out."
        return " ".join([told, *(self._about_missing(name, ".") for name in self.missing[:3])])

    def _means_all(self, name: str) -> bool:
        """Whether a parameter most likely stands for the data as a whole."""
        return name.lower() in WHOLE or (len(self._keys) > 1 and not nearest_key(name, self._keys)[1])

    def _about_missing(self, name: str, what: str) -> str:
        return about_missing(name, what, self._keys, self._takes, self._hint)


def about_missing(name: str, what: str, keys: list[str], takes: Collection[str], hint: DataHint) -> str:
    """A sentence: what is not among the keys of the data, and which of those not taken it may be."""
    if not keys:
        return f"{name} is not in the data, which is empty{what} Hand it over: {hint.anything(name)}"
    nearest = _nearest_unused(name, keys, takes)
    there = listed([nearest, *(key for key in keys if key != nearest)])
    return f"{name} is not in the data ({there}){what} Map it: {hint.mapping(name, nearest)}"


def _nearest_unused(name: str, keys: list[str], takes: Collection[str]) -> str:
    return nearest_key(name, [key for key in keys if key not in takes] or keys)[0]


def is_class(value: object) -> bool:
    """Whether it is a class, without asking it."""
    kind = type(value)
    if kind is type:
        return True
    for base in mro_of(kind):  # noqa: SIM110 - of each name of each run: a generator takes four calls
        if base is type:
            return True
    return False


def needed_to_make(kind: object) -> list[str]:
    """The parameters that have to be given to make an object of a class."""
    return [
        parameter.name for parameter in parameters_of(kind) or () if is_needed(parameter, {BY_POSITION, *NAMED})
    ]


def call_with_dots(name: str, parameters: list[str]) -> str:
    """An example of a call, with dots for the values."""
    return f"{name}({', '.join(f'{parameter}=...' for parameter in parameters)})"


_known: dict[tuple[object, bool], Sequence[Any] | None] | None = None


def remember_parameters() -> None:
    """Look at each function only once from now on: they are called again and again."""
    global _known  # noqa: PLW0603 - a fact about the process
    _known = {} if _known is None else _known


def parameters_of(function: object) -> Sequence[Any] | None:
    """The parameters of a function or a class; None when it has no signature."""
    kind = name_of(type(function))
    if _known is None or kind not in {"function", "method"}:
        return _parameters_of(function)
    key = (function.__func__, True) if kind == "method" else (function, False)  # type: ignore[attr-defined]  # a method
    try:
        if key not in _known:
            _known[key] = _parameters_of(function)
        return _known[key]
    except TypeError:  # something odd that has no hash
        return _parameters_of(function)


def _parameters_of(function: object) -> Sequence[Any] | None:
    inspect = modules.standard_module("inspect")  # 10 ms that only a metric class has to pay
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def is_needed(parameter: Any, kinds: Collection[int]) -> bool:  # noqa: ANN401 - of inspect, which is not imported here
    """Whether a parameter of one of these kinds has no default."""
    return parameter.kind in kinds and parameter.default is parameter.empty


def nearest_key(name: str, keys: list[str]) -> tuple[str, bool]:
    """The key that most likely means the same as a name, and whether that is more than a guess."""
    keys = keys[:MOST_COMPARED]
    compare: Any = modules.standard_module("difflib").SequenceMatcher(None)
    compare.set_seq2(name.lower())

    def similarity(key: str) -> float:
        compare.set_seq1(key[:LONGEST_KEY].lower())
        ratio: float = compare.ratio()
        return ratio

    nearest = max(keys, key=similarity)
    if similarity(nearest) >= CLOSE:
        return nearest, True
    group = next((words.split() for words in ALIKE if name.lower() in words.split()), [])
    found = [key for key in keys if key.lower() in group]
    found += [key for key in keys if any(part in group for part in key.lower().split("_"))]
    if found:
        return found[0], True
    return (nearest if similarity(nearest) >= BARELY else keys[0]), False


def listed(names: Sequence[str]) -> str:
    """The names as a list in a sentence, each on one line, long ones and long lists cut."""
    shown = [elide_middle(dumps(name, ensure_ascii=False)[1:-1], LONGEST_KEY) for name in names[:MOST_KEYS]]
    if len(names) > MOST_KEYS:
        shown.append(f"... {len(names) - MOST_KEYS:,} more")
    return ", ".join(shown)
