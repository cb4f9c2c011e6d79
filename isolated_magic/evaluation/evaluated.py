"""What files, tables, plots and reports read of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from isolated_magic.evaluation.compare import Comparison
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.summary import Summary


class Evaluated(Protocol):
    """An :class:`EvaluationResult`, for the modules that its own methods import."""

    @property
    def rows(self) -> tuple[RowResult, ...]: ...  # noqa: D102 - see there
    @property
    def not_run(self) -> int | None: ...  # noqa: D102 - likewise
    @property
    def stopped(self) -> str: ...  # noqa: D102 - likewise
    @property
    def repeat(self) -> int: ...  # noqa: D102 - likewise
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102 - likewise
    @property
    def label(self) -> str: ...  # noqa: D102 - likewise
    @property
    def comparison(self) -> Comparison | None: ...  # noqa: D102 - likewise
    @property
    def failures(self) -> tuple[RowResult, ...]: ...  # noqa: D102 - likewise
    @property
    def summary(self) -> Summary: ...  # noqa: D102 - likewise
