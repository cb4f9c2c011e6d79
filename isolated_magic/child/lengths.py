"""How much of a text is told. The child sends twice as much as the owner keeps.

The owner hides secrets first: one that the child has cut in two then lies in what the owner leaves out, or, where
hiding made the text short, beside the words for what the child left out, by which the owner knows it.
"""

from __future__ import annotations

LONGEST_TEXT = 100_000  # characters that anybody would read
LONGEST_LINE = 1000
LONGEST_VALUE = 10_000
SENT = 2
LEFT_OUT = "characters left out"


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """The text, without its middle when it is too long.

    Args:
        text: any.
        most: characters that are left of it.
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... [{len(text) - 2 * half:,} {LEFT_OUT}] ... {text[-half:]}"
