"""What an import must not do in a template: write a file, make, change or remove one, or turn to somebody else.

A run that imports the module does all that, once, as it should. In a template it would be done once more, for
nobody. So it is stopped before it happens, and the module is not for templates, whatever it makes of being
stopped. What native code does without Python's own functions is not seen.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patch

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
IN_MEMORY = (":memory:", "")  # names of databases (https://www.sqlite.org/inmemorydb.html)

CHANGERS = (
    "chmod",
    "chown",
    "lchown",
    "remove",
    "removexattr",
    "rename",
    "replace",
    "rmdir",
    "setxattr",
    "truncate",
    "unlink",
    "utime",
)
MAKERS = ("mkdir", "mkfifo", "mknod")
LINKERS = ("link", "symlink")
CALLERS = ("connect", "connect_ex", "sendto")


class EffectError(BaseException):
    """An import was stopped. No Exception: libraries handle those, and go on to the next thing."""


class Effects:
    """What imports set out to do, and were kept from.

    Args:
        touch: called with a path on whose being there it depends what a call does.
        blame: called with what they were kept from.
    """

    def __init__(self, touch: Callable[[object], None], blame: Callable[[str], None]) -> None:
        self._touch = touch
        self._blame = blame

    def patches(self) -> list[Patch]:
        """The ways to such effects, beside those of opening a file."""
        patches: list[Patch] = [
            *((os, name, self.change) for name in CHANGERS),
            *((os, name, self.make) for name in MAKERS),
            *((os, name, self.make_link) for name in LINKERS),
            *((socket.socket, name, self.call) for name in CALLERS),
            (socket.socket, "bind", self.bind),
        ]
        databases = [sys.modules[name] for name in ("sqlite3", "sqlite3.dbapi2") if name in sys.modules]
        patches += [(module, "connect", self.open_database) for module in databases]
        return [patch for patch in patches if hasattr(patch[0], patch[1])]

    def open_file(self, file: object, mode: object) -> None:
        """As ``open()`` has it."""
        if isinstance(mode, str) and not set(mode).isdisjoint("wax+"):
            self._write(file)

    def open_descriptor(self, path: object, flags: object) -> None:
        """As ``os.open()`` has it."""
        if isinstance(flags, int) and flags & WRITING:
            self._write(path)

    def _write(self, path: object) -> None:
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path) != os.devnull:
            self._prevent("it writes a file")

    def change(self, path: object = None, *_: object, src: object = None, **settings: object) -> None:
        """A file or folder is changed, moved or removed; where there is none, the call itself will fail."""
        if self._is_there(src if path is None else path, settings) is not False:
            self._prevent("it changes what is in a folder")

    def make(self, path: object, *_: object, **settings: object) -> None:
        """A folder or special file is made; where there is one, the call itself will fail."""
        if self._is_there(path, settings) is not True:
            self._prevent("it changes what is in a folder")

    def make_link(self, _src: object = None, dst: object = None, *_: object, **settings: object) -> None:
        """A link is made; where something is, the call itself will fail."""
        self.make(dst, **settings)

    def open_database(self, database: object, *_: object, **__: object) -> None:
        """As ``sqlite3.connect()`` has it: it makes the file when it is missing."""
        if database not in IN_MEMORY:
            self._prevent("it opens a database")

    def call(self, *_: object) -> None:
        """Somebody is called, or sent something."""
        self._prevent("it opens a connection")

    def bind(self, _socket: object, address: object) -> None:
        """A socket gets an address; with any port that is free, only to see whether that kind of address works."""
        if not (isinstance(address, tuple) and address[1:2] == (0,)):
            self._prevent("it can be called")

    def _prevent(self, what: str) -> None:
        self._blame(what)
        raise EffectError(what)

    def _is_there(self, path: Any, settings: dict[str, object]) -> bool | None:  # noqa: ANN401 - whatever was passed
        """Whether something is at this path; None when it cannot be said."""
        if any(name.endswith("dir_fd") and value is not None for name, value in settings.items()):
            return None
        self._touch(path)
        try:
            return isinstance(path, int) or os.path.lexists(path)  # a descriptor is that of something
        except (TypeError, ValueError):
            return None
