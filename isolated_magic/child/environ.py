"""The environment of a fork, put in place of the template's as if it had been handed to exec."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

from . import wire

PR_SET_MM, PR_SET_MM_MAP = 35, 14  # linux/prctl.h

# struct prctl_mm_map (linux/prctl.h): eleven addresses, of which the sixth is the end of the heap and the last two
# bound the environment; then the auxiliary vector (none: it stays) and the executable (-1: it stays).
_MAP = struct.Struct("=11QQII")
_FIELDS = (26, 27, 45, 46, 47, None, 28, 48, 49)  # of these addresses in /proc/PID/stat, counted as in proc(5)

_libc = ctypes.PyDLL(None, use_errno=True)
_environ = ctypes.c_void_p.in_dll(_libc, "environ")
_sbrk = _libc.sbrk
_sbrk.restype = ctypes.c_uint64
_in_use: list[object] = []  # C holds addresses of these


class Environment:
    """What the environment of this process is, and how to have another one. Made before the fork."""

    def __init__(self) -> None:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - one read of a special file
            started_with = wire.environment_in(file.read())
        # An interpreter in the C locale sets LC_CTYPE by itself (PEP 538).
        self._added = {name: value for name, value in os.environb.items() if started_with.get(name) != value}
        self._addresses = _addresses()

    def replace(self, block: bytes) -> None:
        """Have this environment, in os.environ, in C, and in /proc/PID/environ.

        Args:
            block: as ``wire.environment_block`` makes it.
        """
        entries = block.split(b"\0")[:-1]
        environment = {name: value for name, _, value in (entry.partition(b"=") for entry in entries)}
        self._lay_out(block, entries)
        # By its own methods, each variable would take a call of C to unset it and one to set it.
        data: Any = os.environ._data  # type: ignore[attr-defined]
        data.clear()
        data.update(environment)
        for name, value in self._added.items():
            if name not in environment:
                os.environb[name] = value

    def _lay_out(self, block: bytes, entries: list[bytes]) -> None:
        """Point C's ``environ`` (environ(7)) and the kernel (PR_SET_MM_MAP(2const)) to a copy of the block."""
        copy = ctypes.create_string_buffer(block, len(block) or 1)
        start = at = ctypes.addressof(copy)
        table = (ctypes.c_void_p * (len(entries) + 1))()
        for index, entry in enumerate(entries):
            table[index] = at
            at += len(entry) + 1
        _in_use.extend((copy, table))
        _environ.value = ctypes.addressof(table)
        if self._addresses is not None:
            before_heap, after_heap = self._addresses
            layout = _MAP.pack(*before_heap, _sbrk(0), *after_heap, start, start + len(block), 0, 0, 0xFFFFFFFF)
            # Where the kernel refuses (CONFIG_CHECKPOINT_RESTORE), /proc shows what the template was started with.
            _libc.prctl(PR_SET_MM, PR_SET_MM_MAP, layout, len(layout), 0)


def _addresses() -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Where the kernel has the parts of this process, those before the end of the heap and those after it."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - one read of a special file
        fields = file.read().rpartition(b")")[2].split()
    found = tuple(int(fields[number - 3]) for number in _FIELDS if number is not None)
    return (found[:5], found[5:]) if min(found) > 1 else None
