"""In a Dask worker: a plugin that holds the executor of one client, and the functions that the client calls."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from isolated_magic.distributed.chunk import Chunk, Failed, Lost, Refused, sealed
from isolated_magic.distributed.cipher import AesCipher, KeyBox
from isolated_magic.distributed.worker import WorkerExecutor
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from types import FrameType

    from distributed import Worker

    from isolated_magic.distributed.chunk import Outcome
    from isolated_magic.executors.isolated import LaunchSettings

PREFIX = "isolated-"  # of the keys of chunks
TAKEN, STOPPED, ELSEWHERE = "taken", "stopped", "elsewhere"  # what becomes of a chunk that comes
UNFINISHED = ("waiting", "ready", "constrained", "executing", "long-running")  # states of tasks
SETTLED_SECS = 0.02  # between two looks
FOLLOW_SECS = 2.0  # to wait for something new
NEWS_SECS = 0.002, 0.05  # between two looks for it: they get longer
IDLE_LOOK_SECS = 5.0  # between two looks whether the client still uses the plugin


def plugin_name(executor_id: str) -> str:
    """What the plugin of an executor is called."""
    return f"isolated_magic-{executor_id}"


def process_id(address: str, directory: str) -> str:
    """What tells a worker process from all others: one that is started again may have the name and the address.

    Args:
        address: as the scheduler has it.
        directory: the worker's own, whose name is made up at random.
    """
    return f"{address} {directory}"


def process_of(worker: Worker) -> str:
    """The same, of this worker."""
    return process_id(worker.contact_address or worker.address, worker.local_directory)


class IsolatedPlugin(WorkerPlugin):
    """Starts an executor in a worker process, and tears it down when the worker or the plugin goes.

    Args:
        executor_id: of the client's executor.
        key: that opens its chunks.
        settings: how runs start.
    """

    def __init__(self, executor_id: str, key: bytes, settings: LaunchSettings) -> None:
        self.name = plugin_name(executor_id)
        self._executor_id = executor_id
        self.cipher = AesCipher(key)
        self._settings = settings
        self.executor: WorkerExecutor | None = None
        self._process = ""
        self._leaving: asyncio.Task[None] | None = None

    def setup(self, worker: Worker) -> None:
        """The plugin has come to a worker."""
        outlive_interrupts()
        self.executor = WorkerExecutor(self._settings, self.cipher, worker.contact_address or worker.address)
        self._process = process_of(worker)
        worker.handlers[self.name] = self.take  # as those of Dask's own plugins
        self._leaving = asyncio.ensure_future(self._leave_when_unused(worker))

    async def _leave_when_unused(self, worker: Worker) -> None:
        """Go when no chunk has come for long: the client may have died without a farewell."""
        while self.executor is not None and self.executor.unused_secs() < self._settings["idle_secs"]:
            await asyncio.sleep(min(IDLE_LOOK_SECS, self._settings["idle_secs"]))
        self._leaving = None
        await uninstall(self._executor_id, worker)

    def take(self, process: str, fields: dict[str, Any], sealed: bytes) -> str:
        """A chunk has come, ahead of its task: so Dask, which keeps tasks in logs of its own, never has it.

        Args:
            process: that it was sent to.
            fields: of the chunk, but the largest one.
            sealed: that one.
        """
        if self.executor is None or process != self._process:
            return ELSEWHERE
        return TAKEN if self.executor.take(Chunk(**fields, sealed=sealed)) else STOPPED

    def run(self, chunk_id: str) -> bytes:
        """Run a chunk that has come; its outcome, sealed. No exception tells Dask's logs what was wrong."""
        outcome: Outcome
        try:
            executor = self.executor
            outcome = Refused(lacks_program=False) if executor is None else executor.run_taken(chunk_id)
        except Exception as problem:  # noqa: BLE001 - a fault of ours, or a system that is short of something
            outcome = Failed(exception_text(problem))
        return sealed(outcome, self.cipher)

    def __getstate__(self) -> dict[str, object]:
        """It is made in its worker, and never leaves it: it has the key."""
        raise TypeError("an IsolatedPlugin stays in its worker")

    async def teardown(self, worker: Worker) -> None:
        """The plugin or the worker goes."""
        worker.handlers.pop(self.name, None)
        executor, self.executor = self.executor, None
        if self._leaving is not None:
            self._leaving.cancel()
        if executor is not None:
            await asyncio.get_running_loop().run_in_executor(None, executor.teardown)

    def transition(self, key: object, start: str, finish: str, **_more: object) -> None:
        """A task goes from one state to another: one that nobody wants any more, as its client is gone, is killed.

        Dask calls that state "cancelled" as long as the task runs, and names "released" as what it changes to.
        """
        is_unwanted = finish == "released" and start in UNFINISHED
        if is_unwanted and isinstance(key, str) and key.startswith(PREFIX) and self.executor is not None:
            self.executor.stop_chunk(key.removeprefix(PREFIX))


def outlive_interrupts() -> None:
    """Have this process outlive a SIGINT, if nobody handles it better.

    Ctrl-C in a terminal and a notebook's stop go to all processes of their group, the workers of a LocalCluster
    among them; they would end.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGINT)
    # That of asyncio.Runner ends its loop; a worker that was started by itself waits for signals, with another.
    is_runners = getattr(getattr(handler, "func", None), "__qualname__", "") == "Runner._on_sigint"
    if handler in {signal.default_int_handler, signal.SIG_DFL} or is_runners:
        signal.signal(signal.SIGINT, _outlive)


def _outlive(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which children would inherit."""


_box: KeyBox | None = None  # of this process


def public_key() -> bytes:
    """For what is to be read in this process alone."""
    global _box  # noqa: PLW0603 - a fact about the process
    _box = _box or KeyBox()
    return _box.public


async def install(executor_id: str, sealed_key: bytes, settings: LaunchSettings, dask_worker: Worker) -> None:
    """Give a worker the plugin, unless it has it. Should it fail, Dask writes these arguments to the log."""
    executor = _executor_in(dask_worker, executor_id)
    if executor is not None:
        executor.touch()
        return
    assert _box is not None  # noqa: S101 - the key was sealed for it
    plugin = IsolatedPlugin(executor_id, _box.opened(sealed_key), settings)
    try:
        await dask_worker.plugin_add(plugin=plugin, name=plugin.name, catch_errors=False)
    except BaseException:
        dask_worker.plugins.pop(plugin.name, None)  # dask leaves it there
        raise


async def uninstall(executor_id: str, dask_worker: Worker) -> None:
    """Take the plugin from a worker."""
    if plugin_name(executor_id) in dask_worker.plugins:
        await dask_worker.plugin_remove(name=plugin_name(executor_id))


async def settled(executor_id: str, dispatch: str, timeout_secs: float, dask_worker: Worker) -> bool:
    """Have an evaluation run nothing more in a worker, and wait until it does not."""
    executor = _executor_in(dask_worker, executor_id)
    if executor is None:
        return True
    executor.end_dispatch(dispatch)
    deadline = time.monotonic() + timeout_secs
    while time.monotonic() < deadline:
        if executor.is_idle(dispatch):
            return True
        await asyncio.sleep(SETTLED_SECS)
    return False


async def end_lanes(executor_id: str, dispatch: str, dask_worker: Worker) -> None:
    """End the processes of an evaluation that wait for rows."""
    executor = _executor_in(dask_worker, executor_id)
    if executor is not None:
        await asyncio.get_running_loop().run_in_executor(None, executor.end_lanes, dispatch)


async def ask(executor_id: str, method: str, args: tuple[object, ...], dask_worker: Worker) -> object:
    """Call a method of an executor; None if it is not there."""
    executor = _executor_in(dask_worker, executor_id)
    if executor is None:
        return None
    return await asyncio.get_running_loop().run_in_executor(None, getattr(executor, method), *args)


async def follow(executor_id: str, chunk_id: str, number: int, dask_worker: Worker) -> bytes | None:
    """News of a chunk from this number on, as soon as there are any; None if it has ended, or not come yet."""
    executor = _executor_in(dask_worker, executor_id)
    loop = asyncio.get_running_loop()
    until = loop.time() + FOLLOW_SECS
    wait_secs, longest_secs = NEWS_SECS
    while executor is not None and PREFIX + chunk_id in dask_worker.state.tasks:
        news = executor.news_of(chunk_id, number)
        if news or loop.time() > until:
            return sealed(news, executor.cipher)
        await asyncio.sleep(wait_secs)
        wait_secs = min(wait_secs * 1.5, longest_secs)
    return None


def task_text(executor_id: str, chunk_id: str, process: str) -> str:
    """The task, as an expression: a scheduler unpickles what tasks are made of, and may not have this package."""
    function = f"__import__({__name__!r}, fromlist=['']).{run_chunk.__name__}"
    return f"{function}({executor_id!r}, {chunk_id!r}, {process!r})"


def run_chunk(executor_id: str, chunk_id: str, process: str) -> bytes | Refused | Lost:
    """Run a chunk that has come; its outcome, sealed.

    Args:
        executor_id: of the client's executor.
        chunk_id: of the chunk.
        process: that it was sent to. Dask would run it in another one at the same address, if it ended the first.
    """
    worker = get_worker()
    if process_of(worker) != process:
        return Lost("the worker process was started again")
    plugin = worker.plugins.get(plugin_name(executor_id))
    return plugin.run(chunk_id) if isinstance(plugin, IsolatedPlugin) else Refused(lacks_program=False)


def _executor_in(worker: Worker, executor_id: str) -> WorkerExecutor | None:
    plugin = worker.plugins.get(plugin_name(executor_id))
    return plugin.executor if isinstance(plugin, IsolatedPlugin) else None
