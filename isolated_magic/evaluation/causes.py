"""Failures grouped by their cause: one line, the same for all rows that failed in the same way."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.child.result import elide_middle
from isolated_magic.models import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isolated_magic.models import RunError

MOST_KEYS = 3  # named for each cause
MOST_ALIKE = 3  # causes that differ in a number or a quoted text alone; more may be one group
LONGEST_CAUSE = 160  # characters
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

_PLACE = re.compile(r" \(line \d+\)\Z")
_SIGNAL = re.compile(r"\((SIG\w+|signal \d+)\)")
_NAME_ALONE = re.compile(r"\A([\w.]*KeyError|[\w.]+(?=: (['\"])(?:(?!\2).)*\2\Z)): ")  # KeyError: 'reference'
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|\b0x[0-9a-f]+\b|\d+(?:[.,]\d+)*")
_FIXED = {
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.KILLED: "killed",
    ErrorKind.INTERRUPTED: "interrupted",
}
_STARTS = {  # of summaries, and what is said instead
    "Invalid JSON response from subprocess: ": "no result: ",
    "The process ended with ": "no result: ",
    "The run could not be started: ": "not started: ",
    "The score could not be computed: ": "no score: ",
}


class FailureGroup(TypedDict):
    """Rows that failed for the same cause.

    Args:
        cause: why, in one line.
        kind: the category of the error, as in :class:`ErrorKind`.
        count: how many they are.
        keys: of the first three, in the order of the input.
    """

    cause: str
    kind: str
    count: int
    keys: list[str]


def cause_of(error: RunError) -> str:
    """Why a row failed, in one line without what differs from row to row, such as ``KeyError 'reference'``."""
    if error.kind in _FIXED:
        return _FIXED[error.kind]
    summary = _PLACE.sub("", " ".join(error.summary.split()))
    if error.kind is ErrorKind.DIED:
        return _death(summary)
    if error.kind is ErrorKind.LIMIT:
        return summary.partition(" (")[0].partition(": ")[0]
    for start, instead in _STARTS.items():
        if summary.startswith(start):
            summary = instead + summary.removeprefix(start)
    return elide_middle(_NAME_ALONE.sub(r"\1 ", summary).rstrip("."), LONGEST_CAUSE)


def _death(summary: str) -> str:
    if "OOM killer" in summary:
        return "died: out of memory"
    found = _SIGNAL.search(summary)
    return f"died: {found[1]}" if found is not None else elide_middle(summary, LONGEST_CAUSE)


def group_failures(failures: Iterable[tuple[str, str, str]]) -> list[FailureGroup]:
    """Failures by cause, the most frequent first.

    Args:
        failures: key, kind and cause of each, in the order of the input.

    Returns:
        Where more than three causes differ only in numbers or quoted texts, and most of them are of one row alone,
        one group for all of them, with an ellipsis for what differs: ``could not convert string to float: …``.
    """
    failures = tuple(failures)
    alike: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, kind, cause in failures:
        alike[kind, _pattern(cause)][cause] += 1
    groups: dict[tuple[str, str], FailureGroup] = {}
    for key, kind, cause in failures:
        pattern = _pattern(cause)
        shown = pattern if _is_one(alike[kind, pattern]) else cause
        group = groups.setdefault((kind, shown), FailureGroup(cause=shown, kind=kind, count=0, keys=[]))
        group["count"] += 1
        if len(group["keys"]) < MOST_KEYS and key not in group["keys"]:  # repetitions have the key of their row
            group["keys"].append(key)
    return sorted(groups.values(), key=lambda group: -group["count"])


def _is_one(counts: Counter[str]) -> bool:
    """Whether causes that are alike are one, with something of the row in it; not, say, four codes of HTTP."""
    return len(counts) > MOST_ALIKE and len(counts) > counts.total() / 2


def _pattern(cause: str) -> str:
    """The cause without what may differ from row to row."""
    return _VARIES.sub(ELLIPSIS, cause)
