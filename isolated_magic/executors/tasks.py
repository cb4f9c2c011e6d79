"""The tasks of an evaluation: one run of one row each, with everything that depends on the row looked up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Unpack

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.checkpoint import code_digest, content_digest
from isolated_magic.models import ErrorKind, RunError
from isolated_magic.payload.encode import arrivals_in, encode_payload

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.evaluation.row_result import Attempt
    from isolated_magic.evaluation.rows import RowSource
    from isolated_magic.executors.evaluation_options import EvaluationSettings, Variables
    from isolated_magic.request import RunOptions, RunRequest

KEY_DIGITS = 16  # of a hash that stands for the content of a row


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


@dataclass(eq=False)
class Task:
    """One run of one row."""

    number: int  # of all tasks, in their order
    index: int  # of the row
    key: str
    row: object = field(repr=False)
    request: RunRequest | None = field(default=None, repr=False)
    problem: RunError | None = None  # why there is no request
    per: object = None  # rows with equal values share a process
    repetition: int = 0
    cluster: str | None = None
    failed_attempts: tuple[Attempt, ...] = ()
    content: str = ""  # digest of the row and its data, for a checkpoint


class TaskMaker:
    """Makes tasks of rows. What an option's function raises for a row is that row's error.

    Args:
        prepare: makes requests.
        code: of all runs.
        env_vars: of all runs, or a function of the row.
        settings: of the evaluation.
    """

    def __init__(
        self, prepare: Prepares, code: str | os.PathLike[str], env_vars: Variables, settings: EvaluationSettings
    ) -> None:
        self._prepare = prepare
        self._code = code
        self._env_vars = env_vars
        self._settings = settings
        self._keys: dict[str, int] = {}
        # What is wrong with the code or with options of all rows is said before the first row.
        fixed = None if callable(env_vars) else env_vars
        self._base = self._request_for(fixed, () if callable(settings.secrets) else settings.secrets)
        self._is_shared = not callable(env_vars) and not callable(settings.secrets)

    @property
    def code_digest(self) -> str:
        """A digest of the code of all runs.

        Raises:
            InvalidRequestError: its file cannot be read.
        """
        return code_digest(self._base, self._settings.payload_type)

    def tasks(self, source: RowSource) -> Iterator[Task]:
        """The tasks for the rows, made as they are asked for."""
        number = 0
        for index, row in enumerate(source.rows):
            task = self._task(index, row)
            for repetition in range(self._settings.repeat):
                yield replace(task, number=number, repetition=repetition)
                number += 1

    def _task(self, index: int, row: object) -> Task:
        task = Task(0, index, f"#{index}", row)
        try:
            self._fill(task, row)
        except InvalidRequestError as problem:
            task.problem = RunError.from_text(ErrorKind.INVALID_REQUEST, str(problem))
        return task

    def _fill(self, task: Task, row: object) -> None:
        settings = self._settings
        data = _of_row("data", settings.data, row) if settings.data is not None else row
        payload = encode_payload(data, settings.payload_type)
        task.key = self._key(row, payload)
        if settings.checkpoint is not None:
            task.content = content_digest(payload, None if settings.data is None else row)
        task.per = _of_row("per", settings.per, row)
        if settings.cluster is not None:
            task.cluster = str(_of_row("cluster", settings.cluster, row))
        request = self._base
        if not self._is_shared:
            variables = _of_row("env_vars", self._env_vars, row)
            request = self._request_for(variables, _of_row("secrets", settings.secrets, row))
        task.request = replace(request, payload=payload, arrivals=arrivals_in(data))

    def _key(self, row: object, payload: bytes) -> str:
        """The key of a row. Rows with the same content are told apart by their order."""
        if self._settings.key is not None:
            key = str(_of_row("key", self._settings.key, row))
            if key in self._keys:
                raise InvalidRequestError(
                    f"the key {key!r} belongs to an earlier row, too: give each row its own."
                )
            self._keys[key] = 1
            return key
        content = hashlib.sha256(payload).hexdigest()[:KEY_DIGITS]
        count = self._keys[content] = self._keys.get(content, 0) + 1
        return content if count == 1 else f"{content}-{count}"

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
            fresh=settings.fresh,
            limits=settings.limits,
            secrets=secrets,  # type: ignore[arg-type]  # likewise
            strict=settings.strict,
        )


def _of_row(option: str, value: object, row: object) -> object:
    """The value of an option for a row."""
    if not callable(value):
        return value
    try:
        return value(row)
    except InvalidRequestError:  # which says it all
        raise
    except Exception as problem:  # noqa: BLE001 - of the user's function
        kind = type(problem).__name__
        raise InvalidRequestError(f"{option}: the function of the row raised {kind}: {problem}") from None
