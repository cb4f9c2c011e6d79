"""Encode values as JSON, with long lists and tables in binary (see ``child/channel.py``)."""

from __future__ import annotations

import json
import os
import re
import sys
from array import array
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from isolated_magic.child import channel
from isolated_magic.payload.conversion import (
    Block,
    NotJsonError,
    Table,
    convert,
    has_repeated_keys,
    to_block,
    to_table,
    with_plain_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


PACKED_FROM = 1024  # values; for fewer, JSON is as fast
MOST_AT_ONCE = 100  # values that are examined one by one; more are surveyed by level
PIECE_LENGTH = 1 << 18  # items or characters: some tens of milliseconds
_CONTAINERS = (dict, list, tuple)
_UNLIKE_ONE_ANOTHER: tuple[set[type], ...] = (set(), {str}, {int})  # key types whose texts never collide
_KEYS_OF_JSON = {str, int, float, bool, type(None)}
MOST_DIMENSIONS = 8


def encode(message: dict[str, object]) -> bytes:
    """A message as UTF-8 JSON, packed where it holds many values.

    Raises:
        NotJsonError: two keys of a dict become the same text.
        Exception: a value cannot be JSON, or its conversion fails.
    """
    if _is_small(message):  # as of most runs
        return channel.encode(message).encode()
    packer = _Packer()
    text = packer.text(message)
    return channel.pack(packer.parts, text) if packer.parts else text.encode()


def _is_small(message: dict[str, object]) -> bool:
    """Whether it holds few values, all of them of JSON's own types; so nothing in it holds itself."""
    left = MOST_AT_ONCE
    waiting: list[Any] = [message]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is dict or kind is list:
            left -= len(value)
            if left < 0:
                return False
            if kind is list:
                waiting += value
                continue
            for key in value:
                if type(key) is not str:
                    return False
            waiting += value.values()
        elif kind is str:
            if len(value) > PIECE_LENGTH:
                return False
        elif kind not in _KEYS_OF_JSON:
            return False
    return True


class _Packer:
    def __init__(self) -> None:
        self.parts: list[tuple[str, bytes]] = []
        self._mark = ""  # random, made when first needed: no string of the data begins with it
        self._open: set[int] = set()  # ids of lists that are being taken in
        self._json = json.JSONEncoder(default=self._converted).encode

    def text(self, value: object) -> str:
        """The value as JSON, with references to binary parts."""
        count = len(self.parts)
        text = self._in_pieces(self._prepared(value), depth=2)
        return re.sub(rf'"{self._mark}(\d+)"', r"0E\1", text) if len(self.parts) > count else text

    def _in_pieces(self, value: object, depth: int) -> str:
        """JSON, encoded in pieces where it is large: an interrupt is handled between two."""
        if isinstance(value, (str, list)) and len(value) > PIECE_LENGTH:
            starts = range(0, len(value), PIECE_LENGTH)
            pieces = [self._json(value[i : i + PIECE_LENGTH])[1:-1] for i in starts]
            return f'"{"".join(pieces)}"' if isinstance(value, str) else f"[{', '.join(pieces)}]"
        if isinstance(value, dict) and _has_large(value, depth):
            items = (f"{json.dumps({key: 0})[1:-4]}: {self._in_pieces(value[key], depth - 1)}" for key in value)
            return f"{{{', '.join(items)}}}"
        return self._json(value)

    def _converted(self, value: object) -> object:
        """``default`` of :func:`json.dumps`: a mark for a binary part, or the converted value."""
        part = to_block(value, PACKED_FROM) or to_table(value, PACKED_FROM)
        if part is not None:
            return self._marked(part)
        converted = convert(value)
        return self._prepared(converted) if isinstance(converted, _CONTAINERS) else converted

    def _prepared(self, value: object) -> object:
        """The value with JSON keys, and marks in place of binary parts."""
        found = _Survey(value)
        if found.has_odd_keys:
            value = _rekeyed(value)
            found = _Survey(value)
        if not found.parts:
            return value
        try:
            return self._with_marks(value, found.parts)
        except RecursionError:  # json goes deeper
            return value

    def _with_marks(self, value: object, parts: dict[int, Block | Table]) -> object:
        if (part := parts.get(id(value))) is not None:
            if id(value) in self._open:
                raise ValueError("it holds itself")
            self._open.add(id(value))
            mark = self._marked(part)
            self._open.remove(id(value))
            return mark
        if isinstance(value, dict):
            return {key: self._with_marks(item, parts) for key, item in value.items()}
        return [self._with_marks(item, parts) for item in value] if isinstance(value, (list, tuple)) else value

    def _marked(self, part: Block | Table) -> str:
        """Add a part, and return the text that marks its place."""
        self._mark = self._mark or os.urandom(16).hex()
        return f"{self._mark}{self._added(part)}"

    def _added(self, part: Block | Table) -> int:
        if isinstance(part, Block):
            self.parts.append((json.dumps({"kind": part.kind, "shape": part.shape}), part.content))
        else:
            columns = (f"0E{self._added(c)}" if isinstance(c, Block) else self.text(c) for c in part.columns)
            text = f'{{"names": {json.dumps(part.names)}, "columns": [{", ".join(columns)}]}}'
            self.parts.append((text, b""))
        return len(self.parts) - 1


class _Survey:
    """Finds binary parts and odd keys in nested dicts and lists, without a Python step for each item.

    Raises:
        NotJsonError: two keys of a dict become the same text.
    """

    def __init__(self, value: object) -> None:
        self.has_odd_keys = False
        self.parts: dict[int, Block | Table] = {}  # by the id of the list that it is to stand for
        seen: set[int] = set()
        level = [value] if isinstance(value, _CONTAINERS) else []
        while level:
            seen.update(map(id, level))
            dicts = [value for value in level if isinstance(value, dict)]
            lists = [value for value in level if isinstance(value, (list, tuple))]
            self._look_at_keys(dicts)
            lists = [value for value in lists if not self._is_part(value)]
            kinds = set(map(type, _items_in(dicts, lists)))
            inner = tuple(kind for kind in kinds if issubclass(kind, _CONTAINERS))
            found = (
                {id(item): item for item in _items_in(dicts, lists) if isinstance(item, inner)} if inner else {}
            )
            level = [item for key, item in found.items() if key not in seen]

    def _is_part(self, value: Sequence[Any]) -> bool:
        if value and (len(value) >= PACKED_FROM or isinstance(value[0], _CONTAINERS)):
            part = _block_in(value) or _table_in(value)
            if part is not None:
                self.parts[id(value)] = part
                return True
        return False

    def _look_at_keys(self, dicts: Iterable[dict[object, object]]) -> None:
        kinds = set(map(type, chain.from_iterable(dicts)))
        self.has_odd_keys |= not kinds <= _KEYS_OF_JSON
        if kinds not in _UNLIKE_ONE_ANOTHER and any(map(has_repeated_keys, dicts)):
            raise NotJsonError("repeated keys")


def _items_in(dicts: Iterable[dict[object, object]], lists: Iterable[Sequence[object]]) -> Iterable[object]:
    return chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists))


def _block_in(value: Sequence[Any]) -> Block | None:
    """A list, or a regular nested one, as a block, when it holds many values of one type."""
    shape = [len(value)]
    numpy = sys.modules.get("numpy")
    if not isinstance(_first_in(value), (float, int, str, *([numpy.generic] if numpy is not None else []))):
        return None
    while type(value[0]) in {list, tuple}:
        sizes = set(map(len, value)) if set(map(type, value)) <= {list, tuple} else set()
        if len(sizes) != 1:
            return None
        shape += sizes
        value = list(chain.from_iterable(value))
    kinds = set(map(type, value)) if len(value) >= PACKED_FROM else set()
    return _block_of(value, shape) if len(kinds) == 1 else None


def _first_in(value: Any) -> object:  # noqa: ANN401 - what stands at the beginning of lists in lists
    for _ in range(MOST_DIMENSIONS):
        if type(value) not in {list, tuple} or not value:
            return value
        value = value[0]
    return None


def _block_of(value: Sequence[Any], shape: list[int]) -> Block | None:
    kind, numpy = type(value[0]), sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        found = to_block(numpy.array(value), PACKED_FROM)
        return None if found is None else Block(found.kind, shape, found.content)
    if kind is float:
        return Block("f8", shape, array("d", value).tobytes())
    if kind is int:
        with suppress(OverflowError):  # more than 64 bits
            return Block("i8", shape, array("q", value).tobytes())
    elif kind is str:
        joined = "\0".join(value)
        if joined.count("\0") == len(value) - 1:
            return Block("str", shape, joined.encode("utf-8", "surrogatepass"))
    return None


def _table_in(value: Sequence[Any]) -> Table | None:
    """A list of dicts by column, when they are many and all have the same keys."""
    first = value[0]
    if type(first) is not dict or len(value) * len(first) < PACKED_FROM or set(map(type, first)) != {str}:
        return None
    if set(map(type, value)) != {dict} or len(set(map(tuple, value))) > 1:
        return None
    return Table(list(first), [[row[name] for row in value] for name in first])


def _has_large(value: dict[object, object], depth: int) -> bool:
    """Whether it holds, within ``depth`` levels, something that is encoded in pieces."""
    return depth > 0 and any(
        len(item) > PIECE_LENGTH
        if isinstance(item, (str, list))
        else isinstance(item, dict) and _has_large(item, depth - 1)
        for item in value.values()
    )


def _rekeyed(value: object) -> object:
    """The value with JSON keys at every depth."""
    if isinstance(value, dict):
        return {key: _rekeyed(item) for key, item in with_plain_keys(value).items()}
    if isinstance(value, (list, tuple)):
        return [_rekeyed(item) for item in value]
    return value
