"""Usage that scores carry in their metadata, such as tokens and cost, summed."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from isolated_magic.evaluation.values import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.strict_json import JsonValue

# Objects that hold usage: as OpenAI and Opik call them, LangChain, and others.
HOLDERS = frozenset(("usage", "token_usage", "usage_metadata", "tokens", "cost", "costs"))
# Numbers that are usage wherever they stand; the second of deepeval, the last of MLflow.
NAMES = frozenset(("tokens", "cost", "evaluation_cost", "total_cost", "cost_usd", "total_cost_usd", "judgeCost"))
TOKENS = ("_tokens", "Tokens")
SETTING = "max"  # as in max_tokens: no usage
DEEPEST = 6  # objects in one another that are looked into


def usage_of(rows: Iterable[RowResult]) -> dict[str, int | float]:
    """The sum of each number of usage, by its name; of one within an object by both, as ``details.cached_tokens``.

    A name that the metadata of one score has twice counts once: the outermost.
    """
    found: defaultdict[str, list[int | float]] = defaultdict(list)
    for row in rows:
        for score in row.scores:
            if isinstance(score.metadata, dict):
                for name, number in _usage_in(score.metadata).items():
                    found[name].append(number)
    return {name: _sum(numbers) for name, numbers in found.items()}


def _sum(numbers: list[int | float]) -> int | float:
    return math.fsum(numbers) if any(isinstance(number, float) for number in numbers) else sum(numbers)


def _usage_in(metadata: dict[str, JsonValue]) -> dict[str, int | float]:
    """The usage in one score's metadata."""
    usage: dict[str, int | float] = {}
    level: list[dict[str, JsonValue]] = [metadata]
    for _ in range(DEEPEST):
        if not level:
            break
        inner: list[dict[str, JsonValue]] = []
        for item in level:
            for name, value in item.items():
                short = name.rpartition(".")[2]  # mlflow.assessment.judgeCost
                if isinstance(value, dict):
                    if name in HOLDERS:
                        start = "" if "usage" in name else f"{name}."
                        for path, found in _numbers_in(value, start, DEEPEST):
                            usage.setdefault(path, found)
                    else:
                        inner.append(value)
                elif _is_usage(short) and (number := _number(value)) is not None:
                    usage.setdefault(short, number)
        level = inner
    return usage


def _is_usage(name: str) -> bool:
    return name in NAMES or (name.endswith(TOKENS) and not name.startswith(SETTING))


def _numbers_in(item: dict[str, JsonValue], start: str, deepest: int) -> Iterator[tuple[str, int | float]]:
    """All numbers in an object, the outermost first, with the path to each."""
    for name, value in item.items():
        if (number := _number(value)) is not None:
            yield f"{start}{name}", number
    for name, value in item.items():
        if isinstance(value, dict) and deepest > 1:
            yield from _numbers_in(value, f"{start}{name}.", deepest - 1)


def _number(value: JsonValue) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -LARGEST <= value <= LARGEST else None  # NaN is not between them
