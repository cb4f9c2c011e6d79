# Written by %%isolated --save, and again each time the cell runs; checksum ca8c983d4b68.
from typing import Any

from opik.evaluation.metrics import BaseMetric, LevenshteinRatio
from opik.evaluation.metrics.score_result import ScoreResult


class Closeness(BaseMetric):
    def __init__(self) -> None:
        super().__init__(name="closeness")
        self.edits = LevenshteinRatio(track=False)

    def score(self, answer: str, reference: str, language: str | None, **ignored: Any) -> ScoreResult:
        ratio = self.edits.score(output=answer, reference=reference).value
        return ScoreResult(name=self.name, value=round(ratio, 3), reason=f"edit distance; language: {language}")
