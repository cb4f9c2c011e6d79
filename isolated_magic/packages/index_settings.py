"""Where packages come from: the user's configuration of uv, and that of pip where uv has none."""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

from isolated_magic.packages.requirements import masked

# What decides which packages there are. Each is read by uv; those of pip's are handed to it.
_OF_UV = (
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_INDEX_STRATEGY", "UV_EXCLUDE_NEWER", "UV_PRERELEASE", "UV_RESOLUTION", "UV_CONSTRAINT", "UV_OVERRIDE"),
    *("UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_TORCH_BACKEND"),
)
_INDEXES = _OF_UV[:6]
_OF_PIP = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT"),
    "PIP_CONFIG_FILE",
)
_NAMES = frozenset((*_OF_UV, *_OF_PIP))
_KEYS = ("index", "index-url", "extra-index-url", "find-links", "no-index", "default-index")
# pip's name of a setting, uv's variable, and what stands between several values there.
_SAME = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("no-index", "UV_NO_INDEX", " "),
    ("constraint", "UV_CONSTRAINT", " "),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("proxy", "ALL_PROXY", " "),
)
# They choose an environment, and ours is named.
_OTHERS = ("UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "CONDA_PREFIX")


def uv_environment() -> dict[str, str]:
    """The environment that uv is started with: the caller's, and never that of a run."""
    found = {name: value for name, value in os.environ.items() if name not in _OTHERS}
    if any(name in found for name in _INDEXES) or any(_has_index(file) for file in _uv_files()):
        return found
    settings = _pip_settings()
    for name, variable, between in _SAME:
        value = found.get(f"PIP_{name.upper().replace('-', '_')}") or settings.get(name)
        if value and variable not in found:
            found[variable] = between.join(value.split())
    # pip takes the best version of all indexes, uv by itself that of the first one that has the package.
    found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return found


def fingerprint() -> list[str]:
    """Tells configurations apart, without what is secret in them. Made for every run that has packages."""
    environ = os.environ
    variables = [masked(f"{name}={environ[name]}") for name in _NAMES.intersection(environ)]
    files = [_content(file, *state) for file in _uv_files() if (state := _state(file)) is not None]
    pip = [masked(f"{name}={value}") for name, value in _pip_settings().items()]
    return [*sorted(variables), *filter(None, files), *pip]


def _uv_files() -> tuple[str, ...]:
    """Where uv looks for its configuration: https://docs.astral.sh/uv/concepts/configuration-files/."""
    try:
        return _uv_files_for(os.getcwd(), os.environ.get("XDG_CONFIG_HOME") or _home(".config"))  # noqa: PTH109
    except OSError:  # it was removed
        return ()


@lru_cache(maxsize=16)
def _uv_files_for(here: str, config: str) -> tuple[str, ...]:
    folders = [here, *map(str, Path(here).parents)]
    near = [f"{folder}/{name}" for folder in folders for name in ("uv.toml", "pyproject.toml")]
    return (*near, f"{config}/uv/uv.toml", "/etc/uv/uv.toml")


def _home(name: str) -> str:
    return os.path.expanduser(f"~/{name}")  # noqa: PTH111 - Path.home() raises for a user without one


def _state(file: str) -> tuple[int, int] | None:
    try:
        state = os.stat(file)  # noqa: PTH116 - of every run
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _has_index(file: str) -> bool:
    state = _state(file)
    return state is not None and any(key in _table(file, *state) for key in _KEYS)


@lru_cache(maxsize=64)
def _table(file: str, _changed_at: int, _size: int) -> dict[str, object]:
    """The settings of uv in a file; nothing where it has none."""
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # uv will say so
        return {}
    tool = content.get("tool") if file.endswith("pyproject.toml") else {"uv": content}
    table = tool.get("uv") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else {}


@lru_cache(maxsize=64)
def _content(file: str, changed_at: int, size: int) -> str:
    table = _table(file, changed_at, size)
    return masked(repr(sorted(table.items()))) if table else ""


def _pip_settings() -> dict[str, str]:
    """The settings of pip's configuration files that say where packages come from; later files go over others."""
    found: dict[str, str] = {}
    for file in _pip_files():
        if (state := _state(file)) is not None:
            found |= _pip_table(file, *state)
    return found


def _pip_files() -> list[str]:
    """As https://pip.pypa.io/en/stable/topics/configuration/ has them."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    config = os.environ.get("XDG_CONFIG_HOME") or _home(".config")
    files = ["/etc/pip.conf", _home(".pip/pip.conf"), f"{config}/pip/pip.conf", f"{sys.prefix}/pip.conf"]
    return [*files, named] if named else files


@lru_cache(maxsize=16)
def _pip_table(file: str, _changed_at: int, _size: int) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (OSError, ValueError, configparser.Error):
        return {}
    names = [name for name, _, _ in _SAME]
    return {
        name: value
        for section in ("global", "install")
        if parser.has_section(section)
        for name, value in parser.items(section)
        if name in names and value
    }
