"""Looks at processes, and waits for what they do: helpers of the notebooks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

GUARD_SECS = 120.0  # until a condition that does not come true is an error


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended, and whose parent has not asked how, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], T], secs: float = GUARD_SECS) -> T:
    """Wait until a condition holds, and return its value.

    Raises:
        TimeoutError: it does not come true.
    """
    deadline = time.monotonic() + secs
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("The condition did not come true.")
        time.sleep(0.01)
    return value
