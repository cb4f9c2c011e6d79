"""What is wrong with a line that holds words which belong to no option, and what was meant."""

from __future__ import annotations

import difflib

from isolated_magic.magic import tokens
from isolated_magic.magic.commands import FIRST_WORDS
from isolated_magic.magic.parser import long_options

LONGEST_QUOTED = 40  # characters
_MAY_HOLD_SECRETS = ("-e", "--env", "--secret")


def sentence_about(words: list[str], unused: list[str], *, is_cell: bool) -> str:
    """What to tell the user.

    Args:
        words: of the line.
        unused: those that belong to no option; one at least.
        is_cell: whether it is the line of a cell magic.
    """
    option = next((word.partition("=")[0] for word in unused if word.startswith("-")), None)
    if option is not None:
        name = tokens.plain(option)
        near = difflib.get_close_matches(name, long_options(), n=1, cutoff=0.7)
        return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ".")
    first = tokens.plain(unused[0])
    if first.startswith("#"):
        return "a comment cannot stand on the magic's line: write it below."
    if (
        unused[0] == words[0]
        and _can_be_quoted(words, first)
        and (about := _about_command(first, is_cell=is_cell))
    ):
        return about
    told = f"the word {first!r}" if _can_be_quoted(words, first) else "a word on the line"
    return (
        f"{told} belongs to no option: a value with spaces needs quotes, and there are no spaces around = or "
        "commas between values."
    )


def _about_command(word: str, *, is_cell: bool) -> str | None:
    near = difflib.get_close_matches(word, FIRST_WORDS, n=1, cutoff=0.7)
    if is_cell:
        return f"write %isolated {near[0]}, with one % and in a cell without code of its own." if near else None
    if near:
        return f"{word!r} is no command; did you mean {near[0]}?"
    *most, last = FIRST_WORDS
    return f"{word[:LONGEST_QUOTED]!r} is no command; those are {', '.join(most)} and {last}."


def _can_be_quoted(words: list[str], word: str) -> bool:
    """Whether the word can be no part of a value: a secret with a space in it may be two words."""
    if any("=" in one or one.startswith(("$", "{", *_MAY_HOLD_SECRETS)) for one in words):
        return False
    return len(word) <= LONGEST_QUOTED and word.isprintable()
