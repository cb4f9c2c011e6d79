"""What the real metric libraries return: as the last expression, in a list, and as the value of a dict; offline.

The classes and functions of these libraries that a run calls are in test_metric_libraries_scorers.py.
"""

import textwrap

import pytest

from isolated_magic import IsolatedSubprocessExecutor

pytestmark = pytest.mark.metrics

# By library: code that leaves its results in `found`, and what they mean.
LIBRARIES = {
    "opik": (
        """
        from opik.evaluation.metrics import Equals
        from opik.evaluation.metrics.score_result import ScoreResult
        info = {"error_info": {"exception_type": "E"}, "usage": {"total_tokens": 3}}
        found = [
            Equals(track=False).score(output="a", reference="a"),
            ScoreResult("judged", 0.5, "why", category_name="fair", metadata=info),
            ScoreResult("failed", 0.0, "no key", scoring_failed=True),
        ]
        """,
        [
            {"name": "equals_metric", "value": 1.0},
            {
                "name": "judged",
                "value": 0.5,
                "reason": "why",
                "category_name": "fair",
                "metadata": {"error_info": {"exception_type": "E"}, "usage": {"total_tokens": 3}},
            },
            {"name": "failed", "value": 0.0, "reason": "no key", "scoring_failed": True},
        ],
    ),
    "deepeval": (
        """
        from deepeval.metrics import BaseMetric, ExactMatchMetric
        from deepeval.test_case import LLMTestCase
        class Short(BaseMetric):
            def __init__(self, fails=False): self.threshold, self.fails = 0.5, fails
            def measure(self, test_case):
                if self.fails:
                    self.error = "the judge is away"
                    return None
                self.score, self.reason, self.success = 0.25, "rather long", False
                return self.score
            async def a_measure(self, test_case): return self.measure(test_case)
            def is_successful(self): return self.success
        found = [ExactMatchMetric(), Short(), Short(fails=True)]
        for metric in found: metric.measure(LLMTestCase(input="q", actual_output="a", expected_output="a"))
        """,
        [
            {
                "name": "Exact Match",
                "value": 1.0,
                "reason": "The actual and expected outputs are exact matches.",
                "passed": True,
                "threshold": 1,
            },
            {"name": "Short", "value": 0.25, "reason": "rather long", "passed": False, "threshold": 0.5},
            {
                "name": "Short",
                "value": None,
                "reason": "no value: the judge is away",
                "scoring_failed": True,
                "threshold": 0.5,
            },
        ],
    ),
    "ragas": (
        """
        import asyncio
        from ragas.metrics import MetricResult, discrete_metric, numeric_metric
        from ragas.metrics.collections import ExactMatch
        @numeric_metric(name="ratio", allowed_values=(0, 1))
        def ratio(response): return MetricResult(value=0.75, reason="because")
        @discrete_metric(name="verdict", allowed_values=["pass", "fail"])
        def verdict(response): return "pass"
        exact = asyncio.run(ExactMatch().ascore(reference="a", response="a"))
        found = [exact, ratio.score(response="a"), verdict.score(response="a"), MetricResult(value=float("nan"))]
        """,
        [
            {"name": "score", "value": 1.0},
            {"name": "score", "value": 0.75, "reason": "because"},
            {"name": "score", "value": "pass", "category_name": "pass"},
            {
                "name": "score",
                "value": None,
                "reason": "no value: NaN: it could not be computed",
                "scoring_failed": True,
            },
        ],
    ),
    "autoevals": (
        """
        from autoevals import ExactMatch, Levenshtein, NumericDiff, Score
        found = [
            ExactMatch()("a", "a"), Levenshtein()("abcd", "abcx"), NumericDiff()(1, 3),
            Score(name="more", score=0.5, metadata={"rationale": "r"}), Score(name="skipped", score=None),
        ]
        """,
        [
            {"name": "ExactMatch", "value": 1.0},
            {"name": "Levenshtein", "value": 0.75},
            {"name": "NumericDiff", "value": 0.5},
            {"name": "more", "value": 0.5, "metadata": {"rationale": "r"}},
            {"name": "skipped", "value": None, "reason": "no value", "scoring_failed": True},
        ],
    ),
    "mlflow": (
        """
        from mlflow.entities import Assessment, AssessmentError, AssessmentSource, Feedback
        from mlflow.entities.assessment import FeedbackValue
        from mlflow.genai.judges import CategoricalRating
        found = [
            Feedback(name="exact", value=True, rationale="the same", metadata={"a": "b"}),
            Feedback(name="safe", value=CategoricalRating.NO),
            Feedback(value="great"),
            Feedback(name="broken", error=ValueError("no key")),
            Feedback(name="judge", error=AssessmentError(error_code="E", error_message="away")),
            Feedback(name="parts", value={"a": 0.5, "b": "yes"}),
            Assessment(name="raw", source=AssessmentSource(source_type="CODE"), feedback=FeedbackValue(0.5)),
        ]
        """,
        [
            {"name": "exact", "value": 1.0, "reason": "the same", "metadata": {"a": "b"}},
            {"name": "safe", "value": 0.0, "category_name": "no"},
            {"name": "feedback", "value": "great", "category_name": "great"},
            {"name": "broken", "value": None, "reason": "no value: no key", "scoring_failed": True},
            {"name": "judge", "value": None, "reason": "no value: away", "scoring_failed": True},
            {"name": "parts.a", "value": 0.5},
            {"name": "parts.b", "value": 1.0, "category_name": "yes"},
            {"name": "raw", "value": 0.5},
        ],
    ),
    "phoenix": (
        """
        from phoenix.evals import Score
        from phoenix.evals.metrics import exact_match
        found = [
            *exact_match.evaluate({"output": "a", "expected": "b"}),
            Score(name="near", score=0.5, label="fair", explanation="why", metadata={"m": 1}, kind="llm"),
            Score(name="errors", score=3, direction="minimize"),
            Score(name="tone", label="polite"),
            Score(score=1.0),
        ]
        """,
        [
            {"name": "exact_match", "value": 0.0},
            {
                "name": "near",
                "value": 0.5,
                "reason": "why",
                "category_name": "fair",
                "metadata": {"m": 1},
            },
            {"name": "errors", "value": 3, "metadata": {"direction": "minimize"}},
            {"name": "tone", "value": "polite", "category_name": "polite"},
            {"name": "score", "value": 1.0},
        ],
    ),
    "inspect": (
        """
        import asyncio
        from inspect_ai.model import ModelOutput
        from inspect_ai.scorer import PARTIAL, SampleScore, Score, Target, includes, match
        from inspect_ai.solver import TaskState
        state = TaskState("m", 1, 1, "q", [], output=ModelOutput.from_content("m", "It is Paris"))
        found = [
            asyncio.run(match()(state, Target("Paris"))),
            asyncio.run(includes()(state, Target("Rome"))),
            Score(value=PARTIAL, explanation="half of it", metadata={"k": 2}),
            Score(value={"a": 0.5, "b": "C"}, explanation="both"),
            Score(value=[1, 0]),
            Score.unscored(reason="no grade"),
            SampleScore(score=Score(value=0.25), sample_id=7, scorer="grader"),
        ]
        """,
        [
            {
                "name": "score",
                "value": 1.0,
                "category_name": "C",
                "reason": "It is Paris",
                "metadata": {"answer": "It is Paris"},
            },
            {
                "name": "score",
                "value": 0.0,
                "category_name": "I",
                "reason": "It is Paris",
                "metadata": {"answer": "it is paris"},
            },
            {
                "name": "score",
                "value": 0.5,
                "category_name": "P",
                "reason": "half of it",
                "metadata": {"k": 2},
            },
            {"name": "a", "value": 0.5, "reason": "both"},
            {"name": "b", "value": 1.0, "reason": "both", "category_name": "C"},
            {"name": "score", "value": [1, 0]},
            {"name": "score", "value": None, "reason": "no value: no grade", "scoring_failed": True},
            {"name": "grader", "value": 0.25, "metadata": {"sample_id": 7}},
        ],
    ),
    "langsmith": (
        """
        from langsmith.evaluation import EvaluationResult
        found = [
            EvaluationResult(key="exact", score=True, comment="the same", metadata={"a": 1}),
            EvaluationResult(key="near", score=0.5, value="fair"),
            EvaluationResult(key="tone", value="polite"),
            {"key": "length", "score": 3, "comment": "words"},
            {"key": "skipped", "score": None},
        ]
        """,
        [
            {"name": "exact", "value": 1.0, "reason": "the same", "metadata": {"a": 1}},
            {"name": "near", "value": 0.5, "category_name": "fair"},
            {"name": "tone", "value": "polite", "category_name": "polite"},
            {"name": "length", "value": 3, "reason": "words"},
            {"name": "skipped", "value": None, "reason": "no value", "scoring_failed": True},
        ],
    ),
}
CODES = {name: textwrap.dedent(code) for name, (code, _) in LIBRARIES.items()}


def told(scores):
    """The fields of scores that say something."""
    fields = ("name", "value", "reason", "category_name", "metadata", "scoring_failed", "passed", "threshold")
    said = [{field: getattr(score, field) for field in fields} for score in scores]
    return [
        {
            field: one
            for field, one in score.items()
            if field == "value" or one not in (None, "", False) or (field == "passed" and one is False)
        }
        for score in said
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_result_keeps_what_it_says(libraries, library):
    result = libraries.run(CODES[library] + "found")
    assert result.error is None, result.error.text
    assert told(result.scores) == LIBRARIES[library][1]
    failed = sum(score.scoring_failed for score in result.scores)
    said = f"{len(result.scores) - failed} of {len(result.scores)} scores could be computed"
    assert any(note.startswith(said) for note in result.notes) == bool(failed)
    by_itself = libraries.run(CODES[library] + "found[0]")
    assert told(by_itself.scores) == LIBRARIES[library][1][:1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_key_is_the_name_of_its_score(libraries, library):
    expected = LIBRARIES[library][1][0]
    by_key = libraries.run(CODES[library] + "{'mine': found[0], 'other': 0.5}").scores
    assert told(by_key) == [expected | {"name": "mine"}, {"name": "other", "value": 0.5}]


def test_libraries_mix(libraries):
    code = CODES["autoevals"] + "one = found[0]" + CODES["mlflow"] + "two = found[0]" + CODES["opik"]
    names = ["ExactMatch", "exact", "equals_metric"]
    assert [score.name for score in libraries.run(f"{code}\n[one, two, found[0]]").scores] == names
    by_key = libraries.run(f"{code}\n{{'a': one, 'b': two, 'c': found[0], 'd': True}}").scores
    assert [(score.name, score.value) for score in by_key] == [("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)]
    error = libraries.run(f"{code}\n[one, 'text']").error
    assert "a list whose item 1 is a str, not a score" in error.text


@pytest.mark.parametrize(
    ("ending", "values"),
    [
        ("CORRECT", {"score": (1.0, "C")}),
        ("INCORRECT", {"score": (0.0, "I")}),
        ("{'a': CORRECT, 'b': NOANSWER, 'c': 0.5}", {"a": (1.0, "C"), "b": (0.0, "N"), "c": (0.5, None)}),
    ],
)
def test_a_value_of_inspect_by_itself(libraries, ending, values):
    result = libraries.run(f"from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER\n{ending}")
    assert {score.name: (score.value, score.category_name) for score in result.scores} == values


def test_a_letter_is_text_without_inspect():
    with IsolatedSubprocessExecutor() as executor:
        assert "the value of the last line is a str" in executor.run("'C'").error.text


EVALUATED = {
    "deepeval": (
        """
        from deepeval import evaluate
        from deepeval.evaluate import AsyncConfig, DisplayConfig
        from deepeval.metrics import ExactMatchMetric
        from deepeval.test_case import LLMTestCase
        cases = [LLMTestCase(input="q", actual_output=output, expected_output="a") for output in "ab"]
        quiet = DisplayConfig(print_results=False, show_indicator=False)
        evaluate(cases, [ExactMatchMetric()], async_config=AsyncConfig(run_async=False), display_config=quiet)
        """,
        [("Exact Match", 1.0, {"test_case": "test_case_0"}), ("Exact Match", 0.0, {"test_case": "test_case_1"})],
    ),
    "ragas": (
        """
        from dataclasses import dataclass, field
        from ragas import EvaluationDataset, evaluate
        from ragas.metrics.base import MetricType, SingleTurnMetric
        @dataclass
        class Judged(SingleTurnMetric):
            name: str = "judged"
            _required_columns: dict = field(default_factory=lambda: {MetricType.SINGLE_TURN: {"response"}})
            def init(self, run_config): pass
            async def _single_turn_ascore(self, sample, callbacks):
                return {"a": 1.0, "b": 0.5}[sample.response]
        rows = EvaluationDataset.from_list([{"response": response} for response in "abc"])
        evaluate(rows, metrics=[Judged()], show_progress=False, raise_exceptions=False)
        """,
        [("judged", 1.0, {"row": 0}), ("judged", 0.5, {"row": 1}), ("judged", None, {"row": 2})],
    ),
    "mlflow": (
        """
        from mlflow.genai.evaluation.entities import EvaluationResult
        EvaluationResult(run_id="1", metrics={"exact/mean": 0.5, "near/mean": 0.75}, result_df=None)
        """,
        [("exact/mean", 0.5, None), ("near/mean", 0.75, None)],
    ),
    "opik": (
        """
        from opik.evaluation.evaluation_result import EvaluationResult
        from opik.evaluation.metrics.score_result import ScoreResult
        from opik.evaluation.test_case import TestCase
        from opik.evaluation.test_result import TestResult
        case = TestCase("t", "i", {}, {})
        tests = [TestResult(case, [ScoreResult("exact", value)], 1) for value in (1.0, 0.0)]
        EvaluationResult("e", "d", "n", tests, None, 1)
        """,
        [("exact", 1.0, None), ("exact", 0.0, None)],
    ),
}


@pytest.mark.parametrize("library", EVALUATED)
def test_what_a_whole_evaluation_returns_has_the_scores_of_each_row(libraries, library):
    code, expected = EVALUATED[library]
    result = libraries.run(textwrap.dedent(code))
    assert result.error is None, result.error.text
    assert [(score.name, score.value, score.metadata) for score in result.scores] == expected


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (
            "from opik.evaluation.metrics.score_result import ScoreResult\n"
            "[ScoreResult('a', 0, 'no key', scoring_failed=True), ScoreResult('b', None)]",
            ["a: no key", "b: no value"],
        ),
        ("from phoenix.evals import Score\nScore(name='near')", ["near: no value"]),
        ("from mlflow.entities import Feedback\nFeedback(name='f', error='no quota')", ["f: no value: no quota"]),
        (
            "from inspect_ai.scorer import Score\nScore.unscored(explanation='no grade')",
            ["score: no value: no grade"],
        ),
        ("from autoevals import Score\n{'x': Score(name='a', score=None)}", ["x: no value"]),
    ],
)
def test_no_usable_score_is_an_error_that_names_each(libraries, code, names):
    answer = libraries.execute(code)
    assert answer["code"] == 400
    assert all(name in answer["error"] for name in names)
    assert len(libraries.run(code).scores) == len(names)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from mlflow.entities import Expectation\nExpectation(name='a', value=3)", "an Expectation"),
        ("import deepeval.test_case as t\nt.LLMTestCase(input='a', actual_output='b')", "a LLMTestCase"),
    ],
)
def test_what_is_no_score_is_named(libraries, code, found):
    assert f"the value of the last line is {found}." in libraries.run(code).error.text


def test_no_library_is_imported_that_the_code_did_not_import():
    code = """
    import sys
    from dataclasses import dataclass
    @dataclass
    class Score:
        name: str
        score: float
    print(sorted({"opik", "deepeval", "ragas", "autoevals", "mlflow", "phoenix", "inspect_ai", "numpy"} & {*sys.modules}))
    import atexit
    atexit.register(lambda: print(sorted({"opik", "deepeval", "ragas", "autoevals", "mlflow", "phoenix"} & {*sys.modules})))
    Score("a", 1)
    """
    with IsolatedSubprocessExecutor() as executor:
        result = executor.run(textwrap.dedent(code))
    assert ([score.name for score in result.scores], result.stdout) == (["a"], "[]\n[]\n")
