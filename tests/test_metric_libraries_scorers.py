"""What a run calls: metrics, scorers and evaluators of the real libraries, offline.

They are installed together in the environment of the extra ``metrics``, which has to be the one that runs this.
"""

import textwrap

import pytest

from isolated_magic import IsolatedSubprocessExecutor

pytestmark = pytest.mark.metrics

ROW = {"output": "yes", "reference": "yes", "id": 7}
THREAD = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "bye"},
]


@pytest.fixture
def executor(libraries):
    """A worker, which imports each library once."""
    return libraries


def run(executor, code, data, **settings):
    return executor.run(textwrap.dedent(code), data, **settings)


def found(executor, code, data, **settings):
    """Names and values."""
    result = run(executor, code, data, **settings)
    assert result.error is None, result.error.text
    return [(score.name, score.value) for score in result.scores]


def refused(executor, code, data, **settings):
    """The summary and the hint of the error."""
    result = run(executor, code, data, **settings)
    assert result.error is not None, result.scores
    assert result.error.code == 400, result.error.text
    assert "isolated_magic" not in result.error.text
    return result.error.summary, result.error.hint


class TestOpik:
    THREAD_METRIC = """
        from opik.evaluation.metrics import score_result
        from opik.evaluation.metrics.conversation import conversation_thread_metric
        class Turns(conversation_thread_metric.ConversationThreadMetric):
            def __init__(self): super().__init__(name="turns", track=False)
            {define} score(self, conversation, **ignored):
                return score_result.ScoreResult(name=self.name, value=len(conversation))
    """

    @pytest.mark.parametrize("define", ["def", "async def a"])
    def test_a_conversation_metric_scores_a_thread(self, executor, define):
        code = self.THREAD_METRIC.format(define=define).replace("a score", "ascore")
        assert found(executor, code, THREAD, payload_type="trace_thread") == [("turns", 3)]

    def test_and_the_conversation_among_the_data(self, executor):
        code = self.THREAD_METRIC.format(define="def")
        assert found(executor, code, {"conversation": THREAD}) == [("turns", 3)]
        result = run(
            executor, self.THREAD_METRIC.format(define="def").replace(", **ignored", ""), {"thread": THREAD}
        )
        assert "unexpected keyword argument 'thread'" in result.error.summary
        assert 'data={"conversation": row["thread"]}' in result.error.hint


DEEPEVAL = """
    from deepeval.metrics import BaseMetric
    class Same(BaseMetric):
        def __init__(self, threshold: float = 0.5):
            self.threshold = threshold
        {define}(self, test_case, *args, **kwargs):
            self.score = float(test_case.actual_output == test_case.expected_output)
            self.reason = f"for {{test_case.input}}"
            self.success = self.score >= self.threshold
            return self.score
        {other}
        def is_successful(self):
            return self.success
        @property
        def __name__(self):
            return "Same"
"""
SYNC = DEEPEVAL.format(
    define="def measure", other="async def a_measure(self, test_case, *_, **kw): return self.measure(test_case)"
)
ASYNC = DEEPEVAL.format(
    define="async def a_measure", other="def measure(self, test_case, *_, **kw): raise NotImplementedError"
)
CASE = {"input": "q", "actual_output": "a", "expected_output": "a"}


class TestDeepeval:
    @pytest.mark.parametrize("code", [SYNC, ASYNC, SYNC + "\n    Same(0.7)", SYNC + "\n    Same"])
    def test_a_metric_measures_a_test_case_made_of_the_data(self, executor, code):
        result = run(executor, code, {**CASE, "id": 7})
        assert result.error is None, result.error.text
        (score,) = result.scores
        assert (score.name, score.value, score.reason, score.passed) == ("Same", 1.0, "for q", True)
        assert score.threshold == (0.7 if "Same(0.7)" in code else 0.5)

    def test_one_that_only_returns_its_score(self, executor):
        code = """
            from deepeval.metrics import BaseMetric
            class Length(BaseMetric):
                def measure(self, test_case): return len(test_case.actual_output) / 4
                async def a_measure(self, test_case): return self.measure(test_case)
        """
        assert [value for _, value in found(executor, code, CASE)] == [0.25]

    def test_a_shipped_metric_that_calls_no_model(self, executor):
        code = "from deepeval.metrics import ExactMatchMetric\nExactMatchMetric()"
        result = run(executor, code, CASE)
        assert result.error is None, result.error.text
        assert (result.scores[0].value, result.scores[0].passed) == (1.0, True)
        summary, hint = refused(executor, code, {"input": "q", "actual_output": "a", "expected": "a"})
        assert summary == (
            "TypeError: ExactMatchMetric.measure() needs expected_output, which is not in the data "
            "(input, actual_output, expected)."
        )
        assert hint == 'Map it: data={"expected_output": row["expected"]}'

    def test_keys_with_other_names_are_named(self, executor):
        summary, hint = refused(executor, SYNC, {"input": "q", "output": "a", "reference": "a"})
        assert summary.startswith(
            "TypeError: Same.measure() needs actual_output, expected_output, which are not in"
        )
        assert hint == 'Map them: data={"actual_output": row["output"], "expected_output": row["reference"]}'
        assert "needs input" in refused(executor, SYNC, {"actual_output": "a", "expected_output": "a"})[0]

    def test_a_value_of_the_wrong_type_is_named(self, executor):
        summary, _ = refused(executor, SYNC, {**CASE, "context": "not a list"})
        assert (
            "LLMTestCase(), which cannot be made of the data: 'context' must be None or a list of strings."
            in summary
        )

    CONVERSATION = """
        from deepeval.metrics import BaseConversationalMetric
        class Turns(BaseConversationalMetric):
            def __init__(self, threshold=2): self.threshold = threshold
            def measure(self, test_case, *args, **kwargs):
                self.score = len([turn for turn in test_case.turns if turn.role == "user"])
                self.reason = test_case.turns[-1].content
                return self.score
            async def a_measure(self, test_case, *args, **kwargs): return self.measure(test_case)
            @property
            def __name__(self): return "turns"
    """

    def test_a_thread_becomes_a_conversational_test_case(self, executor):
        result = run(executor, self.CONVERSATION, THREAD, payload_type="trace_thread")
        assert result.error is None, result.error.text
        (score,) = result.scores
        assert (score.name, score.value, score.reason, score.passed) == ("turns", 2, "bye", True)
        assert found(executor, self.CONVERSATION, {"turns": THREAD, "scenario": "s"}) == [("turns", 2)]

    def test_threads_and_single_turns_are_told_apart(self, executor):
        summary, hint = refused(executor, SYNC, THREAD, payload_type="trace_thread")
        assert summary == "TypeError: Same scores single turns, and the data is a thread."
        assert "BaseConversationalMetric" in hint
        summary, hint = refused(executor, self.CONVERSATION, {"messages": THREAD})
        assert "needs turns" in summary
        assert hint == 'Map it: data={"turns": row["messages"]}'
        bad = [{"role": "system", "content": "x"}]
        assert (
            "message 0 of the thread" in refused(executor, self.CONVERSATION, bad, payload_type="trace_thread")[0]
        )

    def test_one_that_needs_arguments(self, executor):
        code = SYNC.replace("threshold: float = 0.5", "threshold")
        summary, hint = refused(executor, code, CASE)
        assert summary == "TypeError: Same cannot be made without arguments: it needs threshold."
        assert "Same(threshold=...)" in hint

    def test_two_classes_are_two_rows(self, executor):
        code = SYNC + SYNC.replace("Same", "Again").replace("    from deepeval.metrics import BaseMetric\n", "")
        assert found(executor, code, CASE) == [("Same", 1.0), ("Again", 1.0)]


class TestRagas:
    SINGLE = """
        from dataclasses import dataclass, field
        from ragas.metrics.base import MetricType, SingleTurnMetric, MultiTurnMetric
        @dataclass
        class Overlap(SingleTurnMetric):
            name: str = "overlap"
            _required_columns: dict = field(default_factory=lambda: {MetricType.SINGLE_TURN: {"response", "reference"}})
            def init(self, run_config): self.ready = True
            async def _single_turn_ascore(self, sample, callbacks):
                return float(self.ready and sample.response == sample.reference)
    """

    def test_a_single_turn_metric(self, executor):
        assert found(executor, self.SINGLE, {"response": "a", "reference": "a", "id": 1}) == [("overlap", 1.0)]
        assert found(executor, self.SINGLE + "\n        Overlap()", {"response": "a", "reference": "b"}) == [
            ("overlap", 0.0)
        ]

    def test_its_columns_are_named(self, executor):
        summary, hint = refused(executor, self.SINGLE, {"answer": "a", "reference": "a"})
        assert summary == (
            "TypeError: Overlap.single_turn_ascore() needs response, which is not in the data (answer, reference)."
        )
        assert hint == 'Map it: data={"response": row["answer"]}'

    MULTI = """
        from dataclasses import dataclass
        from ragas.metrics.base import MultiTurnMetric
        from ragas.messages import HumanMessage
        @dataclass
        class Turns(MultiTurnMetric):
            name: str = "turns"
            def init(self, run_config): pass
            async def _multi_turn_ascore(self, sample, callbacks):
                return len([message for message in sample.user_input if isinstance(message, HumanMessage)])
    """

    def test_a_multi_turn_metric(self, executor):
        assert found(executor, self.MULTI, THREAD, payload_type="trace_thread") == [("turns", 2)]
        assert found(executor, self.MULTI, {"user_input": THREAD}) == [("turns", 2)]
        summary, hint = refused(executor, self.MULTI, {"messages": THREAD})
        assert "needs user_input" in summary
        assert hint == 'Map it: data={"user_input": row["messages"]}'

    @pytest.mark.parametrize("define", ["def", "async def"])
    def test_functions_under_its_decorators(self, executor, define):
        code = f"""
            from ragas.metrics import discrete_metric, numeric_metric, ranking_metric
            @numeric_metric(name="closeness", allowed_values=(0, 1))
            {define} close(response, reference):
                return float(response == reference)
            @discrete_metric(name="tone", allowed_values=["good", "bad"])
            {define} tone(response):
                return "good"
        """
        result = run(executor, code, {"response": "a", "reference": "a", "id": 1})
        assert result.error is None, result.error.text
        assert [score.name for score in result.scores] == ["closeness", "tone"]
        assert result.scores[0].value == 1.0
        assert found(executor, code + "\n            close", {"response": "a", "reference": "b"}) == [
            ("closeness", 0.0)
        ]
        summary, hint = refused(executor, code + "\n            close", {"answer": "a", "reference": "b"})
        assert summary == "TypeError: closeness() needs response, which is not in the data (answer, reference)."
        assert hint == 'Map it: data={"response": row["answer"]}'

    def test_a_metric_of_its_collections(self, executor):
        code = "from ragas.metrics.collections import ExactMatch\nExactMatch()"
        assert found(executor, code, {"response": "a", "reference": "a"}) == [("exact_match", 1.0)]

    def test_one_of_the_users(self, executor):
        code = """
            from ragas.metrics.collections.base import BaseMetric
            from ragas.metrics.result import MetricResult
            class Short(BaseMetric):
                def __init__(self): super().__init__(name="short")
                async def ascore(self, response): return MetricResult(value=0.5, reason="why")
        """
        assert found(executor, code, {"response": "a", "id": 1}) == [("short", 0.5)]


class TestAutoevals:
    CODE = """
        from autoevals import Score
        from autoevals.score import Scorer
        class Same(Scorer):
            def _run_eval_sync(self, output, expected=None, **kwargs):
                return Score(name="same", score=float(output == expected), metadata={"kwargs": sorted(kwargs)})
    """

    def test_a_scorer_class(self, executor):
        assert found(executor, self.CODE, {"output": "a", "expected": "a", "input": "q"}) == [("same", 1.0)]
        summary, hint = refused(executor, self.CODE, {"answer": "a", "expected": "a"})
        assert summary == "TypeError: Same() needs output, which is not in the data (answer, expected)."
        assert hint == 'Map it: data={"output": row["answer"]}'

    def test_shipped_ones_on_the_last_line(self, executor):
        code = "from autoevals import ExactMatch\nfrom autoevals.string import Levenshtein\n[ExactMatch(), Levenshtein]"
        assert [value for _, value in found(executor, code, {"output": "a", "expected": "a"})] == [1, 1]


ANSWERED = {"inputs": {"question": "q"}, "outputs": "ab", "expectations": {"expected_response": "ab"}, "id": 1}


class TestMlflow:
    CODE = """
        from mlflow.entities import Feedback
        from mlflow.genai.scorers import Scorer, scorer
        @scorer
        def exact(outputs, expectations):
            return outputs == expectations["expected_response"]
        @scorer
        def verdict(outputs):
            return Feedback(value=0.25, rationale="why")
        class Longer(Scorer):
            name: str = "longer"
            def __call__(self, *, inputs, outputs):
                return len(outputs) > len(inputs["question"])
    """

    def test_functions_under_scorer_and_classes(self, executor):
        assert sorted(found(executor, self.CODE, ANSWERED)) == [
            ("exact", 1.0),
            ("longer", 1.0),
            ("verdict", 0.25),
        ]
        assert found(executor, self.CODE + "\n        exact", ANSWERED) == [("exact", 1.0)]
        assert found(executor, self.CODE + "\n        Longer", ANSWERED) == [("longer", 1.0)]

    def test_what_is_missing_is_named(self, executor):
        summary, hint = refused(executor, self.CODE + "\n        verdict", {"answer": "ab", "question": "q"})
        assert summary == "TypeError: verdict() needs outputs, which is not in the data (answer, question)."
        assert hint == 'Map it: data={"outputs": row["answer"]}'


class TestPhoenix:
    CODE = """
        from phoenix.evals import create_evaluator
        from phoenix.evals.evaluators import Evaluator, Score
        @create_evaluator(name="exact")
        def exact(output: str, reference: str) -> float:
            return float(output == reference)
        class Length(Evaluator):
            def __init__(self): super().__init__(name="length", kind="code")
            def _evaluate(self, eval_input): return [Score(name="length", score=len(eval_input["output"]))]
    """

    def test_evaluators(self, executor):
        assert sorted(found(executor, self.CODE, ROW)) == [("exact", 1.0), ("length", 3)]
        assert found(executor, self.CODE + "\n        exact", ROW) == [("exact", 1.0)]

    def test_an_asynchronous_one(self, executor):
        code = self.CODE.replace("def exact", "async def exact") + "\n        exact"
        assert found(executor, code, ROW) == [("exact", 1.0)]

    def test_what_is_missing_is_named(self, executor):
        summary, hint = refused(executor, self.CODE + "\n        exact", {"answer": "ab", "reference": "q"})
        assert summary == "TypeError: exact.evaluate() needs output, which is not in the data (answer, reference)."
        assert hint == 'Map it: data={"output": row["answer"]}'


RIGHT = {"inputs": {"q": 1}, "outputs": {"answer": "a"}, "reference_outputs": {"answer": "a"}}


class TestLangsmith:
    RUN = """
        from langsmith.schemas import Example, Run
        def correct(run: Run, example: Example) -> dict:
            assert type(run) is Run and type(example) is Example
            return {"key": "correct", "score": run.outputs["answer"] == example.outputs["answer"]}
    """

    @pytest.mark.parametrize("ending", ["", "correct"])
    def test_an_evaluator_of_run_and_example(self, executor, ending):
        code = textwrap.dedent(self.RUN) + ending
        assert found(executor, code, RIGHT) == [("correct", 1.0)]
        nested = {"run": {"outputs": {"answer": "a"}}, "example": {"outputs": {"answer": "b"}}}
        assert found(executor, code, nested) == [("correct", 0.0)]

    def test_one_of_inputs_outputs_and_reference_outputs(self, executor):
        code = "import langsmith\ndef correct(inputs, outputs, reference_outputs): return outputs == reference_outputs\n"
        assert found(executor, code, RIGHT) == [("correct", 1.0)]
        assert found(executor, code + "correct", RIGHT) == [("correct", 1.0)]

    def test_run_evaluators(self, executor):
        code = """
            from langsmith.evaluation import EvaluationResult, RunEvaluator, run_evaluator
            class Mine(RunEvaluator):
                def evaluate_run(self, run, example=None, evaluator_run_id=None):
                    return EvaluationResult(key="mine", score=run.outputs == example.outputs)
            @run_evaluator
            def wrapped(run, example):
                return {"key": "wrapped", "score": 0.5}
        """
        assert sorted(found(executor, code, RIGHT)) == [("mine", 1.0), ("wrapped", 0.5)]

    def test_what_is_missing_is_named(self, executor):
        summary, hint = refused(executor, textwrap.dedent(self.RUN) + "correct", {"answer": "a", "expected": "a"})
        assert summary.startswith(
            "TypeError: correct() needs outputs, reference_outputs, which are not in the data"
        )
        assert hint == 'Map them: data={"outputs": row["answer"], "reference_outputs": row["expected"]}'


@pytest.mark.parametrize("launch", ["cold", "forked"])
@pytest.mark.parametrize(
    ("code", "data", "name"),
    [
        (TestOpik.THREAD_METRIC.format(define="def"), {"conversation": THREAD}, "turns"),
        (SYNC, CASE, "Same"),
        (TestRagas.SINGLE, {"response": "a", "reference": "a"}, "overlap"),
        (TestAutoevals.CODE, {"output": "a", "expected": "a"}, "same"),
        (TestMlflow.CODE + "\n        exact", ANSWERED, "exact"),
        (TestPhoenix.CODE + "\n        exact", ROW, "exact"),
        (TestLangsmith.RUN, RIGHT, "correct"),
    ],
)
@pytest.mark.usefixtures("libraries")  # for its environment
def test_in_a_process_of_its_own(launch, code, data, name):
    with IsolatedSubprocessExecutor(timeout_secs=120, launch=launch) as executor:
        for _ in range(2):
            assert [row for row, _ in found(executor, code, data)] == [name]
