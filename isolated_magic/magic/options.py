"""The options of ``%%isolated`` and ``%isolated`` in one table: the fields of :class:`Options`.

The parser, the settings, the completion, ``--help``, the messages about mistakes and the table of the manual all
read it. A new option is one field there, and the code that uses its value.
"""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS
from isolated_magic.executors.factory import HOMES, NAMES
from isolated_magic.limits import MIB, Limits, parse_size
from isolated_magic.magic import lexer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    from isolated_magic.executors.factory import ExecutorName

    _Anything: TypeAlias = Any  # a field of whatever type it is annotated with
    Offers: TypeAlias = Literal["value", "file", "environment", "data", "result"]

NO_LIMIT = "none"
LEAST_MEMORY_BYTES = 16 * MIB  # an interpreter needs about ten
COMMANDS = ("history", "status", "stop", "forget", "teardown", "on-teardown")
FIRST_WORDS = ("run", *COMMANDS)  # which stands for an option


@dataclass(frozen=True)
class Kind:
    """What the value of an option is.

    Args:
        metavar: stands for it in the help; empty for a switch, which has no value.
        convert: text to value. Raises ValueError, or InvalidRequestError with a sentence of its own.
        wants: what the text on the line has to be, as in "give a number".
        types: of the setting, before it is converted.
        setting_wants: what the setting has to be.
        no_limit: what the words for no limit mean as a setting; ``...`` where they mean nothing.
    """

    metavar: str
    convert: Callable[[str], object] = lexer.plain
    wants: str = ""
    types: tuple[type, ...] = (str,)
    setting_wants: str = ""
    no_limit: object = ...


SWITCH = Kind("", types=(bool,), setting_wants="True or False")


@dataclass(frozen=True)
class Setting:
    """What goes where the line says nothing, by the name of its trait and its key in ``pyproject.toml``."""

    name: str
    default: object
    help: str


@dataclass(frozen=True)
class Option:
    """Everything that is known of one option.

    Args:
        flags: the short one first.
        help: what it does, in Markdown, for ``--help`` and the manual.
        kind: of its value.
        manual: what the manual says beyond that.
        const: the value of a switch, and of an option whose value may be left out.
        opposite: the flag that unsays it, for where a setting says what it says.
        repeats: the line may have several, which refer to notebook variables.
        may_lack_value: the value may be left out.
        setting: where the line says nothing.
        limit: its name in :class:`Limits`.
        offers: what the Tab key offers for its value.
        words: those values; of files, the endings.
        executor: the only one that takes it; None where it is a part of the request, which each executor judges.
    """

    flags: tuple[str, ...]
    help: str
    kind: Kind = SWITCH
    manual: str = ""
    const: bool = True
    opposite: str = ""
    repeats: bool = False
    may_lack_value: bool = False
    setting: Setting | None = None
    limit: str = ""
    offers: Offers = "value"
    words: tuple[str, ...] = ()
    executor: ExecutorName | None = None

    @property
    def flag(self) -> str:
        """The long flag."""
        return self.flags[-1]


def _option(*flags: str, help: str, **more: _Anything) -> _Anything:  # noqa: A002 - as argparse calls it
    """A field of :class:`Options`, which is an entry of the table."""
    entry = Option(flags, help, **more)
    default: object = () if entry.repeats else False if entry.kind is SWITCH else None
    # Values stand on the line, and some of them should not be shown.
    return field(default=default, repr=not entry.repeats, metadata={"option": entry})


def _limit(
    flag: str,
    limit: str,
    kind: Kind,
    words: tuple[str, ...],
    *,
    told: str,
    setting: str = "",
    default: str | None = None,
) -> _Anything:
    name = setting or flag.strip("-").replace("-", "_")
    of_runs = Setting(name, default, f"limit of a run: {told}")
    return _option(flag, help=told, kind=kind, limit=limit, words=words, setting=of_runs)


def _size(text: str) -> int | None:
    return None if text == NO_LIMIT else parse_size(text)


def _memory(text: str) -> int | None:
    size = _size(text)
    if size is None or size >= LEAST_MEMORY_BYTES:
        return size
    meant = f"did you mean {text}M?" if text.isdecimal() and size >= 16 else "give at least 16M."
    raise InvalidRequestError(f"no interpreter starts with so little memory; {meant}")


def _seconds(text: str) -> float:
    if not (seconds := float(text)) > 0:  # not less: NaN, too
        raise ValueError
    return seconds


def _cpu_seconds(text: str) -> float | None:
    return None if text == NO_LIMIT or (seconds := _seconds(text)) == math.inf else seconds


def _count(text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise ValueError
    return int(text)


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError
    return text


def _executor(text: str) -> str:
    if text not in HOMES:
        raise ValueError
    return text


TEXT, PATH, REFERENCE = Kind("TYPE"), Kind("PATH"), Kind("NAME")
VARIABLE = Kind("NAME", _variable, "the name of a variable")
EARLIER = Kind("NAME", _variable, "the name of a variable", (bool,), "True or False")
IMAGE = Kind("NAME", setting_wants="the name of an image, or None for the default")
EXECUTOR = Kind("NAME", _executor, f"one of {', '.join(HOMES)}", setting_wants=f"one of {NAMES}")
_OF_SIZES = ("a size, such as 512M or 2G", (int, str), "a size, such as '512M', or a number of bytes", None)
SIZE, MEMORY = Kind("SIZE", _size, *_OF_SIZES), Kind("SIZE", _memory, *_OF_SIZES)
_OF_TIMES = ("a number of seconds greater than zero", (float,))
TIME_WANTS = "a number of seconds greater than zero, or 'inf' for no limit"
TIMEOUT = Kind("SECONDS", _seconds, *_OF_TIMES, TIME_WANTS, math.inf)
CPU = Kind("SECONDS", _cpu_seconds, *_OF_TIMES, TIME_WANTS, None)
_WHOLE = "a whole number greater than zero"
COUNT = Kind("N", _count, _WHOLE, (int,), f"{_WHOLE}, or 'none' for no limit", None)
SIZES = ("256M", "512M", "1G", "2G", "4G", NO_LIMIT)


@dataclass(frozen=True)
class Options:
    """One line of the magic with the settings, not yet resolved: no variable was looked up."""

    env: tuple[str, ...] = _option(
        "-e",
        "--env",
        help="set an environment variable: `NAME=literal`, `NAME=$variable`, `NAME={expression}`, or `NAME` alone "
        "for the notebook's or the kernel's variable of that name, `$dict` for all its items; repeatable",
        manual="A value from the notebook arrives exactly, whatever spaces, quotes or braces it holds; `None` "
        'removes the variable. The reference is the whole value: `{"https://" + host}`, not `https://$host`',
        kind=Kind("NAME=VALUE"),
        repeats=True,
        offers="environment",
    )
    secret: tuple[str, ...] = _option(
        "--secret",
        help="set a variable whose value is hidden in all output: that of the notebook's or the kernel's variable "
        "of that name, or asked for once; `NAME=$variable`, `NAME={expression}` and `$dict` too; repeatable",
        kind=REFERENCE,
        repeats=True,
        offers="environment",
    )
    env_file: tuple[str, ...] = _option(
        "--env-file",
        help="set the variables of a .env file; repeatable",
        manual="`-e` overrides it; the path may be `$variable` or `{expression}`",
        kind=PATH,
        repeats=True,
        offers="file",
        words=(".env",),
    )
    data: tuple[str, ...] = _option(
        "-d",
        "--data",
        help="the names and values of `data`: a notebook variable, `KEY=$variable`, `KEY={expression}`, "
        "`KEY=literal`, a JSON literal, or a .json file; repeatable, merged, later ones win",
        manual="A variable alone is a dict, or a pandas row, a dataclass or a pydantic model; with a key, any "
        "object. A literal is JSON where it is JSON (`n=3`, `on=true`), else text",
        kind=Kind("DATA"),
        repeats=True,
        offers="data",
        words=(".json",),
    )
    payload_type: str | None = _option(
        "--payload-type",
        help="type of the data, such as `trace_thread`: the data is a list, and `score()` gets all of it",
        kind=TEXT,
        words=("trace_thread",),
    )
    file: str | None = _option(
        "--file",
        help="run this file instead of the cell's body; `%isolated run PATH` too",
        kind=PATH,
        offers="file",
        words=(".py",),
    )
    clean_env: bool = _option(
        "--clean-env",
        help="inherit only what an interpreter needs",
        manual="That is `PATH`, `HOME`, the locale, the temporary folder and the library path",
        opposite="--no-clean-env",
        setting=Setting("clean_env", False, "whether a run inherits only what an interpreter needs"),
    )
    timeout: float = _option(
        "-t",
        "--timeout",
        help="kill the run after this many seconds (default 30); `inf` for no limit",
        kind=TIMEOUT,
        words=("5", "10", "30", "60", "300", "inf"),
        setting=Setting("timeout_secs", DEFAULT_TIMEOUT_SECS, "seconds that a run may take; `'inf'` for no limit"),
    )
    bg: bool = _option(
        "--bg",
        help="end the cell at once; its value is the handle of the run",
        manual="The handle, which `-o` keeps too, says `running`, `done` or `failed`; when the run has ended it "
        'shows its output and scores and has what a result has, such as `b["overlap"]`; before, that is a '
        "`StillRunningError`, and `b.result()` waits",
    )
    executor: ExecutorName = _option(  # noqa: RUF009 - a field, as the others
        "--executor",
        help="what runs the code: `isolated`, a new process (default); `process`, a reused worker; `docker`, a "
        "container",
        kind=EXECUTOR,
        words=tuple(HOMES),
        setting=Setting("executor", "isolated", f"what runs code: one of {NAMES}"),
    )
    image: str | None = _option(
        "--image",
        help="image of the container; it is never pulled",
        kind=IMAGE,
        executor="docker",
        setting=Setting("image", None, "image of the docker executor's containers; `None` for its default"),
    )
    allow_net: bool = _option(
        "--allow-net",
        help="give the container access to the network, which it lacks by default",
        executor="docker",
    )
    fresh: bool = _option("--fresh", help="start a new interpreter instead of using a prepared process")
    out: str | None = _option(
        "-o",
        "--out",
        help="keep the result object in this variable",
        manual="Results of failed runs are kept, too",
        kind=VARIABLE,
    )
    compare: bool | str = _option(
        "--compare",
        help="compare each score with the previous run of this cell, or with a result that was kept with -o",
        manual="A file is compared with the previous run of that file. The output says whether data, "
        "environment or code differ",
        kind=EARLIER,
        may_lack_value=True,
        opposite="--no-compare",
        offers="result",
        setting=Setting("compare", False, "whether scores are shown against those of the cell's run before"),
    )
    save: str | None = _option(
        "--save",
        help="write the cell's body to this .py file, which runs with --file as it does here",
        manual='It is written after the run has succeeded. `%isolated run PATH`, `executor.execute("PATH", ...)` '
        "and, for a metric, Opik itself take the file as it is. The folder has to be there, but for the last one "
        "of a relative path, which is made",
        kind=PATH,
        offers="file",
        words=(".py",),
    )
    raises: bool = _option(
        "--no-raise",
        help="show the error of a failed run instead of raising it",
        const=False,
        opposite="--raise",
        setting=Setting("raise_errors", True, "whether a failed run raises, so that Run All stops there"),
    )
    strict: bool = _option(
        "--strict",
        help="treat a note beside the scores as an error",
        opposite="--no-strict",
        setting=Setting("strict", False, "whether a note beside the scores is an error"),
    )
    no_score: bool = _option(
        "--no-score",
        help="the cell is not meant to have a score: show only what it prints",
        manual="A cell without a score is then no failure and gets no note",
    )
    rich: bool = _option(
        "--no-rich",
        help="show the text form alone of what the run displays",
        manual="Figures, tables and HTML are then in `result.displays` only",
        const=False,
        opposite="--rich",
        setting=Setting(
            "rich", True, "whether figures, tables and HTML of a run are shown; `False` for text alone"
        ),
    )
    help: bool = _option("-h", "--help", help="show this and run nothing", manual="`%%isolated?` too")
    memory: int | None = _limit("--memory", "memory_bytes", MEMORY, SIZES, told="memory")
    cpu: float | None = _limit(
        "--cpu", "cpu_secs", CPU, ("1", "10", "60", NO_LIMIT), told="seconds of processor time", setting="cpu_secs"
    )
    open_files: int | None = _limit(
        "--open-files", "open_files", COUNT, ("64", "256", "1024", NO_LIMIT), told="files open at once"
    )
    file_size: int | None = _limit(
        "--file-size", "file_size_bytes", SIZE, SIZES, told="size of a file that it writes"
    )
    processes: int | None = _limit(
        "--processes", "processes", COUNT, ("1", "16", "64", NO_LIMIT), told="processes at once, threads included"
    )
    max_output: int | None = _limit(
        "--max-output",
        "output_bytes",
        SIZE,
        SIZES,
        told="what it prints and displays; the rest is left out (default 32M)",
        default="32M",
    )
    said: frozenset[str] = frozenset()  # the names of those that are on the line itself

    @property
    def limits(self) -> Limits:
        """What the run may use."""
        given: dict[str, Any] = {entry.limit: getattr(self, name) for name, entry in TABLE.items() if entry.limit}
        return Limits(**given)

    @property
    def asks_to_compare(self) -> bool:
        """Whether the line says so, and not only a setting."""
        return bool(self.compare) and "compare" in self.said

    @property
    def wants_scores(self) -> bool:
        """Whether the line says what is to become of them."""
        keeps_result = self.out is not None and not self.bg  # else the handle of the run
        return keeps_result or self.save is not None or self.asks_to_compare


TABLE: dict[str, Option] = {
    one.name: one.metadata["option"] for one in fields(Options) if "option" in one.metadata
}
SETTINGS = {entry.setting.name: entry for entry in TABLE.values() if entry.setting is not None}
