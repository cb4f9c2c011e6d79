"""What it means that the daemon refuses, or does not answer, in words that say what to do."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import ssl
import traceback
from pathlib import Path

from isolated_magic.child.hints import causes_of
from isolated_magic.errors import LaunchError
from isolated_magic.launch.containers.settings import DEFAULT_IMAGE

CONTAINERFILE = Path(__file__).with_name("Containerfile")
CALL_TIMEOUT_SECS = 30.0
DEFAULT_URL = "unix:///var/run/docker.sock"


class GoneError(LaunchError):
    """There is no such container."""


class BusyError(LaunchError):
    """Something else is being done to it."""


def refused(problem: object, image: str, url: str) -> LaunchError:
    """The error for what the daemon said.

    Args:
        problem: the SDK's APIError.
        image: that it may be about, empty for none.
        url: of the daemon.
    """
    status = getattr(getattr(problem, "response", None), "status_code", 0)
    said = one_line(str(getattr(problem, "explanation", None) or problem))
    lower = said.lower()
    if status == 404 and image and ("no such image" in lower or "image not known" in lower or "image" in lower):
        return LaunchError(
            f"There is no image {image} here, and none is pulled unasked. {_how_to_get(image, url)}"
        )
    if "no space left" in lower:
        return LaunchError(f"No container could be started: the daemon's disk is full ({said}). Free some room.")
    if image and ("executable file not found" in lower or "no such file or directory" in lower):
        return LaunchError(
            f"The image {image} has no python3 on its PATH: give one with Python 3.11 or later ({said})."
        )
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
    """The error for a daemon that does not answer.

    Args:
        problem: the system's error, or the SDK's around it.
        url: of the daemon.
    """
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

    Args:
        problem: what came of it. The sockets are in the frames where it began (docker/transport/unixconn.py).
    """
    for cause in causes_of(problem):
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            left = frame.f_locals.get("sock")
            if isinstance(left, socket.socket):
                left.close()


def _errno_in(problem: BaseException) -> int | None:
    """The number of the system's error that this one was made of."""
    numbers = (getattr(cause, "errno", None) for cause in causes_of(problem))
    return next((number for number in numbers if isinstance(number, int)), None)


def one_line(text: str) -> str:
    """The text as part of a sentence, without its end if it is long.

    Args:
        text: of the daemon.
    """
    return " ".join(text.split())[:300].rstrip(".")
