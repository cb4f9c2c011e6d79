"""What a user sets once: with ``%config IsolatedMagic``, in a profile of IPython, or in ``pyproject.toml``.

The nearer goes over the farther: the magic's line, then ``%config``, then IPython's own command line, then the
project, then the profile.
"""

from __future__ import annotations

import copy
import difflib
import math
import tomllib
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from traitlets import Bool, Enum, Float, Int, List, TraitError, TraitType, Unicode, Union, validate
from traitlets.config import Configurable

from isolated_magic.errors import InvalidRequestError, SettingError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS
from isolated_magic.executors.factory import HOMES, NAMES
from isolated_magic.executors.isolated import DEFAULT_IDLE_SECS, DEFAULT_STANDBY, MOST_STANDBY, check_launch
from isolated_magic.limits import Limits, size_of
from isolated_magic.magic.options import too_little_memory
from isolated_magic.redaction.redactor import CREDENTIAL_NAMES
from isolated_magic.render.view import MOST_ROWS
from isolated_magic.request import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn, TypeAlias

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from isolated_magic.executors.isolated import LaunchSettings
    from isolated_magic.magic.options import Options

    _Anything: TypeAlias = Any  # traitlets types its values and proposals no closer


MOST_SCORES = 100_000
SIZE = "a text such as '512M', or a number of bytes"
SECONDS = "a number of seconds greater than zero, or 'inf' for no limit"
COUNT = "a whole number greater than zero, or 'none' for no limit"
SWITCH = "True or False"
SCORES = f"a whole number from 1 to {MOST_SCORES:,}"
OF_LAUNCH = ("launch", "preload", "standby", "idle_secs")
OF_LIMITS = {
    "memory": "memory_bytes",
    "cpu_secs": "cpu_secs",
    "processes": "processes",
    "open_files": "open_files",
    "file_size": "file_size_bytes",
    "max_output": "output_bytes",
}


NO_LIMIT = ("none", "inf")
LONGEST_SHOWN = 100  # characters


class _Clear(TraitType):  # type: ignore[type-arg]  # mixed into traits of several types
    """A trait that says what to give instead.

    Args:
        arguments: of the trait.
        wants: what it takes, as in "give a number".
        no_limit: what the words for no limit stand for; anything else than a limit takes no such words.
        options: of the trait.
    """

    def __init__(
        self, *arguments: _Anything, wants: str = "", no_limit: object = ..., **options: _Anything
    ) -> None:
        super().__init__(*arguments, **options)
        self._wants = wants
        self._no_limit = no_limit

    def validate(self, obj: _Anything, value: _Anything) -> _Anything:
        if self._no_limit is not ... and isinstance(value, str) and value.strip().lower() in NO_LIMIT:
            return self._no_limit
        return super().validate(obj, value)  # type: ignore[misc]  # that of the trait that it is mixed into

    def error(
        self,
        obj: object,  # noqa: ARG002 - all of these as traitlets has them
        value: object,
        error: Exception | None = None,  # noqa: ARG002
        info: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        raise TraitError(f"{self.name} is {as_shown(value)}: give {self._wants}.") from None


class Seconds(_Clear, Float):  # type: ignore[type-arg]  # likewise
    """A number of seconds."""


class Whole(_Clear, Int):  # type: ignore[type-arg]  # likewise
    """A whole number."""


class Text(_Clear, Unicode):  # type: ignore[type-arg]  # likewise
    """A text."""


class Switch(_Clear, Bool):  # type: ignore[type-arg]  # likewise
    """True or False."""


class Choice(_Clear, Enum):  # type: ignore[type-arg]  # traitlets types its values no closer
    """One of a few words."""


class Size(_Clear, Union):
    """A number of bytes, or a text that stands for one."""

    def __init__(self, default: str | None = None, **options: _Anything) -> None:
        super().__init__([Int(), Unicode()], default_value=default, allow_none=True, no_limit=None, **options)


class Names(_Clear, List):  # type: ignore[type-arg]  # likewise
    """A list of names."""


class Preloads(_Clear, Union):
    """What is imported ahead of runs."""


def as_shown(value: object) -> str:
    """The value as an error shows it.

    Args:
        value: anything.
    """
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - too long an integer, or whatever a repr of somebody else's raises
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


class IsolatedMagic(Configurable):
    """The settings of %%isolated; options on the magic's line go over them."""

    timeout_secs = Seconds(
        DEFAULT_TIMEOUT_SECS,
        no_limit=math.inf,
        wants=SECONDS,
        help="Seconds that a run may take; 'inf' for no limit.",
    )
    memory = Size(wants=SIZE, help=f"Memory that a run may have: {SIZE}.")
    cpu_secs = Seconds(
        None,
        allow_none=True,
        no_limit=None,
        wants=SECONDS,
        help="Seconds of processor time that a run may have.",
    )
    processes = Whole(
        None,
        allow_none=True,
        no_limit=None,
        wants=COUNT,
        help="Processes that a run may have at once, threads included.",
    )
    open_files = Whole(
        None, allow_none=True, no_limit=None, wants=COUNT, help="Files that a run may have open at once."
    )
    file_size = Size(wants=SIZE, help=f"How large a file that a run writes may be: {SIZE}.")
    max_output = Size("32M", wants=SIZE, help=f"How much a run may print: {SIZE}.")
    clean_env = Switch(False, wants=SWITCH, help="Whether a run inherits only what an interpreter needs.")
    raise_errors = Switch(True, wants=SWITCH, help="Whether a failed run raises, so that Run All stops there.")
    strict = Switch(False, wants=SWITCH, help="Whether a note beside the scores is an error.")
    compare = Switch(False, wants=SWITCH, help="Whether scores are shown against those of the cell's run before.")
    most_scores = Whole(MOST_ROWS, wants=SCORES, help="Scores beyond this many are folded.")
    run_metadata = Switch(
        True, wants=SWITCH, help="Whether pid and timings are saved with the output, as its metadata."
    )
    secret_names = Names(
        Unicode(),
        list(CREDENTIAL_NAMES),
        wants="a list of names of variables, such as ['API_KEY', '*_TOKEN']",
        help="Names of variables to hide, as shell patterns.",
    )
    executor = Choice(
        tuple(HOMES),
        "isolated",
        wants=f"one of {NAMES}",
        help=f"What runs code: one of {NAMES}.",
    )
    workers = Whole(
        None,
        allow_none=True,
        min=1,
        wants="a number of processes greater than zero, or None for one a processor",
        help="Workers of the process executor; None for one a processor.",
    )
    image = Text(
        None,
        allow_none=True,
        wants="the name of an image, or None for the default",
        help="Image of the docker executor's containers; None for its default.",
    )
    launch = Choice(
        ("forked", "cold"),
        "forked",
        wants="'forked' or 'cold'",
        help="How runs start: forked, or cold in a new interpreter.",
    )
    preload = Preloads(
        [Enum(("learned",)), List(Unicode())],
        default_value="learned",
        allow_none=True,
        wants="'learned', a list of module names such as ['numpy'], or None",
        help="What is imported ahead of runs: 'learned', a list of modules, or None.",
    )
    standby = Whole(
        DEFAULT_STANDBY,
        wants=f"a number of processes, 0 for none, at most {MOST_STANDBY}",
        help=f"Forks of each template that wait for a run; at most {MOST_STANDBY}.",
    )
    idle_secs = Seconds(
        DEFAULT_IDLE_SECS,
        no_limit=math.inf,
        wants=SECONDS,
        help="Seconds after which an unused template ends.",
    )

    for _trait in list(locals().values()):
        if isinstance(_trait, TraitType):
            _trait.tag(config=True)
    del _trait

    @validate("timeout_secs", "most_scores", *OF_LIMITS, *OF_LAUNCH)
    def _checked(self, proposal: _Anything) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            if name == "timeout_secs":
                checked_timeout(value)
            elif name == "most_scores":
                _check_scores(value)
            elif name in OF_LAUNCH:
                check_launch(**cast("LaunchSettings", {**self.launch_settings, name: value}))
            else:
                _limits({name: value})
        except InvalidRequestError as problem:
            raise TraitError(str(problem)) from None
        return value

    def complete(self, options: Options) -> Options:
        """The options, with the settings where the line says nothing."""
        return replace(
            options,
            timeout_secs=self.timeout_secs if options.timeout_secs is None else options.timeout_secs,
            raises=self.raise_errors if options.raises is None else options.raises,
            has_clean_env=self.clean_env if options.has_clean_env is None else options.has_clean_env,
            is_strict=self.strict if options.is_strict is None else options.is_strict,
            executor=self.executor if options.executor is None else options.executor,
            is_compared=self.compare if options.is_compared is None else options.is_compared,
        )

    @property
    def limits(self) -> Limits:
        """What a run may use."""
        return _limits({name: getattr(self, name) for name in OF_LIMITS})

    @property
    def launch_settings(self) -> LaunchSettings:
        """How runs start."""
        return cast("LaunchSettings", {name: getattr(self, name) for name in OF_LAUNCH})


# What the program was started with. Later its own configuration holds whatever %config was given, refused or not.
_first_configs: weakref.WeakKeyDictionary[InteractiveShell, Config] = weakref.WeakKeyDictionary()


def settings_of(shell: InteractiveShell) -> IsolatedMagic:
    """The settings that hold in a shell when the extension is loaded.

    Args:
        shell: an IPython shell.

    Raises:
        SettingError: one of them cannot be; the message says which, where it is set, and why.
    """
    application = _application_of(shell)
    config = _first_configs.setdefault(shell, copy.deepcopy(application.config))
    try:
        settings = IsolatedMagic(parent=shell, config=config)
    except TraitError as problem:
        raise SettingError(f"The profile of IPython or its command line: IsolatedMagic: {problem}") from None
    file, table = project_table()
    typed = getattr(application, "cli_config", {}).get(IsolatedMagic.__name__, {})
    for name, value in table.items():
        where = f"{file}: [tool.isolated_magic] {name}"
        if name not in settings.traits(config=True):
            near = difflib.get_close_matches(name, settings.traits(config=True), n=1)
            raise SettingError(f"{where}: there is no such setting.{f' Did you mean {near[0]}?' if near else ''}")
        if name not in typed:
            try:
                setattr(settings, name, value)
            except TraitError as problem:
                raise SettingError(f"{where}: {problem}") from None
    return settings


def _application_of(shell: InteractiveShell) -> Configurable:
    """The program that the shell is a part of: it has the profile and the command line."""
    owner: Configurable = shell
    while isinstance(above := getattr(owner, "parent", None), Configurable):
        owner = above
    return owner


def _limits(given: Mapping[str, object]) -> Limits:
    """Limits from settings, in which sizes may be text.

    Raises:
        InvalidRequestError: a limit that cannot be.
    """
    found: dict[str, Any] = {OF_LIMITS[name]: _in_bytes(name, value) for name, value in given.items()}
    return Limits(**found)


def _in_bytes(name: str, value: object) -> object:
    try:
        size = size_of(value) if isinstance(value, str) else value
    except (ValueError, OverflowError):  # OverflowError: a number of three hundred digits
        raise InvalidRequestError(f"{name} is {as_shown(value)}: give a size, such as '512M' or '2G'.") from None
    if name == "memory" and isinstance(size, int) and (problem := too_little_memory(str(value), size)):
        raise InvalidRequestError(f"memory is {value!r}: {problem}")
    return size


def _check_scores(most: int) -> None:
    if not 1 <= most <= MOST_SCORES:
        raise InvalidRequestError(f"most_scores is {as_shown(most)}: give {SCORES}.")


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
