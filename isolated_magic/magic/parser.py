"""The parser of the magic's line, its error messages and the help, all made of the table of options."""

from __future__ import annotations

import argparse
import difflib
from functools import cache, partial
from typing import TYPE_CHECKING, NoReturn

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.magic import lexer
from isolated_magic.magic.option import COMMANDS, FIRST_WORDS
from isolated_magic.magic.options import TABLE, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.magic.option import Option

HELP_WIDTH = 100  # and not the terminal's: a saved notebook has none
LONGEST_QUOTED = 40  # characters
CLOSE = 0.7  # by difflib's measure

# What other tools call these options.
MEANT = {
    **dict.fromkeys(("--for-each", "--foreach", "--rows", "--dataset", "--map", "--over"), "--each"),
    **dict.fromkeys(
        ("-j", "--n-jobs", "--num-jobs", "--parallel", "--threads", "--concurrency", "--workers"), "--jobs"
    ),
    **dict.fromkeys(("--group-by", "--groupby", "--by", "--shard"), "--per"),
    **dict.fromkeys(("--head", "--first", "--max-rows", "-n"), "--limit"),
    **dict.fromkeys(("--id", "--row-id"), "--key"),
    **dict.fromkeys(("--resume", "--cache"), "--checkpoint"),
    **dict.fromkeys(("--rate-limit", "--rps", "--qps"), "--rate"),
    **dict.fromkeys(("--epochs", "--trials", "--runs"), "--repeat"),
    **dict.fromkeys(("--max-retries", "--retry"), "--retries"),
    **dict.fromkeys(("--client", "--dask", "--scheduler", "--pool", "--backend", "--remote"), "--on"),
    **dict.fromkeys(
        ("--package", "--packages", "--pip", "--install", "--require", "--requirement", "--deps"), "--with"
    ),
    **dict.fromkeys(("--py", "--interpreter", "--python-version", "--venv"), "--python"),
    **dict.fromkeys(("--isolated", "--no-site-packages"), "--bare"),
    "--baseline": "--compare",
}

DESCRIPTION = """\
Run the cell in a Python process of its own, with its own environment. The scores that it computes are the
cell's value.

Scores are printed as a JSON object on the last line, or are the value of the last expression (a number, a
score, a list of scores, a dict with "scores", a metric), or come from the BaseMetric subclasses that the cell
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
      Only what an interpreter needs is inherited; ten seconds; the result is kept as result.
  %%isolated -d row --compare --save metrics/relevance.py
      Each score is compared with the run before; the cell is written to a file.
  %isolated run metrics/relevance.py --data row
      That file instead of a cell.
  %%isolated --with "rapidfuzz<3" --compare
      Another version of a package than the kernel has; the output says whether the scores differ.
  %%isolated --python 3.13 --with pandas --with rapidfuzz
      Another Python, with its own packages and these.
  %%isolated --each rows -e TENANT_ID={row["tenant"]} --per tenant -o scores
      The cell runs once for each row, which is data there; all rows of a tenant in one process.
  %%isolated --each rows.jsonl --limit 20 --key id --compare
      The first 20 rows of a file; the output says whether they score better than the last time.
  %%isolated --each rows --on client --checkpoint done.jsonl
      The rows run on the workers of a Dask client; --on tcp://scheduler:8786 makes one for that address.
  %%isolated --executor docker --image node:22 --command "node -" --data row
      The cell is JavaScript, in a container: JSON.parse(readFileSync(process.env.ISOLATED_MAGIC_DATA)).data.
  %%isolated --bg -o run --memory 512M
      The cell ends at once: run.pid, run.done(), run.result(timeout), run.stdout, run.kill().

%isolated history lists the runs of this kernel with their scores, %isolated status what runs now,
%isolated stop [PID] stops one run or all, %isolated teardown ends everything and runs what
%isolated on-teardown NAME registered, %isolated forget NAME forgets a secret that was asked for,
%isolated packages lists the environments that --with has made, %isolated packages prune removes old ones,
%isolated forget which modules the runs of this folder import (--all: everything, of all folders).

A value in single quotes is taken as it stands: -e 'GREETING=pa$$word {x}'.
`%config IsolatedMagic` shows what can be set once for all cells.
"""


def parse(line: str, defaults: Mapping[str, object], *, is_cell: bool) -> Options:
    """The options on the line, with the settings where it says nothing.

    Raises:
        OptionError: an unknown, abbreviated or incomplete option, an impossible value, or two options of which
            only one can be.
    """
    words = lexer.split(line)
    given, unused = parser().parse_known_args(words)
    if not is_cell and len(unused) == 2 and unused[0] == "run" and "file" not in given:
        given.file, unused = unused[1], []  # behind options instead of before them
    if unused:
        raise _wrong_line(_about_unused(words, unused, is_cell=is_cell))
    said = {name: _converted(TABLE[name], value) for name, value in vars(given).items()}
    options = Options(**{**defaults, **said}, said=frozenset(said))  # type: ignore[arg-type]  # converted by the table
    _check_together(options)
    return options


def _check_together(options: Options) -> None:
    """Refuse two options of which only one can be."""
    if options.save is not None and options.file is not None:
        raise OptionError("--save writes a cell's body to a file, and here a file runs: leave --save out.")
    if options.save is not None and options.bg:
        raise OptionError("--save waits for the run to succeed, which --bg does not: give one of them.")
    _check_containers(options)
    if options.bg and options.asks_to_compare:
        raise OptionError("--compare needs the scores, which --bg does not wait for: give one of them.")
    if options.each is not None:
        if options.bg:
            raise OptionError(
                "--bg is for one run, and --each waits for its rows: leave --bg out. Interrupting the cell keeps "
                "the rows that are done, and with --checkpoint FILE the next run goes on from there."
            )
        if options.no_score:
            raise OptionError("--no-score is for one run without scores, and --each collects them: leave it out.")
        if options.on is not None and "executor" in options.said:
            raise OptionError("--on says what runs the rows, and so does --executor: give one of them.")
        if options.retry_on and not options.retries:
            raise OptionError("--retry-on says after what a row is run again: add how often, such as --retries 2.")
        if options.checkpoint_mode is not None and options.checkpoint is None:
            raise OptionError("--checkpoint-mode says what to do with a checkpoint: add --checkpoint FILE.")
        return
    of_rows = [TABLE[name].flag for name in TABLE if name in options.said and TABLE[name].of_rows]
    if of_rows:
        raise OptionError(f"{of_rows[0]} is for rows: give them with it, such as --each rows {of_rows[0]} ...")


def _check_containers(options: Options) -> None:
    """Refuse options of containers that do not go together."""
    if options.save is not None and not options.is_python:
        raise OptionError("--save writes a file of Python, and with --command the cell is none: leave --save out.")
    if options.allow_net and "network" in options.said:
        raise OptionError("--network says which network, and --allow-net means the default one: give one of them.")


def _converted(option: Option, value: object) -> object:
    if isinstance(value, list):
        is_resolved_later = option.offers not in {"value", "folder"}  # they refer to variables
        return tuple(value if is_resolved_later else [_converted(option, one) for one in value])
    if not option.kind.metavar or not isinstance(value, str):
        return value
    try:
        return option.kind.convert(value)
    except InvalidRequestError as problem:
        raise OptionError(f"{option.flag} {value}: {problem}") from None
    except (ValueError, OverflowError):  # OverflowError: a number of three hundred digits
        raise OptionError(f"{option.flag} {value}: give {option.kind.wants}.") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong without the words that argparse repeats: one may be a part of a value."""
        about, _, problem = message.partition(": ")
        flag = about.removeprefix("argument ").rpartition("/")[2]
        if problem.startswith("ignored explicit argument"):
            raise _wrong_line(f"{flag} takes no value.")
        raise _wrong_line(
            f"{flag} needs a value." if problem.startswith("expected") else f"{lexer.plain(message)}."
        )


def _wrong_line(told: str) -> OptionError:
    return OptionError(f"{told} `%isolated --help` shows the options.")


@cache
def parser() -> argparse.ArgumentParser:
    """The table as a parser of argparse, which gives only what stands on the line."""
    made = _Parser(
        prog="%%isolated",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=HELP_WIDTH),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    rows = made.add_argument_group("options of --each")
    limits = made.add_argument_group("limits, with sizes such as 512M or 2G, or none")
    for name, option in TABLE.items():
        group = limits if option.limit else rows if option.of_rows or name == "each" else made
        add = partial(
            group.add_argument, *option.flags, dest=name, help=option.help.replace("`", "").replace("%", "%%")
        )
        if not option.kind.metavar:
            add(action="store_const", const=option.const)
        elif option.may_lack_value:
            add(nargs="?", const=option.const, metavar=option.kind.metavar)
        else:
            add(action="append" if option.repeats else "store", metavar=option.kind.metavar)
        if option.opposite:
            told = f"the opposite of {option.flag}, for where a setting says that"
            made.add_argument(option.opposite, dest=name, action="store_const", const=not option.const, help=told)
    return made


def help_text() -> str:
    """What ``%isolated --help`` shows."""
    return parser().format_help()


def long_flags() -> list[str]:
    """All long flags, opposites among them."""
    return [flag for option in TABLE.values() for flag in (option.flag, option.opposite) if flag]


def reference_table() -> str:
    """The table of the manual, in Markdown."""
    rows = ["| option | what it does | setting |", "|---|---|---|"]
    for option in TABLE.values():
        value = f" {option.kind.metavar}" if option.kind.metavar else ""
        *short, long = option.flags
        value = f" [{value.strip()}]" if option.may_lack_value else value
        flags = [*short, f"{long}{value}", *filter(None, [option.opposite])]
        told = ". ".join(filter(None, [f"{'limit: ' * bool(option.limit)}{option.help}", option.manual]))
        setting = f"`{option.setting.name}`" if option.setting is not None else ""
        rows.append(f"| {', '.join(f'`{flag}`' for flag in flags)} | {told} | {setting} |")
    return "\n".join(rows)


def commands_table() -> str:
    """The table of commands of the manual, in Markdown."""
    commands = {"run": (("run PATH ...",), "runs a file, with the options above"), **COMMANDS}
    rows = ["| command | what it does |", "|---|---|"]
    for forms, told in commands.values():
        rows.append(f"| {', '.join(f'`%isolated {form}`' for form in forms)} | {told} |")
    return "\n".join(rows)


def _about_unused(words: list[str], unused: list[str], *, is_cell: bool) -> str:
    """What is wrong with a line that holds words which belong to no option, and what was meant."""
    flag = next((word.partition("=")[0] for word in unused if word.startswith("-")), None)
    if flag is not None:
        name = lexer.plain(flag)
        near = [MEANT[name]] if name in MEANT else difflib.get_close_matches(name, long_flags(), n=1, cutoff=CLOSE)
        return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ".")
    first = lexer.plain(unused[0])
    if first.startswith("#"):
        return "a comment cannot stand on the magic's line: write it below."
    can_be_quoted = _can_be_quoted(words, first)
    if unused[0] == words[0] and can_be_quoted and (about := _about_command(first, is_cell=is_cell)):
        return about
    told = f"the word {first!r}" if can_be_quoted else "a word on the line"
    return (
        f"{told} belongs to no option: a value with spaces needs quotes, and there are no spaces around = or "
        "commas between values."
    )


def _about_command(word: str, *, is_cell: bool) -> str | None:
    near = difflib.get_close_matches(word, FIRST_WORDS, n=1, cutoff=CLOSE)
    if is_cell:
        return f"write %isolated {near[0]}, with one % and in a cell without code of its own." if near else None
    if near:
        return f"{word!r} is no command; did you mean {near[0]}?"
    *most, last = FIRST_WORDS
    return f"{word[:LONGEST_QUOTED]!r} is no command; those are {', '.join(most)} and {last}."


def _can_be_quoted(words: list[str], word: str) -> bool:
    """Whether the word can be no part of a value: a secret with a space in it may be two words."""
    secret = tuple(flag for option in TABLE.values() if option.offers == "environment" for flag in option.flags)
    if any("=" in one or one.startswith(("$", "{", *secret)) for one in words):
        return False
    return len(word) <= LONGEST_QUOTED and word.isprintable()
