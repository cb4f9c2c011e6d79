"""Settings: ``%config IsolatedMagic``, a profile of IPython, its command line, or ``pyproject.toml``.

The first of these that says something holds: the magic's line, ``%config``, IPython's command line, the project,
the profile.
"""

from __future__ import annotations

import copy
import difflib
import math
import tomllib
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from traitlets import All, Bool, Enum, Float, Int, List, TraitError, TraitType, Unicode, Union, observe, validate
from traitlets.config import Configurable

from isolated_magic.errors import InvalidRequestError, SettingError
from isolated_magic.executors.isolated import (
    DEFAULT_IDLE_SECS,
    DEFAULT_MAX_ENVIRONMENTS,
    DEFAULT_STANDBY,
    MOST_STANDBY,
    check_launch,
)
from isolated_magic.launch.containers.settings import ContainerSettings
from isolated_magic.limits import MIB, parse_size
from isolated_magic.magic.kinds import TIME_WANTS
from isolated_magic.magic.options import SETTINGS, TABLE
from isolated_magic.redaction.redactor import CREDENTIAL_NAMES
from isolated_magic.render.view import MOST_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from isolated_magic.executors.isolated import LaunchSettings

    _Anything: TypeAlias = Any  # traitlets types its values and proposals no closer

MOST_SCORES = 100_000
OF_DOCKER = "docker_"  # how the names of settings begin that are only about containers
CONTAINERS = ContainerSettings()
OF_LAUNCH = ("launch", "preload", "standby", "idle_secs", "remember", "max_environments")
NO_LIMIT_WORDS = ("none", "inf")
LONGEST_SHOWN = 100  # characters
_TRAITS: dict[type, Callable[[], TraitType[Any, Any]]] = {
    float: Float,
    int: Int,
    str: Unicode,
    bool: Bool,
    list: partial(List, Unicode()),
}


class _Trait(Union):
    """One of traitlets' types, or several, that refuses a value in our words: they say what to give instead.

    Args:
        types: of traitlets.
        default: the value.
        wants: what it takes, as in "give a number".
        help: what it says.
        no_limit: what the words for no limit stand for; ``...`` where they stand for nothing.
    """

    def __init__(
        self,
        *types: TraitType[Any, Any],
        default: object,
        wants: str,
        help: str,  # noqa: A002 - as traitlets call it
        no_limit: object = ...,
    ) -> None:
        super().__init__(types, default_value=default, allow_none=default is None or no_limit is None, help=help)
        self._wants, self._no_limit = wants, no_limit
        self.tag(config=True)

    def validate(self, obj: _Anything, value: _Anything) -> _Anything:
        if self._no_limit is not ... and isinstance(value, str) and value.strip().lower() in NO_LIMIT_WORDS:
            return self._no_limit
        return super().validate(obj, value)

    def from_string_list(self, texts: list[str]) -> _Anything:
        """A list from the command line, which gives each of its items."""
        return self.trait_types[0].from_string_list(texts)

    def error(
        self,
        obj: object,  # noqa: ARG002 - all of these as traitlets has them
        value: object,
        error: Exception | None = None,  # noqa: ARG002
        info: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        raise TraitError(f"{self.name} is {as_shown(value)}: give {self._wants}.") from None


class _Size(TraitType):  # type: ignore[type-arg]  # older traitlets have no such arguments
    """A size, as text or as a number of bytes."""

    def validate(self, obj: _Anything, value: _Anything) -> _Anything:
        try:
            parse_size(str(value))
        except (ValueError, OverflowError):
            self.error(obj, value)
        return value


class _Text(Unicode):  # type: ignore[type-arg]  # likewise
    """A text that is not empty."""

    def validate(self, obj: _Anything, value: _Anything) -> _Anything:
        value = super().validate(obj, value)
        if not value:
            self.error(obj, value)
        return value


def _of_options() -> dict[str, _Trait]:
    """The settings that options have, made of the table of options."""
    made = {}
    for option in TABLE.values():
        if (setting := option.setting) is None:
            continue
        kind = option.kind
        made[setting.name] = _Trait(
            *(_TRAITS[one]() for one in kind.types),
            default=setting.default,
            wants=kind.setting_wants,
            help=setting.help,
            no_limit=kind.no_limit,
        )
    return made


def _size_trait(default: int, told: str) -> _Trait:
    return _Trait(
        _Size(), default=f"{default // MIB}M", wants="a size, such as '512M', or a number of bytes", help=told
    )


def _text_trait(default: str | None, wants: str, told: str) -> _Trait:
    return _Trait(_Text(), default=default, wants=wants, help=told)


class IsolatedMagic(Configurable):
    """The settings of %%isolated; options on the magic's line go over them."""

    locals().update(_of_options())

    most_scores = _Trait(
        Int(min=1, max=MOST_SCORES),
        default=MOST_ROWS,
        wants=f"a whole number from 1 to {MOST_SCORES:,}",
        help=f"scores beyond this many are folded; {MOST_SCORES:,} at most",
    )
    run_metadata = _Trait(
        Bool(),
        default=True,
        wants="True or False",
        help="whether pid and timings are saved with the output, as its metadata; `False` for notebooks that are "
        "kept in git",
    )
    progress = _Trait(
        Enum(("auto", "on", "off")),
        default="auto",
        wants="'auto', 'on' or 'off'",
        help="whether a line tells how far an evaluation is: `'auto'` where somebody watches, and not in CI; "
        "`'on'`; `'off'`. The environment variable `ISOLATED_MAGIC_PROGRESS` goes over it",
    )
    secret_names = _Trait(
        List(Unicode()),
        default=list(CREDENTIAL_NAMES),
        wants="a list of names of variables, such as ['API_KEY', '*_TOKEN']",
        help="names of variables whose values are hidden, as shell patterns",
    )
    workers = _Trait(
        Int(min=1),
        default=None,
        wants="a number of processes greater than zero, or None for one a processor",
        help="workers of the process executor; `None` for one for each processor",
    )
    launch = _Trait(
        Enum(("forked", "cold")),
        default="forked",
        wants="'forked' or 'cold'",
        help="how runs start: `'forked'`, or `'cold'` for a new interpreter each (`--fresh`)",
    )
    preload = _Trait(
        Enum(("learned", None)),
        List(Unicode()),
        default="learned",
        wants="'learned', a list of module names such as ['numpy'], or None",
        help="what is imported ahead of runs: `'learned'`, a list of modules, or `None`",
    )
    standby = _Trait(
        Int(),
        default=DEFAULT_STANDBY,
        wants=f"a number of processes, 0 for none, at most {MOST_STANDBY}",
        help=f"forks of each fork server that wait for a run, {MOST_STANDBY} at most",
    )
    idle_secs = _Trait(
        Float(),
        default=DEFAULT_IDLE_SECS,
        wants=TIME_WANTS,
        no_limit=math.inf,
        help="seconds after which an unused fork server ends; `'inf'` for never",
    )

    remember = _Trait(
        Bool(),
        default=True,
        wants="True or False",
        help="whether later kernels in this folder know which modules runs import, and import them before the "
        "first cell; their names are kept. The environment variable `ISOLATED_MAGIC_REMEMBER`, `on` or `off`, "
        "goes over it",
    )

    max_environments = _Trait(
        Int(min=1),
        default=DEFAULT_MAX_ENVIRONMENTS,
        wants="a number greater than zero",
        help="environments of packages, and other Pythons, that have fork servers at once; the one that was used "
        "longest ago gives way",
    )

    docker_standby = _Trait(
        Int(min=0),
        default=CONTAINERS.standby,
        wants="a number of containers, 0 for none",
        help="containers that wait for a run",
    )
    docker_idle_secs = _Trait(
        Float(min=0.001),
        default=CONTAINERS.idle_secs,
        wants=TIME_WANTS,
        no_limit=math.inf,
        help="seconds after which a container that waits ends; `'inf'` for never",
    )
    docker_memory = _size_trait(
        CONTAINERS.memory_bytes,
        "memory of a container: of all its processes, and of its files under /tmp; no swap",
    )
    docker_tmpfs = _size_trait(CONTAINERS.tmpfs_bytes, "size of /tmp in a container, and of /dev/shm")
    docker_pids = _Trait(
        Int(min=1),
        default=CONTAINERS.pids,
        wants="a whole number greater than zero",
        help="processes and threads of a container at once",
    )
    docker_nofile = _Trait(
        Int(min=1),
        default=CONTAINERS.nofile,
        wants="a whole number greater than zero",
        help="files that each process of a container has open at once",
    )
    docker_user = _text_trait(CONTAINERS.user, "a user, such as '65534:65534'", "user and group of the code")
    docker_cwd = _text_trait(
        CONTAINERS.cwd, "a path in the container", "working directory of a run in a container, and its `HOME`"
    )
    docker_read_only = _Trait(
        Bool(),
        default=CONTAINERS.read_only,
        wants="True or False",
        help="whether all files of a container are read-only, but for those under /tmp and /dev/shm",
    )
    docker_new_privileges = _Trait(
        Bool(),
        default=CONTAINERS.new_privileges,
        wants="True or False",
        help="whether setuid programs in a container may gain privileges",
    )
    docker_capabilities = _Trait(
        List(Unicode()),
        default=list(CONTAINERS.capabilities),
        wants="a list of names, such as ['NET_BIND_SERVICE']",
        help="Linux capabilities that a container keeps",
    )
    docker_preload = _Trait(
        List(Unicode()),
        default=list(CONTAINERS.preload),
        wants="a list of module names, such as ['numpy']",
        help="modules of the image that a container imports while it waits",
    )
    docker_runtime = _text_trait(
        CONTAINERS.runtime, "the name of a runtime, or None", "runtime of the daemon, such as `'runsc'`"
    )
    docker_base_url = _text_trait(
        CONTAINERS.base_url,
        "an address such as 'unix:///run/podman/podman.sock', or None",
        "where the daemon listens; `None` for `DOCKER_HOST`, else the context of the `docker` command",
    )

    def __init__(self, **options: _Anything) -> None:
        super().__init__(**options)
        self._changed(None)

    @validate(*SETTINGS, *OF_LAUNCH)
    def _checked(self, proposal: _Anything) -> object:
        trait, value = proposal["trait"], proposal["value"]
        try:
            if trait.name in OF_LAUNCH:
                check_launch(**cast("LaunchSettings", {**self.launch_settings, trait.name: value}))
            else:
                _converted(trait.name, value)
        except InvalidRequestError as problem:
            told = str(problem) if trait.name in OF_LAUNCH else f"{trait.name} is {as_shown(value)}: {problem}"
            raise TraitError(told) from None
        except (ValueError, OverflowError):  # OverflowError: a number of three hundred digits
            trait.error(self, value)
        return value

    @observe(All)
    def _changed(self, _change: _Anything) -> None:
        """Keep what the parser asks for with each line: what options are where the line does not say."""
        self.defaults = {
            name: _converted(option.setting.name, getattr(self, option.setting.name))
            for name, option in TABLE.items()
            if option.setting is not None
        }

    @property
    def container_settings(self) -> dict[str, object]:
        """The settings of containers that no option has, by the names of :class:`DockerExecutor`."""
        settings: dict[str, object] = {
            name.removeprefix(OF_DOCKER): getattr(self, name)
            for name in self.trait_names(config=True)
            if name.startswith(OF_DOCKER)
        }
        for name in ("memory", "tmpfs"):
            settings[f"{name}_bytes"] = parse_size(str(settings.pop(name)))
        return settings

    @property
    def launch_settings(self) -> LaunchSettings:
        """How runs start."""
        return cast("LaunchSettings", {name: getattr(self, name) for name in OF_LAUNCH})


def _converted(name: str, value: object) -> object:
    """The value of the option that a setting is for. Raises what the option's own conversion does."""
    kind = SETTINGS[name].kind
    if isinstance(value, list):
        return tuple(map(kind.convert, map(str, value)))
    return value if value is None or bool in kind.types else kind.convert(str(value))


def as_shown(value: object) -> str:
    """The value as an error shows it."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - too long an integer, or whatever a repr of somebody else's raises
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def reference_table() -> str:
    """The settings, in Markdown, for the manual."""
    rows = ["| setting | default | what it says |", "|---|---|---|"]
    for name, trait in IsolatedMagic.class_traits(config=True).items():
        default = "see below" if name == "secret_names" else f"`{trait.default_value!r}`"
        option = f" (`{SETTINGS[name].flag}`)" if name in SETTINGS else ""
        rows.append(f"| `{name}` | {default} | {trait.help}{option} |")
    return "\n".join(rows)


# What the program was started with. Later its own configuration holds whatever %config was given, refused or not.
_first_configs: weakref.WeakKeyDictionary[InteractiveShell, Config] = weakref.WeakKeyDictionary()


def settings_of(shell: InteractiveShell) -> IsolatedMagic:
    """The settings that hold in a shell when the extension is loaded.

    Raises:
        SettingError: one is invalid; the message says which, where it is set, and why.
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
    """The application of the shell, which has the profile and the command line."""
    owner: Configurable = shell
    while isinstance(above := getattr(owner, "parent", None), Configurable):
        owner = above
    return owner


def project_table() -> tuple[Path | None, dict[str, object]]:
    """The nearest ``[tool.isolated_magic]`` in the working directory or above it.

    Returns:
        The file and the table; None and nothing when there is no such table.

    Raises:
        SettingError: a file on the way is invalid TOML, or has something else than a table under that name.
    """
    for folder in _folders():
        file = folder / "pyproject.toml"
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
