"""Dask clusters for tests: one in this process's own children, and one whose parts can be killed one by one.

`dask_cluster` and `dask_client` are shared by the tests of a module, which leave them usable. What ends a worker or
the scheduler makes a cluster of its own: `local_cluster()`, or `tcp_cluster()` with processes that are listed.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import HANG_GUARD_SECS

if TYPE_CHECKING:  # it takes half a second to import, which most tests do without
    from distributed import Client, LocalCluster, Security

NO_DASHBOARD = "127.0.0.1:0"  # a port of its own: None would still be that of everybody


@contextmanager
def local_cluster(workers: int = 2, threads: int = 1, **settings: object) -> Iterator["LocalCluster"]:
    """Workers that are children of this process, each below a nanny that restarts it."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        dashboard_address=NO_DASHBOARD,
        worker_dashboard_address=None,
        **settings,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator["LocalCluster"]:
    """Two workers of one thread each."""
    with local_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dask_client(dask_cluster: "LocalCluster") -> Iterator["Client"]:
    from distributed import Client

    with Client(dask_cluster, set_as_default=False) as client:
        yield client


def worker_pids(client: "Client") -> dict[str, int]:
    """By address."""
    return client.run(os.getpid)


class Process:
    """A scheduler, or a worker: started by the test, in a session of its own.

    Args:
        command: with the address given, so that it can be started again there.
        address: that it listens at.
        log: takes what it prints.
    """

    def __init__(self, command: list[str], address: str, log: Path) -> None:
        self._command, self.address, self.log = command, address, log
        self.start()

    def start(self) -> None:
        """Again too, at the same address."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of this process: where there is a nanny, it is the nanny's."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def pause(self) -> None:
        """As a machine that hangs: connections stay open, nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """At once, without a farewell."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Have it end in order. Does not wait."""
        self.resume()
        self._process.terminate()

    def wait(self) -> None:
        """Until it has ended; it is killed if that takes too long."""
        try:
            self._process.wait(HANG_GUARD_SECS)
        except subprocess.TimeoutExpired:
            self.kill()


class TcpCluster:
    """A scheduler and workers that are processes of their own and talk over loopback.

    Args:
        folder: for all that they write.
        threads: of each worker.
        tls: whether connections are encrypted, and both sides need a certificate.
        nannies: whether each worker has one, which restarts it.
        python: what runs the workers.
        scheduler: what runs the scheduler.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 1,
        tls: bool = False,
        nannies: bool = False,
        python: str = sys.executable,
        scheduler: str = sys.executable,
    ) -> None:
        self.folder = folder
        self.workers: list[Process] = []
        self._threads, self._nannies, self._python = threads, nannies, python
        self.certificates = _certificates(folder) if tls else {}
        self._protocol = "tls" if tls else "tcp"
        self.address, port = self._free_address()
        _, dashboard = self._free_address()
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        options = [
            *("--host", f"{self._protocol}://127.0.0.1", "--port", str(port)),
            *("--dashboard-address", f"127.0.0.1:{dashboard}", "--idle-timeout", "15 minutes"),
        ]
        self.scheduler = self._started([scheduler], "scheduler", options, self.address)

    def add_worker(self, *, python: str | None = None, env: dict[str, str] | None = None) -> Process:
        """One more; it takes a moment until the scheduler knows it."""
        number = len(self.workers)
        address, port = self._free_address()
        options = [
            *(self.address, "--name", f"worker-{number}", "--nthreads", str(self._threads), "--no-dashboard"),
            *("--host", "127.0.0.1", "--worker-port", str(port), "--local-directory", str(self.folder)),
            *("--nanny" if self._nannies else "--no-nanny", "--memory-limit", "0", "--death-timeout", "60"),
        ]
        python_of = ["env", *(f"{name}={value}" for name, value in (env or {}).items()), python or self._python]
        self.workers.append(self._started(python_of, "worker", options, address, f"worker-{number}"))
        return self.workers[-1]

    @contextmanager
    def client(self, **settings: object) -> Iterator["Client"]:
        from distributed import Client

        with Client(self.address, set_as_default=False, security=self.security, **settings) as client:
            yield client

    @property
    def security(self) -> "Security | None":
        """What a client needs to connect."""
        return security_of(self.certificates)

    def repair(self) -> None:
        """Start what a test has ended, and have all that goes on answer."""
        parts = [self.scheduler, *self.workers]
        for each in parts:
            if each.is_running:
                each.resume()
        if not self.scheduler.is_running:  # the workers end with it
            for each in self.workers:
                each.wait()
        for each in parts:
            if not each.is_running:
                each.start()
        with self.client() as client:
            client.wait_for_workers(len(self.workers), timeout=HANG_GUARD_SECS)

    def worker_at(self, address: str) -> Process:
        return next(each for each in self.workers if each.address == address)

    def logs(self) -> str:
        """What all of them have printed."""
        return "\n".join(f"{file.name}\n{file.read_text()}" for file in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for group in (self.workers, [self.scheduler]):
            running = [each for each in group if each.is_running]
            for each in running:
                each.terminate()
            for each in running:
                each.wait()

    def _started(self, python: list[str], role: str, options: list[str], address: str, name: str = "") -> Process:
        certificates = [part for option, file in self.certificates.items() for part in (f"--{option}", file)]
        command = [*python, "-m", "dask", role, *options, *certificates]
        return Process(command, address, self.folder / f"{name or role}.log")

    def _free_address(self) -> tuple[str, int]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return f"{self._protocol}://127.0.0.1:{port}", port


def security_of(certificates: dict[str, str]) -> "Security | None":
    """What a client needs to connect, if connections are encrypted."""
    from distributed import Security

    if not certificates:
        return None
    return Security(
        tls_ca_file=certificates["tls-ca-file"],
        tls_client_cert=certificates["tls-cert"],
        tls_client_key=certificates["tls-key"],
        require_encryption=True,
    )


def _certificates(folder: Path) -> dict[str, str]:
    from distributed import Security

    made = Security.temporary()
    files = {"tls-ca-file": made.tls_ca_file, "tls-cert": made.tls_worker_cert, "tls-key": made.tls_worker_key}
    for name, text in files.items():
        (folder / f"{name}.pem").write_text(text)
    return {name: str(folder / f"{name}.pem") for name in files}


@contextmanager
def tcp_cluster(folder: Path, workers: int = 3, **settings: object) -> Iterator[TcpCluster]:
    """See :class:`TcpCluster`. All workers are there; everything is ended in the end, whatever the test did to it."""
    with ExitStack() as stack:
        cluster = TcpCluster(folder, **settings)
        stack.callback(cluster.close)
        for _ in range(workers):
            cluster.add_worker()
        with cluster.client() as client:
            if workers:
                client.wait_for_workers(workers, timeout=HANG_GUARD_SECS)
        yield cluster
