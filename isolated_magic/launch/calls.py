"""System calls of every run that take a microsecond, made without letting go of the interpreter's lock.

``os`` and ``socket`` let go of it for each call. Among several threads at work another one takes it then, and the
caller sleeps until that one waits for something. Four threads get some 15 % more runs from workers this way.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from contextlib import suppress

from isolated_magic.child import modules

if sys.platform == "linux":
    _libc = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL, it keeps the lock
    _pread, _recv = _libc.pread, _libc.recv
    _pread.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)
    _waiting_recv = ctypes.CDLL(None, use_errno=True).recv
    _recv.argtypes = _waiting_recv.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    _pread.restype = _recv.restype = _waiting_recv.restype = ctypes.c_ssize_t
    _statx = getattr(_libc, "statx", None)  # glibc 2.28, musl 1.2.5

_PAGE_BYTES = 4096
_Page = ctypes.c_char * _PAGE_BYTES

# statx(2), linux/stat.h: what is asked for, and where it stands in the answer.
_AT_FDCWD, _STATX_MTIME, _STATX_SIZE = -100, 0x40, 0x200
_SIZE, _MTIME, _Statx = struct.Struct("=Q"), struct.Struct("=qI"), ctypes.c_char * 256
_SIZE_AT, _MTIME_AT = 40, 112
DO_NOT_WAIT = int(getattr(socket, "MSG_DONTWAIT", 0))
_PEEK = int(getattr(socket, "MSG_PEEK", 0)) | DO_NOT_WAIT


def beginning_of(descriptor: int) -> bytes:
    """The first page of a file that is read without waiting for anything, as ``os.pread()`` has it.

    Raises:
        OSError: it cannot be read.
    """
    if sys.platform != "linux":
        return os.pread(descriptor, _PAGE_BYTES, 0)
    found = _Page()
    return ctypes.string_at(found, _counted(_pread(descriptor, found, _PAGE_BYTES, 0)))


def peek(connection: socket.socket) -> bytes:
    """What has come, a page of it at most, and stays there.

    Raises:
        BlockingIOError: nothing has come.
        OSError: the connection is broken.
    """
    if sys.platform != "linux":
        return connection.recv(_PAGE_BYTES, _PEEK)
    found = _Page()
    return ctypes.string_at(found, _counted(_recv(connection.fileno(), found, _PAGE_BYTES, _PEEK)))


def receive_briefly(connection: socket.socket) -> bytes:
    """A page of what comes to a socket, waiting for it as long as the socket says (SO_RCVTIMEO).

    Unlike ``recv()`` of Python's it does not begin anew after a signal: with a timer that is fast enough, that
    would go on for ever.

    Raises:
        BlockingIOError: nothing has come.
        InterruptedError: there was a signal.
        OSError: the connection is broken.
    """
    if sys.platform != "linux":
        return connection.recv(_PAGE_BYTES, DO_NOT_WAIT)
    found = _Page()
    return ctypes.string_at(found, _counted(_waiting_recv(connection.fileno(), found, _PAGE_BYTES, 0)))


def _counted(count: int) -> int:
    if count < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return count


def state_of(path: str) -> list[int] | None:
    """As ``child/modules.py`` has it."""
    if sys.platform == "linux" and _statx is not None and "\0" not in path:
        found = _Statx()
        with suppress(ValueError):  # it cannot be encoded, so it is not there
            if _statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_MTIME | _STATX_SIZE, found) == 0:
                secs, nanosecs = _MTIME.unpack_from(found, _MTIME_AT)
                return [secs * 1_000_000_000 + nanosecs, *_SIZE.unpack_from(found, _SIZE_AT)]
    return modules.file_state(path)
