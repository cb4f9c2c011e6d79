"""Random state that was seeded before the fork, and would be the same in every run."""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


@contextmanager
def noting_generators(anything: bool) -> Iterator[weakref.WeakSet[random.Random]]:
    """Yields the generators that are made inside this block without a seed of their own.

    Args:
        anything: whether there is anything to import there.
    """
    made: weakref.WeakSet[random.Random] = weakref.WeakSet()
    if not anything:
        yield made
        return
    import random  # noqa: PLC0415 - 5 ms, and work in each fork, that a bare template does not need

    random.random()  # noqa: S311 - the first number after a seed changes all of the state, later ones do not
    original = random.Random.__init__

    def noting(self: random.Random, x: Any = None) -> None:  # noqa: ANN401 - whatever a seed may be
        original(self, x)
        if x is None:
            made.add(self)

    random.Random.__init__ = noting  # type: ignore[method-assign]  # for the length of the block
    try:
        yield made
    finally:
        random.Random.__init__ = original  # type: ignore[method-assign]


def renew(generators: list[random.Random]) -> None:
    """In a fork: seed afresh what a new interpreter would have seeded while it imported the same modules.

    ``random`` itself does so by its own hook.

    Args:
        generators: made without a seed.
    """
    for generator in generators:
        generator.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:  # its authentication key is made on import
        process.current_process().authkey = os.urandom(32)
