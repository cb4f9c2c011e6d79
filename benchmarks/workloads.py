"""The workloads: code that all candidates run."""

from __future__ import annotations

from dataclasses import dataclass, replace

DATA: dict[str, object] = {"answer": "yes"}
EXPECTED = 3  # the score of DATA
QUIET = {
    "OPIK_TRACK_DISABLE": "true",
    "OPIK_ANALYTICS_ENABLE": "false",
    "OPIK_SENTRY_ENABLE": "false",
    "ISOLATED_MAGIC_REMEMBER": "off",  # else it would matter what ran here before
}

RESTING = "resting"  # what a run prints when it has come to its sleep
_REST = f"""
import time
print({RESTING!r}, flush=True)
time.sleep(data["seconds"])
print(json.dumps({{"scores": [{{"name": "rest", "value": {EXPECTED}}}]}}))
"""

_BARE = "import json\nprint(json.dumps({'scores': [{'name': 'a', 'value': len(data['answer'])}]}))"
_METRIC = """
from opik.evaluation.metrics import base_metric, score_result

class Length(base_metric.BaseMetric):
    def score(self, answer, **ignored):
        return score_result.ScoreResult("length", len(answer))
"""
_PRINT_SCORE = "import json\nprint(json.dumps({'scores': [vars(Length().score(**data))]}))"


@dataclass(frozen=True)
class Workload:
    """A workload in two notations.

    Args:
        name: title of its tables.
        cell: the code for ``%%isolated``.
        script: the code for anything else, which prints its result itself.
        slow: whether a new interpreter is so slow with it that it runs less often.
    """

    name: str
    cell: str
    script: str
    slow: bool = False

    def resting(self) -> Workload:
        """The same workload, with a sleep of ``data["seconds"]`` at its end."""
        return replace(self, cell=self.script + _REST, script=self.script + _REST)


BARE = Workload("bare code", _BARE, _BARE)
OPIK = Workload("an Opik metric", _METRIC, f"{_METRIC}\n{_PRINT_SCORE}", slow=True)


def check(answer: object) -> None:
    """Check the result of a run.

    Raises:
        RuntimeError: the result is wrong.
    """
    if not (isinstance(answer, dict) and answer.get("scores") and answer["scores"][0]["value"] == EXPECTED):
        raise RuntimeError(f"A run came to a wrong result: {answer}")
