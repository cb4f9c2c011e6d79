"""A real kernel for tests: run cells, read what they show, end it in every way there is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

CELL_TIMEOUT_SECS = 60


@dataclass
class Shown:
    """What one cell showed."""

    stdout: str = ""
    stderr: str = ""
    data: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    ename: str | None = None
    evalue: str | None = None
    traceback: str = ""

    @property
    def text(self) -> str:
        return self.data.get("text/plain", "")

    def take(self, message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in {"execute_result", "display_data"}:
            self.data, self.metadata = content["data"], content["metadata"]
        elif kind == "error":
            self.ename, self.evalue = content["ename"], content["evalue"]
            self.traceback = "\n".join(content["traceback"])


@dataclass
class Kernel:
    manager: KernelManager
    client: BlockingKernelClient

    @property
    def pid(self) -> int:
        return self.manager.provisioner.pid

    def run(self, code: str) -> Shown:
        shown = Shown()
        self.client.execute_interactive(code, output_hook=shown.take, timeout=CELL_TIMEOUT_SECS, allow_stdin=False)
        return shown

    def ok(self, code: str) -> Shown:
        shown = self.run(code)
        assert shown.ename is None, shown.traceback
        return shown

    def start(self, code: str) -> str:
        """Send a cell and return at once; :meth:`collect` takes what it shows."""
        return self.client.execute(code, allow_stdin=False)

    def collect(self, request: str) -> Shown:
        shown = Shown()
        while True:
            message = self.client.get_iopub_msg(timeout=CELL_TIMEOUT_SECS)
            if message["parent_header"].get("msg_id") != request:
                continue
            shown.take(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return shown


@contextmanager
def kernel(**env: str) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, **env}, extra_arguments=["--IPKernelApp.log_level=ERROR"])
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=CELL_TIMEOUT_SECS)
        started = Kernel(manager, client)
        started.ok("%load_ext isolated_magic")
        yield started
    finally:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
