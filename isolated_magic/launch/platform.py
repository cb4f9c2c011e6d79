"""Which platforms have processes that can be kept in hand."""

from __future__ import annotations

import os
import sys

from isolated_magic.errors import UnsupportedPlatformError


def require_processes() -> None:
    """Pass where runs are possible.

    Raises:
        UnsupportedPlatformError: in Pyodide, on Windows, or wherever else a process cannot be forked.
    """
    if sys.platform == "emscripten":
        raise UnsupportedPlatformError(
            "isolated_magic runs code in processes of its own, and there are no processes in the browser "
            "(Pyodide, JupyterLite). Open the notebook on a Jupyter server instead."
        )
    if sys.platform == "win32":
        raise UnsupportedPlatformError(
            "isolated_magic does not support Windows itself yet. Run Jupyter under WSL, where it works."
        )
    if not hasattr(os, "fork"):
        raise UnsupportedPlatformError(f"isolated_magic needs processes, which {sys.platform} does not have.")
