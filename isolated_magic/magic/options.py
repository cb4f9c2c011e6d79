"""The options of ``%%isolated``, their help, and what each says once the line is parsed."""

from __future__ import annotations

import argparse
import difflib
import keyword
import math
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.limits import OUTPUT_LIMIT_BYTES, Limits, size_of
from isolated_magic.magic import tokens
from isolated_magic.request import checked_timeout

HELP_WIDTH = 100  # and not the terminal's: a saved notebook has none

DESCRIPTION = """\
Run the cell in a Python process of its own, with its own environment. The scores that it computes are the
cell's value.

The result is a JSON object printed as the last line, or else the value of the last expression (a number, a
score, a list of scores, a dict with "scores"), or else a BaseMetric subclass that the cell defines.
"""

EXAMPLES = """\
Examples:
  %%isolated --env TENANT_ID=t1 --data row
      TENANT_ID is "t1" in the run's environment; the notebook's dict row is the name data in the cell.
  %%isolated -e API_KEY=$key -e REGION={regions["eu"]} -d answer=$text -d limit=3
      The values of a variable and of an expression; data is {"answer": ..., "limit": 3}.
  %%isolated -e tenant -e OPENAI_API_KEY
      A notebook variable gives its value, a dict all its items; else the kernel's own variable.
  %%isolated --env-file tenant.env --clean-env -t 10 -o result
      Nothing inherited but what an interpreter needs, ten seconds, the result kept as result.
  %isolated --file metrics/relevance.py --data row
      A file instead of a cell.
  %%isolated --bg -o run --memory 512M
      The cell ends at once: run.pid, run.done(), run.result(timeout), run.stdout, run.kill().

%isolated status lists what runs, %isolated stop [PID] stops one run or all, %isolated teardown ends everything and
runs what %isolated on-teardown NAME registered: functions of the notebook.

A value in single quotes is taken as it stands: -e 'PASSWORD=pa$$word'.
"""


@dataclass(frozen=True)
class Options:
    """The line of the magic, parsed but not yet resolved: no variable was looked up.

    Args:
        env: the words after ``--env``, in order.
        env_files: the paths after ``--env-file``.
        data: the words after ``--data``, in order.
        payload_type: of the data.
        timeout_secs: seconds, None for the executor's own.
        limits: what the run may use.
        out: the variable for the result.
        file: the path to run instead of the body.
        raises: whether a failed run raises.
        inherits_env: whether the run inherits the kernel's environment.
        fresh: whether the run gets a new interpreter, whatever else would do.
        in_background: whether the cell ends at once and the run goes on.
        wants_help: show the help and run nothing.
    """

    env: tuple[str, ...]
    env_files: tuple[str, ...]
    data: tuple[str, ...]
    payload_type: str | None
    timeout_secs: float | None
    limits: Limits
    out: str | None
    file: str | None
    raises: bool
    inherits_env: bool
    fresh: bool
    in_background: bool
    wants_help: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{self._without_values(message)}. `%isolated --help` shows the options.")

    def _without_values(self, message: str) -> str:
        """A message of argparse's without the words that it repeats: one may be a part of a value."""
        unused = message.removeprefix("unrecognized arguments: ")
        if unused != message:
            option = next((word.partition("=")[0] for word in unused.split() if word.startswith("-")), None)
            if option is not None:
                name = tokens.plain(option)
                known = [one for action in self._actions for one in action.option_strings if one.startswith("--")]
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
                return f"unknown option {name}" + (f"; did you mean {near[0]}" if near else "")
            return (
                "the line holds a word that belongs to no option: a value with spaces needs quotes, "
                "and there are no spaces around = or commas between values"
            )
        before, ignored, _ = message.partition(": ignored explicit argument")
        return f"{before} takes no value" if ignored else tokens.plain(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="%%isolated",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=HELP_WIDTH),
        add_help=False,
        allow_abbrev=False,
    )
    _add_inputs(parser)
    _add_handling(parser)
    _add_limits(parser)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    """What the run gets."""
    repeatable = partial(parser.add_argument, action="append", default=[])
    repeatable(
        "-e",
        "--env",
        metavar="NAME=VALUE",
        help="set an environment variable: NAME=literal, NAME=$variable, NAME={expression}, or NAME alone for "
        "the notebook's or the kernel's variable of that name; repeatable",
    )
    repeatable("--env-file", metavar="PATH", help="set what a .env file sets; repeatable")
    repeatable(
        "-d",
        "--data",
        metavar="DATA",
        help="the names and values of `data`: a notebook variable, KEY=$variable, KEY={expression}, KEY=literal, "
        "a JSON literal, or a .json file; repeatable, merged, later ones win",
    )
    add = parser.add_argument
    add("--payload-type", metavar="TYPE", help="such as trace_thread: data is a list, and score() gets it whole")
    add("--file", metavar="PATH", help="run this file instead of the cell's body")
    add("--clean-env", action="store_true", help="inherit nothing but what an interpreter needs")


def _add_handling(parser: argparse.ArgumentParser) -> None:
    """What becomes of the run."""
    add = parser.add_argument
    add("-t", "--timeout", metavar="SECONDS", help="kill the run after so long (default 30)")
    add("--bg", action="store_true", help="end the cell at once; its value is the handle of the run")
    add("--fresh", action="store_true", help="start a new interpreter, even where a prepared one would do")
    add("-o", "--out", metavar="NAME", help="keep the result object in this variable")
    add("--no-raise", action="store_true", help="show the error of a failed run instead of raising it")
    add("-h", "--help", action="store_true", help="show this and run nothing")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """What the run may use."""
    add = parser.add_argument_group("limits, with sizes such as 512M or 2G").add_argument
    add("--memory", metavar="SIZE", help="of memory")
    add("--cpu", metavar="SECONDS", help="of processor time")
    add("--open-files", metavar="N", help="open at once")
    add("--file-size", metavar="SIZE", help="of a file that it writes")
    add("--processes", metavar="N", help="at once, threads included")
    add("--max-output", metavar="SIZE", help="of what it prints; the rest is left out (default 32M)")


def help_text() -> str:
    """What ``%isolated --help`` shows."""
    return _parser().format_help()


def parse(line: str) -> Options:
    """The options on the line.

    Args:
        line: all that follows the magic's name.

    Raises:
        OptionError: an unknown, abbreviated or incomplete option, or a value that cannot be.
    """
    given = _parser().parse_args(tokens.split(line))
    return Options(
        env=tuple(given.env),
        env_files=tuple(map(tokens.plain, given.env_file)),
        data=tuple(given.data),
        payload_type=None if given.payload_type is None else tokens.plain(given.payload_type),
        timeout_secs=None if given.timeout is None else _seconds("--timeout", given.timeout),
        limits=_limits(given),
        out=None if given.out is None else _identifier(given.out),
        file=None if given.file is None else tokens.plain(given.file),
        raises=not given.no_raise,
        inherits_env=not given.clean_env,
        fresh=given.fresh,
        in_background=given.bg,
        wants_help=given.help,
    )


def _limits(given: argparse.Namespace) -> Limits:
    return Limits(
        memory_bytes=_size("--memory", given.memory),
        cpu_secs=None if given.cpu is None else _limited_seconds("--cpu", given.cpu),
        open_files=_count("--open-files", given.open_files),
        file_size_bytes=_size("--file-size", given.file_size),
        processes=_count("--processes", given.processes),
        output_bytes=_size("--max-output", given.max_output) or OUTPUT_LIMIT_BYTES,
    )


def _seconds(option: str, text: str) -> float:
    try:
        return checked_timeout(float(text))
    except (ValueError, InvalidRequestError):
        raise OptionError(f"{option} {text}: give a number of seconds greater than zero.") from None


def _limited_seconds(option: str, text: str) -> float | None:
    seconds = _seconds(option, text)
    return None if seconds == math.inf else seconds


def _size(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else size_of(text)
    except ValueError:
        raise OptionError(f"{option} {text}: give a size, such as 512M or 2G.") from None


def _count(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise OptionError(f"{option} {text}: give a whole number greater than zero.")
    return int(text)


def _identifier(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise OptionError(f"--out {text}: give the name of a variable.")
    return text
