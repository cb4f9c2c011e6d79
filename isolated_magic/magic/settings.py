"""What a user sets once: with ``%config IsolatedMagic``, in a profile of IPython, or in ``pyproject.toml``.

The nearer goes over the farther: the magic's line, then ``%config``, then IPython's own command line, then the
project, then the profile.
"""

from __future__ import annotations

import copy
import difflib
import math
import weakref
from typing import TYPE_CHECKING, cast

from traitlets import Enum, List, TraitError, TraitType, Unicode, validate
from traitlets.config import Configurable

from isolated_magic.errors import InvalidRequestError, SettingError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS
from isolated_magic.executors.factory import HOMES, NAMES
from isolated_magic.executors.isolated import DEFAULT_IDLE_SECS, DEFAULT_STANDBY, MOST_STANDBY, check_launch
from isolated_magic.limits import Limits, size_of
from isolated_magic.magic.project import project_table
from isolated_magic.magic.sizes import too_little_memory
from isolated_magic.magic.traits import Choice, Names, Preloads, Seconds, Size, Switch, Text, Whole, as_shown
from isolated_magic.redaction.redactor import CREDENTIAL_NAMES
from isolated_magic.render.view import MOST_ROWS
from isolated_magic.request import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from isolated_magic.executors.isolated import LaunchSettings

    _Proposal: TypeAlias = Any  # traitlets' own, which it types no closer

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
    def _checked(self, proposal: _Proposal) -> object:
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
