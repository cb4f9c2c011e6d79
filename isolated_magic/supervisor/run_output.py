"""What one run prints and displays, from its first byte to the line that may be its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.supervisor.displays import Displays
from isolated_magic.supervisor.output import OutputStream, Stdout

if TYPE_CHECKING:
    from isolated_magic.launch.protocol import Outcome, Question
    from isolated_magic.models import DisplayData
    from isolated_magic.redaction.redactor import Redactor
    from isolated_magic.strict_json import Printed
    from isolated_magic.supervisor.displays import OnDisplay
    from isolated_magic.supervisor.output import OnOutput, Readable


class RunOutput:
    """Both output streams of a run, and its displays.

    Args:
        stdout: our end of the pipe, or the part of it that is this run's.
        stderr: likewise.
        output_bytes: of each stream to keep and to pass on, None for all.
        redactor: hides secrets in the output, None when there are none.
        on_output: called with ``"stdout"`` or ``"stderr"`` and text, as output comes.
        on_display: called likewise with what the code displays.
    """

    def __init__(
        self,
        stdout: Readable,
        stderr: Readable,
        output_bytes: int | None = None,
        redactor: Redactor | None = None,
        on_output: OnOutput | None = None,
        on_display: OnDisplay | None = None,
    ) -> None:
        self.stdout = Stdout(stdout, on_output, output_bytes, redactor)
        self.stderr = OutputStream("stderr", stderr, on_output, output_bytes, redactor)
        self._displays: Displays | None = None
        self._shows = on_display, output_bytes, redactor

    @property
    def displays(self) -> tuple[DisplayData, ...]:
        """What the code displayed."""
        return () if self._displays is None else self._displays.all

    def _get_displays(self) -> Displays:
        if self._displays is None:
            self._displays = Displays(self.stdout, self.stderr, *self._shows)
        return self._displays

    def answer(self, question: Question) -> bytes:
        """Answer the child program (see ``launch/protocol.py``)."""
        return self.stdout.answer(question) if isinstance(question, str) else self._get_displays().take(question)

    def take_rest(self) -> None:
        """Take what was written before the end: it is in the pipes already."""
        self.stdout.drain(final=True)
        self.stderr.drain(final=True)

    def end(self, exit_status: int | None, outcome: Outcome | None, *, was_ended: bool) -> Printed | None:
        """Nothing more will come: decide about the line that was held back.

        Args:
            exit_status: of the run.
            outcome: that it sent.
            was_ended: somebody made its process end.

        Returns:
            The printed line that may be the result, unless the run failed or has a better result.
        """
        printed = self._printed(exit_status, outcome, was_ended=was_ended)
        is_result = printed is not None and printed.value is not None
        self.stdout.emit(self.stdout.line.release(without_result=is_result))
        self.stdout.end()
        self.stderr.end()
        value = outcome.found_repr if outcome is not None else ""
        if self._displays is not None or (value and is_result):
            displays = self._get_displays()
            displays.end(value if is_result or displays.has_any else "")
        return printed

    def _printed(self, exit_status: int | None, outcome: Outcome | None, *, was_ended: bool) -> Printed | None:
        printed = self.stdout.line.result()
        if printed is None or _has_failed(exit_status, outcome, was_ended=was_ended):
            return None
        rank = outcome.rank if outcome is not None else None
        return printed if rank is None or printed.goes_before(rank) else None


def _has_failed(exit_status: int | None, outcome: Outcome | None, *, was_ended: bool) -> bool:
    """Whether what was printed is no result. It is one when only the end of the process went wrong."""
    if outcome is None or exit_status == 0:
        return exit_status != 0 or (outcome is not None and outcome.error is not None)
    return exit_status is None or was_ended or not outcome.is_end
