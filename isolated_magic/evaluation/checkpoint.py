"""A checkpoint: the file to which an evaluation appends each finished row, and from which it goes on.

JSON lines. The first one tells format, code and number of rows. Another one like it follows where an evaluation of
changed code, or of another number of rows, went on. All others are rows: what ``row_json.py`` writes of a result,
digests of its key and its content, and never the row itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from array import array
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.locked_file import LockedFile, absolute
from isolated_magic.evaluation.row_json import row_from_json, row_to_json
from isolated_magic.launch.resources import NO_MEMORY
from isolated_magic.payload.encode import as_record
from isolated_magic.payload.packing import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.request import RunRequest
    from isolated_magic.strict_json import JsonObject, JsonValue

CheckpointMode: TypeAlias = Literal["resume", "restart"]

FORMAT = 1
HEADER = "isolated_magic checkpoint"  # the first key of a first line; its value is the format
BACKUP_SUFFIX = ".bak"
DIGEST_BYTES = 16
MOST_NAMED = 3  # unreadable lines

_encode = json.JSONEncoder(separators=(",", ":")).encode


class CheckpointError(Exception):
    """A row could not be written. The text says why, and how to go on; the evaluation stops with it."""


class Session(NamedTuple):
    """What an evaluation that writes to the file is of.

    Args:
        code: digest of the code that its rows run.
        rows: number of rows; None if nobody knows.
        repeat: how often each is run.
    """

    code: str
    rows: int | None
    repeat: int


def code_digest(request: RunRequest, payload_type: str | None) -> str:
    """A digest of the code that a request runs: of the source, or of the content of a file.

    Raises:
        InvalidRequestError: the file cannot be read.
    """
    if request.path is None:
        source = (request.source or "").encode("utf-8", "surrogatepass")
    else:
        try:
            source = Path(request.path).read_bytes()
        except OSError as problem:
            raise InvalidRequestError(f"{request.path} cannot be read: {problem.strerror}.") from None
    # Those of this process may change without notice; the others are a part of what is asked for.
    packages = "" if request.interpreter is None else f"{request.interpreter.told}\n"
    return hashlib.sha256(f"{packages}{payload_type}\n".encode() + source).hexdigest()


class RowDigests(NamedTuple):
    """What tells a row from others, and from what it was when it was scored."""

    key: bytes
    content: bytes


def digests_of(key: str, payload: bytes, row: object = None) -> RowDigests:
    """The digests of a row.

    Args:
        key: of the row, before secrets in it were hidden: two keys must not become one.
        payload: what its run gets.
        row: the row itself, where its run gets only a part of it; None where it gets all.
    """
    content = hashlib.sha256(payload)
    if row is not None:
        with suppress(Exception):  # what cannot be JSON, and was not sent either
            content.update(encode({"row": as_record(row)}))
    named = hashlib.sha256(key.encode("utf-8", "surrogatepass"))
    return RowDigests(named.digest()[:DIGEST_BYTES], content.digest()[:DIGEST_BYTES])


class Checkpoint:
    """A checkpoint that is open, and locked. :meth:`append` may be called in any thread.

    Args:
        path: of the file, which is made if there is none.
        mode: ``"resume"`` takes the scores of other code, too; ``"restart"`` begins anew and keeps a copy of the
            file, if it has scores, with ``.bak`` behind its name, or ``.bak2`` and so on; None refuses what was
            scored by other code.
        session: the evaluation that is about to begin.

    Raises:
        InvalidRequestError: the file cannot be used as given.
    """

    def __init__(self, path: str | os.PathLike[str], mode: CheckpointMode | None, session: Session) -> None:
        given = os.fsdecode(path)
        self._told = f"checkpoint {given}"
        self._session = self._before = session
        self._taken = self._retried = self._changed = self._of_other_code = 0
        self._has_failed = False  # nothing is written any more
        self._unsynced = ""  # why it may not be on the disk
        self._file = LockedFile(given, f'{{"{HEADER}":'.encode())
        try:
            self._begin(mode, given)
        except OSError as problem:
            self.close()
            raise InvalidRequestError(f"{self._told} cannot be used: {problem.strerror}.") from None
        except BaseException:
            self.close()
            raise

    def _begin(self, mode: CheckpointMode | None, given: str) -> None:
        self._read()
        if mode == "restart":
            self._file.empty(_backup_of(given) if self._scored else None)
            self._read()
        before = self._sessions[-1]
        if before.code != self._session.code and self._scored and mode is None:
            count = len(self._scored)
            raise InvalidRequestError(
                f"{self._told} holds {count:,} {_rows(count)} scored by other code: the code or its payload type "
                "has changed since. Choose with --checkpoint-mode, or checkpoint_mode=: resume keeps these scores "
                "and runs the other rows with the code as it is now; restart runs all rows, and keeps the old "
                f"file as {_backup_of(given)}."
            )
        self._before = before
        if before != self._session:
            header = {HEADER: FORMAT, **self._session._asdict()}
            self._file.append(f"{_encode(header)}\n".encode())
            self._file.sync()

    # Reading.

    def _read(self) -> None:
        self._sessions = [Session("", None, 0)]  # that of rows whose first line cannot be read any more
        self._session_lines = [-1]  # their numbers, from 0
        self._starts = array("q", [0])  # of each line, and the end of the last one
        self._scored: dict[bytes, int] = {}  # lines by the place of their row, until they are taken
        self._failed: set[bytes] = set()
        self._unreadable: list[int] = []  # lines, from 1
        for number, line in enumerate(self._file.lines()):
            self._starts.append(self._starts[-1] + len(line))
            try:
                told = json.loads(line)
                if HEADER in told:
                    self._check_format(told)
                    self._sessions.append(Session(told["code"], told["rows"], told["repeat"]))
                    self._session_lines.append(number)
                else:
                    self._add(number, told)
            except InvalidRequestError:
                raise
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                self._unreadable.append(number + 1)

    def _add(self, number: int, told: JsonObject) -> None:
        """Note a row."""
        is_scored = told.get("error") is None
        if "id" not in told and not is_scored:  # its options could not be made of it
            return
        place = _place(bytes.fromhex(str(told["id"])), told.get("repetition"))
        if is_scored:
            self._scored[place] = number
            self._failed.discard(place)
        else:
            self._failed.add(place)

    def _check_format(self, told: JsonObject) -> None:
        if told[HEADER] != FORMAT:
            raise InvalidRequestError(
                f"{self._told} was written by a newer version of isolated_magic: upgrade it, or give a new file."
            )

    def take(self, digests: RowDigests, repetition: int) -> RowResult | None:
        """The result of a row that was scored before, as it was then; None for one that is to be run.

        Args:
            digests: of the row.
            repetition: which of its repetitions, from 0.
        """
        place = _place(digests.key, repetition)
        number = self._scored.pop(place, None)
        if number is None:
            self._retried += place in self._failed
            return None
        try:
            told = json.loads(self._file.read(self._starts[number], self._starts[number + 1]))
            found = row_from_json(told)
        except (ValueError, RecursionError):
            self._unreadable.append(number + 1)
            return None
        if told.get("content") != digests.content.hex():
            self._changed += 1
            return None
        self._taken += 1
        after = bisect_right(self._session_lines, number)
        self._of_other_code += self._sessions[after - 1].code != self._session.code
        return found

    # Writing.

    def append(self, row: RowResult, digests: RowDigests | None) -> None:
        """Write a row that is done.

        Args:
            row: its result.
            digests: of the row; None where its options could not be made of it.

        Raises:
            CheckpointError: it could not be written. The text says why and how to go on.
        """
        if self._has_failed:
            return
        told: JsonObject = {}
        if digests is not None:
            told = {"id": digests.key.hex(), "content": digests.content.hex()}
        told |= row_to_json(row)
        try:
            self._file.append(f"{_encode(told)}\n".encode())
        except RecursionError:  # not even read from the run: results are nested less
            return
        except (OSError, MemoryError) as problem:
            self._has_failed = True
            why = problem.strerror if isinstance(problem, OSError) else NO_MEMORY
            raise CheckpointError(
                f"The {self._told} could not be written: {why}. It holds the rows that ended before; when this is "
                "mended, run the evaluation again to go on."
            ) from None

    def close(self) -> None:
        """Unlock the file. It may be called again."""
        try:
            self._file.close()
        except OSError as problem:
            self._unsynced = problem.strerror or str(problem)

    def notes(self, rows: int, *, is_complete: bool) -> tuple[str, ...]:
        """What is to be said about where the results come from, once all are there.

        Args:
            rows: number of results.
            is_complete: whether all rows of the input were read.
        """
        return tuple(filter(None, (self._resumed(rows), self._differing(is_complete), *self._doubts())))

    def _resumed(self, rows: int) -> str:
        come = "comes" if self._taken == 1 else "come"
        told = [f"{self._taken:,} of {rows:,} {_rows(rows)} {come} from the {self._told}."] * bool(self._taken)
        if self._of_other_code:
            told.append(f"{self._of_other_code:,} of them were scored by other code: mode restart runs all again.")
        if self._retried:
            told.append(f"{self._retried:,} that had failed ran again.")
        if self._changed:
            told.append(f"{self._changed:,} that had changed since they were scored ran again.")
        return " ".join(told)

    def _differing(self, is_complete: bool) -> str:
        """How the rows of the input differ from those before."""
        told = []
        before, now = self._before.rows, self._session.rows
        if before is not None and now is not None and before != now:
            told.append(f"There are {now:,} {_rows(now)}, and were {before:,} when the {self._told} was written.")
        if is_complete and self._scored and not (self._taken or self._changed):
            told.append(f"No scored row of the {self._told} is in the input: have they changed, or their key?")
        elif is_complete and self._scored:
            count = len(self._scored)
            are, stay, they = ("is", "stays", "it") if count == 1 else ("are", "stay", "they")
            told.append(
                f"{count:,} scored {_rows(count)} of the {self._told} {are} not in the input any more: {they} "
                f"{stay} in the file, and {are} not in this result."
            )
        return " ".join(told)

    def _doubts(self) -> Iterator[str]:
        """What may be wrong with the file."""
        if self._unreadable:
            count = len(self._unreadable)
            named = ", ".join(f"{number:,}" for number in self._unreadable[:MOST_NAMED])
            named += f" and {count - MOST_NAMED:,} more" * (count > MOST_NAMED)
            which = f"Line {named} is no row, and was" if count == 1 else f"Lines {named} are no rows, and were"
            yield f"{which} passed over in the {self._told}."
        if not self._file.is_locked:
            yield f"The {self._told} cannot be locked on its file system: run no other evaluation on it."
        if self._file.is_gone:
            yield f"The {self._told} was removed or replaced while it was written: rows that were in it are lost."
        if self._unsynced:
            yield f"The {self._told} may not be whole after a power cut: {self._unsynced}."


def _backup_of(path: str) -> str:
    """The name of a file that is not there yet."""
    names = (f"{path}{BACKUP_SUFFIX}{'' if number == 1 else number}" for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(absolute(name)))


def _place(key: bytes, repetition: JsonValue) -> bytes:
    """What one repetition of a row is found by."""
    return key + str(repetition).encode() if repetition else key


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"
