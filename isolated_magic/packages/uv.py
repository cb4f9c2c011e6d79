"""Runs ``uv``, the program that finds, downloads and installs packages, and tells what it said in a sentence."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import selectors
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.packages.index_settings import uv_environment
from isolated_magic.packages.requirements import NOT_INSTALLED, WHAT, masked, normalized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    OnProgress = Callable[[str], object]

TICK_SECS = 0.2  # between two reports while uv says nothing
END_SECS = 2.0  # for uv to end by itself
LONGEST_REASON = 600  # characters
LAST_LINES = 8  # of the log of a build

_MARKS = re.compile(r"^[^\w'\"`]*(?:error:|cause:|hint:|Caused by:)?\s*")
_SAID_IN_PASSING = re.compile(r"(warning:|Using |Resolved |Prepared |Installed |Uninstalled |Bytecode |\s*[+-] )")
_CONCLUSION = re.compile(
    r",? we can conclude that (your requirements|the requirements|all of|your project)[^.]*unsatisfiable\.?|"
    r"^No solution found when resolving \w*\s?dependencies:?\s*"
)
_AND_BECAUSE = re.compile(
    r",? we can conclude that all versions of [^.]* cannot be used\.? And because you require [^,]*$"
)
_NETWORK = re.compile(
    r"error sending request|dns error|tcp connect|Request failed after|operation timed out", re.IGNORECASE
)
_NO_BUILD = re.compile(r"no-build|building source distributions is disabled|Building source", re.IGNORECASE)
_REFUSED = re.compile(r"401 Unauthorized|403 Forbidden")
_OPTIONS = re.compile(r" \(i\.e\., with `[^)]*`\)")
NO_NETWORK = "The package index cannot be reached ({why})."
ALLOW_BUILD = (
    " What has no wheel is built where allow_build=True (--allow-build) allows that: a build runs its code."
)


class UvError(Exception):
    """It failed.

    Args:
        said: what it wrote to stderr, without credentials.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    @property
    def is_network(self) -> bool:
        """Whether the package index could not be reached."""
        return bool(_NETWORK.search(self.said))


def find() -> str:
    """The path of the program: of the package ``uv``, or on the path of programs.

    Raises:
        InvalidRequestError: it is not installed.
    """
    if importlib.util.find_spec("uv") is not None:
        import uv  # noqa: PLC0415 - most processes need none

        with suppress(FileNotFoundError):
            return str(uv.find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise InvalidRequestError(f"packages and python (--with, --python) need uv, which {NOT_INSTALLED}")
    return found


def run(arguments: Sequence[str], on_progress: OnProgress | None = None, **variables: str) -> str:
    """Run it, and return what it printed. It, and all that it has started, is gone when this raises.

    Args:
        arguments: of the program.
        on_progress: called with its last line, a few times a second.
        variables: of its environment, over the caller's.

    Raises:
        UvError: it failed.
        KeyboardInterrupt: this thread was interrupted.
    """
    command = [find(), "--color", "never", "--no-progress", *arguments]
    process = subprocess.Popen(  # noqa: S603 - without a shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**uv_environment(), **variables},
        start_new_session=True,  # an interrupt from the terminal is ours to pass on
    )
    try:
        printed, said = _read(process, on_progress)
        process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if process.returncode:
        raise UvError(masked(said) or f"error: exit status {process.returncode}")
    return printed


def _read(process: subprocess.Popen[bytes], on_progress: OnProgress | None) -> tuple[str, str]:
    """All that it prints, on stdout and on stderr."""
    texts = {"out": bytearray(), "err": bytearray()}
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            assert pipe is not None  # noqa: S101 - asked for above
            selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map():
            for key, _ in selector.select(TICK_SECS):
                chunk = os.read(key.fd, 1 << 16)
                texts[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if on_progress is not None:
                on_progress(_last_line(texts["err"]))
    printed, said = (bytes(text).decode("utf-8", "replace") for text in texts.values())
    return printed, said


def _last_line(said: bytearray) -> str:
    """What it does now, for people; empty while there is nothing to say."""
    lines = masked(bytes(said).decode("utf-8", "replace")).splitlines()
    return next((line.strip() for line in reversed(lines) if line.startswith(("Downloading", "Building"))), "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End its process group, which may tidy up first, unless that takes long or is interrupted."""
    try:
        _signal(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECS)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of them have ended
        os.killpg(process.pid, number)


def find_interpreter(version: str) -> str:
    """The path of an interpreter of this version, or of versions that this specifier means.

    Raises:
        UvError: there is none.
    """
    # pyenv's own programs are no interpreters, and uv gives up at the first that it cannot ask. Those that they
    # stand for are.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [one for one in os.environ.get("PATH", "").split(os.pathsep) if Path(one) != root / "shims"]
    folders += sorted(map(str, root.glob("versions/*/bin")), reverse=True)
    printed = run(["python", "find", "--no-project", "--system", version], PATH=os.pathsep.join(folders))
    return printed.strip()


def reason_of(said: str) -> str:
    """What it said, in a sentence or a few."""
    lines = [line for line in said.splitlines() if line.strip() and not _SAID_IN_PASSING.match(line)]
    lines = list(itertools.takewhile(lambda line: not line.lstrip(" │╰├─▶").startswith("hint:"), lines)) or lines
    if any("Failed to build" in line or "build backend returned an error" in line.lower() for line in lines):
        head = _MARKS.sub("", lines[0]).strip()
        return "\n".join([f"{head}. The last lines of its log:", *lines[1:][-LAST_LINES:]])
    text = " ".join(_MARKS.sub("", line).strip() for line in lines)
    text = _CONCLUSION.sub("", _OPTIONS.sub("", text)).strip()
    text = _AND_BECAUSE.sub("", text).removeprefix("Because ")
    if text.startswith("you require "):
        text += ", which no versions meet together"
    if len(text) > LONGEST_REASON:
        text = f"{text[:LONGEST_REASON]} ..."
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def explained(problem: UvError, requirements: Sequence[str], version: str) -> str:
    """Why packages cannot be installed, with the requirements that it is about.

    Args:
        problem: what uv said.
        requirements: all of them.
        version: of the interpreter.
    """
    said = problem.said
    if "No space left on device" in said or "os error 28" in said:
        return f"{WHAT}: there is no space left on the disk of the cache. `%isolated packages prune` makes some."
    if problem.is_network:
        causes = [_MARKS.sub("", line).strip() for line in said.splitlines() if "cause" in line.lower()]
        return NO_NETWORK.format(why=(causes[-1] if causes else "no answer").rstrip("."))
    reason = reason_of(said)
    meant = [one for one in requirements if (name := _name_of(one)) and re.search(rf"\b{re.escape(name)}\b", said)]
    what = " and ".join(meant or requirements)
    refused = _REFUSED.search(said)
    advice = f" The package index answered {refused[0]}: are its user and password right?" if refused else ""
    advice = ALLOW_BUILD if _NO_BUILD.search(said) else advice
    return f"{WHAT}: {what} cannot be installed for Python {version}: {reason.rstrip('.')}.{advice}"


def _name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    return normalized(match[0]).rstrip("-") if match and "://" not in requirement else ""
