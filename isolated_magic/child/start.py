"""The program of every process of ours: ``python start.py ROLE ARGUMENT...``.

The roles are modules beside this file. They are imported under a package name of their own, so that they
find one another by relative imports, are cached as bytecode, and take no name that user code may import.
"""

import sys

PACKAGE = "_isolated_magic_child"


def _main() -> int:
    package = type(sys)(PACKAGE)
    package.__path__ = [__file__.rpartition("/")[0]]
    sys.modules[PACKAGE] = package
    role = __import__(f"{PACKAGE}.{sys.argv[1]}", fromlist=["main"])  # importlib costs each run a millisecond
    status: int = role.main(sys.argv[2:])
    return status


if __name__ == "__main__":
    status = _main()
    if status:  # raising SystemExit for 0 too would show under PYTHONINSPECT
        sys.exit(status)
