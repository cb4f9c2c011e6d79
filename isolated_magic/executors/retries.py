"""Which failed rows are run again, and when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.models import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from isolated_magic.models import RunError

FIRST_WAIT_SECS = 0.5  # doubled after each attempt
LONGEST_WAIT_SECS = 60.0
JITTER_SECS = 0.5  # so that rows that failed together do not all come back together
NEVER = frozenset({ErrorKind.INVALID_REQUEST})
_KINDS = frozenset(ErrorKind) - NEVER


class Retries:
    """How often, after which errors, and how long after.

    Args:
        most: how often a row is run again.
        after: names of exceptions, or kinds of errors; empty for any exception that the code raised.
    """

    def __init__(self, most: int, after: Collection[str]) -> None:
        self._most = most
        self._after = frozenset(after)

    def again_at(self, error: RunError | None, failed_before: int) -> float | None:
        """When to run a row again, by time.monotonic(); None for never.

        Args:
            error: of this attempt.
            failed_before: number of attempts before this one.
        """
        if error is None or failed_before >= self._most or not self._is_temporary(error):
            return None
        return time.monotonic() + _wait_secs(failed_before + 1)

    def _is_temporary(self, error: RunError) -> bool:
        classes = error.raised.split()
        if not self._after:
            return error.kind is ErrorKind.USER_CODE and bool(classes) and "SyntaxError" not in classes
        if error.kind in NEVER:
            return False
        return str(error.kind) in self._after or any(
            _is_named(class_name, name) for class_name in classes for name in self._after
        )


def _is_named(class_name: str, name: str) -> bool:
    """Whether a class such as ``openai._exceptions.RateLimitError`` is meant by a name, dotted or not."""
    package, _, last = name.rpartition(".")
    home, _, own = class_name.rpartition(".")
    is_at_home = not package or package.split(".")[0] == (home.split(".")[0] or "builtins")
    return last == own and is_at_home


def check_retry_on(names: object) -> None:
    """Refuse what can name no exception.

    Raises:
        InvalidRequestError: says which.
    """
    if isinstance(names, str) or not isinstance(names, (list, tuple, set, frozenset)):
        raise InvalidRequestError(
            f"retry_on is {type(names).__name__}: give a list of names of exceptions or kinds of errors, such as "
            "['RateLimitError', 'timeout']."
        )
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InvalidRequestError(
                f"retry_on: {name!r} is neither the name of an exception nor a kind of error "
                f"({', '.join(sorted(_KINDS))})."
            )


def _wait_secs(attempt: int) -> float:
    """How long to wait after this many failed attempts."""
    import tenacity  # noqa: PLC0415 - imports asyncio, and most evaluations have no need of it

    wait = tenacity.wait_exponential(multiplier=FIRST_WAIT_SECS, max=LONGEST_WAIT_SECS) + tenacity.wait_random(
        0, JITTER_SECS
    )
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return wait(state)
