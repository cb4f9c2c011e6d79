"""What the line of ``%%isolated`` says once it is parsed."""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.executors.factory import HOMES
from isolated_magic.limits import size_of
from isolated_magic.magic import tokens
from isolated_magic.magic.mistakes import sentence_about
from isolated_magic.magic.parser import parser, wrong_line
from isolated_magic.magic.sizes import too_little_memory
from isolated_magic.request import checked_timeout

if TYPE_CHECKING:
    import argparse

    from isolated_magic.executors.factory import ExecutorName
    from isolated_magic.magic.settings import IsolatedMagic

NO_LIMIT = "none"


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

    def with_settings(self, settings: IsolatedMagic) -> Options:
        """The options with what the settings say where the line says nothing.

        Args:
            settings: of the shell.
        """
        return replace(
            self,
            timeout_secs=settings.timeout_secs if self.timeout_secs is None else self.timeout_secs,
            raises=settings.raise_errors if self.raises is None else self.raises,
            has_clean_env=settings.clean_env if self.has_clean_env is None else self.has_clean_env,
            is_strict=settings.strict if self.is_strict is None else self.is_strict,
            executor=settings.executor if self.executor is None else self.executor,
            is_compared=settings.compare if self.is_compared is None else self.is_compared,
        )


def parse(line: str, *, is_cell: bool) -> Options:
    """The options on the line.

    Args:
        line: all that follows the magic's name.
        is_cell: whether it is the line of a cell magic.

    Raises:
        OptionError: an unknown, abbreviated or incomplete option, or a value that cannot be, or two options that
            do not go together.
    """
    words = tokens.split(line)
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
    return None if text is None else tokens.plain(text)


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
