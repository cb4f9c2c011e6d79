"""``--on``: what stands behind its word, and the executors that run rows there, kept until a teardown."""

from __future__ import annotations

import re
from collections import OrderedDict
from concurrent.futures import Executor as Pool
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.executors.factory import create_executor
from isolated_magic.magic import lexer
from isolated_magic.magic.values import ROOT, Resolver, did_you_mean, own_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.distributed.executor import DistributedExecutor
    from isolated_magic.executors.base import Executor
    from isolated_magic.magic.settings import IsolatedMagic

MOST_KEPT = 4  # of the notebook's clients and pools, which are not garbage as long as they are kept
ADDRESS = re.compile(r"[a-z][a-z+]*://\S+|[^\s/:]+:\d{1,5}")
OF_DASK = ("Client", "Cluster")
TAKES = (
    "a Dask client or cluster, or a concurrent.futures.Executor, in a variable of the notebook, or the address of "
    "a Dask scheduler, such as tcp://scheduler:8786"
)


def can_run_rows(value: object) -> bool:
    """Whether a value can be given to --on, as far as its type tells. Loads no library for that."""
    return isinstance(value, Pool) or any(
        kind.__name__ in OF_DASK and str(kind.__module__).partition(".")[0] == "distributed"
        for kind in type(value).__mro__
    )


def _value(word: str, names: dict[str, object], hidden: Mapping[str, object]) -> object:
    """What stands behind ``--on``: an object of the notebook, or an address."""
    text = lexer.plain(word)
    if word.startswith(("$", "{")):
        found = Resolver(names, hidden).reference(word, "--on")
    elif text in names:
        found = names[text]
    elif ADDRESS.fullmatch(text):
        found = text
    else:
        raise _nothing_there(text, names, hidden)
    if isinstance(found, type):
        raise OptionError(f"--on {text}: that is a class: give what it makes, such as {{{found.__name__}(...)}}.")
    if not isinstance(found, str):
        return found
    if not ADDRESS.fullmatch(found):  # whose text is in no message: it may be anything
        raise OptionError(f"--on {text}: that is a text, and no address. Give {TAKES}.")
    return found if "://" in found else f"tcp://{found}"


def _nothing_there(text: str, names: dict[str, object], hidden: Mapping[str, object]) -> OptionError:
    if (root := ROOT.match(text)) and root[1] in names:
        return OptionError(f"--on {text}: put an expression in braces. Write --on {{{text}}}.")
    own = own_variables(names, hidden)
    near = did_you_mean(text, [name for name, value in own.items() if can_run_rows(value)])
    return OptionError(
        f"--on {text}: the notebook has no variable of that name, and it is no address. Give {TAKES}.{near}"
    )


@dataclass(frozen=True)
class _Kept:
    """An executor.

    Args:
        word: of the last line that named it.
        target: what it runs on. Being here, it is no garbage, and no other object has its id.
        settings: it was made with.
        executor: the executor.
    """

    word: str
    target: object
    settings: Mapping[str, object]
    executor: DistributedExecutor


class Clusters:
    """The executors of one shell that run rows on something of the notebook's, or at an address.

    Args:
        settings: of the shell.
    """

    def __init__(self, settings: IsolatedMagic) -> None:
        self._settings = settings
        self._kept: OrderedDict[str | int, _Kept] = OrderedDict()  # by address or id; the last used one last

    def executor_for(self, word: str, names: dict[str, object], hidden: Mapping[str, object]) -> Executor:
        """The executor that runs rows on what a word of the line stands for.

        Args:
            word: of the line.
            names: the notebook's variables.
            hidden: those among them that IPython put there, with their values.

        Raises:
            OptionError: rows can be run on none such.
            LaunchError: no scheduler answers.
            MissingLibraryError: Dask is not installed.
        """
        target = _value(word, names, hidden)
        key = target if isinstance(target, str) else id(target)
        told = lexer.plain(word)
        settings = {
            name: value
            for name, value in self._settings.launch_settings.items()
            if name not in {"remember", "max_environments"}
        }
        kept = self._kept.pop(key, None)
        if kept is not None and (kept.settings != settings or kept.executor.gone):
            _end(kept)
            kept = None
        executor = kept.executor if kept is not None else _made(told, target, settings)
        self._kept[key] = _Kept(told, target, settings, executor)
        idle = [other for other, one in self._kept.items() if not one.executor.live_runs and other != key]
        for other in idle[: max(0, len(self._kept) - MOST_KEPT)]:
            _end(self._kept.pop(other))
        return executor

    @property
    def status(self) -> list[str]:
        """Where rows run now, a line for each place."""
        return [_told(kept) for kept in self._kept.values() if kept.executor.live_runs]

    def teardown(self) -> None:
        """Tear all of them down. Clients that were made for an address are closed, the notebook's own are not."""
        while self._kept:
            self._kept.popitem()[1].executor.teardown()


def _made(told: str, target: object, settings: Mapping[str, object]) -> DistributedExecutor:
    try:
        return cast("DistributedExecutor", create_executor("distributed", client=target, **settings))
    except InvalidRequestError as problem:
        raise OptionError(f"--on {told}: {problem}") from None


def _end(kept: _Kept) -> None:
    if not kept.executor.live_runs:
        kept.executor.teardown()


def _told(kept: _Kept) -> str:
    count = len(kept.executor.workers)
    if not count:
        return f"Rows run on {kept.word}, which has no worker now."
    workers = "1 worker" if count == 1 else f"{count:,} workers"
    return f"Rows run on {kept.word}: {workers}, {kept.executor.jobs:,} at once."
