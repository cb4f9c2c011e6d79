"""The functions that process pool workers run. Imports no more than a user's own worker would."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def run(code: str, data: dict[str, object]) -> object:
    """Run the code in this process with its own names, and the imports of earlier runs."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, {"__name__": "__main__", "data": data})  # noqa: S102 - that is what is measured
    return json.loads(printed.getvalue().strip().split("\n")[-1])


def run_apart(code: str, data: dict[str, object]) -> tuple[object, str, str]:
    """Like :func:`run`, with the isolation of ``ProcessExecutor``, written as a user would.

    That is: its own ``__main__``, input and output (captured at descriptors 1 and 2); environment, working
    directory, path and handlers of the usual signals restored.

    Returns:
        The result, the stdout before it, and stderr.
    """
    with _own_streams(json.dumps({"data": data}).encode()) as (stdout, stderr), _own_state() as names:
        names["data"] = data
        exec(code, names)  # noqa: S102 - likewise
        sys.stdout.flush()
        sys.stderr.flush()
        printed, errors = _written_to(stdout), _written_to(stderr)
    before, _, last = printed.rstrip().rpartition("\n")
    return json.loads(last), before, errors


@contextmanager
def _own_streams(data: bytes) -> Iterator[tuple[int, int]]:
    stdin, stdout, stderr = (os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))
    os.pwrite(stdin, data, 0)
    saved = [os.dup(number) for number in range(3)]
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        for number, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - of the run
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 - likewise
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 - likewise
        yield stdout, stderr
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(saved):
            os.dup2(descriptor, number)
        for descriptor in (stdin, stdout, stderr, *saved):
            os.close(descriptor)


@contextmanager
def _own_state() -> Iterator[dict[str, object]]:
    main, module = sys.modules["__main__"], ModuleType("__main__")
    environment, folder, path, mask = dict(os.environ), os.getcwd(), list(sys.path), os.umask(0o022)  # noqa: PTH109 - as fast as it gets
    os.umask(mask)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    sys.modules["__main__"] = module
    try:
        yield vars(module)
    finally:
        sys.modules["__main__"] = main
        if environment != os.environ:
            os.environ.clear()
            os.environ.update(environment)
        os.chdir(folder)
        os.umask(mask)
        sys.path[:] = path
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _written_to(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, encoding="utf-8", closefd=False) as file:
        return file.read()
