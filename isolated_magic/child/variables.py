"""The environment variables of a worker, in Python and in C, put back after each run."""

from __future__ import annotations

import os
import sys

from . import modules

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Variables:
    """The environment of this process as it is now."""

    def __init__(self) -> None:
        self._environ = os.environ
        self._data: Any = os.environ._data  # type: ignore[attr-defined]
        self._saved = dict(self._data)
        self._look = _looker()
        self._seen = self._look()

    def restore(self) -> None:
        """Have exactly these variables again."""
        os.environ = self._environ  # noqa: B003 - the object that every module has
        changed = self._data != self._saved
        if not changed and self._look() == self._seen:
            return
        in_c = _variables_in_c()
        for name in {*in_c, *self._data} - set(self._saved):
            os.unsetenv(name)
        for name, value in self._saved.items():
            if in_c.get(name) != value:
                os.putenv(name, value)
        self._data.clear()
        self._data.update(self._saved)
        self._seen = self._look()


def _looker() -> Callable[[], object]:
    """What sees whether C's ``environ`` (environ(7)) was written to, without a call for each variable."""
    if sys.platform != "linux":
        return lambda: None
    with modules.StandardImports():
        import ctypes  # noqa: PLC0415 - where it is used

    pointer = ctypes.c_void_p.in_dll(ctypes.PyDLL(None), "environ")
    word = ctypes.sizeof(ctypes.c_void_p)

    def look() -> tuple[int | None, bytes]:
        address = pointer.value
        if address is None:
            return None, b""
        count = len(os.environ._data) + 1  # type: ignore[attr-defined]  # with the null at the end
        return address, ctypes.string_at(address, count * word)

    return look


def _variables_in_c() -> dict[bytes, bytes]:
    if sys.platform != "linux":
        return dict(os.environ._data)  # type: ignore[attr-defined]
    with modules.StandardImports():
        import ctypes  # noqa: PLC0415 - where it is used

    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.PyDLL(None), "environ")
    found: dict[bytes, bytes] = {}
    index = 0
    while environ and environ[index] is not None:
        name, _, value = environ[index].partition(b"=")
        found.setdefault(name, value)
        index += 1
    return found
