"""What to do about an import that failed."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

from .packets import FOLDER

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


def about(problem: BaseException) -> str:
    """Which interpreter was used and how to install into it; empty text for what is no failed import.

    Args:
        problem: what was raised.
    """
    if not isinstance(problem, ImportError):
        return ""
    used = f"The run used {sys.executable} (Python {sys.version.split()[0]})"
    top = (problem.name or "").partition(".")[0]
    if not isinstance(problem, ModuleNotFoundError) or not top or top in sys.modules:
        version = getattr(sys.modules.get(top), "__version__", None)
        return f"{used}, with {top} {version}." if isinstance(version, str) else f"{used}."
    package = PACKAGES.get(top, top)
    if __file__.startswith(f"{FOLDER}/"):
        return f"{used} in a container, which has no module {top}. If it is a package, add {package} to the image."
    where = "the working directory" if sys.path[:1] == [""] else "the folder of the file that runs"
    return (
        f"{used}, which has no module {top}. If it is a package, install it there: {_command(package)} "
        f"(in a notebook: %pip install {package}). A file of yours is looked for in {where} and on PYTHONPATH."
    )


def _command(package: str) -> str:
    if PathFinder.find_spec("pip") is None:  # as in an environment that uv made
        return f"uv pip install --python {sys.executable} {package}"
    return f"{sys.executable} -m pip install {package}"
