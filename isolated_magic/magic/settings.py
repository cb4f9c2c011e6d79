"""What a user sets once: with ``%config IsolatedMagic``, in a profile of IPython, or in ``pyproject.toml``.

The nearer goes over the farther: the magic's line, then ``%config``, then IPython's own command line, then the
project, then the profile.
"""

from __future__ import annotations

import copy
import difflib
import weakref
from typing import TYPE_CHECKING, cast

from traitlets import Bool, Enum, Float, Int, List, TraitError, TraitType, Unicode, Union, validate
from traitlets.config import Configurable

from isolated_magic.errors import InvalidRequestError, SettingError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS
from isolated_magic.executors.choice import HOMES
from isolated_magic.executors.isolated import DEFAULT_IDLE_SECS, DEFAULT_STANDBY, check_launch
from isolated_magic.limits import Limits, size_of
from isolated_magic.magic.project import project_table
from isolated_magic.redaction import CREDENTIAL_NAMES
from isolated_magic.render.view import MOST_ROWS
from isolated_magic.request import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from isolated_magic.executors.isolated import LaunchSettings

    _Proposal: TypeAlias = Any  # traitlets' own, which it types no closer

SIZE = "a text such as '512M', or a number of bytes"
OF_LAUNCH = ("launch", "preload", "standby", "idle_secs")
OF_LIMITS = {
    "memory": "memory_bytes",
    "cpu_secs": "cpu_secs",
    "processes": "processes",
    "open_files": "open_files",
    "file_size": "file_size_bytes",
    "max_output": "output_bytes",
}


class IsolatedMagic(Configurable):
    """The settings of %%isolated; options on the magic's line go over them."""

    timeout_secs = Float(DEFAULT_TIMEOUT_SECS, help="Seconds that a run may take; inf for no limit.")
    memory = Union(
        [Int(), Unicode()], default_value=None, allow_none=True, help=f"Memory that a run may have: {SIZE}."
    )
    cpu_secs = Float(None, allow_none=True, help="Seconds of processor time that a run may have.")
    processes = Int(None, allow_none=True, help="Processes that a run may have at once, threads included.")
    open_files = Int(None, allow_none=True, help="Files that a run may have open at once.")
    file_size = Union(
        [Int(), Unicode()],
        default_value=None,
        allow_none=True,
        help=f"How large a file that a run writes may be: {SIZE}.",
    )
    max_output = Union(
        [Int(), Unicode()], default_value="32M", allow_none=True, help=f"How much a run may print: {SIZE}."
    )
    clean_env = Bool(False, help="Whether a run inherits only what an interpreter needs.")
    raise_errors = Bool(True, help="Whether a failed run raises, so that Run All stops there.")
    compare = Bool(False, help="Whether scores are shown against those of the cell's run before.")
    most_scores = Int(MOST_ROWS, min=1, help="Scores beyond this many are folded.")
    run_metadata = Bool(True, help="Whether pid and timings are saved with the output, as its metadata.")
    secret_names = List(Unicode(), list(CREDENTIAL_NAMES), help="Names of variables to hide, as shell patterns.")
    executor = Enum(tuple(HOMES), "isolated", help="What runs code: isolated, process or docker.")
    workers = Int(None, min=1, allow_none=True, help="Workers of the process executor; None: one a processor.")
    image = Unicode(None, allow_none=True, help="Image of the docker executor's containers; None for its default.")
    launch = Enum(("forked", "cold"), "forked", help="How runs start: forked, or cold in a new interpreter.")
    preload = Union(
        [Enum(("learned",)), List(Unicode())],
        default_value="learned",
        allow_none=True,
        help="What is imported ahead of runs: 'learned', a list of modules, or None.",
    )
    standby = Int(DEFAULT_STANDBY, help="Forks of each template that wait for a run.")
    idle_secs = Float(DEFAULT_IDLE_SECS, help="Seconds after which an unused template ends.")

    for _trait in list(locals().values()):
        if isinstance(_trait, TraitType):
            _trait.tag(config=True)
    del _trait

    @validate("timeout_secs", *OF_LIMITS, *OF_LAUNCH)
    def _checked(self, proposal: _Proposal) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            if name == "timeout_secs":
                checked_timeout(value)
            elif name in OF_LAUNCH:
                check_launch(**cast("LaunchSettings", {**self.launch_settings, name: value}))
            else:
                _limits({name: value})
        except InvalidRequestError as problem:
            raise TraitError(str(problem)) from None
        return value

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
    if not isinstance(value, str):
        return value
    try:
        return size_of(value)
    except ValueError:
        raise InvalidRequestError(f"{name} is {value!r}: give a size, such as '512M' or '2G'.") from None
