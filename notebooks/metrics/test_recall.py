"""Tests of the metric that a cell of `integrations.ipynb` has saved."""

# ruff: noqa: D103, S101

from collections.abc import Iterator
from pathlib import Path

import pytest

from isolated_magic import IsolatedSubprocessExecutor

METRIC = Path(__file__).with_name("recall.py")
REFERENCE = "Returns are free within 30 days."


@pytest.fixture(scope="module")
def executor() -> Iterator[IsolatedSubprocessExecutor]:
    with IsolatedSubprocessExecutor(timeout_secs=60) as started:
        yield started


@pytest.mark.parametrize(("answer", "recall"), [(REFERENCE, 1), ("returns are FREE", 0.5)], ids=["same", "half"])
def test_recall(executor: IsolatedSubprocessExecutor, answer: str, recall: float) -> None:
    result = executor.run(METRIC, {"answer": answer, "reference": REFERENCE}, strict=True)
    assert result["recall"].value == recall


def test_each_tenant_has_its_pass_mark(executor: IsolatedSubprocessExecutor) -> None:
    data = {"answer": "Returns are free", "reference": REFERENCE}
    reasons = [executor.run(METRIC, data, {"PASS_MARK": mark})["recall"].reason for mark in ("0.4", "0.6")]
    assert [reason.split()[0] for reason in reasons] == ["passed", "failed"]
