"""What to do about an import that failed or was forgotten, and about what a container does not have."""

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


# What notebooks import under names of their own, and by what line.
IMPORTS = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "pl": "import polars as pl",
    "plt": "import matplotlib.pyplot as plt",
    "mpl": "import matplotlib as mpl",
    "sns": "import seaborn as sns",
    "px": "import plotly.express as px",
    "nx": "import networkx as nx",
    "tf": "import tensorflow as tf",
    "jnp": "import jax.numpy as jnp",
    **{
        name: f"import {name}"
        for name in (
            "numpy",
            "pandas",
            "polars",
            "matplotlib",
            "scipy",
            "sklearn",
            "torch",
            "requests",
            "opik",
            "openai",
        )
    },
}
NO_DISPLAY = "display() is IPython's, and the run is plain Python: {remedy}."
NO_SHELL = (
    "get_ipython() is IPython's, and the run is plain Python in a process of its own: what needs the notebook "
    "belongs into a cell without %%isolated."
)


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
    if isinstance(problem, NameError):
        return _about_name(problem.name)
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


def _about_name(name: object) -> str:
    """What to do about a name that the code has not, where notebooks mostly have it."""
    if name == "display":
        from_ipython = "write from IPython.display import display, which prints the object here, or print()"
        return NO_DISPLAY.format(remedy="write print()" if IN_CONTAINER else from_ipython)
    if name == "get_ipython":
        return NO_SHELL
    return f"{name} is not imported in this code: {IMPORTS[name]}." if name in IMPORTS else ""


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
