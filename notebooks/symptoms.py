"""Asks a run what it sees, for `troubleshooting.ipynb`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic import Executor


def answer(executor: Executor, expression: str) -> object:
    """The value of an expression in a run of its own; it has `os`, `socket` and `Path`."""
    code = "import json, os, socket\nfrom pathlib import Path\nprint(json.dumps({'answer': EXPRESSION}))"
    return executor.execute(code.replace("EXPRESSION", expression)).get("answer")
