"""A real Docker daemon of the tests' own: its images are made of the machine's own packages, not pulled."""

import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest

from isolated_magic import DockerExecutor
from tests.processes import is_alive, wait_until

PROGRAMS = ("dockerd", "mmdebstrap", "unshare", "nsenter", "openssl")
IMAGE, NODE_IMAGE, EMPTY_IMAGE, BROKEN_IMAGE = (
    f"isolated-test-{name}" for name in ("python", "node", "no", "bad")
)
PACKAGES = {
    IMAGE: "python3,coreutils,dash,base-files,base-passwd,libc-bin",
    NODE_IMAGE: "nodejs,perl-base,coreutils,dash,base-files,base-passwd,libc-bin",
}
DISK_BYTES = 900 << 20
START_SECS = 60.0
SWITCHES = "--iptables=false --ip6tables=false --ip-forward=false --bridge=none --storage-driver overlay2"


# Of the server, of the client, and of a client that the server does not know.
CERTIFICATES = """
new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
$new -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
for name in server client; do
    $new -subj /CN=$name -keyout $name.key -out $name.csr
    printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > extensions
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out $name.pem
done
mkdir known unknown
cp ca.pem known/ca.pem; cp client.pem known/cert.pem; cp client.key known/key.pem
$new -x509 -days 2 -subj /CN=unknown -keyout unknown/key.pem -out unknown/cert.pem
cp unknown/cert.pem unknown/ca.pem
"""


class Daemon:
    """A daemon whose files lie in memory, seen by nobody else.

    Args:
        folder: for all that it has.
        cache: for the packages of its images.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        subprocess.run(["sh", "-ec", CERTIFICATES], cwd=self.certificates, check=True, capture_output=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.tls_url = f"tcp://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir()
        mount = f"mount -t tmpfs -o size={DISK_BYTES} none {folder}/data && echo mounted && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", mount],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        with self._holder.stdout as said:
            assert said.readline() == b"mounted\n"

    @property
    def disk(self) -> Path:
        """Its data, as seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}/data")

    def start(self) -> None:
        inside = ["nsenter", "-m", "-t", str(self._holder.pid), "dockerd"]
        places = [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/run",
            f"--pidfile={self.folder}/pid",
        ]
        tls = ["-H", self.tls_url, "--tlsverify"] + [
            f"--{option}={self.certificates / name}"
            for option, name in (("tlscacert", "ca.pem"), ("tlscert", "server.pem"), ("tlskey", "server.key"))
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, *places, "-H", self.url, *tls, *SWITCHES.split()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.answers, START_SECS)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        with suppress(docker.errors.DockerException, OSError):
            with socket.socket(socket.AF_UNIX) as end:  # the SDK leaves one open that it cannot connect
                end.connect(str(self.socket))
            with self.api() as api:
                return bool(api.ping())
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            own_pid = self._pid_of_containerd()
            self.process.send_signal(how)
            self.process.wait(START_SECS)
            self.process = None
            if own_pid is not None:
                wait_until(lambda: not is_alive(own_pid))
                # A zombie that nobody reaps would be taken for one that lives.
                self._containerd_pid_file.unlink(missing_ok=True)

    @property
    def _containerd_pid_file(self) -> Path:
        return self.folder / "run" / "containerd" / "containerd.pid"

    def _pid_of_containerd(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(self._containerd_pid_file.read_text())
        return None

    @contextmanager
    def api(self) -> Iterator[docker.APIClient]:
        api = docker.APIClient(base_url=self.url, version="auto", timeout=START_SECS)
        try:
            yield api
        finally:
            api.close()

    def containers(self) -> list[dict]:
        with self.api() as api:
            return api.containers(all=True)

    def make_images(self) -> None:
        """Make the images that most tests need."""
        self.make_image(IMAGE)
        self._add_image(EMPTY_IMAGE, {"etc/nothing": b""})

    def make_image(self, name: str) -> str:
        """Make an image of packages, which are got once for each way of getting them."""
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--include={PACKAGES[name]}",
            _release("VERSION_CODENAME"),
        ]
        kept = self.cache / f"{hashlib.sha256(' '.join([*command, mirror()]).encode()).hexdigest()[:16]}.tar"
        if not kept.exists():
            made = self.folder / "rootfs.tar"
            subprocess.run([*command, str(made), mirror()], check=True)
            shutil.move(made, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)  # whole, or not there
        self._import(kept, name)
        return name

    @contextmanager
    def manual_images(self) -> Iterator[None]:
        """There are the images that the manual names, under their names: what they run is the same here."""
        self.make_image(NODE_IMAGE)
        images = {"isolated-magic:latest": IMAGE, "node:22": NODE_IMAGE, "perl:5": NODE_IMAGE}
        with self.api() as api:
            for name, own in images.items():
                assert api.tag(own, *name.split(":"))
            try:
                yield
            finally:
                for name in images:
                    api.remove_image(name)

    def _add_image(self, name: str, files: dict[str, bytes]) -> None:
        tar = self.folder / f"{name}.tar"
        with tarfile.open(tar, "w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        self._import(tar, name)
        tar.unlink()

    def _import(self, tar: Path, name: str) -> None:
        with self.api() as api, tar.open("rb") as file:
            api.import_image_from_data(file, repository=name, tag="latest")

    def derive(self, name: str, python: str) -> str:
        """An image with something else in the place of its python3, a script for the shell."""
        with self.api() as api:
            script = "printf '%s' \"$1\" > /usr/bin/python3.new && chmod 755 /usr/bin/python3.new && mv -f /usr/bin/python3.new /usr/bin/python3"
            made = api.create_container(
                IMAGE,
                command=["/bin/sh", "-c", script, "sh", python],
                host_config=api.create_host_config(network_mode="none"),
            )
            api.start(made["Id"])
            assert api.wait(made["Id"])["StatusCode"] == 0
            api.commit(made["Id"], repository=name, tag="latest")
            api.remove_container(made["Id"], force=True)
        return name

    def close(self) -> None:
        with suppress(AssertionError):
            if self.process is None:  # a test killed it and failed: it ends what it finds when it starts
                self.start()
        self.stop()
        self._holder.kill()
        self._holder.wait()
        for group in Path("/sys/fs/cgroup").glob("*/docker"):
            with suppress(OSError):
                group.rmdir()


def _release(name: str) -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith(f"{name}="))


def mirror() -> str:
    """Where this machine gets the packages of its release."""
    listing = [
        "apt-get",
        "indextargets",
        "--format",
        "$(RELEASE) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    ]
    targets = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = [_release("VERSION_CODENAME"), "main"]
    return next(words[2] for words in map(str.split, targets) if words[:2] == wanted)


@contextmanager
def daemon(folder: Path, cache: Path) -> Iterator[Daemon]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"a Docker daemon needs {', '.join(missing)}: apt-get install docker.io mmdebstrap openssl")
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon has to be started by root")
    started = Daemon(folder, cache)
    try:
        started.start()
        started.make_images()
        yield started
    finally:
        started.close()


@contextmanager
def executor_of(daemon, **settings):
    settings = {"image": IMAGE, "base_url": daemon.url, "timeout_secs": 60, "standby": 1} | settings
    with DockerExecutor(**settings) as made:
        yield made
