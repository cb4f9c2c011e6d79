"""Interpreters other than that of the tests."""

from isolated_magic import InvalidRequestError
from isolated_magic.packages import interpreters


def other_python():
    """A CPython of another version than that of the tests."""
    for version in ("3.14", "3.13", "3.12", "3.11"):
        if not interpreters._is_of(interpreters.own(), version):
            try:
                return interpreters.chosen(version, "")
            except InvalidRequestError:
                continue
    return None
