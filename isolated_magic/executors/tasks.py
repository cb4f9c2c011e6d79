"""The tasks of an evaluation: one run of one row each, with everything that depends on the row looked up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Unpack

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.checkpoint import code_digest, digests_of
from isolated_magic.executors.row_values import (
    content_key,
    field_or_function,
    group_of,
    identity_of,
    name_of,
    of_row,
    payload_of,
    secrets_among,
    without_secrets,
)
from isolated_magic.launch.resources import NO_MEMORY
from isolated_magic.models import ErrorKind, RunError
from isolated_magic.payload.encode import arrivals_in
from isolated_magic.redaction.redactor import redactor_for

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.evaluation.checkpoint import RowDigests
    from isolated_magic.evaluation.row_result import Attempt
    from isolated_magic.executors.evaluation_options import EvaluationSettings, Variables
    from isolated_magic.request import RunOptions, RunRequest


MOST_REQUESTS = 256  # of rows with other variables or secrets, as of so many tenants, that are remembered
MOST_SECRETS = 256  # sets of them, as of so many tenants, that are remembered


class Prepares(Protocol):
    """Makes the request of one run: :meth:`Executor.prepare`."""

    def __call__(  # noqa: D102 - see there
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest: ...


@dataclass(eq=False, slots=True)
class Task:
    """One run of one row."""

    number: int  # of all tasks, in their order
    index: int  # of the row
    key: str
    row: object = field(repr=False)  # without secrets
    request: RunRequest | None = field(default=None, repr=False)
    problem: RunError | None = None  # why there is no request
    per: object = None  # rows with equal values share a process
    repetition: int = 0
    cluster: str | None = None
    failed_attempts: tuple[Attempt, ...] = ()
    digests: RowDigests | None = None  # for a checkpoint

    @property
    def size(self) -> int:
        """Bytes that it holds until it is done, beside the row."""
        return 0 if self.request is None else len(self.request.payload)


class TaskMaker:
    """Makes tasks of rows. What an option's function raises for a row is that row's error.

    Args:
        prepare: makes requests.
        code: of all runs.
        env_vars: of all runs, or a function of the row.
        settings: of the evaluation.
        most_keys: number of keys to remember at most, so that rows with the same one are found.

    Raises:
        InvalidRequestError: what is the same for all rows is invalid.
    """

    def __init__(
        self,
        prepare: Prepares,
        code: str | os.PathLike[str],
        env_vars: Variables,
        settings: EvaluationSettings,
        most_keys: float = math.inf,
    ) -> None:
        self._prepare = prepare
        self._code = code
        self._env_vars = env_vars
        self._settings = settings
        self._most_keys = most_keys
        self._keys: dict[str, int] = {}  # how many rows have each one
        self._clusters: dict[str, str] = {}  # without secrets, by what they are; only those that hold one
        fixed = None if callable(env_vars) else env_vars
        self._base = self._request_for(fixed, () if callable(settings.secrets) else settings.secrets)
        self._is_shared = not callable(env_vars) and not callable(settings.secrets)
        self._requests: dict[object, RunRequest] = {}  # by what they are made of
        self._secrets = {self._base.secrets: None}  # of the rows so far
        self._payload: bytes | None = None  # of all rows
        if settings.data is not None and not callable(settings.data):
            self._payload = payload_of(settings.data, settings.payload_type, is_row=False)

    @property
    def request(self) -> RunRequest:
        """What the requests of all rows have in common."""
        return self._base

    @property
    def code_digest(self) -> str:
        """A digest of the code of all runs.

        Raises:
            InvalidRequestError: its file cannot be read.
        """
        return code_digest(self._base, self._settings.payload_type)

    def tasks(self, rows: Iterable[tuple[int, object]]) -> Iterator[Task]:
        """The tasks for rows with their positions, made as they are asked for."""
        number = 0
        for index, row in rows:
            task = self._task(index, row)
            for repetition in range(self._settings.repeat):
                one = task if self._settings.repeat == 1 else replace(task, repetition=repetition)
                one.number = number
                yield one
                number += 1

    def hidden(self, text: str) -> str:
        """The text without the secrets of the rows so far."""
        for redactor in map(redactor_for, self._secrets):
            text = text if redactor is None else redactor.text(text)
        return text

    def _task(self, index: int, row: object) -> Task:
        task = Task(0, index, f"#{index}", row)
        found = [self._base.secrets]
        try:
            try:
                request = self._base if self._is_shared else self._request_of(row, found)
            finally:  # whatever else is wrong with a row, it is told by its name
                if self._settings.key is not None:
                    task.key = self._own_key(name_of("key", field_or_function("key", self._settings.key, row)))
            self._fill(task, row, request)
        except InvalidRequestError as problem:
            task.problem = RunError.from_text(ErrorKind.INVALID_REQUEST, str(problem))
        except MemoryError:
            task.problem = RunError.from_text(ErrorKind.LAUNCH, f"The row was given up: {NO_MEMORY}.")
        if found[-1]:
            self._hide(task, found[-1])
        if task.problem is not None:
            task.problem = task.problem.map_texts(self.hidden)
        return task

    def _fill(self, task: Task, row: object, request: RunRequest) -> None:
        settings = self._settings
        is_row = settings.data is None
        data = row if is_row else of_row("data", settings.data, row)
        payload = self._payload or payload_of(data, settings.payload_type, is_row=is_row)
        if settings.per is not None:
            task.per = group_of(field_or_function("per", settings.per, row))
        if settings.cluster is not None:
            task.cluster = name_of("cluster", field_or_function("cluster", settings.cluster, row))
        if settings.key is None:
            task.key = self._numbered(content_key(row, payload, is_row=is_row))
        if settings.checkpoint is not None:
            task.digests = digests_of(task.key, payload, None if is_row else row)
        task.request = request.with_data(payload, arrivals_in(data))

    def _own_key(self, key: str) -> str:
        if key in self._keys:
            raise InvalidRequestError(f"the key {key!r} belongs to an earlier row, too: give each row its own.")
        return self._numbered(key)

    def _numbered(self, key: str) -> str:
        """The key, with a number where an earlier row has the same one."""
        count = self._keys[key] = self._keys.get(key, 0) + 1
        if len(self._keys) > self._most_keys:
            del self._keys[next(iter(self._keys))]
        return key if count == 1 else f"{key}-{count}"

    def _hide(self, task: Task, secrets: tuple[str, ...]) -> None:
        """Take the secrets out of what is kept of the row."""
        redactor = redactor_for(secrets)
        if redactor is None:
            return
        if task.problem is not None:  # its own may not be among those that are remembered
            task.problem = task.problem.map_texts(redactor.text)
        task.row = without_secrets(task.row, redactor)
        if (key := redactor.text(task.key)) != task.key:
            task.key = self._numbered(key)
        if task.cluster is not None and (cluster := redactor.text(task.cluster)) != task.cluster:
            number = len(self._clusters) + 1
            task.cluster = self._clusters.setdefault(task.cluster, f"{cluster}-{number}")

    def _request_of(self, row: object, found: list[tuple[str, ...]]) -> RunRequest:
        """A request without data. Secrets are added to those found, even if there is no request."""
        variables = of_row("env_vars", self._env_vars, row)
        names = of_row("secrets", self._settings.secrets, row)
        same = identity_of(variables, names)
        if same in self._requests:
            found.append(self._requests[same].secrets)
            return self._requests[same]
        found.append(tuple(sorted({*self._base.secrets, *secrets_among(variables, names)})))
        request = self._request_for(variables, names)
        found.append(request.secrets)
        if same is not None:
            self._requests[same] = request
            if len(self._requests) > MOST_REQUESTS:
                del self._requests[next(iter(self._requests))]
        if len(self._secrets) < MOST_SECRETS:
            self._secrets[request.secrets] = None
        return request

    def _request_for(self, env_vars: object, secrets: object) -> RunRequest:
        """A request without data."""
        settings = self._settings
        return self._prepare(
            self._code,
            None,
            env_vars,  # type: ignore[arg-type]  # checked where the environment is made
            settings.timeout_secs,
            settings.payload_type,
            inherit_env=settings.inherit_env,
            source_name=settings.source_name,
            data_name=settings.data_name,
            fresh=settings.fresh,
            limits=settings.limits,
            secrets=secrets,  # type: ignore[arg-type]  # likewise
            strict=settings.strict,
            packages=settings.packages,
            python=settings.python,
        )
