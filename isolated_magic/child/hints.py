"""What to do about an import that failed, and about what a container does not have."""

from __future__ import annotations

import errno
import os
import sys
from importlib.machinery import PathFinder

from .packets import FOLDER

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

# Modules whose packages have another name. Guessing it is how people install what somebody else put there.
PACKAGES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


IN_CONTAINER = __file__.startswith(f"{FOLDER}/")
OF_CONTAINERS = {
    errno.EROFS: "What can be written to is a setting of DockerExecutor: read_only, volumes. /tmp always can.",
    errno.ENOSPC: "How much room there is in /tmp is a setting of DockerExecutor: tmpfs_bytes.",
    errno.EMFILE: "How many files can be open at once is a setting of DockerExecutor: nofile.",
    errno.ENETUNREACH: "Whether there is a network is a setting of DockerExecutor: network (--allow-net).",
}
NO_THREAD = "can't start new thread"
THREADS = "How many processes and threads there can be at once is a setting of DockerExecutor: pids."


def about(problem: BaseException) -> str:
    """What to do; empty text where there is nothing to say.

    Args:
        problem: what was raised.
    """
    if not isinstance(problem, ImportError):
        return _about_container(problem) if IN_CONTAINER else ""
    used = f"The run used {sys.executable} (Python {sys.version.split()[0]})"
    top = (problem.name or "").partition(".")[0]
    if not isinstance(problem, ModuleNotFoundError) or not top or top in sys.modules:
        version = getattr(sys.modules.get(top), "__version__", None)
        return f"{used}, with {top} {version}." if isinstance(version, str) else f"{used}."
    package = PACKAGES.get(top, top)
    if IN_CONTAINER:
        return f"{used} in a container, which has no module {top}. If it is a package, add {package} to the image."
    where = "the working directory" if sys.path[:1] == [""] else "the folder of the file that runs"
    return (
        f"{used}, which has no module {top}. If it is a package, install it there: {_command(package)} "
        f"(in a notebook: %pip install {package}). A file of yours is looked for in {where} and on PYTHONPATH."
    )


def _about_container(problem: BaseException) -> str:
    """Which setting of the executor it comes from."""
    for cause in causes_of(problem):
        number = getattr(cause, "errno", None)
        if type(cause).__name__ == "gaierror" and os.listdir("/sys/class/net") == ["lo"]:  # noqa: PTH208 - no pathlib
            number = errno.ENETUNREACH
        if number in OF_CONTAINERS:
            return OF_CONTAINERS[number]
        if str(cause) == NO_THREAD:
            return THREADS
    return ""


def causes_of(problem: BaseException) -> Iterator[BaseException]:
    """The error, and all that it was made of: a library's mostly has the system's in it.

    Args:
        problem: any.
    """
    waiting: list[object] = [problem]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def _command(package: str) -> str:
    if PathFinder.find_spec("pip") is None:  # as in an environment that uv made
        return f"uv pip install --python {sys.executable} {package}"
    return f"{sys.executable} -m pip install {package}"
