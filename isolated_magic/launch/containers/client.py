"""The container daemon's API, over the docker SDK: calls, errors that say what to do, and the owner's label."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shlex
import socket
import ssl
import time
import traceback
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isolated_magic.child.error_report import causes_of
from isolated_magic.child.wire import CONTAINER_FOLDER
from isolated_magic.errors import LaunchError, MissingLibraryError
from isolated_magic.launch.containers.settings import (
    DEFAULT_IMAGE,
    RESERVED_PROCESSES,
    STARTING_PROCESSES,
    processes_of,
)
from isolated_magic.limits import STACK_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isolated_magic.launch.containers.settings import ContainerSettings, Shape
CONTAINERFILE = Path(__file__).with_name("Containerfile")
DEFAULT_URL = "unix:///var/run/docker.sock"
LABEL = "isolated_magic.owner"

CALL_TIMEOUT_SECS = 30.0
REMOVAL_TIMEOUT_SECS = 15.0
RETRY_SECS = 0.05
NO_SDK = "Runs in containers need the docker SDK, which is not installed: pip install 'isolated-magic[docker]'"


class DaemonClient:
    """One daemon. Safe from many threads; not in a fork.

    Args:
        base_url: of its API; None for what the environment says (``DOCKER_HOST``), else the usual socket.

    Raises:
        MissingLibraryError: the SDK is not installed.
        LaunchError: here and in each method, if the daemon refuses or does not answer; it says why and what to do.
    """

    def __init__(self, base_url: str | None) -> None:
        self._docker = _sdk()
        self.url = base_url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
        with self._explained():
            settings = self._address(base_url)
            self.url = settings.get("base_url", self.url)
            self._api = self._docker.APIClient(version="auto", timeout=CALL_TIMEOUT_SECS, **settings)
            if self._api.base_url.startswith("http+docker:"):
                # No proxy leads to a socket. requests would look for one in os.environ at each call, and raise
                # KeyError if another thread changes that meanwhile.
                self._api.trust_env = False

    def _address(self, base_url: str | None) -> dict[str, Any]:
        """Where the daemon listens, as ``docker`` itself finds it: DOCKER_HOST, else the context in use."""
        settings: dict[str, Any] = self._docker.utils.kwargs_from_env()
        if base_url is not None:
            settings["base_url"] = base_url
        if "base_url" not in settings:
            context = self._docker.context.ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
            if context is not None and context.Host:
                settings |= {"base_url": context.Host, "tls": context.TLSConfig or settings.get("tls")}
        return settings

    def create(
        self, settings: ContainerSettings, shape: Shape, command: tuple[str, ...], label: str, *, user: str
    ) -> str:
        """Create a container; its id. Anybody who may inspect it can read all this: nothing of a run is in it."""
        with self._explained(settings):
            made = self._api.create_container(
                settings.image,
                name=f"isolated-magic-{uuid.uuid4().hex[:12]}",
                entrypoint=list(command),
                command=[],
                stdin_open=True,
                user=user,
                working_dir=settings.cwd,
                environment={"HOME": settings.cwd},
                host_config=self._host_config(settings, shape),
                labels={LABEL: label},
                stop_signal="SIGKILL",  # its first process heeds no other
                healthcheck={"test": ["NONE"]},
                use_config_proxy=False,  # it would put the caller's proxy, with its password, into the environment
            )
        return str(made["Id"])

    def _host_config(self, settings: ContainerSettings, shape: Shape) -> dict[str, object]:
        scratch = f"rw,nosuid,nodev,size={settings.tmpfs_bytes},mode=1777"
        program = f"rw,nosuid,nodev,size={settings.program_bytes},mode=1777"
        ulimits = {
            "nofile": settings.nofile,
            "nproc": 4096,  # the kernel counts all of this user's, in whatever container: pids_limit is what holds
            "stack": STACK_LIMIT_BYTES,
            "core": 0,
        }
        types = self._docker.types
        config: dict[str, object] = self._api.create_host_config(
            network_mode=settings.network_mode,
            read_only=settings.read_only,
            cap_drop=["ALL"],
            cap_add=list(settings.capabilities),
            security_opt=[] if settings.new_privileges else ["no-new-privileges"],
            pids_limit=max(processes_of(settings, shape) + RESERVED_PROCESSES, STARTING_PROCESSES),
            mem_limit=shape.memory_bytes,
            memswap_limit=shape.memory_bytes,  # the sum: no swap
            nano_cpus=int(settings.cpus * 1e9),
            tmpfs={"/tmp": scratch, CONTAINER_FOLDER: program},  # noqa: S108 - of the container
            shm_size=settings.tmpfs_bytes,
            runtime=settings.runtime,
            ipc_mode="private",
            auto_remove=True,
            init=False,
            log_config={"Type": "none"},  # what a run prints is nobody else's
            ulimits=[types.Ulimit(name=name, soft=limit, hard=limit) for name, limit in ulimits.items()],
            mounts=[
                types.Mount(target, source, type="bind", read_only=mode != "rw")
                for source, there in settings.volumes.items()
                for target, _, mode in [there.partition(":")]
            ],
        )
        return config

    def attach(self, container: str, settings: ContainerSettings) -> tuple[socket.socket, Callable[[], None]]:
        """A socket to stdin, stdout and stderr of a container that was not started yet, and what closes it."""
        with self._explained(settings):  # Podman prepares it for a start already here
            attached = self._api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        return self._socket_in(attached)

    def _socket_in(self, attached: object) -> tuple[socket.socket, Callable[[], None]]:
        found = getattr(attached, "_sock", attached)
        if isinstance(found, ssl.SSLSocket):  # it cannot be copied, and stays open for as long as the SDK's answer
            return found, partial(_close_both, found, attached)
        if not isinstance(found, socket.socket):
            raise LaunchError(
                f"Containers cannot be reached over {self.url}: give base_url a unix or tcp address."
            )
        own = found.dup()
        _close_both(found, attached)
        return own, own.close

    def start(self, container: str, settings: ContainerSettings) -> None:
        """Start a container."""
        with self._explained(settings):
            self._api.start(container)

    def exec_create(self, container: str, command: tuple[str, ...], user: str) -> str:
        """Prepare another process in a running container; its id. Anybody who may inspect it can read this."""
        with self._explained():
            return str(self._api.exec_create(container, list(command), stdin=True, user=user)["Id"])

    def exec_attach(self, process: str) -> tuple[socket.socket, Callable[[], None]]:
        """Start it: a socket to its stdin, stdout and stderr, and what closes it."""
        with self._explained():
            attached = self._api.exec_start(process, socket=True)
        return self._socket_in(attached)

    def exec_exit_code(self, process: str) -> int | None:
        """Its exit code; None while it runs."""
        with self._explained():
            told = self._api.exec_inspect(process)
        return None if told["Running"] or told["ExitCode"] is None else int(told["ExitCode"])

    def exec_output(self, container: str, command: tuple[str, ...], user: str) -> bytes:
        """Run a short command in a running container; what it prints."""
        with self._explained():
            process = self._api.exec_create(container, list(command), user=user)["Id"]
            printed: bytes = self._api.exec_start(process)
        return printed

    def kill(self, container: str) -> None:
        """Kill a container and wait until it has ended, unless it is gone."""
        with suppress(LaunchError), self._explained():
            self._api.kill(container)

    def limit_processes(self, container: str, count: int) -> None:
        """Let a running container have so many processes beside ours. The SDK has no argument for it."""
        with self._explained():
            limit = {"PidsLimit": count + RESERVED_PROCESSES}
            answer = self._api.post(
                f"{self._api.base_url}/containers/{container}/update", json=limit, timeout=CALL_TIMEOUT_SECS
            )
        if answer.status_code != 200:
            raise LaunchError(
                f"This daemon cannot hold a limit of processes: {one_line(answer.text)}. Leave it out."
            )

    def state(self, container: str) -> dict[str, Any] | None:
        """The state of a container as the daemon knows it, None if there is no such container any more."""
        try:
            with self._explained():
                state: dict[str, Any] = self._api.inspect_container(container)["State"]
                return state
        except GoneError:
            return None

    def remove(self, container: str) -> bool:
        """Kill a container and remove it unless that was done already; whether it is gone."""
        deadline = time.monotonic() + REMOVAL_TIMEOUT_SECS
        while True:
            try:
                with self._explained():
                    self._api.remove_container(container, force=True, v=True)
            except GoneError:
                return True
            except BusyError:  # it is being removed, or is just ending: the daemon says no more than that
                if time.monotonic() > deadline:
                    return False
                time.sleep(RETRY_SECS)
            except LaunchError:
                return False

    def sweep(self) -> None:
        """Remove the containers of owners that have ended."""
        with self._explained():
            found = self._api.containers(all=True, filters={"label": LABEL})
        for each in found:
            labels = each.get("Labels")
            if isinstance(labels, dict) and is_gone(labels.get(LABEL, "")):
                self.remove(str(each["Id"]))

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @contextmanager
    def _explained(self, settings: ContainerSettings | None = None) -> Iterator[None]:
        """Turn what the SDK raises inside this block into a LaunchError."""
        try:
            yield
        except self._docker.errors.APIError as problem:
            raise daemon_refused(problem, settings, self.url) from None
        except (OSError, self._docker.errors.DockerException) as problem:
            close_left_open(problem)
            raise unreachable(problem, self.url) from None


def require_sdk() -> None:
    """Raise MissingLibraryError unless the docker SDK is installed. Does not import it."""
    try:
        is_there = importlib.util.find_spec("docker") is not None
    except ValueError:  # sys.modules["docker"] is None
        is_there = False
    if not is_there:
        raise MissingLibraryError(NO_SDK)


def _sdk() -> Any:  # noqa: ANN401 - the SDK has no types
    try:
        import docker  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: PLC0415 - 0.2 s
    except ImportError:
        raise MissingLibraryError(NO_SDK) from None
    return docker


def _close_both(found: socket.socket, attached: object) -> None:
    found.close()
    with suppress(OSError, AttributeError):
        attached._response.close()  # type: ignore[attr-defined]


class GoneError(LaunchError):
    """There is no such container."""


class BusyError(LaunchError):
    """The container is being changed by another request."""


def daemon_refused(problem: object, settings: ContainerSettings | None, url: str) -> LaunchError:
    """The error for what the daemon said."""
    image = settings.image if settings is not None else ""
    status = getattr(getattr(problem, "response", None), "status_code", 0)
    said = one_line(str(getattr(problem, "explanation", None) or problem))
    lower = said.lower()
    if status == 404 and image and ("no such image" in lower or "image not known" in lower or "image" in lower):
        return LaunchError(
            f"There is no image {image} here, and none is pulled unasked. {_how_to_get(image, url)}"
        )
    if "no space left" in lower:
        return LaunchError(f"No container could be started: the daemon's disk is full ({said}). Free some room.")
    if settings is not None and ("executable file not found" in lower or "no such file or directory" in lower):
        return LaunchError(f"The image {image} has no {settings.needs} ({said}).")
    if status == 404 and not image:
        return GoneError(f"The container is gone: {said}.")
    if status in {409, 500}:
        return BusyError(f"No container could be started: the daemon says {said}.")
    return LaunchError(f"No container could be started: the daemon says {said}.")


def _how_to_get(image: str, url: str) -> str:
    docker = "docker" if url in {DEFAULT_URL, os.environ.get("DOCKER_HOST")} else f"docker -H {shlex.quote(url)}"
    if image in {DEFAULT_IMAGE, f"{DEFAULT_IMAGE}:latest"}:
        return f"Build it: {docker} build -t {DEFAULT_IMAGE} - < {shlex.quote(str(CONTAINERFILE))}"
    return f"Get it: {docker} pull {image}"


def unreachable(problem: BaseException, url: str) -> LaunchError:
    """The error for a daemon that does not answer."""
    number = _errno_in(problem)
    refused_by_tls = next((cause for cause in causes_of(problem) if isinstance(cause, ssl.SSLError)), None)
    if refused_by_tls is not None:
        said = getattr(refused_by_tls, "verify_message", "") or refused_by_tls.reason or str(refused_by_tls)
        why = f"TLS failed, {one_line(said)}: see to DOCKER_CERT_PATH, and that REQUESTS_CA_BUNDLE is not set"
    elif "to an HTTPS server" in str(problem):
        why = "it wants TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of your certificates"
    elif number == errno.ENOENT:
        why = "nothing is there: start the daemon, or give base_url or DOCKER_HOST the address where it listens"
    elif number in {errno.EACCES, errno.EPERM}:
        why = "no permission: have your user added to the group that owns it (mostly docker), and log in anew"
    elif number == errno.ECONNREFUSED:
        why = "the connection was refused: start the daemon (mostly: systemctl start docker)"
    elif "timed out" in str(problem).lower():
        why = f"it did not answer within {CALL_TIMEOUT_SECS:g} seconds"
    else:
        why = os.strerror(number) if number else one_line(str(problem))
    return LaunchError(f"The container daemon at {url} cannot be reached: {why}.")


def close_left_open(problem: BaseException) -> None:
    """Close the sockets that the SDK could not connect: it leaves them to the garbage collector.

    They are in the frames where the problem began (docker/transport/unixconn.py).
    """
    for cause in causes_of(problem):
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            left = frame.f_locals.get("sock")
            if isinstance(left, socket.socket):
                left.close()


def _errno_in(problem: BaseException) -> int | None:
    """The errno of the system's error that caused this one."""
    numbers = (getattr(cause, "errno", None) for cause in causes_of(problem))
    return next((number for number in numbers if isinstance(number, int)), None)


def one_line(text: str) -> str:
    """The text as part of a sentence, cut off if it is long."""
    return " ".join(text.split())[:300].rstrip(".")


@dataclass(frozen=True)
class OwnerId:
    """A process on any of the machines that share the daemon. Its containers carry this as a label."""

    host: str
    boot: str  # of the host; empty where the system does not tell
    namespace: str  # of the pid; empty where the system does not tell
    pid: int
    started: int  # ticks since the boot; 0 where the system does not tell, -1 for a zombie

    @property
    def label(self) -> str:
        """The value of the label."""
        return json.dumps(asdict(self))


def this_process() -> OwnerId:
    """The id of the calling process."""
    return OwnerId(socket.gethostname(), _boot(), _namespace(), os.getpid(), _started(os.getpid()))


def is_gone(label: str) -> bool:
    """Whether the owner in a container's label has ended, as far as this process can tell."""
    try:
        owner = OwnerId(**json.loads(label))
    except (ValueError, TypeError):  # of another version: leave it alone
        return False
    here = this_process()
    if owner.host != here.host:
        return False
    if owner.boot != here.boot:
        return True
    if owner.namespace != here.namespace:  # its pid means another process here
        return False
    return not _is_alive(owner)


def _is_alive(owner: OwnerId) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return _started(owner.pid) == owner.started


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - a special file
            return file.read().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - likewise
    except OSError:
        return ""


def _started(pid: int) -> int:
    """The start time in /proc/PID/stat (proc(5)); a zombie counts as ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - likewise
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return -1 if fields[0] == b"Z" else int(fields[19])
