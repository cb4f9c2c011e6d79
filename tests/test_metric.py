"""Metric classes as the result: our own and those of the real opik."""

import textwrap

import pytest

from tests.runs import LIGHT, line, refusal, scores


class TestMetricClass:
    def test_score_gets_the_data_and_none_for_what_is_missing(self, executor):
        code = LIGHT + (
            "class Mine(BaseMetric):\n    def score(self, output, reference, *, extra, limit=3, **rest):\n"
            "        return ScoreResult('m', 1, repr((output, reference, extra, limit, rest)))"
        )
        (score,) = scores(executor, code, {"output": "o", "other": 1})
        assert score["reason"] == "('o', None, None, 3, {'other': 1})"

    def test_the_data_is_the_runs_whatever_the_code_does_with_the_name(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a): return a\ndel payload_type\ndata = [1, 2]"
        assert scores(executor, code, {"a": 0.5})[0]["value"] == 0.5

    def test_trace_thread_hands_over_the_whole_list(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, thread): return len(thread)"
        (score,) = scores(executor, code, [{"role": "user"}, {"role": "assistant"}], payload_type="trace_thread")
        assert (score["name"], score["value"]) == ("Mine", 2)

    def test_a_list_without_trace_thread_is_refused(self, executor):
        answer = executor.execute("1", [1])
        assert answer["code"] == 400
        assert "trace_thread" in answer["error"]

    def test_an_imported_class_is_not_a_defined_one(self, executor, tmp_path, monkeypatch):
        (tmp_path / "shipped.py").write_text(LIGHT + "class Ready(BaseMetric):\n    def score(self): return 1")
        monkeypatch.chdir(tmp_path)
        refusal(executor, "from shipped import *")

    def test_all_concrete_classes_score_but_those_that_are_a_base_of_another(self, executor):
        code = LIGHT + (
            "import abc\n"
            "class Helper(BaseMetric):\n    def score(self): return 0.1\n"
            "class Base(BaseMetric, abc.ABC):\n    @abc.abstractmethod\n    def part(self): ...\n    def score(self): return self.part()\n"
            "class Mine(Base):\n    def part(self): return Helper().score() * 2\n"
            "class Unfinished(Base): pass\n"
        )
        assert scores(executor, code) == [
            {"name": "Helper", "value": 0.1, "reason": None},
            {"name": "Mine", "value": 0.2, "reason": None},
        ]

    def test_an_async_score_is_awaited(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    async def score(self): return 0.5"
        assert scores(executor, code)[0]["value"] == 0.5

    def test_a_metric_that_scores_in_async_only(self, executor):
        code = (
            "class BaseMetric:\n    def score(self): raise NotImplementedError\n    async def ascore(self): return self.score()\n"
            "class Mine(BaseMetric):\n    async def ascore(self): return 0.5"
        )
        assert scores(executor, code)[0]["value"] == 0.5

    def test_the_traceback_of_an_async_metric_is_its_own(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    async def score(self):\n        raise ValueError('boom')"
        lines = executor.execute(code, {})["error"].splitlines()
        assert len(lines) == 4
        assert lines[2].strip() == "raise ValueError('boom')"

    def test_its_exception_is_a_400_with_its_own_frames(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a):\n        return a.missing"
        answer = executor.execute(code, {"a": 1})
        assert answer["code"] == 400
        assert "return a.missing" in answer["error"]
        assert "isolated_magic" not in answer["error"]

    def test_an_argument_it_does_not_take_is_a_400(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a): return 1"
        answer = executor.execute(code, {"a": 1, "b": 2})
        assert answer["code"] == 400
        assert "unexpected keyword argument 'b'" in answer["error"]

    def test_what_it_returned_is_named_when_it_is_no_score(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 'good'"
        assert "Mine.score() returned a str" in refusal(executor, code)

    def test_after_sys_exit_no_metric_is_made(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 1\nraise SystemExit"
        assert "sys.exit()" in refusal(executor, code)


class TestRealOpik:
    def test_a_subclass_of_base_metric(self, executor):
        code = """
            from typing import Any
            from opik.evaluation.metrics import BaseMetric, Equals
            from opik.evaluation.metrics.score_result import ScoreResult

            class Shorter(BaseMetric):
                def __init__(self):
                    super().__init__(name="shorter")

                def score(self, output: str, reference: str, **ignored: Any) -> ScoreResult:
                    return ScoreResult(name=self.name, value=float(len(output) < len(reference)), reason="by length")
        """
        (score,) = scores(executor, code, {"output": "a", "reference": "abc", "id": 3})
        assert score == {
            "name": "shorter",
            "value": 1.0,
            "reason": "by length",
            "category_name": None,
            "metadata": None,
            "scoring_failed": False,
        }

    def test_trace_thread(self, executor):
        code = """
            from opik.evaluation.metrics import base_metric, score_result

            class Turns(base_metric.BaseMetric):
                def score(self, thread):
                    return [score_result.ScoreResult("turns", len(thread)), score_result.ScoreResult("ok", 1, scoring_failed=True)]
        """
        found = scores(executor, code, [{"role": "user", "content": "hi"}] * 3, payload_type="trace_thread")
        assert [(score["name"], score["value"], score["scoring_failed"]) for score in found] == [
            ("turns", 3, False),
            ("ok", 1, True),
        ]

    def test_a_shipped_metric_as_the_last_expression(self, executor):
        code = "from opik.evaluation.metrics import Equals\nEquals(track=False).score(**data)"
        (score,) = scores(executor, code, {"output": "a", "reference": "a"})
        assert (score["name"], score["value"]) == ("equals_metric", 1.0)

    def test_no_network_call_that_the_code_did_not_ask_for(self, executor):
        code = """
            import socket
            tried = []
            def refuse(self, address, *_): tried.append(address); raise OSError("no network here")
            socket.socket.connect = refuse
            from opik.evaluation.metrics import Contains
            Contains(track=False).score(output="abc", reference="b")
            import atexit, json, threading
            print(json.dumps({"tried": [str(one) for one in tried]}))
        """
        assert executor.execute(textwrap.dedent(code), {}) == {"tried": []}


def printing(*printed):
    return "".join(f"print({one!r})\n" for one in printed)


CONFIGURED = """
class BaseMetric: pass
class M(BaseMetric):
    def __init__(self, name="d", threshold=0.9): self.name, self.threshold = name, threshold
    def score(self, **ignored): return self.threshold
"""
NEEDY = CONFIGURED.replace("threshold=0.9", "threshold").replace('name="d"', "name").replace("M(", "Needy(")


def named(result):
    return [(score.name, score.value) for score in result.scores]


class TestMetricObjects:
    @pytest.mark.parametrize(
        ("ending", "found"),
        [
            ("", [("d", 0.9)]),
            ("M('mm', 0.3)", [("mm", 0.3)]),
            ("m = M('mm', 0.3)\nm", [("mm", 0.3)]),
            ("[M('a', 0.1), M('b', 0.2)]", [("a", 0.1), ("b", 0.2)]),
            ("(M('a', 0.1),)", [("a", 0.1)]),
            ("M", [("d", 0.9)]),
            ("class Other(M): pass\nM('mm', 0.3)", [("mm", 0.3)]),
            (printing(line("printed")) + "M('mm', 0.3)", [("mm", 0.3)]),
        ],
    )
    def test_the_object_on_the_last_line_is_the_one_that_scores(self, executor, ending, found):
        result = executor.run(CONFIGURED + ending, {"answer": "a"})
        assert (named(result), result.notes) == (found, ())

    def test_one_of_an_imported_class_too(self, executor, tmp_path, monkeypatch):
        (tmp_path / "shipped.py").write_text(CONFIGURED)
        monkeypatch.chdir(tmp_path)
        assert named(executor.run("import shipped\nshipped.M('mm', 0.3)")) == [("mm", 0.3)]
        result = executor.run("import shipped\nm = shipped.M('mm', 0.3)")
        assert not result.ok
        assert result.notes == ("m is a metric: as the last line, it scores.",)

    def test_a_list_with_something_else_among_metrics_is_named(self, executor):
        assert "a list of metrics whose item 1 is a str, not a metric" in refusal(
            executor, CONFIGURED + "[M(), 'x']"
        )

    def test_one_that_a_variable_holds_scores_in_place_of_a_new_one_with_a_note(self, executor):
        result = executor.run(CONFIGURED + "m = M('mm', 0.3)")
        assert named(result) == [("mm", 0.3)]
        assert result.notes == ("No metric is the value of the last line: m was scored, as the code made it.",)
        assert named(executor.run(CONFIGURED + "ms = [M('a', 0.1), M('b', 0.2)]")) == [("a", 0.1), ("b", 0.2)]

    def test_a_class_that_cannot_be_made_without_arguments_says_which_and_what_to_write(self, executor):
        error = executor.run(NEEDY).error
        assert (error.code, error.summary) == (
            400,
            "TypeError: Needy cannot be made without arguments: it needs name, threshold.",
        )
        assert error.hint == "End the code with the metric that is to score: Needy(name=..., threshold=...)"
        assert "isolated_magic" not in error.text
        assert named(executor.run(NEEDY + "Needy(name='n', threshold=0.1)")) == [("n", 0.1)]

    def test_a_type_error_of_its_own_is_its_own(self, executor):
        error = executor.run(CONFIGURED.replace("self.name,", "len(3); self.name,")).error
        assert "len(3)" in error.text
        assert error.hint == ""


class TestSeveralMetrics:
    CODE = LIGHT + (
        "class A(BaseMetric):\n    def score(self, **kw): return 0.1\n"
        "class B(BaseMetric):\n    def score(self, answer): return 0.2\n"
        "class C(BaseMetric):\n    def score(self, other, **kw): return 0.3\n"
        "class D(A):\n    def score(self, **kw): return 0.4\n"
        "class E(BaseMetric):\n    def __init__(self, model): pass\n    def score(self, **kw): return 0.5\n"
        "Alias = D\n"
    )

    def test_all_that_take_the_data_score_in_order_and_of_the_others_it_is_said_why_not(self, executor):
        result = executor.run(self.CODE, {"answer": "a"})
        assert named(result) == [("B", 0.2), ("D", 0.4)]
        assert [note.split(":")[0] for note in result.notes] == ["C is left out", "E is left out"]
        result = executor.run(self.CODE, {"answer": "a", "x": 1})
        assert named(result) == [("D", 0.4)]
        assert result.notes == (
            "B is left out: its score() does not take x: add **ignored to its parameters",
            'C is left out: other is not in the data (answer, x). Map it: data={"other": row["answer"]}',
            "E is left out: it needs model. Name an object of it on the last line, such as E(model=...)",
        )

    def test_when_none_takes_the_data_all_score_as_one_would(self, executor):
        code = LIGHT + "".join(
            f"class {name}(BaseMetric):\n    def score(self, output, **kw): return float(output is None)\n"
            for name in "AB"
        )
        result = executor.run(code, {"answer": "a"})
        assert named(result) == [("A", 1.0), ("B", 1.0)]
        assert len(result.notes) == 1

    def test_without_names_they_are_called_as_their_classes(self, executor):
        code = "class BaseMetric: pass\n" + "".join(
            f"class {name}(BaseMetric):\n    def score(self): return 1\n" for name in "AB"
        )
        assert named(executor.run(code)) == [("A", 1), ("B", 1)]
