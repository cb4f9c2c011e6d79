"""What the owner looks up for each run: states of files, attributes of its own, whether a process lives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from isolated_magic.child import modules
from isolated_magic.errors import InvalidRequestError
from isolated_magic.launch.process import ProcessHandle
from isolated_magic.request import working_directory


@pytest.mark.parametrize("name", ["file", "folder", "link", "naïve"])
def test_the_state_of_a_file(tmp_path, name):
    (tmp_path / "file").write_text("text")
    (tmp_path / "naïve").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    found = (tmp_path / name).stat()
    assert modules.file_state(f"{tmp_path}/{name}") == [found.st_mtime_ns, found.st_size]


@pytest.mark.parametrize("name", ["broken", "missing", "a\0b", "x" * 5000])
def test_the_state_of_a_file_that_is_not_there(tmp_path, name):
    (tmp_path / "broken").symlink_to("nowhere")
    assert modules.file_state(f"{tmp_path}/{name}") is None


@pytest.mark.parametrize("when", [-(10**18), -1, 0, 1, 10**18 + 1])
def test_the_time_of_a_file(tmp_path, when):
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", ns=(when, when))
    assert modules.file_state(str(tmp_path / "file")) == [(tmp_path / "file").stat().st_mtime_ns, 0]


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


def test_whether_a_process_lives_is_seen_without_taking_in_what_was_said():
    ours, its = socket.socketpair()
    handle = ProcessHandle(ours)
    ours.setblocking(False)
    with ours, its:
        assert handle.lives()
        its.send(b"pid 12\n")
        assert handle.lives()
        its.send(b"exit 3 0.5\n")
        assert not handle.lives()
        assert not handle.lives()
        seen = []
        handle.take_news(seen.append)
        assert (seen, handle.exit_status) == ([12], 3)
        its.close()
        assert not handle.lives()
    assert not handle.lives()  # of a closed descriptor


ATTRIBUTES = """
import os
from isolated_magic.launch.attributes import current_attributes

def umask():
    return current_attributes().umask

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
own = f"/proc/{os.getpid()}/status"
assert not [n for n in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{n}") == own]  # none is kept
os.umask(0o033)
assert umask() == 0o033
os.nice(1)
assert current_attributes().nice == 1
"""


def test_attributes_are_those_of_now_and_keep_no_descriptor():
    subprocess.run([sys.executable, "-c", ATTRIBUTES], check=True)
