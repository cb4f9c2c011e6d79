"""What a run may use, how sizes are written, and what a breach is called."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from functools import cached_property

from isolated_magic.errors import InvalidRequestError

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
STACK_LIMIT_BYTES = 20 * MIB
OUTPUT_LIMIT_BYTES = 32 * MIB

_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What a run may use; None for as much as this process may.

    Args:
        memory_bytes: of data, by each of its processes (RLIMIT_DATA); where a control group can be made, by all of
            them together, without swap, else a LimitWarning says so.
        cpu_secs: seconds of processor time of each of its processes, rounded up to whole ones (RLIMIT_CPU).
        open_files: descriptors of each of its processes (RLIMIT_NOFILE).
        file_size_bytes: of each file that it writes (RLIMIT_FSIZE).
        processes: at once, threads included, the run's own among them; where no control group can be made, in
            addition to all that this user has (RLIMIT_NPROC), and a LimitWarning says so.
        output_bytes: of what it prints, to stdout and to stderr; what is beyond is read and thrown away.
        stack_bytes: of the main thread's stack (RLIMIT_STACK), where the platform has that limit.

    Raises:
        InvalidRequestError: one of these is no number greater than zero; stack_bytes is None.
    """

    memory_bytes: int | None = None
    cpu_secs: float | None = None
    open_files: int | None = None
    file_size_bytes: int | None = None
    processes: int | None = None
    output_bytes: int | None = OUTPUT_LIMIT_BYTES
    stack_bytes: int = STACK_LIMIT_BYTES

    def __post_init__(self) -> None:
        for name, value in self._given():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf or (name != "cpu_secs" and not isinstance(value, int)):
                what = "a number of seconds" if name == "cpu_secs" else "a whole number"
                raise InvalidRequestError(
                    f"{name} is {value!r}: give {what} greater than zero, None for no limit."
                )
        if self.stack_bytes is None:
            raise InvalidRequestError("stack_bytes is None: give a whole number of bytes.")

    def _given(self) -> list[tuple[str, float]]:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in values if value is not None]

    @cached_property
    def of_resources(self) -> dict[str, int]:
        """Those that the system holds (see ``child/limits.py``), as whole numbers. Not to be changed."""
        held = _WORDS.keys()
        return {name: math.ceil(value) for name, value in self._given() if name in held}


NO_LIMITS = Limits()
_WORDS = {
    "memory_bytes": "memory limit",
    "cpu_secs": "CPU time limit",
    "open_files": "limit of open files",
    "file_size_bytes": "file size limit",
    "processes": "process limit",
}


def breach_text(limits: Limits, name: str) -> str:
    """What an error says of a limit that was exceeded.

    Args:
        limits: of the run.
        name: of the limit, one that was given.
    """
    value = getattr(limits, name)
    shown = size_text(value) if name.endswith("bytes") else f"{value:g}{' s' * (name == 'cpu_secs')}"
    return f"{_WORDS[name]} {shown} exceeded"


def size_text(size: int) -> str:
    """A size as people write it, such as ``512 MB`` for 512 * 2**20.

    Args:
        size: in bytes.
    """
    for unit, name in ((TIB, "TB"), (GIB, "GB"), (MIB, "MB"), (KIB, "KB")):
        if size >= unit:
            return f"{round(size / unit, 1):g} {name}"
    return f"{size} bytes"


def size_of(text: str) -> int:
    """The size that a text such as ``512M`` stands for, in bytes.

    Args:
        text: a number, and one of the letters K, M, G, T for powers of 1024.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size <= 0:
        raise ValueError(f"{text} is no size")
    return size
