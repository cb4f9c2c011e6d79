"""Looks at processes and runs from outside, for `troubleshooting.ipynb`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic import Executor


def is_alive(pid: int) -> bool:
    """Whether a process of that number exists on this machine, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def answer(executor: Executor, expression: str) -> object:
    """The value of an expression in a run of its own; it has `os`, `socket` and `Path`."""
    code = "import json, os, socket\nfrom pathlib import Path\nprint(json.dumps({'answer': EXPRESSION}))"
    return executor.execute(code.replace("EXPRESSION", expression)).get("answer")
