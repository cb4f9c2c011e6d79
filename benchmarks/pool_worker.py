"""What the workers of the process pool run. Imports no more than a user's own worker would."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout


def run(code: str, data: dict[str, object]) -> object:
    """Run the code in this process, with names of its own and the imports of all runs before it.

    Args:
        code: prints its result as the last line.
        data: the name ``data`` in the code.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, {"__name__": "__main__", "data": data})  # noqa: S102 - that is what is measured
    return json.loads(printed.getvalue().strip().split("\n")[-1])
