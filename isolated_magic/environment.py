"""Build the environment of a run: inherited variables, the caller's, and our defaults.

Values are checked here and nowhere else. No message of this module holds a value.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EnvValue: TypeAlias = str | int | float | None

# An isolated run makes no network call that its code did not ask for: without these, constructing an Opik
# metric starts a thread and an HTTP client, importing litellm fetches a price list, and metrics of deepeval,
# ragas and MLflow report that they were used.
QUIET_DEFAULTS = {
    "OPIK_ANALYTICS_ENABLE": "false",
    "OPIK_SENTRY_ENABLE": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "RAGAS_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

# What an interpreter needs: to start, to find its libraries, home and temporary folders.
CLEAN_NAMES = frozenset(
    {
        *(
            "PATH",
            "HOME",
            "LANG",
            "LANGUAGE",
            "TZ",
            "TMPDIR",
            "TEMP",
            "TMP",
            "LD_LIBRARY_PATH",
            "DYLD_LIBRARY_PATH",
        ),
        *("PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"),
    }
)
CLEAN_PREFIXES = ("LC_",)

# Read when an interpreter or a native library starts: they do nothing in a fork of a process started without them.
_ACTS_AT_START = frozenset({"TZ", "TZDIR", "LANG", "LANGUAGE", "LOCPATH", "GLIBC_TUNABLES", "OPENSSL_CONF"})
_ACTS_AT_START_PREFIXES = (
    *("PYTHON", "LD_", "DYLD_", "MALLOC_", "LC_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "NUMEXPR_"),
    *("CUDA_", "NCCL_", "TORCH_", "PYTORCH_", "TF_", "XLA_", "ARROW_", "GRPC_"),
)

# What ipykernel writes into its own environment (ipykernel/kernelapp.py, ipykernel/zmqshell.py), so that a
# run sees what the user's shell had. A value that the user changed since is the user's and stays.
_KERNEL_VALUES = {
    "CLICOLOR": "1",
    "CLICOLOR_FORCE": "1",
    "FORCE_COLOR": "1",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PAGER": "cat",
    "PYDEVD_USE_FRAME_EVAL": "NO",
    "TERM": "xterm-color",
}
_KERNEL_ONLY_NAMES = ("JPY_PARENT_PID",)

_PLAIN_TEXT: dict[type, Callable[[Any], str]] = {str: str.__str__, int: int.__repr__, float: float.__repr__}

# execve(2): one string of the environment, with its name, "=" and the closing NUL, is limited to 32 pages.
LONGEST_ENTRY_BYTES = 32 * 4096 if sys.platform == "linux" else None


def environment_for_run(
    env_vars: Mapping[str, EnvValue] | None = None, *, inherit: bool = True
) -> Mapping[bytes, bytes]:
    """The whole environment of a run, as of now: the same object until it changes, for runs without ``env_vars``.

    Args:
        env_vars: variables to set over the inherited ones; the value None removes a variable.
        inherit: False inherits only what an interpreter needs.

    Returns:
        Encoded as the system takes it.

    Raises:
        InvalidRequestError: a name or a value that no environment can hold; names it, never its value.
    """
    inherited = _inherited.now(inherit)
    if env_vars is None:
        return inherited
    environment = dict(inherited)
    for name, value in _checked(env_vars):
        if value is None:
            environment.pop(os.fsencode(name), None)
        else:
            environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def raw_environ() -> Mapping[Any, Any]:
    """What ``os.environ`` holds, which encodes or decodes each variable whenever it is asked for it."""
    return getattr(os.environ, "_data", os.environ)


class _Made(NamedTuple):
    """What runs inherit, and what it was made from."""

    environ: Mapping[Any, Any]
    is_kernels: bool
    variables: Mapping[bytes, bytes]


class _Inherited:
    """Caches what runs inherit until this process's environment changes: most of the work of most runs."""

    def __init__(self) -> None:
        self._made: dict[bool, _Made] = {}

    def now(self, inherit: bool) -> Mapping[bytes, bytes]:
        """The inherited variables with our defaults; with ``inherit=False`` only what an interpreter needs."""
        known, environ, is_kernels = self._made.get(inherit), raw_environ(), in_kernel()
        if known is None or known.environ != environ or known.is_kernels is not is_kernels:
            known = self._made[inherit] = _Made(dict(environ), is_kernels, self._make(inherit))
        return known.variables

    def _make(self, inherit: bool) -> Mapping[bytes, bytes]:
        inherited = _without_the_kernels(os.environ)
        if not inherit:
            inherited = {name: value for name, value in inherited.items() if _is_needed(name)}
        merged = {**QUIET_DEFAULTS, **inherited}
        return {os.fsencode(name): os.fsencode(value) for name, value in merged.items()}


_inherited = _Inherited()


@lru_cache(maxsize=1024)
def acts_at_start(name: bytes) -> bool:
    """Whether a variable is read when an interpreter or a native library starts, and not later."""
    text = os.fsdecode(name)
    return text in _ACTS_AT_START or text.startswith(_ACTS_AT_START_PREFIXES)


@lru_cache(maxsize=1024)
def is_public(name: bytes) -> bool:
    """Whether libraries often read the variable when they are imported, and it is never a secret."""
    text = os.fsdecode(name)
    return _is_needed(text) or text in QUIET_DEFAULTS or text == "MPLBACKEND"


def _is_needed(name: str) -> bool:
    return name in CLEAN_NAMES or name.startswith(CLEAN_PREFIXES)


def _checked(env_vars: Mapping[str, EnvValue]) -> Iterator[tuple[str, str | None]]:
    try:
        items = list(env_vars.items())
    except AttributeError:
        kind = type(env_vars).__name__
        raise InvalidRequestError(
            f"env_vars is {kind}: give a dict of variable names and values, such as {{'TENANT_ID': 't1'}}."
        ) from None
    for name, value in items:
        _check_name(name)
        yield name, None if value is None else _text_of(name, value)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidRequestError(f"An environment variable's name is {type(name).__name__}: give a string.")
    if not name:
        raise InvalidRequestError("An environment variable has an empty name: give it a name.")
    if "=" in name or "\0" in name:
        found = "'='" if "=" in name else "a NUL character"
        # What follows "=" in a name is most likely a value: it is not repeated.
        shown = name.split("=")[0]
        raise InvalidRequestError(
            f"The environment variable name that begins with {shown!a} holds {found}, which no name can."
        )
    if not _is_encodable(name):
        raise InvalidRequestError(f"The environment variable name {name!a} cannot be encoded for the system.")


def _text_of(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        advice = "write the text it should have, such as '1' or 'true'" if isinstance(value, bool) else ""
        raise InvalidRequestError(
            f"Environment variable {name} is {type(value).__name__}: "
            f"{advice or 'give a string, an integer, a float, or None to remove it'}."
        )
    try:
        # A subclass (an enum, a masked secret) may print as something else than it is.
        text = _PLAIN_TEXT[next(kind for kind in _PLAIN_TEXT if isinstance(value, kind))](value)
    except ValueError:  # an integer beyond sys.get_int_max_str_digits()
        raise InvalidRequestError(f"Environment variable {name} is an integer too long to write out.") from None
    if "\0" in text:
        raise InvalidRequestError(f"Environment variable {name} holds a NUL character, which no value can.")
    if not _is_encodable(text):
        raise InvalidRequestError(
            f"Environment variable {name} holds a character that cannot be encoded for the system "
            "(a lone surrogate)."
        )
    size = len(os.fsencode(name)) + len(os.fsencode(text)) + 2
    if LONGEST_ENTRY_BYTES is not None and size > LONGEST_ENTRY_BYTES:
        raise InvalidRequestError(
            f"Environment variable {name} is too long for the system: {size:,} bytes with its name, and "
            f"{LONGEST_ENTRY_BYTES:,} is the limit. Pass it as data instead."
        )
    return text


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _without_the_kernels(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what ipykernel added to it; unchanged outside a kernel."""
    own = dict(environ)
    if not in_kernel():
        return own
    before = _environment_at_start()
    for name, value in _KERNEL_VALUES.items():
        if own.get(name) == value:
            own.pop(name)
            if name in before:
                own[name] = before[name]
    for name in _KERNEL_ONLY_NAMES:
        own.pop(name, None)
    # Without a backend, matplotlib would look for a window system.
    own.setdefault("MPLBACKEND", "Agg")
    return own


def in_kernel() -> bool:
    """Whether this process is a Jupyter kernel."""
    module = sys.modules.get("ipykernel.kernelapp")
    return module is not None and module.IPKernelApp.initialized()


def _environment_at_start() -> dict[str, str]:
    """The environment this process was started with, empty where the OS does not tell (proc(5))."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - one read of a special file
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}
