"""What a fork of this process must not go on using: any code of the program may call ``os.fork()`` at any time."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """What keeps locks, descriptors or processes that a fork of this process must not use."""

    def forget(self) -> None: ...  # noqa: D102


_forgetful: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_in_forks(one: Forgetful) -> None:
    """Have ``forget()`` called in each fork of this process: another thread may have held a lock just then."""
    _forgetful.add(one)


def _forget_all() -> None:
    for one in list(_forgetful):
        one.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
