"""System calls that keep the interpreter's lock come to what those of ``os`` come to."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from isolated_magic.child import modules
from isolated_magic.errors import InvalidRequestError
from isolated_magic.launch import calls
from isolated_magic.request import working_directory


@pytest.mark.parametrize("name", ["file", "folder", "link", "broken", "missing", "naïve", "a\0b", "x" * 5000])
def test_the_state_of_a_file(tmp_path, name):
    (tmp_path / "file").write_text("text")
    (tmp_path / "naïve").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    path = f"{tmp_path}/{name}"
    assert calls.state_of(path) == modules.file_state(path)


@pytest.mark.parametrize("when", [-(10**18), -1, 0, 1, 10**18 + 1])
def test_the_time_of_a_file(tmp_path, when):
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", ns=(when, when))
    assert calls.state_of(str(tmp_path / "file")) == [(tmp_path / "file").stat().st_mtime_ns, 0]


def test_the_working_directory(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "ü" / ("long" * 50)):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        assert working_directory() == str(Path.cwd())


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InvalidRequestError, match="no longer exists"):
        working_directory()


def test_what_has_come_to_a_socket_stays_there():
    ours, its = socket.socketpair()
    with ours, its:
        with pytest.raises(BlockingIOError):
            calls.peek(ours)
        its.send(b"word")
        assert calls.peek(ours) == calls.peek(ours) == ours.recv(10) == b"word"
        its.close()
        assert calls.peek(ours) == b""
    with pytest.raises(OSError):  # noqa: PT011 - of a closed descriptor
        calls.peek(ours)


ATTRIBUTES = """
import os
from isolated_magic.launch.spawn import current_attributes

def umask():
    return current_attributes()["umask"]

os.umask(0o022)
assert umask() == 0o022
os.umask(0o077)
assert umask() == 0o077
if os.fork() == 0:
    os.umask(0o007)
    os._exit(0 if umask() == 0o007 else 1)
assert os.wait()[1] == 0 and umask() == 0o077
before = set(map(int, os.listdir("/proc/self/fd")))
os.closerange(3, max(before) + 1)
os.umask(0o011)
assert umask() == 0o011
others = [os.open("/proc/1/status", os.O_RDONLY) for _ in range(3)]
os.dup2(others[0], next(n for n in range(3, 700) if os.path.realpath(f"/proc/self/fd/{n}") == f"/proc/{os.getpid()}/status"))
os.umask(0o033)
assert umask() == 0o033
os.nice(1)
assert current_attributes()["nice"] == 1
"""


def test_attributes_are_those_of_now_whatever_became_of_our_descriptor():
    subprocess.run([sys.executable, "-c", ATTRIBUTES], check=True)
