"""The options of ``%%isolated`` and ``%isolated``: what there is, what a line says, and what is wrong with it."""

from __future__ import annotations

import argparse
import difflib
import keyword
import math
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, NoReturn

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.executors.factory import HOMES
from isolated_magic.limits import MIB, size_of
from isolated_magic.magic import lexer
from isolated_magic.request import checked_timeout

if TYPE_CHECKING:
    from isolated_magic.executors.factory import ExecutorName


NO_LIMIT = "none"
COMMANDS = ("history", "status", "stop", "forget", "teardown", "on-teardown")
FIRST_WORDS = ("run", *COMMANDS)  # which stands for an option


@dataclass(frozen=True)
class Options:
    """The line of the magic, parsed but not yet resolved: no variable was looked up.

    Args:
        env: the words after ``--env``, in order.
        secrets: the words after ``--secret``, in order.
        env_files: the words after ``--env-file``.
        data: the words after ``--data``, in order.
        payload_type: of the data.
        timeout_secs: seconds; None for what the settings say.
        limits: names of Limits and values, as far as the line says so; a value is None for no limit.
        out: the variable for the result.
        file: the path to run instead of the body.
        save: the path to write the body to.
        raises: whether a failed run raises; None for what the settings say.
        has_clean_env: whether the run inherits only what an interpreter needs; None likewise.
        is_strict: whether notes are an error; None likewise.
        is_compared: whether scores are shown against earlier ones; None likewise.
        asks_to_compare: whether the line itself says so.
        compared_with: the variable of the earlier result; None for that of the run before.
        executor: the name of the strategy; None for what the settings say.
        image: of the containers; None likewise.
        allows_network: whether they have one.
        fresh: whether the run gets a new interpreter, whatever else would do.
        in_background: whether the cell ends at once and the run goes on.
        has_no_score: whether none is meant, so that a run without one is no failure.
        wants_help: show the help and run nothing.
    """

    env: tuple[str, ...] = field(repr=False)  # values stand on the line, and some of them should not
    secrets: tuple[str, ...] = field(repr=False)
    env_files: tuple[str, ...]
    data: tuple[str, ...] = field(repr=False)
    payload_type: str | None
    timeout_secs: float | None
    limits: tuple[tuple[str, float | None], ...]
    out: str | None
    file: str | None
    save: str | None
    raises: bool | None
    has_clean_env: bool | None
    is_strict: bool | None
    is_compared: bool | None
    asks_to_compare: bool
    compared_with: str | None
    executor: ExecutorName | None
    image: str | None
    allows_network: bool
    fresh: bool
    in_background: bool
    has_no_score: bool
    wants_help: bool

    @property
    def wants_scores(self) -> bool:
        """Whether the line says what is to become of them."""
        keeps_result = self.out is not None and not self.in_background  # else the handle of the run
        return keeps_result or self.save is not None or self.asks_to_compare


def parse(line: str, *, is_cell: bool) -> Options:
    """The options on the line.

    Args:
        line: all that follows the magic's name.
        is_cell: whether it is the line of a cell magic.

    Raises:
        OptionError: an unknown, abbreviated or incomplete option, or a value that cannot be, or two options that
            do not go together.
    """
    words = lexer.split(line)
    given, unused = parser().parse_known_args(words)
    if unused:
        raise wrong_line(sentence_about(words, unused, is_cell=is_cell))
    options = Options(
        env=tuple(given.env),
        secrets=tuple(given.secret),
        env_files=tuple(given.env_file),
        data=tuple(given.data),
        payload_type=_plain(given.payload_type),
        timeout_secs=None if given.timeout is None else _seconds("--timeout", given.timeout),
        limits=tuple(_limits(given).items()),
        out=None if given.out is None else _identifier("--out", given.out),
        file=_plain(given.file),
        save=_plain(given.save),
        raises=None if given.no_raise is None else not given.no_raise,
        has_clean_env=given.clean_env,
        is_strict=given.strict,
        is_compared=None if given.compare is None else bool(given.compare),
        asks_to_compare=bool(given.compare),
        compared_with=_identifier("--compare", given.compare) if isinstance(given.compare, str) else None,
        executor=None if given.executor is None else _executor(given.executor),
        image=_plain(given.image),
        allows_network=given.allow_net,
        fresh=given.fresh,
        in_background=given.bg,
        has_no_score=given.no_score,
        wants_help=given.help,
    )
    _check_together(options)
    return options


def _check_together(options: Options) -> None:
    if options.save is not None and options.file is not None:
        raise OptionError("--save writes a cell's body to a file, and here a file runs: leave --save out.")
    if options.save is not None and options.in_background:
        raise OptionError("--save waits for the run to succeed, which --bg does not: give one of them.")
    if options.is_compared and options.in_background:
        raise OptionError("--compare needs the scores, which --bg does not wait for: give one of them.")


def _executor(text: str) -> ExecutorName:
    for name in HOMES:
        if name == text:
            return name
    raise OptionError(f"--executor {text}: give one of {', '.join(HOMES)}.")


def _plain(text: str | None) -> str | None:
    return None if text is None else lexer.plain(text)


def _limits(given: argparse.Namespace) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for option, name in (
        ("memory", "memory_bytes"),
        ("file_size", "file_size_bytes"),
        ("max_output", "output_bytes"),
    ):
        if (text := getattr(given, option)) is not None:
            found[name] = _size(f"--{option.replace('_', '-')}", text)
    for option in ("open_files", "processes"):
        if (text := getattr(given, option)) is not None:
            found[option] = _count(f"--{option.replace('_', '-')}", text)
    if given.cpu is not None:
        seconds = math.inf if given.cpu == NO_LIMIT else _seconds("--cpu", given.cpu)
        found["cpu_secs"] = None if seconds == math.inf else seconds
    return found


def _seconds(option: str, text: str) -> float:
    try:
        return checked_timeout(float(text))
    except (ValueError, InvalidRequestError):
        raise OptionError(f"{option} {text}: give a number of seconds greater than zero.") from None


def _size(option: str, text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    try:
        size = size_of(text)
    except (ValueError, OverflowError):  # OverflowError: a number of three hundred digits
        raise OptionError(f"{option} {text}: give a size, such as 512M or 2G.") from None
    if option == "--memory" and (problem := too_little_memory(text, size)):
        raise OptionError(f"{option} {text}: {problem}")
    return size


def _count(option: str, text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise OptionError(f"{option} {text}: give a whole number greater than zero.")
    return int(text)


def _identifier(option: str, text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise OptionError(f"{option} {text}: give the name of a variable.")
    return text


HELP_WIDTH = 100  # and not the terminal's: a saved notebook has none

DESCRIPTION = """\
Run the cell in a Python process of its own, with its own environment. The scores that it computes are the
cell's value.

Scores are printed as a JSON object on the last line, or are the value of the last expression (a number, a
score, a list of scores, a dict with "scores", a metric), or come of the BaseMetric subclasses that the cell
defines. A JSON object without "scores" counts when nothing else does.
"""

EXAMPLES = """\
Examples:
  %%isolated --env TENANT_ID=t1 --data row
      TENANT_ID is "t1" in the run's environment; the notebook's dict row is the name data in the cell.
  %%isolated -e REGION={regions["eu"]} -d answer=$text -d limit=3
      The values of an expression and of a variable; data is {"answer": ..., "limit": 3}.
  %%isolated --secret OPENAI_API_KEY -e tenant
      A secret is a variable of the notebook or the kernel, or is asked for; *** stands for it in all output.
      With -e, a notebook variable gives its value, a dict all its items; else the kernel's own variable.
  %%isolated --env-file tenant.env --clean-env -t 10 -o result
      Nothing inherited but what an interpreter needs, ten seconds, the result kept as result.
  %%isolated -d row --compare --save metrics/relevance.py
      Each score against the run before; the cell written to a file.
  %isolated run metrics/relevance.py --data row
      That file instead of a cell.
  %%isolated --bg -o run --memory 512M
      The cell ends at once: run.pid, run.done(), run.result(timeout), run.stdout, run.kill().

%isolated history lists the runs of this kernel with their scores, %isolated status what runs now,
%isolated stop [PID] stops one run or all, %isolated teardown ends everything and runs what
%isolated on-teardown NAME registered, %isolated forget NAME forgets a secret that was asked for.

A value in single quotes is taken as it stands: -e 'GREETING=pa$$word {x}'.
`%config IsolatedMagic` shows what can be set once for all cells.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise wrong_line(_without_values(message))


def wrong_line(told: str) -> OptionError:
    """The error for a line that cannot be parsed.

    Args:
        told: what is wrong, as a sentence.
    """
    return OptionError(f"{told} `%isolated --help` shows the options.")


def _without_values(message: str) -> str:
    """What a message of argparse's says, without the words that it repeats: one may be a part of a value."""
    about, _, problem = message.partition(": ")
    option = about.removeprefix("argument ").rpartition("/")[2]
    if problem.startswith("ignored explicit argument"):
        return f"{option} takes no value."
    return f"{option} needs a value." if problem.startswith("expected") else f"{lexer.plain(message)}."


@cache
def parser() -> argparse.ArgumentParser:
    """What parses the words of a line."""
    made = _Parser(
        prog="%%isolated",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=HELP_WIDTH),
        add_help=False,
        allow_abbrev=False,
    )
    _add_inputs(made)
    _add_handling(made)
    _add_limits(made)
    return made


def help_text() -> str:
    """What ``%isolated --help`` shows."""
    return parser().format_help()


def long_options() -> list[str]:
    """The options by their long names."""
    return [action.option_strings[-1] for action in _actions()]


def switches() -> list[str]:
    """The options that take no value, by their long names."""
    return [action.option_strings[-1] for action in _actions() if action.nargs == 0]


def _actions() -> list[argparse.Action]:
    """The options, as argparse has them."""
    return parser()._actions


def _add_inputs(made: argparse.ArgumentParser) -> None:
    """What the run gets."""
    repeatable = partial(made.add_argument, action="append", default=[])
    repeatable(
        "-e",
        "--env",
        metavar="NAME=VALUE",
        help="set an environment variable: NAME=literal, NAME=$variable, NAME={expression}, or NAME alone for "
        "the notebook's or the kernel's variable of that name, $dict for all its items; repeatable",
    )
    repeatable(
        "--secret",
        metavar="NAME",
        help="set one that is hidden in all output: from the notebook's or the kernel's variable of that name, or "
        "asked for once; NAME=$variable, NAME={expression} and $dict too; repeatable",
    )
    repeatable("--env-file", metavar="PATH", help="set what a .env file sets; repeatable")
    repeatable(
        "-d",
        "--data",
        metavar="DATA",
        help="the names and values of `data`: a notebook variable, KEY=$variable, KEY={expression}, KEY=literal, "
        "a JSON literal, or a .json file; repeatable, merged, later ones win",
    )
    add = made.add_argument
    add("--payload-type", metavar="TYPE", help="such as trace_thread: data is a list, and score() gets it whole")
    add("--file", metavar="PATH", help="run this file instead of the cell's body; `%%isolated run PATH` too")
    _add_switch(made, "--clean-env", "--no-clean-env", "inherit nothing but what an interpreter needs")


def _add_handling(made: argparse.ArgumentParser) -> None:
    """What becomes of the run."""
    add = made.add_argument
    add("-t", "--timeout", metavar="SECONDS", help="kill the run after so long (default 30)")
    add("--bg", action="store_true", help="end the cell at once; its value is the handle of the run")
    add(
        "--executor",
        metavar="NAME",
        help="isolated, a process of its own (default); process, a worker that is used again; docker, a container",
    )
    add("--image", metavar="NAME", help="of the container, which is never pulled")
    add("--allow-net", action="store_true", help="give the container a network, which it has not otherwise")
    add("--fresh", action="store_true", help="start a new interpreter, even where a prepared one would do")
    add("-o", "--out", metavar="NAME", help="keep the result object in this variable")
    add(
        "--compare",
        nargs="?",
        const=True,
        metavar="NAME",
        help="show each score against that of the run of this cell before, or of a result that was kept with -o",
    )
    add("--no-compare", dest="compare", action="store_false", default=None, help=_opposite_of("--compare"))
    add(
        "--save",
        metavar="PATH",
        help="write the cell's body to this .py file, which runs with --file as it does here",
    )
    _add_switch(made, "--no-raise", "--raise", "show the error of a failed run instead of raising it")
    _add_switch(made, "--strict", "--no-strict", "take a note beside the scores for an error")
    add("--no-score", action="store_true", help="no score is meant: what is printed is all that there is to see")
    add("-h", "--help", action="store_true", help="show this and run nothing")


def _add_switch(made: argparse.ArgumentParser, name: str, opposite: str, what: str) -> None:
    """Two options: the second is for when the settings say what the first says."""
    destination = name.strip("-").replace("-", "_")
    made.add_argument(name, dest=destination, action="store_true", default=None, help=what)
    made.add_argument(opposite, dest=destination, action="store_false", default=None, help=_opposite_of(name))


def _opposite_of(option: str) -> str:
    return f"the opposite of {option}, where a setting says that"


def _add_limits(made: argparse.ArgumentParser) -> None:
    """What the run may use."""
    add = made.add_argument_group("limits, with sizes such as 512M or 2G, or none").add_argument
    add("--memory", metavar="SIZE", help="of memory")
    add("--cpu", metavar="SECONDS", help="of processor time")
    add("--open-files", metavar="N", help="open at once")
    add("--file-size", metavar="SIZE", help="of a file that it writes")
    add("--processes", metavar="N", help="at once, threads included")
    add("--max-output", metavar="SIZE", help="of what it prints; the rest is left out (default 32M)")


LONGEST_QUOTED = 40  # characters
_MAY_HOLD_SECRETS = ("-e", "--env", "--secret")


def sentence_about(words: list[str], unused: list[str], *, is_cell: bool) -> str:
    """What to tell the user.

    Args:
        words: of the line.
        unused: those that belong to no option; one at least.
        is_cell: whether it is the line of a cell magic.
    """
    option = next((word.partition("=")[0] for word in unused if word.startswith("-")), None)
    if option is not None:
        name = lexer.plain(option)
        near = difflib.get_close_matches(name, long_options(), n=1, cutoff=0.7)
        return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ".")
    first = lexer.plain(unused[0])
    if first.startswith("#"):
        return "a comment cannot stand on the magic's line: write it below."
    if (
        unused[0] == words[0]
        and _can_be_quoted(words, first)
        and (about := _about_command(first, is_cell=is_cell))
    ):
        return about
    told = f"the word {first!r}" if _can_be_quoted(words, first) else "a word on the line"
    return (
        f"{told} belongs to no option: a value with spaces needs quotes, and there are no spaces around = or "
        "commas between values."
    )


def _about_command(word: str, *, is_cell: bool) -> str | None:
    near = difflib.get_close_matches(word, FIRST_WORDS, n=1, cutoff=0.7)
    if is_cell:
        return f"write %isolated {near[0]}, with one % and in a cell without code of its own." if near else None
    if near:
        return f"{word!r} is no command; did you mean {near[0]}?"
    *most, last = FIRST_WORDS
    return f"{word[:LONGEST_QUOTED]!r} is no command; those are {', '.join(most)} and {last}."


def _can_be_quoted(words: list[str], word: str) -> bool:
    """Whether the word can be no part of a value: a secret with a space in it may be two words."""
    if any("=" in one or one.startswith(("$", "{", *_MAY_HOLD_SECRETS)) for one in words):
        return False
    return len(word) <= LONGEST_QUOTED and word.isprintable()


LEAST_MEMORY_BYTES = 16 * MIB  # an interpreter needs about ten


def too_little_memory(text: str, size: int) -> str | None:
    """What to say of a limit of memory under which no run can start; None when one can.

    Args:
        text: the limit as it was written.
        size: the bytes that it stands for.
    """
    if not 0 < size < LEAST_MEMORY_BYTES:
        return None
    meant = f"did you mean {text}M?" if text.isdecimal() and size >= 16 else "give at least 16M."
    return f"no interpreter starts with so little memory; {meant}"
