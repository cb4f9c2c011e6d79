"""A new container for every run: for untrusted code."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from isolated_magic.child.wire import CONTAINER_FOLDER
from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.launch.containers.launcher import ContainerLauncher
from isolated_magic.launch.containers.settings import ContainerSettings, held_by, shape_for
from isolated_magic.limits import NO_LIMITS
from isolated_magic.request import ContainerTarget, given_variables, lists_options, with_source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from os import PathLike

    from isolated_magic.environment import EnvValue
    from isolated_magic.executors.dispatch import Dispatch, Reports
    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.limits import Limits
    from isolated_magic.request import RunOptions, RunRequest

DEFAULTS = ContainerSettings()
_OF_A_SHELL = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


class DockerExecutor(Executor):
    """Runs each piece of code in a new container that is used once.

    The code sees the image, its environment, ``env_vars`` and the data: nothing of this process's environment,
    and no file of this machine except ``volumes``. A file is read here and sent as source: tracebacks show its
    name, and ``__file__`` is not set.

    With ``command``, the code is a program of another language::

        with DockerExecutor(image="node:22", command=["node", "-"]) as executor:
            executor.execute("console.log(JSON.stringify({scores: [{name: 'a', value: 1}]}))")

    Args:
        timeout_secs: default time limit of a run in seconds; infinity for no limit.
        image: an image with Python 3.11 or later. It is never pulled: if it is missing, the error says what to do.
        command: runs the code, in an image that has it, and ``sh``, ``head`` and ``tail``: the code is on its
            stdin, or, if ``{file}`` stands in the command, in the file whose path takes that place, with the data
            on stdin. The data, ``{"data": ..., "payload_type": ...}``, are always in the file that the variable
            ``ISOLATED_MAGIC_DATA`` names. The result is the last line of stdout that is a JSON object. No
            container waits then. Empty for Python.
        standby: number of containers that wait for a run.
        idle_secs: seconds after which a waiting container ends. The next run starts another one.
        memory_bytes: bytes for all processes of a run together, files under /tmp included; no swap.
        cpus: number of processors that a run may use, such as 0.5.
        pids: number of concurrent processes and threads.
        nofile: file descriptors of each process.
        network: False for no network; True for the daemon's default network; or the name of a network.
        user: user (and group) of the code, as ``"uid:gid"``.
        read_only: whether all files are read-only, except those under /tmp and /dev/shm.
        new_privileges: whether setuid programs may gain privileges.
        capabilities: Linux capabilities to keep; all others are dropped.
        tmpfs_bytes: size of /tmp, and of /dev/shm, in bytes.
        volumes: paths of this machine to paths in the container; read-only unless the latter ends in ``:rw``.
        cwd: the working directory of a run, and its HOME.
        preload: names of modules of the image to import before a run arrives.
        runtime: runtime of the daemon, such as ``"runsc"``; None for its default.
        base_url: URL of the daemon's API, Docker's or Podman's; None for ``DOCKER_HOST``, else the usual socket.
        limits: default limits of a run, within the limits above.

    Raises:
        InvalidRequestError: one of these is invalid.
        MissingLibraryError: the docker SDK is not installed.

    Example:
        >>> from isolated_magic import DockerExecutor
        >>> with DockerExecutor(timeout_secs=30) as executor:  # doctest: +SKIP
        ...     executor.execute("len(data['answer']) / 10", {"answer": "yes"}, env_vars={"TENANT_ID": "t1"})
        {'scores': [{'name': 'score', 'value': 0.3, 'reason': None}]}
    """

    refuses_packages = "a container has the packages and the Python of its image. Give an image that has them."

    def __init__(  # noqa: PLR0913 - a container has many settings, each by name
        self,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        image: str = DEFAULTS.image,
        command: Sequence[str] = (),
        standby: int = DEFAULTS.standby,
        idle_secs: float = DEFAULTS.idle_secs,
        memory_bytes: int = DEFAULTS.memory_bytes,
        cpus: float = DEFAULTS.cpus,
        pids: int = DEFAULTS.pids,
        nofile: int = DEFAULTS.nofile,
        network: bool | str = DEFAULTS.network,
        user: str = DEFAULTS.user,
        read_only: bool = DEFAULTS.read_only,
        new_privileges: bool = DEFAULTS.new_privileges,
        capabilities: Sequence[str] = (),
        tmpfs_bytes: int = DEFAULTS.tmpfs_bytes,
        volumes: Mapping[str | PathLike[str], str | PathLike[str]] | None = None,
        cwd: str = DEFAULTS.cwd,
        preload: Sequence[str] = (),
        runtime: str | None = None,
        base_url: str | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.settings = ContainerSettings(
            image=image,
            command=_words(command),
            standby=standby,
            idle_secs=idle_secs,
            memory_bytes=memory_bytes,
            cpus=cpus,
            pids=pids,
            nofile=nofile,
            network=network,
            user=user,
            read_only=read_only,
            new_privileges=new_privileges,
            capabilities=_names("capabilities", capabilities),
            tmpfs_bytes=tmpfs_bytes,
            volumes=_paths(volumes),
            cwd=cwd,
            preload=_names("preload", preload),
            runtime=runtime,
            base_url=base_url,
        )
        super().__init__(ContainerLauncher(self.settings, limits), "docker", timeout_secs, limits)

    @lists_options
    def prepare(
        self,
        code: str | PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest:
        """As :meth:`Executor.prepare`; the run has no file and no variable of this machine but those it is given.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of the image; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The frozen run.

        Raises:
            InvalidRequestError: it cannot be run as given; ``packages`` or ``python`` was given.
            TypeError: there is no such option.

        Example:
            >>> from isolated_magic import DockerExecutor
            >>> with DockerExecutor() as executor:
            ...     request = executor.prepare("0.5", env_vars={"TENANT_ID": "t1"})
            >>> sorted(request.environment)
            [b'TENANT_ID']
        """
        options["inherit_env"] = False
        request = super().prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        environment, unset = given_variables(request, env_vars)
        limits = held_by(self.settings, request.limits)
        shape = shape_for(self.settings, limits)
        request = replace(
            request,
            limits=limits,
            environment=environment,
            cwd=self.settings.cwd,
            container=ContainerTarget(unset, CONTAINER_FOLDER, shape.memory_bytes, self.settings.command),
        )
        if not self.settings.command:
            return with_source(request, "a container")
        _check_variables({*environment, *unset})
        return _with_program(request)

    def _dispatch(self, request: RunRequest, settings: EvaluationSettings) -> Callable[[Reports], Dispatch]:
        if self.settings.command and settings.per is not None:
            raise InvalidRequestError(
                "per (--per) has rows share a process, which is for Python: with a command each row has its own. "
                "Leave it out."
            )
        return super()._dispatch(request, settings)


def _paths(volumes: Mapping[str | PathLike[str], str | PathLike[str]] | None) -> dict[str, str]:
    try:
        return {os.fspath(here): os.fspath(there) for here, there in (volumes or {}).items()}
    except (AttributeError, TypeError):
        raise InvalidRequestError(
            f"volumes is {volumes!r}: give paths here and there, such as {{'/data': '/data'}}."
        ) from None


def _words(command: Sequence[str]) -> tuple[str, ...]:
    if isinstance(command, str):
        raise InvalidRequestError(f"command is {command!r}: give a list of words, such as ['node', '-'].")
    return tuple(command)


def _check_variables(names: Collection[bytes]) -> None:
    """Refuse names that a shell cannot set."""
    for name in sorted(names):
        if not _OF_A_SHELL.fullmatch(name):
            raise InvalidRequestError(
                f"env_vars: {os.fsdecode(name)!r}: a command gets its variables from a shell, whose names are of "
                "letters, digits and underscores."
            )


def _with_program(request: RunRequest) -> RunRequest:
    """The run with the text of its file, if it has one."""
    if request.path is None:
        return request
    try:
        program = Path(request.path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as problem:
        raise InvalidRequestError(f"The file {request.path} cannot be sent to a container: {problem}.") from None
    return replace(request, source=program, source_name=request.path, path=None)


def _names(what: str, names: Collection[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise InvalidRequestError(f"{what} is {names!r}: give a list of names.")
    return tuple(names)
