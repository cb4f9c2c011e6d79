"""Where the code of a run was when time ran out: what ``child/signals.py`` has the interpreter write, read."""

from __future__ import annotations

import linecache
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic import child
from isolated_magic.child import error_report, event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.request import RunRequest


OWN_FOLDER = str(Path(child.__file__).parent)
MOST_FRAMES = 30  # of one stack that an error shows

# What _Py_DumpTracebackThreads() writes (Python/traceback.c).
_THREAD = re.compile(r"^(?:Current thread|Thread|Stack).*\(most recent call first\):$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
# Of a stack of more than a hundred calls it writes the innermost ones alone.
_LAST_FRAME = re.compile(rb'^(?:  File ".*start\.py", line \d+ in <module>|  \.\.\.)\n\Z', re.MULTILINE)
_LEFT_OUT = re.compile(r"^  \.\.\.$", re.MULTILINE)


@dataclass(frozen=True)
class Frame:
    """One call."""

    file: str  # of its code
    line: int  # that it is at, from 1
    function: str


@dataclass(frozen=True)
class Place:
    """Where the code was."""

    excerpt: str = ""  # the code's own lines around it; empty when it was in none of them
    stack: str = ""  # the calls that lead there, as a traceback has them; empty when nobody could tell


def is_complete(written: bytes | bytearray) -> bool:
    """Whether the stack of the main thread, which comes last, is in what came so far."""
    return _LAST_FRAME.search(written) is not None


def place_in(written: bytes | bytearray, request: RunRequest) -> Place:
    """Where the code of a run was, by what its interpreter wrote."""
    own_folder = request.container.folder if request.container is not None else OWN_FOLDER
    frames = _main_stack(written.decode("utf-8", "replace"), own_folder)
    own_name = request.path if request.path is not None else request.source_name
    own_lines = _lines_of(request)
    at = next((frame for frame in reversed(frames) if frame.file == own_name), None)
    place = error_report.Place(at.line, at.function) if at is not None else None
    around = error_report.around(own_lines, place, own_name) if place is not None else ""
    # The files of a container are not here.
    lines_of = _file_lines if request.container is None else _no_lines
    return Place(around, _as_traceback(frames, own_name, own_lines, lines_of))


def _main_stack(text: str, own_folder: str) -> list[Frame]:
    """The calls of the main thread, the most recent one last, without ours."""
    stacks = [(_frames(part), _LEFT_OUT.search(part) is not None) for part in _THREAD.split(text)]
    mains = [
        frames for frames, is_cut in stacks if is_cut or any(frame.file.startswith(own_folder) for frame in frames)
    ]
    frames = list(reversed(mains[-1])) if mains else []
    # Above the code that an event loop runs stand the frames of asyncio, and above it what runs the loop.
    starts = [at for at, frame in enumerate(frames) if frame.file == f"{own_folder}/event_loop.py"]
    first = starts[-1] if starts and frames[starts[-1]].function == event_loop.AWAITS else 0
    return [frame for frame in frames[first:] if not frame.file.startswith(own_folder)]


def _frames(text: str) -> list[Frame]:
    return [Frame(_plain(file), int(line), _plain(function)) for file, line, function in _FRAME.findall(text)]


def _plain(name: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), name)


def _lines_of(request: RunRequest) -> list[str]:
    if request.source is not None:
        return request.source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return _file_lines(str(Path(request.cwd, request.path or "")))


def _file_lines(path: str) -> list[str]:
    linecache.checkcache(path)
    return linecache.getlines(path)


def _no_lines(_path: str) -> list[str]:
    return []


def _as_traceback(
    frames: Sequence[Frame], own_name: str, own_lines: Sequence[str], lines_of: Callable[[str], list[str]]
) -> str:
    if not frames:
        return ""
    shown = ["Stack (most recent call last):"]
    left_out = len(frames) - MOST_FRAMES
    for index, frame in enumerate(frames):
        if left_out > 0 and MOST_FRAMES // 2 <= index < MOST_FRAMES // 2 + left_out:
            if index == MOST_FRAMES // 2:
                shown.append(f"  ... [{left_out} calls left out]")
            continue
        shown.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
        lines = own_lines if frame.file == own_name else lines_of(frame.file)
        if 1 <= frame.line <= len(lines) and lines[frame.line - 1].strip():
            shown.append(f"    {lines[frame.line - 1].strip()}")
    return "\n".join(shown)
