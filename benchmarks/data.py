"""Time passing data to a run, relative to writing it as JSON."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import report

from isolated_magic import IsolatedSubprocessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 5
MOST = 2.0  # times as long as writing it as JSON

ROWS, COLUMNS = 200_000, 8
TEXTS = 10_000


def _kinds() -> Iterator[tuple[str, object, str, Callable[[], object]]]:
    """Name and value of the data, and name and function of the baseline."""
    numbers = np.random.default_rng(0).random((ROWS, COLUMNS))
    frame = pd.DataFrame(numbers, columns=list("abcdefgh"))
    yield f"frame of {ROWS:,} x {COLUMNS} floats", frame, "`to_json()`", lambda: frame.to_json(orient="records")
    mixed = pd.DataFrame(
        {
            "n": np.arange(ROWS),
            "at": pd.date_range("2026", periods=ROWS, freq="7min"),
            "text": [f"text {n}" for n in range(ROWS)],
            "kind": pd.Categorical(["x", "y"] * (ROWS // 2)),
        }
    )
    name = f"frame of {ROWS:,} rows: integers, times, texts, categories"
    yield name, mixed, "`to_json()`", lambda: mixed.to_json(orient="records", date_format="iso")
    name = f"array of {ROWS:,} x {COLUMNS} floats"
    yield name, numbers, "`tolist()`, `json.dumps()`", lambda: json.dumps(numbers.tolist())
    floats = numbers.ravel()[:1_000_000].tolist()
    yield "list of 1,000,000 floats", floats, "`json.dumps()`", lambda: json.dumps(floats)
    rows = [{"id": n, "answer": "some text " * 25, "reference": "other text " * 25} for n in range(TEXTS)]
    yield f"list of {TEXTS:,} dicts, 5 MB of text", rows, "`json.dumps()`", lambda: json.dumps(rows)
    text = "some text " * 500_000
    yield "text of 5 MB", text, "`json.dumps()`", lambda: json.dumps(text)


def measure(rounds: int = ROUNDS) -> list[report.Target]:
    """Print the table; return whether the target is met. The fastest of the rounds counts."""
    lines, targets = [], []
    with IsolatedSubprocessExecutor(60) as executor:
        executor.warm_up()
        for name, value, compared, write in _kinds():
            data = {"value": value}
            written = min(_timed(write) for _ in range(rounds))
            taken = min(_timed(lambda data=data: _run(executor, data)) for _ in range(rounds))
            lines.append([name, compared, report.number(written), report.number(taken), f"{taken / written:.2f}"])
            if name.startswith(("frame", "array")):
                wanted = f"{name}: at most {MOST:g} times {compared}"
                targets.append(report.Target(wanted, f"{taken / written:.2f}", taken <= MOST * written))
    report.table(["handing over data", "compared with", "that, ms", "a whole run, ms", "ratio"], lines)
    return targets


def _run(executor: IsolatedSubprocessExecutor, data: dict[str, object]) -> None:
    result = executor.run("len(data['value'])", data)
    if result.error is not None:
        raise RuntimeError(result.error.text)


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000
