"""Hosts on this machine, each a network namespace, and the links between them, which can be cut (ip-netns(8)).

What listens in them can be reached from nowhere else: the bridge between them stands in a namespace, too.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NETWORK = "10.203.0"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass
class Host:
    """One namespace, with one link to the bridge."""

    name: str
    address: str
    hosts: "Hosts"

    def start(self, command: list[str], log: Path, **env: str) -> subprocess.Popen[str]:
        """Start a process on it, which ends with the hosts."""
        with log.open("w") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                text=True,
                start_new_session=True,
            )
        self.hosts.processes.append(process)
        return process

    def cut(self) -> None:
        """What is sent from now on, either way, is lost without a word."""
        ip("-n", self.hosts.bridge, "link", "set", self._port, "down")

    def mend(self) -> None:
        ip("-n", self.hosts.bridge, "link", "set", self._port, "up")

    @property
    def _port(self) -> str:
        return f"p{self.address.rpartition('.')[2]}"

    def add(self) -> None:
        bridge = self.hosts.bridge
        ip("netns", "add", self.name)
        ip("-n", bridge, "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", bridge, "link", "set", self._port, "master", "bridge", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", link, "up")


@dataclass
class Hosts:
    """Hosts that see one another, by their short names."""

    bridge: str
    hosts: dict[str, Host] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def close(self) -> None:
        for process in self.processes:  # in order they would wait for hosts that cannot be reached
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for name in [*(host.name for host in self.hosts.values()), self.bridge]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def hosts(names: list[str]) -> Iterator[Hosts]:
    """Hosts of these names; a skip where the system has no network namespaces for us."""
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed: apt-get install iproute2")
    made = Hosts(f"im{os.getpid()}")
    try:
        ip("netns", "add", made.bridge)
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"network namespaces are not allowed here: {problem.stderr.strip()}")
    try:
        ip("-n", made.bridge, "link", "add", "bridge", "type", "bridge")
        ip("-n", made.bridge, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            host = made.hosts[name] = Host(f"{made.bridge}-{name}", f"{NETWORK}.{number}", made)
            host.add()
        yield made
    finally:
        made.close()
