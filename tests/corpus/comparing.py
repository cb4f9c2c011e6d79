"""What the tests of the corpus have in common: a plain environment, and how two outcomes are compared."""

import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# Variables of whoever runs the tests that would hide what a program looks at.
UNWANTED = (
    "PYTHON",
    "LC_",
    "MPLBACKEND",
    "OPENBLAS_NUM_",
    "OMP_",
    "OPIK_",
    "TZ",
    "COLUMNS",
    "HTTP",
    "http",
    "NO_PROXY",
    "no_proxy",
)
CAN_FORK = sys.platform == "linux"
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@contextmanager
def plain_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(UNWANTED)]:
            patch.delenv(name)
        patch.setenv("OPIK_TRACK_DISABLE", "true")
        patch.setenv("LANG", "C.UTF-8")
        yield


def fill(folder, files):
    """Make a folder hold these files and nothing else; the folder itself stays."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def without_addresses(text):
    return ADDRESS.sub("0x...", text)


def assert_all_differ(found):
    """Each of the values is another one in each of the runs."""
    assert found[0]
    for name in found[0]:
        for one, other in itertools.combinations(found, 2):
            assert one[name] != other[name], name
