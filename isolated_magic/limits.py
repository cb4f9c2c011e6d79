"""The limits of a run in the kernel: names, units, sizes, error texts (``child/limits.py`` enforces them)."""

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
    """The resources a run may use. None sets no limit of ours: that of this process applies.

    Args:
        memory_bytes: data memory of each process (RLIMIT_DATA). Where a control group can be made, memory of all
            processes together, without swap; elsewhere a LimitWarning says so.
        cpu_secs: seconds of processor time of each process, rounded up to whole seconds (RLIMIT_CPU).
        open_files: file descriptors of each process (RLIMIT_NOFILE).
        file_size_bytes: size of each file that the run writes, in bytes (RLIMIT_FSIZE).
        processes: processes and threads at once, the run's own included. Where no control group can be made, they
            are counted in addition to all processes of this user (RLIMIT_NPROC), and a LimitWarning says so.
        output_bytes: bytes printed to each of stdout and stderr, and bytes of all displays, pictures in Base64.
            What exceeds them is read and discarded.
        stack_bytes: stack of the main thread in bytes (RLIMIT_STACK), where the platform has that limit.

    Raises:
        InvalidRequestError: a limit is not a number greater than zero, or stack_bytes is None.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor, Limits
        >>> with IsolatedSubprocessExecutor(limits=Limits(open_files=40)) as executor:
        ...     result = executor.run("files = [open('/dev/null') for _ in range(100)]")
        >>> result.error.kind.value, result.error.summary
        ('limit', "limit of open files 40 exceeded (OSError: [Errno 24] Too many open files: ...
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
        """The limits that the OS enforces, as whole numbers, as named in ``child/limits.py``. Do not modify."""
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


def limit_exceeded_text(limits: Limits, name: str) -> str:
    """The error text for an exceeded limit, such as ``memory limit 512 MB exceeded``."""
    value = getattr(limits, name)
    shown = format_size(value) if name.endswith("bytes") else f"{value:g}{' s' * (name == 'cpu_secs')}"
    return f"{_WORDS[name]} {shown} exceeded"


def format_size(size: int) -> str:
    """Bytes as text, such as ``512 MB`` for 512 * 2**20."""
    for unit, name in ((TIB, "TB"), (GIB, "GB"), (MIB, "MB"), (KIB, "KB")):
        if size >= unit:
            return f"{round(size / unit, 1):g} {name}"
    return f"{size} bytes"


def parse_size(text: str) -> int:
    """Bytes for a text such as ``512M``: a number and K, M, G or T for powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size <= 0:
        raise ValueError(f"{text} is not a size")
    return size
