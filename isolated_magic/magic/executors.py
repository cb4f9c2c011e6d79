"""The executors of one shell: the isolated one from the start, the others when a line first asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.executors.factory import create_executor
from isolated_magic.executors.isolated import IsolatedSubprocessExecutor
from isolated_magic.magic.clusters import Clusters
from isolated_magic.magic.options import TABLE
from isolated_magic.magic.values import Resolver, expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.executors.base import Executor
    from isolated_magic.executors.factory import ExecutorName
    from isolated_magic.magic.options import Options
    from isolated_magic.magic.settings import IsolatedMagic


def _volumes(options: Options, resolver: Resolver) -> dict[str, str]:
    """Paths in the container by paths of this machine."""
    found: dict[str, str] = {}
    for word, there in options.volumes:
        here = str(expanded(resolver.path(word, "--volume")).absolute())
        if here in found:
            raise OptionError(f"--volume: {here} stands there twice: show the folder above it, once.")
        found[here] = there
    return found


class Executors:
    """The executors of one shell, by the options of a line."""

    def __init__(self, settings: IsolatedMagic) -> None:
        self._settings = settings
        self.isolated = IsolatedSubprocessExecutor(**settings.launch_settings)
        self.clusters = Clusters(settings)
        self._others: dict[ExecutorName, tuple[Mapping[str, object], Executor]] = {}

    def start_ahead(self) -> None:
        """Start, in the background, what makes cells fast that are like those of earlier kernels."""
        self.isolated.start_ahead()

    def configure(self) -> None:
        """Start runs as the settings say from now on."""
        self.isolated.configure(self._settings.launch_settings)

    def executor_for(self, options: Options, names: dict[str, object], hidden: Mapping[str, object]) -> Executor:
        """The executor that the line asks for.

        Args:
            options: of the line.
            names: the notebook's variables.
            hidden: those among them that IPython put there, with their values.

        Raises:
            OptionError: it cannot be made, or an option belongs to another one.
            LaunchError: there is no such cluster.
            MissingLibraryError: a library that it needs is not installed.
        """
        name = options.executor if options.on is None else "distributed"
        for said in options.said:
            if TABLE[said].executor not in {None, name}:
                raise OptionError(
                    f"{TABLE[said].flag} is for --executor {TABLE[said].executor}: give that with it."
                )
        if options.on is not None:
            return self.clusters.executor_for(options.on, names, hidden)
        if name == "isolated":
            return self.isolated
        if name == "process":
            wanted: dict[str, object] = {
                name: getattr(self._settings, name) for name in ("workers", "preload", "remember")
            }
        else:
            wanted = self._settings.container_settings | {
                "network": options.allow_net or options.network or False,
                "volumes": _volumes(options, Resolver(names, hidden)),
                "cpus": options.cpus,
                "command": options.command or (),
                **({"preload": ()} if options.command else {}),
                **({"image": options.image} if options.image else {}),
            }
        settings, executor = self._others.get(name, ({}, None))
        if executor is not None:
            if settings == wanted:
                return executor
            if not executor.live_runs:
                executor.teardown()
        try:
            executor = create_executor(name, **wanted)
        except InvalidRequestError as problem:
            raise OptionError(f"--executor {name}: {problem}") from None
        self._others[name] = wanted, executor
        return executor

    def register_teardown_callback(self, callback: Callable[[], object]) -> None:
        """Have something called, without arguments, when all of them are torn down."""
        self.isolated.register_teardown_callback(callback)

    def teardown(self) -> None:
        """Tear all of them down."""
        others, self._others = self._others, {}
        for _, executor in others.values():
            executor.teardown()
        self.clusters.teardown()
        self.isolated.teardown()
