# Written by %%isolated --save, and again each time the cell runs; checksum 8d9c2912e434.
import hashlib
import math
import os
from typing import Any

from opik.evaluation.metrics import BaseMetric
from opik.evaluation.metrics.score_result import ScoreResult


def words(text: str) -> set[str]:
    return {word.strip(".,:!?").lower() for word in text.split()}


class Recall(BaseMetric):
    """The share of the reference's words that the answer has."""

    def __init__(self) -> None:
        super().__init__(name="recall", track=False)
        self.pass_mark = float(os.environ.get("PASS_MARK", "0.5"))
        self.key = hashlib.sha256(os.environ.get("SCORING_API_KEY", "").encode()).hexdigest()[:6]

    def score(self, answer: str, reference: str, **ignored: Any) -> ScoreResult:
        wanted = words(reference)
        value = len(words(answer) & wanted) / len(wanted) if wanted else math.nan
        verdict = "passed" if value >= self.pass_mark else "failed"
        return ScoreResult(name=self.name, value=value, reason=f"{verdict} {self.pass_mark}, key {self.key}")
