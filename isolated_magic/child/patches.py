"""Functions that are replaced for a while by stand-ins, which note a call before they pass it on.

An audit hook would hear of more, but cannot be taken out again, and is in every fork: ``copy.deepcopy()``, which
asks for one ``id()`` after the other, then takes nearly twice as long.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import update_wrapper, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Patch: TypeAlias = (
    "tuple[Any, str, Callable[..., None]]"  # the owner of a function, its name, who is told of its calls
)


@contextmanager
def patched(patches: Collection[Patch], listens: Callable[[], bool]) -> Iterator[None]:
    """Have calls of these functions noted inside this block.

    Args:
        patches: which functions. Who is told may raise, and what was called is then not done.
        listens: whether a call is to be noted now.
    """
    loaded = set(sys.modules)
    kept = [(owner, name, vars(owner).get(name)) for owner, name, _ in patches]
    for owner, name, note in patches:
        setattr(owner, name, _stand_in(owner, getattr(owner, name), note, listens))
    try:
        yield
    finally:
        for owner, name, function in kept:
            if function is None:  # it was a base class that had it
                delattr(owner, name)
            else:
                setattr(owner, name, function)
        _give_back(loaded)


def _stand_in(
    owner: object, function: Callable[..., Any], note: Callable[..., None], listens: Callable[[], bool]
) -> Callable[..., Any]:
    if not isinstance(owner, type):
        return _StandIn(function, note, listens)

    @wraps(function)
    def stand_in(*args: Any, **settings: Any) -> Any:  # noqa: ANN401 - stands in for any method
        if listens():
            note(*args, **settings)
        return function(*args, **settings)

    return stand_in


class _StandIn:
    """Stands in for a function of a module.

    Most of those are written in C, and a class that has one as an attribute does not make a method of it. It does
    so with functions of Python, but not with this.
    """

    def __init__(
        self, function: Callable[..., Any], note: Callable[..., None], listens: Callable[[], bool]
    ) -> None:
        self.function = function
        self._note = note
        self._listens = listens
        update_wrapper(self, function)

    def __eq__(self, other: object) -> bool:  # `os.stat in os.supports_fd`
        return other is self or other is self.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __call__(self, /, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - stands in for any function
        if self._listens():
            self._note(*args, **settings)
        return self.function(*args, **settings)


def _give_back(loaded: Collection[str]) -> None:
    """Put the functions themselves where a module has taken a stand-in: by ``from os import remove``, say.

    Args:
        loaded: names of the modules that were there before all that.
    """
    for name in list(sys.modules):
        module = sys.modules[name]
        if name not in loaded and isinstance(module, ModuleType):
            names = vars(module)
            for key, value in list(names.items()):
                if type(value) is _StandIn:
                    names[key] = value.function
