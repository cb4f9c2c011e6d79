"""RunRequest: the frozen value that goes down into a run, and what checks and builds it."""

from __future__ import annotations

import errno
import inspect
import io
import json
import math
import os
import stat
import sys
import tokenize
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

from isolated_magic.environment import environment_for_run
from isolated_magic.errors import InvalidRequestError
from isolated_magic.limits import NO_LIMITS, Limits
from isolated_magic.payload.encode import arrivals_in, encode_payload
from isolated_magic.redaction.redactor import TOO_SHORT, Secret, is_too_short, secret_values

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from isolated_magic.environment import EnvValue
    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.packages.requirements import Packages
    from isolated_magic.payload.encode import Arrival
    from isolated_magic.strict_json import JsonObject, JsonValue


@dataclass(frozen=True)
class Confinement:
    """How the limits of a run are held."""

    limits: Mapping[str, int] = field(default_factory=dict)  # by name (see ``child/limits.py``)
    groups: Sequence[str] = ()  # files of control groups that its processes belong to


@dataclass(frozen=True)
class ContainerTarget:
    """For a run in a container, which has no file and no environment of this machine."""

    unset: frozenset[bytes] = frozenset()  # names of variables that it must not have, whatever the image sets
    folder: str = ""  # where the child program lies in the container
    memory_bytes: int | None = None  # of all its processes together, None for no limit
    command: tuple[str, ...] = ()  # that runs the code, which is a program of any language; empty for Python


@dataclass(frozen=True)
class RemoteTarget:
    """For a run on another machine, whose environment and folders it has."""

    unset: frozenset[bytes] = frozenset()  # names of variables that it must not have, whatever is set there
    inherits: bool = True  # the whole environment of the worker; else what an interpreter needs of it
    secret_names: tuple[str, ...] = ()  # or patterns, for variables that only the worker has


FIGURE_FORMATS = ("png", "retina", "jpeg", "svg", "pdf")


@dataclass(frozen=True)
class FigureSettings:
    """How what a run shows is drawn. In a notebook, figures of matplotlib are as those of its inline backend.

    Args:
        formats: of ``"png"``, ``"retina"``, ``"jpeg"``, ``"svg"`` and ``"pdf"``, each one to draw.
        savefig: arguments for ``savefig()`` that JSON can hold, as pairs.
        rc: ``rcParams`` from which the code starts, as pairs; what it sets itself wins.
        closes: whether ``plt.show()`` closes the figures that it has shown.
        colors: whether Rich prints in colours.

    Example:
        >>> from isolated_magic import FigureSettings, IsolatedSubprocessExecutor
        >>> code = "import matplotlib.pyplot as plt; plt.plot([0, 1]); plt.show(); 0.5"
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run(code, figures=FigureSettings(formats=("svg",)))
        >>> sorted(result.displays[0].data)
        ['image/svg+xml', 'text/plain']
    """

    formats: tuple[str, ...] = ("png",)
    savefig: tuple[tuple[str, JsonValue], ...] = (("bbox_inches", "tight"),)
    rc: tuple[tuple[str, JsonValue], ...] = ()
    closes: bool = True
    colors: bool = False

    def to_dict(self) -> JsonObject:
        """As the child program reads it.

        Returns:
            ``formats``, ``kwargs``, ``rc``, ``closes`` and ``colors``.

        Example:
            >>> from isolated_magic import FigureSettings
            >>> FigureSettings().to_dict()["formats"]
            ['png']
        """
        formats: list[JsonValue] = list(self.formats)
        switches: JsonObject = {"closes": self.closes, "colors": self.colors}
        return {"formats": formats, "kwargs": dict(self.savefig), "rc": dict(self.rc), **switches}


@dataclass(frozen=True)
class RunRequest:
    """One run, complete: what a launcher and the child program need, and nothing else."""

    source: str | None = field(repr=False)  # Python source, None when a file runs
    path: str | None  # the file to run as ``python path`` would, None when source runs
    source_name: str  # what tracebacks call the source
    payload: bytes = field(repr=False)  # ``{"data": ..., "payload_type": ...}`` as JSON or packed, of any size
    # The whole environment, encoded as the system takes it; in a container, what is set over that of the image.
    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: str  # the working directory it starts in
    timeout_secs: float  # from launch to the end of the process; infinity for no limit
    limits: Limits = NO_LIMITS
    fresh: bool = False  # a new interpreter for this run, whatever else would do
    secrets: tuple[str, ...] = field(default=(), repr=False)  # values to hide in its output and its result
    data_name: str | None = None  # the expression that stands for the data on the magic's line
    strict: bool = False  # a result with notes is an error
    confinement: Confinement = Confinement()  # made when it is launched
    arrivals: tuple[Arrival, ...] = field(default=(), repr=False)  # data that has another type in the run
    container: ContainerTarget | None = None  # None for a run of this machine
    remote: RemoteTarget | None = None  # likewise
    figures: FigureSettings | None = None  # None for the defaults
    interpreter: Interpreter | None = None  # None for that of this process

    @property
    def executable(self) -> str:
        """The path of its interpreter."""
        return sys.executable if self.interpreter is None else self.interpreter.executable

    def with_data(self, payload: bytes, arrivals: tuple[Arrival, ...]) -> RunRequest:
        """The same run with other data. As dataclasses.replace(), in a tenth of its time."""
        other = object.__new__(RunRequest)
        vars(other).update(vars(self), payload=payload, arrivals=arrivals)
        return other


P = ParamSpec("P")
R = TypeVar("R")

SOURCE_NAME = "<string>"  # what python -c calls it
_NO_SECRETS = "secrets is {}: give a list of names of variables, such as ['API_KEY', '*_TOKEN']."


class RunOptions(TypedDict, total=False):
    """Options of a run, by keyword: the same ones for ``execute``, ``run``, ``start`` and ``aexecute``.

    Args:
        inherit_env: False starts the run with what an interpreter needs and nothing else of this process's
            environment.
        source_name: what tracebacks call the source.
        fresh: True for a new interpreter, whatever else would do.
        limits: what the run may use; None for the executor's own.
        secrets: names of variables of the run's environment, or patterns such as ``"*_KEY"``: wherever their
            values stand in the run's output or result, ``***`` stands instead.
        strict: True makes a result with notes an error, whose text they are.
        data_name: what stands for the data on the magic's line, so that hints can say what to write there.
        figures: how figures that the run shows are drawn; None for PNG in the size that the code gives them.
        packages: requirements that the run has installed over the packages of its interpreter, such as
            ``["rapidfuzz>=3"]``, or Packages; None for the executor's own. An inline script block in the code
            (PEP 723) adds its own, and then the run has nothing else.
        python: its interpreter: a version such as ``"3.13"``, or a path, of a virtual environment too; None for
            the executor's own.
    """

    inherit_env: bool
    source_name: str
    fresh: bool
    limits: Limits | None
    secrets: Collection[str]
    strict: bool
    data_name: str | None
    figures: FigureSettings | None
    packages: Packages | Sequence[str] | None
    python: str | os.PathLike[str] | None


def build_request(  # noqa: PLR0913 - one for each thing that a run depends on
    code: str | os.PathLike[str],
    data: object,
    env_vars: Mapping[str, EnvValue] | None,
    timeout_secs: float,
    payload_type: str | None,
    *,
    inherit_env: bool = True,
    source_name: str = SOURCE_NAME,
    fresh: bool = False,
    limits: Limits | None = None,
    secrets: Collection[str] = (),
    strict: bool = False,
    data_name: str | None = None,
    figures: FigureSettings | None = None,
) -> RunRequest:
    """Check and freeze one run. Here the limits are None for no limits.

    Raises:
        InvalidRequestError: any of these cannot be run; the message says which and why.
    """
    source, path = _program_in(code)
    environment = environment_for_run(env_vars, inherit=inherit_env)
    return RunRequest(
        source=source,
        path=path,
        source_name=source_name,
        payload=encode_payload(data, payload_type),
        environment=environment,
        cwd=working_directory(),
        timeout_secs=checked_timeout(timeout_secs),
        fresh=fresh,
        limits=NO_LIMITS if limits is None else checked_limits(limits),
        secrets=secrets_in(environment, secrets),
        strict=bool(strict),
        arrivals=arrivals_in(data),
        data_name=data_name,
        figures=None if figures is None else _checked_figures(figures),
    )


# What an interpreter is found by, which is not a part of the request as such.
_OF_INTERPRETERS = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ("packages", "python")
)
_OPTIONS = (
    *(each for each in inspect.signature(build_request).parameters.values() if each.kind is each.KEYWORD_ONLY),
    *_OF_INTERPRETERS,
)


def lists_options(method: Callable[P, R]) -> Callable[P, R]:
    """Have ``help()`` and ``inspect.signature()`` list each option of a run; see :func:`listing`."""
    return listing(method, [each.replace(default=None) if each.name == "limits" else each for each in _OPTIONS])


def listing(method: Callable[P, R], options: Iterable[inspect.Parameter]) -> Callable[P, R]:
    """Have ``help()`` and ``inspect.signature()`` list each option with its default, instead of ``**options``."""
    signature = inspect.signature(method)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    setattr(method, "__signature__", signature.replace(parameters=[*own, *options]))  # noqa: B010 - no attribute to mypy
    return method


def check_options(options: Collection[str]) -> None:
    """Refuse options that a run does not have; see :func:`refuse_unknown`."""
    refuse_unknown(options, _OPTIONS, "a run")


def refuse_unknown(options: Collection[str], known: Iterable[inspect.Parameter], what: str) -> None:
    """Refuse unknown options as Python refuses unknown keywords.

    Args:
        options: names that were given.
        known: the options that there are.
        what: has them.

    Raises:
        TypeError: there is no such option.
    """
    names = [each.name for each in known]
    unknown = [name for name in options if name not in names]
    if unknown:
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}: the options of {what} are {', '.join(names)}."
        )


def checked_timeout(timeout_secs: float) -> float:
    """The timeout as a float.

    Raises:
        InvalidRequestError: it is no number greater than zero.
    """
    if isinstance(timeout_secs, (int, float)) and not isinstance(timeout_secs, bool) and timeout_secs > 0:
        try:
            return float(timeout_secs)
        except OverflowError:  # an integer beyond what a float holds: no limit, for all practical purposes
            return math.inf
    raise InvalidRequestError(
        f"timeout_secs is {timeout_secs!r}: give a number of seconds greater than zero, math.inf for no limit."
    )


def checked_limits(limits: Limits) -> Limits:
    """The limits, unchanged.

    Raises:
        InvalidRequestError: they are something else.
    """
    if isinstance(limits, Limits):
        return limits
    raise InvalidRequestError(
        f"limits is {type(limits).__name__}: give Limits, such as Limits(memory_bytes=512 * 2**20)."
    )


def _checked_figures(figures: FigureSettings) -> FigureSettings:
    if not isinstance(figures, FigureSettings):
        raise InvalidRequestError(
            f"figures is {type(figures).__name__}: give FigureSettings, such as FigureSettings(formats=('svg',))."
        )
    unknown = [name for name in figures.formats if name not in FIGURE_FORMATS]
    if unknown or not figures.formats:
        found = f"there is no format {unknown[0]!r}" if unknown else "it has no format"
        raise InvalidRequestError(f"figures: {found}: give some of {', '.join(FIGURE_FORMATS)}.")
    try:
        json.dumps(figures.to_dict())
    except (TypeError, ValueError) as problem:
        raise InvalidRequestError(f"figures: its values have to be JSON ({problem}).") from None
    return figures


def secrets_in(environment: Mapping[bytes, bytes], names: Collection[str]) -> tuple[str, ...]:
    """The values to hide of a run with this environment.

    Raises:
        InvalidRequestError: these are no names, or a value is too short to be hidden.
    """
    if not isinstance(names, (list, tuple, set, frozenset)):
        raise InvalidRequestError(_NO_SECRETS.format(type(names).__name__))
    for name in names:
        if not isinstance(name, str):
            raise InvalidRequestError(_NO_SECRETS.format(type(names).__name__))
        if isinstance(name, Secret):
            if is_too_short(name):
                raise InvalidRequestError(f"secrets: of a Secret among them, {TOO_SHORT} Leave it out.")
        elif is_too_short(os.fsdecode(environment.get(os.fsencode(name), b""))):
            raise InvalidRequestError(f"secrets: {name}: {TOO_SHORT} Leave it out, if it is no secret.")
    return secret_values(environment, names) if names else ()


def _program_in(code: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Source or path, the other one None."""
    if hasattr(type(code), "__fspath__"):  # what os.PathLike looks for
        return None, _existing_file(os.fsdecode(code))
    if not isinstance(code, str):
        raise InvalidRequestError(f"code is {type(code).__name__}: give Python source or the path of a file.")
    if "\n" in code.rstrip("\n"):
        return code, None
    candidate = code.strip()
    if candidate.endswith(".py"):
        return None, _existing_file(candidate)
    if ("/" in candidate or "\\" in candidate) and _is_file(candidate):
        return None, _existing_file(candidate)
    return code, None


def _existing_file(path: str) -> str:
    if not _is_file(path):
        raise InvalidRequestError(_why_no_file(path))
    if not os.access(path, os.R_OK):
        raise InvalidRequestError(f"The file {path} cannot be read: no permission.")
    return path


def _why_no_file(path: str) -> str:
    shown = path.replace("\0", "\\0")
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as problem:
        if isinstance(problem, OSError) and problem.errno == errno.ELOOP:
            return f"{shown} is a link that leads to itself: give a file of Python code."
        return f"file not found: {shown} (looked for from the working directory {working_directory()})."
    found = "a folder" if stat.S_ISDIR(mode) else "no regular file, but a device or a pipe"
    return f"{shown} is {found}: give a file of Python code."


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def working_directory() -> str:
    """The current working directory.

    Raises:
        InvalidRequestError: it is gone.
    """
    try:
        return os.getcwd()  # noqa: PTH109 - of every run
    except OSError:
        raise InvalidRequestError(
            "The current working directory no longer exists: change to one that does (os.chdir)."
        ) from None


def given_variables(
    request: RunRequest, env_vars: Mapping[str, EnvValue] | None
) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """For a run somewhere else: the variables that it is given, and the names of those that it must not have."""
    env_vars = env_vars or {}
    given = {os.fsencode(name) for name, value in env_vars.items() if value is not None}
    unset = frozenset(os.fsencode(name) for name, value in env_vars.items() if value is None)
    return {name: value for name, value in request.environment.items() if name in given}, unset


def with_source(request: RunRequest, where: str) -> RunRequest:
    """The run with the text of its file, if it has one, for a place that has no such file.

    Raises:
        InvalidRequestError: the file cannot be read.
    """
    if request.path is None:
        return request
    return replace(request, source=_source_of(request.path, where), source_name=request.path, path=None)


def _source_of(path: str, where: str) -> str:
    """The text of a file of Python, whatever its encoding, for a run somewhere else.

    Args:
        path: of the file.
        where: the run is, for the message.

    Raises:
        InvalidRequestError: it cannot be read.
    """
    try:
        content = Path(path).read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding)
    except (OSError, SyntaxError, UnicodeError) as problem:
        raise InvalidRequestError(f"The file {path} cannot be sent to {where}: {problem}.") from None
