"""How much memory a run may have, as the magic's line and its settings say it."""

from __future__ import annotations

from isolated_magic.limits import MIB

LEAST_MEMORY_BYTES = 16 * MIB  # an interpreter needs about ten


def too_little_memory(text: str, size: int) -> str | None:
    """What to say of a limit of memory under which no run can start; None when one can.

    Args:
        text: the limit as it was written.
        size: the bytes that it stands for.
    """
    if not 0 < size < LEAST_MEMORY_BYTES:
        return None
    meant = f"did you mean {text}M?" if text.isdecimal() and size >= 16 else "give at least 16M."
    return f"no interpreter starts with so little memory; {meant}"
