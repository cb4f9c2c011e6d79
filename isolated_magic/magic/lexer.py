"""The magic's line, split into words the way a shell would, but with Python expressions left whole.

Single quotes protect what is in them, double quotes only hold it together, and ``{...}`` is one word whatever
it holds, as far as its braces and Python strings go. So are brackets behind a name, as in ``rows[0]["a b"]``:
the error about them shows what was written. A backslash means itself, so that Windows paths and regular
expressions survive; inside double quotes it protects a double quote and itself.
"""

from __future__ import annotations

import re

from isolated_magic.errors import OptionError

# Stands before a character that was in single quotes and would otherwise mean something. No line of the
# magic can hold it, and no environment variable could either.
PROTECTED = "\0"
_MEANINGFUL = "${"
_ORDINARY = re.compile(r"""[^\s'"{\[(]+""")
_FLAG = re.compile(r"\A--[a-z-]+=")
_NAME_OR_MORE = re.compile(r"[^\W\d][\w.]*([\[(].*[\])][\w.]*)*", re.DOTALL)


def split(line: str) -> list[str]:
    """The words of the line; see :func:`plain` for what single quotes leave in them.

    Raises:
        OptionError: a quote or a brace is never closed.
    """
    words: list[str] = []
    word: list[str] | None = None
    index = 0
    while index < len(line):
        character = line[index]
        if character.isspace():
            if word is not None:
                words.append("".join(word))
                word = None
            index += 1
            continue
        word = word or []
        if match := _ORDINARY.match(line, index):
            text, index = match[0], match.end()
        elif character in "[(" and _NAME_OR_MORE.fullmatch(_FLAG.sub("", "".join(word))):
            text, index = _brackets(line, index)
        else:
            text, index = _part(line, index)
        word.append(text)
    if word is not None:
        words.append("".join(word))
    return words


def plain(word: str) -> str:
    """The text of a word, without the marks of single quotes."""
    return word.replace(PROTECTED, "")


def _part(line: str, start: int) -> tuple[str, int]:
    """One quoted string, one expression or one character, and the index after it."""
    character = line[start]
    if character == "'":
        end = line.find("'", start + 1)
        if end < 0:
            raise OptionError("A single quote (') on the magic's line is never closed.")
        inside = line[start + 1 : end]
        return "".join(PROTECTED + one if one in _MEANINGFUL else one for one in inside), end + 1
    if character == '"':
        return _double_quoted(line, start)
    if character == "{":
        closed = _end_of_brackets(line, start, "{", "}")
        if closed is None:
            raise OptionError("A brace ({) on the magic's line is never closed.")
        return line[start:closed], closed
    return character, start + 1


def _brackets(line: str, start: int) -> tuple[str, int]:
    """A bracket and what is in it; the bracket alone where it is never closed."""
    try:
        end = _end_of_brackets(line, start, "[(", "])") or start + 1
    except OptionError:  # a quote in it is never closed
        end = start + 1
    return line[start:end], end


def _double_quoted(line: str, start: int) -> tuple[str, int]:
    text: list[str] = []
    index = start + 1
    while index < len(line):
        character = line[index]
        if character == '"':
            return "".join(text), index + 1
        if character == "\\" and line[index + 1 : index + 2] in ('"', "\\"):
            index += 1
            character = line[index]
        text.append(character)
        index += 1
    raise OptionError("A double quote (\") on the magic's line is never closed.")


def _end_of_brackets(line: str, start: int, opening: str, closing: str) -> int | None:
    """The index after the bracket that closes the one at the start; None when none does."""
    depth = 0
    index = start
    while index < len(line):
        character = line[index]
        if character in "'\"":
            index = _end_of_string(line, index)
            continue
        depth += (character in opening) - (character in closing)
        index += 1
        if depth == 0:
            return index
    return None


def _end_of_string(line: str, start: int) -> int:
    quote = line[start] * (3 if line.startswith(line[start] * 3, start) else 1)
    index = start + len(quote)
    while index < len(line):
        if line[index] == "\\":
            index += 2
            continue
        if line.startswith(quote, index):
            return index + len(quote)
        index += 1
    raise OptionError(f"A quote ({quote}) inside braces on the magic's line is never closed.")
