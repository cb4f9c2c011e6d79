"""Which rows of a source are taken: the first ones, or some at random."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.evaluation.rows import RowAt, RowSource

    Numbered = tuple[int, object]


@dataclass(frozen=True)
class Taken:
    """Rows with their positions in the input, in its order.

    Args:
        rows: read lazily, once.
        count: how many there are; None if nobody knows.
    """

    rows: Iterator[Numbered]
    count: int | None


def taken(source: RowSource, limit: int | None, sample: int | None, seed: int) -> Taken:
    """The first ``limit`` rows, and of those ``sample`` at random; None for all.

    No row after the last one that is taken is read. For a sample of a source whose length is unknown, all are.
    """
    count = source.count
    rows: Iterator[Numbered] = enumerate(source.rows)
    if limit is not None:
        rows = islice(rows, limit)
        count = None if count is None else min(count, limit)
    if sample is None:
        return Taken(rows, count)
    if count is None:
        return Taken(_reservoir(rows, sample, seed), None)
    chosen = random.Random(seed).sample(range(count), min(sample, count))  # noqa: S311 - no secret is made of it
    if source.at is not None:
        return Taken(_read_at(source.at, sorted(chosen)), len(chosen))
    return Taken(_at(rows, sorted(chosen)), len(chosen))


def _read_at(read: RowAt, chosen: list[int]) -> Iterator[Numbered]:
    for index in chosen:
        yield index, read(index)


def _at(rows: Iterator[Numbered], chosen: list[int]) -> Iterator[Numbered]:
    position = 0
    for index in chosen:
        yield from islice(rows, index - position, index - position + 1)
        position = index + 1


def _reservoir(rows: Iterator[Numbered], size: int, seed: int) -> Iterator[Numbered]:
    """So many of the rows, each with the same probability, in their order (algorithm R)."""
    kept = list(islice(rows, size))
    generator = random.Random(seed)  # noqa: S311 - likewise
    for read, row in enumerate(rows, size + 1):
        place = generator.randrange(read)
        if place < size:
            kept[place] = row
    yield from sorted(kept, key=lambda numbered: numbered[0])
