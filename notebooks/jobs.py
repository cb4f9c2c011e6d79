"""The jobs that the RQ workers of `integrations.ipynb` run."""

from __future__ import annotations

import time
from typing import Any

from dotenv import dotenv_values
from rq import get_current_job

from isolated_magic import IsolatedSubprocessExecutor

executor = IsolatedSubprocessExecutor(timeout_secs=60)


def score(row: dict[str, Any]) -> dict[str, Any]:
    """Score a row with the environment of its tenant, and say how the process of the run was started."""
    environment = dotenv_values(f"data/{row['tenant']}.env")
    result = executor.run("metrics/recall.py", row, environment, secrets=["*_KEY"])
    if result.error:
        raise RuntimeError(result.error.summary)
    return {**result.to_dict(nan="null"), "launch": result.launch}


def hang() -> None:
    """Run code that does not end; the job's ``meta`` has its process id."""
    run = executor.start("import time; time.sleep(600)")
    while not run.pid and not run.done():
        time.sleep(0.01)
    job = get_current_job()
    job.meta["pid"] = run.pid
    job.save_meta()
    run.result()
