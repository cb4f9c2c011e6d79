"""The interpreters that runs can have: the caller's own, those that uv finds, and those at a path."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from isolated_magic.errors import InvalidRequestError
from isolated_magic.packages import uv

OLDEST = (3, 11)
PROBE_SECS = 30.0

_VERSION = re.compile(r"\d+(\.\d+){0,2}\Z")
_SPECIFIER = re.compile(r"\s*(==|!=|>=|<=|~=|>|<)")
_PROBE = """
import json, site, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": sys.version_info[:3],
    "implementation": sys.implementation.name,
    "is_free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "folders": [folder for folder in site.getsitepackages() if folder in sys.path],
    "standard_modules": sorted(getattr(sys, "stdlib_module_names", ())),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter that runs can have in place of the caller's.

    Args:
        executable: its path; an environment has one of its own.
        version: of Python.
        folders: with its installed packages.
        packages: name and version of each package that was installed for the run.
        standard_modules: names of the modules of its standard library.
    """

    executable: str
    version: tuple[int, int, int]
    folders: tuple[str, ...] = field(default=(), compare=False)
    packages: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    standard_modules: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def version_text(self) -> str:
        """The version as text."""
        return ".".join(map(str, self.version))

    @property
    def has_same_grammar(self) -> bool:
        """Whether it reads code as the caller's interpreter does."""
        return self.version[:2] == sys.version_info[:2]

    @property
    def told(self) -> dict[str, str]:
        """The version of Python, and of each package that was installed for the run."""
        return {"python": self.version_text, **dict(self.packages)}


@lru_cache(maxsize=1)
def own() -> Interpreter:
    """The caller's own."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return Interpreter(
        sys.executable,
        sys.version_info[:3],
        tuple(folder for folder in folders if Path(folder).is_dir()),
        standard_modules=sys.stdlib_module_names,
    )


def chosen(python: str, requires: str) -> Interpreter:
    """The interpreter for a version or a path, and for what an inline script block requires.

    Args:
        python: see :class:`Wanted`.
        requires: a specifier of versions; empty for any.

    Raises:
        InvalidRequestError: there is none, or it cannot run code of ours.
    """
    if _VERSION.match(python):
        found = own() if _is_of(own(), python) else _found(python)
    elif _SPECIFIER.match(python):
        found = own() if _fits(own(), python) else _found(python)
    elif python:
        found = _at(python)
    else:
        found = own() if not requires or _fits(own(), requires) else _found(requires)
    if requires and not _fits(found, requires):
        raise InvalidRequestError(
            f"The inline script block requires Python {requires}, and python (--python) is {found.version_text}: "
            "change one of them."
        )
    return found


def _is_of(interpreter: Interpreter, version: str) -> bool:
    return f"{interpreter.version_text}.".startswith(f"{version}.")


def _fits(interpreter: Interpreter, specifier: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 - most runs have none

    try:
        return SpecifierSet(specifier).contains(interpreter.version_text, prereleases=True)
    except InvalidSpecifier:
        raise InvalidRequestError(
            f"{specifier!r} is no specifier of versions of Python: write one such as >=3.12."
        ) from None


@lru_cache(maxsize=16)
def _found(version: str) -> Interpreter:
    try:
        path = uv.find_interpreter(version)
    except uv.UvError:
        raise InvalidRequestError(
            f"There is no Python {version} on this machine. Install it, such as with `uv python install "
            f"{version}`, or give the path of an interpreter."
        ) from None
    return _at(path)


def _at(text: str) -> Interpreter:
    """The interpreter at a path, or of the virtual environment there."""
    path = Path(text).expanduser()
    if path.is_dir():
        path = next((path / name for name in ("bin/python", "bin/python3") if (path / name).exists()), path)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise InvalidRequestError(
            f"python (--python): {text} is neither an interpreter nor a virtual environment, and no version such "
            "as 3.13."
        )
    path = Path(os.path.abspath(path))  # noqa: PTH100 - a link is the interpreter of a virtual environment
    return _inspected(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _inspected(path: str, _changed_at: int) -> Interpreter:
    """Ask an interpreter what it is."""
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user names
            [path, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PROBE_SECS,
            text=True,
        )
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        raise InvalidRequestError(f"python (--python): {path} does not run as an interpreter of Python.") from None
    version = tuple(told["version"])
    shown = ".".join(map(str, version))
    if told["implementation"] != "cpython":
        raise InvalidRequestError(
            f"python (--python): {path} is {told['implementation']}: runs need CPython, whose insides they use."
        )
    if version[:2] < OLDEST:
        raise InvalidRequestError(f"python (--python): {path} is Python {shown}: runs need 3.11 or later.")
    if told["is_free_threaded"]:
        raise InvalidRequestError(
            f"python (--python): {path} is a free-threaded build of Python {shown}, which runs cannot use yet: "
            "give one with a global interpreter lock."
        )
    return Interpreter(
        path, (version[0], version[1], version[2]), tuple(told["folders"]), (), frozenset(told["standard_modules"])
    )
