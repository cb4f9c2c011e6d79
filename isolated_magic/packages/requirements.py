"""What a run is to have installed, as its caller says it, or an inline script block in its code (PEP 723)."""

from __future__ import annotations

import re
import stat
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from typing import Any

NOT_INSTALLED = "is not installed: pip install 'isolated-magic[packages]'."
WHAT = "packages (--with)"
EXAMPLE = "['rapidfuzz>=3']"
NEEDS_BUILD = (
    "{what}: {text} has to be built, which runs its code: allow that with allow_build=True (--allow-build), or "
    "give a wheel."
)

_MARK = "# /// script"
# As the specification has it: https://packaging.python.org/en/latest/specifications/inline-script-metadata/
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_PATH = re.compile(r"[./~]|.*\.(whl|tar\.gz|zip)\Z")
_FILE = re.compile(r"(?:-r|--requirement)(?:\s+|=)?(?P<path>\S.*)\Z")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASK = "***"


@dataclass(frozen=True)
class Packages:
    """The packages of a run, beside those of its interpreter.

    Args:
        requirements: as in a requirements file: ``"rapidfuzz>=3"`` (PEP 508), the path of a wheel or of a folder
            with a ``pyproject.toml``, which is installed so that its edits hold at once, or ``"-r FILE"``.
        alone: whether the run has these packages only, and none of the interpreter's.
        allow_build: whether what has no wheel may be built. A build runs the code of the package.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor, Packages
        >>> with IsolatedSubprocessExecutor(packages=Packages(alone=True)) as executor:
        ...     executor.execute("import importlib.util; importlib.util.find_spec('IPython') is None")
        {'scores': [{'name': 'score', 'value': 1.0, 'reason': None}]}
    """

    requirements: tuple[str, ...] = ()
    alone: bool = False
    allow_build: bool = False

    @classmethod
    def of(cls, given: object) -> Packages:
        """What a caller has given.

        Args:
            given: Packages, a list of requirements, or None.

        Returns:
            The packages; without requirements for None.

        Raises:
            InvalidRequestError: it is neither Packages nor a list of requirements.

        Example:
            >>> from isolated_magic import Packages
            >>> Packages.of(["rapidfuzz>=3"])
            Packages(requirements=('rapidfuzz>=3',), alone=False, allow_build=False)
        """
        if given is None:
            return cls()
        if isinstance(given, cls):
            return cls(_texts(given.requirements), bool(given.alone), bool(given.allow_build))
        return cls(_texts(given))


@dataclass(frozen=True)
class ScriptBlock:
    """An inline script block.

    Args:
        text: the block, with its comment signs.
        requirements: its ``dependencies``.
        requires_python: a specifier of versions; empty for any.
    """

    text: str
    requirements: tuple[str, ...] = ()
    requires_python: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a run is to have, checked.

    Args:
        lines: of a requirements file, with absolute paths.
        files: what the lines name, which may change under the same name.
        python: a version, or an absolute path of an interpreter or of a virtual environment; empty for the
            caller's own, if it will do.
        script: the inline script block; None where there is none.
        alone: whether it has no packages of the interpreter's.
        allow_build: whether packages may be built.
    """

    lines: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    python: str = ""
    script: ScriptBlock | None = None
    alone: bool = False
    allow_build: bool = False

    @property
    def needs_environment(self) -> bool:
        """Whether an interpreter as it is will not do."""
        return bool(self.lines) or self.alone

    @property
    def requirements(self) -> tuple[str, ...]:
        """All requirements, for messages."""
        of_script = self.script.requirements if self.script is not None else ()
        return tuple(map(masked, (*self.lines, *of_script)))


def wanted(packages: object, python: object, script: ScriptBlock | None = None) -> Wanted | None:
    """What a caller asks for; None for the caller's own interpreter and its packages.

    Raises:
        InvalidRequestError: the message says what is wrong with which requirement.
    """
    if packages is None and python is None and script is None:
        return None
    given = Packages.of(packages)
    found = [_line(text, given) for text in given.requirements]
    return Wanted(
        lines=tuple(line for line, _ in found),
        files=tuple(file for _, file in found if file),
        python=_python(python),
        script=script,
        alone=given.alone or script is not None,
        allow_build=given.allow_build,
    )


def masked(text: str) -> str:
    """The text without credentials in its URLs."""
    return _CREDENTIALS.sub(MASK, text)


def normalized(name: str) -> str:
    """The name of a package as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _texts(given: object) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) and one.strip() for one in given):
        shown = repr(given) if isinstance(given, str) else type(given).__name__
        raise InvalidRequestError(f"{WHAT} is {masked(shown)}: give a list of requirements, such as {EXAMPLE}.")
    return tuple(one.strip() for one in given)


def _line(text: str, packages: Packages) -> tuple[str, str]:
    """The line of a requirements file for what was given, and the file that it names; empty for none."""
    if "\n" in text or "\r" in text:
        raise InvalidRequestError(f"{WHAT}: a requirement is one line: give each as an item of its own.")
    if match := _FILE.match(text):
        path = _existing(match["path"], text)
        return f"-r {path}", str(path)
    if text.startswith("-"):
        raise InvalidRequestError(
            f"{WHAT}: {masked(text)} is an option, and no requirement: the only one that is taken is -r FILE."
        )
    if _PATH.match(text) and "://" not in text:
        return _local(text, packages)
    _check_requirement(text)
    return text, ""


def _local(text: str, packages: Packages) -> tuple[str, str]:
    """A wheel, a source distribution or a folder."""
    path = _existing(text, text)
    if path.suffix == ".whl":
        return path.as_uri(), str(path)
    project = next((path / name for name in ("pyproject.toml", "setup.py") if (path / name).is_file()), None)
    if path.is_dir() and project is None:
        raise InvalidRequestError(f"{WHAT}: {text} is a folder without a pyproject.toml: give that of a project.")
    if not packages.allow_build:
        raise InvalidRequestError(NEEDS_BUILD.format(what=WHAT, text=text))
    return (path.as_uri(), str(path)) if project is None else (f"-e {path.as_uri()}", str(project))


def _existing(text: str, requirement: str) -> Path:
    try:
        path = Path(text).expanduser().resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError):  # a link to itself, nobody's home, a NUL
        path, exists = Path(text), False
    if not exists:
        raise InvalidRequestError(f"{WHAT}: {requirement}: there is no {path}.")
    return path


@lru_cache(maxsize=256)
def _check_requirement(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - most runs have none

    try:
        Requirement(text)
    except InvalidRequirement as problem:
        why = str(problem).splitlines()[0]
        raise InvalidRequestError(
            f"{WHAT}: {masked(text)!r} is no requirement ({masked(why)}): write a name and versions, such as "
            "rapidfuzz>=3."
        ) from None


def _python(python: object) -> str:
    if python is None:
        return ""
    if isinstance(python, Path):
        python = str(python)
    if not isinstance(python, str) or not python.strip():
        raise InvalidRequestError(
            f"python (--python) is {python!r}: give a version such as '3.13', or the path of an interpreter or of "
            "a virtual environment."
        )
    return python.strip()


def script_block(source: str | None, path: str | None) -> ScriptBlock | None:
    """The inline script block in a source, or in a file; None where there is none.

    Raises:
        InvalidRequestError: there are two, or it is not what the specification says.
    """
    if path is None:
        return _parsed(source) if source is not None and _MARK in source else None
    try:
        state = Path(path).stat()
        if not stat.S_ISREG(state.st_mode):  # to read a pipe might take for ever
            return None
        return _block_of_file(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):  # the run will say so
        return None


@lru_cache(maxsize=64)
def _block_of_file(path: str, _changed_at: int, _size: int) -> ScriptBlock | None:
    source = Path(path).read_text(encoding="utf-8", errors="replace")
    return _parsed(source) if _MARK in source else None


@lru_cache(maxsize=64)
def _parsed(source: str) -> ScriptBlock | None:
    blocks = [match for match in _BLOCK.finditer(source) if match["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise InvalidRequestError("The code has more than one inline script block (# /// script): leave one.")
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines()]
    try:
        found: dict[str, Any] = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as problem:
        raise InvalidRequestError(f"The inline script block is no TOML: {problem}.") from None
    requirements, requires = found.get("dependencies", []), found.get("requires-python", "")
    if not isinstance(requirements, list) or not all(isinstance(one, str) for one in requirements):
        raise InvalidRequestError(f"The inline script block: dependencies has to be a list, such as {EXAMPLE}.")
    if not isinstance(requires, str):
        raise InvalidRequestError('The inline script block: requires-python has to be a text, such as ">=3.12".')
    for one in requirements:
        _check_requirement(one)
    return ScriptBlock(f"{blocks[0][0]}\n", tuple(requirements), requires)


def block_for(requirements: tuple[str, ...], requires_python: str) -> str:
    """An inline script block with these, to stand in a file."""
    lines = ["# /// script"]
    if requires_python:
        lines.append(f'# requires-python = "{requires_python}"')
    quoted = [one.replace("\\", "\\\\").replace('"', '\\"') for one in requirements]
    listed = ["# dependencies = [", *(f'#     "{one}",' for one in quoted), "# ]"]
    lines += [*(listed if quoted else ["# dependencies = []"]), "# ///"]
    return "\n".join(lines) + "\n"
