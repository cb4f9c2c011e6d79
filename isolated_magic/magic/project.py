"""``[tool.isolated_magic]`` in a project's ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from isolated_magic.errors import SettingError

FILE = "pyproject.toml"


def project_table() -> tuple[Path | None, dict[str, object]]:
    """The nearest such table, in the working directory or above it.

    Returns:
        The file and what the table holds; None and nothing when there is no such table.

    Raises:
        SettingError: a file on the way holds no TOML, or something else than a table under that name.
    """
    for folder in _folders():
        file = folder / FILE
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (OSError, ValueError) as problem:  # ValueError: no TOML, or not UTF-8
            raise SettingError(f"{file} cannot be read: {problem}.") from None
        except RecursionError:
            raise SettingError(f"{file} cannot be read: it is nested too deeply.") from None
        tools = content.get("tool", {})
        if not isinstance(tools, dict):
            raise SettingError(f"{file}: tool is {type(tools).__name__}: make it a table.")
        table = tools.get("isolated_magic")
        if isinstance(table, dict):
            return file, table
        if table is not None:
            raise SettingError(f"{file}: tool.isolated_magic is {type(table).__name__}: make it a table.")
    return None, {}


def _folders() -> list[Path]:
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return []
    return [here, *here.parents]
