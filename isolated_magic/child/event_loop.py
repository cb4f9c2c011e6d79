"""The event loop of a run: one for top-level ``await``, the last expression and the metrics.

A run that awaits nothing never makes it, and does not import asyncio.
"""

from __future__ import annotations

from . import modules
from .plain import mro_of, names_in

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

MOST_LOOKED_AT = 1000  # items of a list


class EventLoop:
    """Runs awaitables one after another in one loop, which is closed as ``asyncio.run()`` closes its own."""

    def __init__(self) -> None:
        self._runner: Any = None

    def run(self, awaitable: Awaitable[object]) -> object:
        """Await it; return its result.

        Raises:
            BaseException: whatever it raises.
        """
        if self._runner is None:
            asyncio: Any = modules.standard_module("asyncio")  # 79 ms that only asynchronous code has to pay
            self._runner = asyncio.Runner()
        return self._runner.run(_awaited(awaitable))

    def settle(self, value: object) -> object:
        """The value, or what it comes to when it can be awaited; so for the items of a list, tuple or dict."""
        if value is None:  # as of all code that prints its result
            return None
        while is_awaitable(value):
            value = self.run(value)  # type: ignore[arg-type]  # it is one
        kind = type(value)
        if kind is dict:
            return self._settle_dict(value)  # type: ignore[arg-type]  # a dict
        if kind is list or kind is tuple:
            items: Any = value
            if any(map(is_awaitable, items[:MOST_LOOKED_AT])):
                found: Any = self.run(_all_awaited(list(items)))
                return kind(found)
        return value

    def _settle_dict(self, value: dict[object, object]) -> object:
        items = list(value.values())
        if not any(map(is_awaitable, items[:MOST_LOOKED_AT])):
            return value
        found: Any = self.run(_all_awaited(items))
        return dict(zip(value, found, strict=True))

    def __enter__(self) -> EventLoop:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the tasks that are left, finish asynchronous generators, close the loop."""
        if self._runner is not None:
            self._runner.close()


def is_awaitable(value: object) -> bool:
    """Whether it is a coroutine, a future, or of another type that can be awaited. Only its type is looked at."""
    for base in mro_of(type(value)):  # noqa: SIM110 - of each run: a generator takes a call for each base
        if "__await__" in names_in(base):
            return True
    return False


async def _awaited(value: Awaitable[object]) -> object:
    # A frame of ours, by which the traceback of an error is cut: the frames of asyncio stand before it.
    return await value


AWAITS = _awaited.__name__  # by which the owner cuts the stack of a run that took too long


async def _all_awaited(values: list[object]) -> list[object]:
    """The values, with those awaited together that can be."""
    asyncio: Any = modules.standard_module("asyncio")
    waiting = iter(await asyncio.gather(*(_awaited(value) for value in values if is_awaitable(value))))  # type: ignore[arg-type]  # awaitable
    return [next(waiting) if is_awaitable(value) else value for value in values]
