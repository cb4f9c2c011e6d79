"""The options of ``%%isolated`` as argparse knows them, and their help."""

from __future__ import annotations

import argparse
from functools import cache, partial
from typing import NoReturn

from isolated_magic.errors import OptionError
from isolated_magic.magic import tokens

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
    return f"{option} needs a value." if problem.startswith("expected") else f"{tokens.plain(message)}."


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
