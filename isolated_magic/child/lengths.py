"""How much of a text is told. The child sends twice as much as the owner keeps.

The owner hides secrets first, and what may be a part of one where the child has cut.
"""

from __future__ import annotations

LONGEST_TEXT = 100_000  # characters that anybody would read
LONGEST_LINE = 1000
SENT = 2

CUT = r" \.\.\. \[[\d,]+ characters left out\] \.\.\. "  # as a regular expression


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """The text, without its middle when it is too long.

    Args:
        text: any.
        most: characters that are left of it.
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... [{len(text) - 2 * half:,} characters left out] ... {text[-half:]}"
