"""Rows that wait to be given out."""

import sys

from isolated_magic.distributed.backlog import Backlog, Row
from isolated_magic.executors.evaluation_options import EvaluationSettings
from isolated_magic.executors.tasks import Task


def test_suspects_that_have_results_meanwhile_are_passed_over_however_many():
    backlog = Backlog(EvaluationSettings())
    rows = [Row(Task(n, n, str(n), None, None)) for n in range(2 * sys.getrecursionlimit())]
    for row in rows:
        backlog.add(row)
    batch = backlog.take("worker", len(rows))
    backlog.suspect(batch, [1] * len(rows))
    for row in rows[:-1]:
        row.is_done = True  # by a worker that was silent, and is not
    assert backlog.take_suspects().rows == rows[-1:]
    assert (backlog.suspects, backlog.take_suspects()) == (0, None)
