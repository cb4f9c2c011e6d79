"""An evaluation in a file and back, and as a data frame."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from isolated_magic import (
    EvaluationResult,
    InvalidRequestError,
    IsolatedSubprocessExecutor,
    MissingLibraryError,
    NoSuchRowError,
    RowResult,
    Score,
)
from tests.evaluations import BROKEN, rich_result, some_rows


def told(result):
    """All that a result has, as text in which NaN is equal to itself; the errors of attempts as well."""
    return repr([dataclasses.astuple(row) for row in result.rows])


def told_without_displays(result):
    return told(
        dataclasses.replace(result, rows=tuple(dataclasses.replace(row, displays=(), row=0) for row in result))
    )


class TestLines:
    def test_what_is_loaded_is_what_was_saved(self, tmp_path):
        result = rich_result()
        path = result.save(tmp_path / "r.jsonl")
        loaded = EvaluationResult.load(path)
        assert loaded == result
        assert told(loaded) == told(result)
        assert [row.row for row in loaded] == [row.row for row in result]
        assert loaded.summary == result.summary
        assert (loaded.label, loaded.rows[0].timings) == (result.label, result.rows[0].timings)

    def test_what_was_run_has_the_same_summary_when_it_is_loaded(self, tmp_path):
        with IsolatedSubprocessExecutor() as executor:
            result = executor.evaluate("1 / data['n']", [{"n": 0}, {"n": 1}, {"n": 2}], retries=1)
        lines, table = (EvaluationResult.load(result.save(tmp_path / name)) for name in ("r.jsonl", "r.csv"))
        assert lines.summary == table.summary == result.summary
        assert [row.attempts for row in lines] == [row.attempts for row in result]

    def test_rows_are_saved_as_the_code_got_them(self, tmp_path):
        @dataclasses.dataclass
        class Question:
            text: str

        itself = []
        itself.append(itself)
        deep = []
        for _ in range(10_000):
            deep = [deep]
        rows = [
            {"when": pd.Timestamp("2024-02-29"), "array": np.arange(2), np.int64(3): {1: {2}, "a": (1, None)}},
            Question("why?"),
            ["a", 1],
            {"object": object(), "deep": deep, "itself": itself, "kept": 1.5},
            object(),
        ]
        result = EvaluationResult(tuple(RowResult(n, str(n), row) for n, row in enumerate(rows)))
        loaded = EvaluationResult.load(result.save(tmp_path / "r.jsonl"))
        assert [row.row for row in loaded] == [
            {"when": "2024-02-29T00:00:00", "array": [0, 1], "3": "<dict>"},
            {"text": "why?"},
            ["a", 1],
            {"object": "<object>", "deep": "<list>", "itself": "<list>", "kept": 1.5},
            "<object>",
        ]

    def test_an_evaluation_that_ran(self, tmp_path):
        with IsolatedSubprocessExecutor() as executor:
            result = executor.evaluate("1 / data['n']", [{"n": 2}, {"n": 0}], key=lambda row: f"n={row['n']}")
        loaded = EvaluationResult.load(result.save(tmp_path / "r.jsonl"))
        assert loaded == result
        assert loaded["n=2"].scores[0].value == 0.5
        assert "ZeroDivisionError" in loaded["n=0"].error.text
        assert loaded.rows[0].row == {"n": 2}

    @pytest.mark.parametrize("ending", ["jsonl", "csv", "html"])
    def test_no_secret_is_saved_or_plotted(self, tmp_path, ending):
        rows = [{"tenant": f"of-hunter{n}", "n": n} for n in range(2)]
        with IsolatedSubprocessExecutor() as executor:
            result = executor.evaluate(
                "import os\nprint(os.environ['PASSWORD'])\n1 / data['n']",
                rows,
                env_vars=lambda row: {"PASSWORD": f"hunter{row['n']}"},
                secrets=["PASSWORD"],
                key=lambda row: row["tenant"],
            )
        assert "hunter" not in result.save(tmp_path / f"r.{ending}").read_text()
        assert "hunter" not in result.to_pandas().to_csv()
        assert "hunter" not in repr(result) + repr(result.by("tenant"))
        (axis,) = result.plot("tenant").axes
        assert not any("hunter" in label.get_text() for label in axis.get_yticklabels())

    def test_a_first_line_that_somebody_has_edited(self, tmp_path):
        path = rich_result().save(tmp_path / "r.jsonl")
        header, _, rows = path.read_text().partition("\n")
        broken = {"not_run": "many", "stopped": 1, "repeat": None, "notes": None, "label": []}
        path.write_text(f"{json.dumps(json.loads(header) | broken)}\n{rows}")
        assert EvaluationResult.load(path) == EvaluationResult(rich_result().rows)

    def test_nothing_is_an_evaluation_too(self, tmp_path):
        for ending in ("jsonl", "csv"):
            assert len(EvaluationResult.load(EvaluationResult().save(tmp_path / f"r.{ending}"))) == 0

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda lines: lines[:-1], "is incomplete: it has 3 of 4 rows"),
            (lambda lines: [*lines[:-1], lines[-1][:20]], r"line 5: this is no JSON \("),
            (lambda lines: [*lines[:2], "[1]\n", *lines[2:]], "line 3: it is not a JSON object"),
            (lambda lines: lines[1:], "is no saved evaluation: give a .jsonl, .csv or .parquet file of save"),
            (lambda lines: ["x"], "is no saved evaluation"),
            (lambda lines: [], "is no saved evaluation"),
            (
                lambda lines: [lines[0].replace(": 1,", ": 2,", 1)],
                "by a newer version of isolated_magic: upgrade it",
            ),
        ],
    )
    def test_a_file_that_is_broken(self, tmp_path, change, problem):
        path = rich_result().save(tmp_path / "r.jsonl")
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(change(lines)))
        with pytest.raises(InvalidRequestError, match=problem):
            EvaluationResult.load(path)


class TestCsv:
    def test_what_is_loaded_is_what_was_saved(self, tmp_path):
        result = rich_result()
        loaded = EvaluationResult.load(result.save(tmp_path / "r.csv"))
        assert loaded == result
        assert loaded.summary == {**result.summary, "usage": loaded.summary["usage"]}
        assert told_without_displays(loaded) == told_without_displays(result)
        assert loaded.label == "mine"
        assert loaded.rows[0].row == {
            "tenant": "t1",
            "n": 1,
            "tags": '["a", {"b": null}]',
            "note": 'line 1\nline, "2"',
            "ms": 7,
        }

    def test_it_is_only_a_table_where_that_says_all(self, tmp_path):
        scores = (Score("a", 1, "7"), Score("b", 0.1 + 0.2, passed=True), Score("c", "text"))
        rows = tuple(RowResult(n, f"k{n}", {"n": n}, scores) for n in range(3))
        path = EvaluationResult(rows).save(tmp_path / "r.csv")
        assert "details" not in path.read_text()
        assert EvaluationResult.load(path) == EvaluationResult(rows)

    def test_details_that_somebody_has_edited(self, tmp_path):
        path = rich_result().save(tmp_path / "r.csv")
        frame = pd.read_csv(path, dtype=str)
        frame["details"] = "x"
        frame.to_csv(path, index=False)
        loaded = EvaluationResult.load(path)
        assert [row.key for row in loaded] == ["first", "second", "3", "naïve"]
        assert (loaded.rows[1].error.kind, loaded.rows[1].error.summary) == (BROKEN.kind, BROKEN.summary)
        assert loaded.rows[0].scores[:2] == (
            Score("relevance", 0.25, "because", passed=False),
            Score("tone", "kind"),
        )

    def test_text_among_numbers(self, tmp_path):
        values = [0.5, 1, "none given"]
        rows = tuple(RowResult(n, str(n), {}, (Score("s", value),)) for n, value in enumerate(values))
        loaded = EvaluationResult.load(EvaluationResult(rows).save(tmp_path / "r.csv"))
        assert [row.scores[0].value for row in loaded] == values

    def test_keys_stay_as_they_are(self, tmp_path):
        keys = ["007", "1.50", "12", "1e5"]
        result = EvaluationResult(tuple(RowResult(n, key, {}) for n, key in enumerate(keys)))
        assert [row.key for row in EvaluationResult.load(result.save(tmp_path / "r.csv"))] == keys

    def test_it_can_be_compared_with(self, tmp_path):
        result = EvaluationResult(some_rows(20))
        comparison = result.compare(EvaluationResult.load(result.save(tmp_path / "r.csv")))
        assert comparison.metrics["relevance"].pairs == comparison.metrics["relevance"].ties == 20

    def test_pandas_reads_it(self, tmp_path):
        frame = pd.read_csv(rich_result().save(tmp_path / "r.csv"))
        assert list(frame["key"]) == ["first", "second", "3", "naïve"]
        assert frame["relevance"].mean() == 0.625

    @pytest.mark.parametrize("header", ["a,b", "key,error,error_kind"])
    def test_another_table(self, tmp_path, header):
        (tmp_path / "r.csv").write_text(f"{header}\n{'1,' * header.count(',')}1\n")
        with pytest.raises(InvalidRequestError, match="is no saved evaluation: it"):
            EvaluationResult.load(tmp_path / "r.csv")

    def test_rows_that_were_the_table_of_an_evaluation(self, tmp_path):
        fields = {"key": "a", "row.key": "b", "n": 1, "row.n": 2, "tone": "c", "row.tone": "d"}
        scores = (Score("tone", 0.5), Score("key", 1), Score("score.key", 2))
        result = EvaluationResult((RowResult(0, "k", fields, scores),))
        names = [*result.to_pandas().columns]
        assert len(set(names)) == len(names)
        loaded = EvaluationResult.load(result.save(tmp_path / "r.csv"))
        assert loaded == result
        assert loaded.rows[0].row == fields


class TestCheckpoint:
    def test_its_rows(self, tmp_path):
        path = tmp_path / "c.jsonl"
        code = "data['n'] if data['n'] else 1 / 0"
        rows = [{"n": n} for n in range(4)]
        with IsolatedSubprocessExecutor() as executor:
            result = executor.evaluate(code, rows, checkpoint=path, limit=3, key=lambda row: f"n={row['n']}")
            executor.evaluate(code, rows, checkpoint=path, key=lambda row: f"n={row['n']}")
        with path.open("a") as file:
            file.write('{"id": "torn')
        loaded = EvaluationResult.load(path)
        assert [row.key for row in loaded] == ["n=0", "n=1", "n=2", "n=3"]
        assert [row.ok for row in loaded] == [False, True, True, True]
        assert loaded.rows[1].scores == result.rows[1].scores
        assert loaded.not_run == 0
        assert loaded.notes == ("1 line of c.jsonl could not be read.",)


class TestPaths:
    def test_a_path_in_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert EvaluationResult().save("~/r.jsonl") == tmp_path / "r.jsonl"
        assert EvaluationResult.load("~/r.jsonl") == EvaluationResult()

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("r.txt", r"r\.txt has '\.txt': an evaluation is saved as \.jsonl, "),
            ("r", "has no ending"),
            ("none/r.csv", r"r\.csv cannot be written: No such file or directory"),
            ("folder.csv", r"folder\.csv cannot be written: it is a folder"),
        ],
    )
    def test_where_it_cannot_be_saved(self, tmp_path, path, problem):
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(InvalidRequestError, match=problem):
            EvaluationResult().save(tmp_path / path)
        assert [each.name for each in tmp_path.iterdir()] == ["folder.csv"]

    def test_what_is_no_path(self):
        with pytest.raises(InvalidRequestError, match=r"path is int: give the path of a \.jsonl, "):
            EvaluationResult().save(1)
        with pytest.raises(InvalidRequestError, match="path is int: give the path of a saved evaluation"):
            EvaluationResult.load(1)
        with pytest.raises(InvalidRequestError, match=r"There is no file 'none\.jsonl'"):
            EvaluationResult.load("none.jsonl")

    def test_a_link_is_written_through(self, tmp_path):
        (tmp_path / "link.csv").symlink_to(tmp_path / "r.csv")
        EvaluationResult().save(tmp_path / "link.csv")
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "r.csv").exists()

    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
    @pytest.mark.parametrize("ending", ["jsonl", "csv", "html"])
    def test_a_file_that_is_replaced_keeps_its_permissions(self, tmp_path, ending, mode):
        path = EvaluationResult().save(tmp_path / f"r.{ending}")
        path.chmod(mode)
        before = path.read_bytes()
        EvaluationResult(some_rows(3)).save(path)
        assert path.read_bytes() != before
        assert path.stat().st_mode & 0o777 == mode

    def test_the_old_file_stays_where_the_new_one_cannot_be_written(self, tmp_path):
        path = EvaluationResult(some_rows(3)).save(tmp_path / "r.jsonl")
        before = path.read_text()
        code = f"""
import resource, signal
from isolated_magic import EvaluationResult, InvalidRequestError
from tests.evaluations import some_rows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    EvaluationResult(some_rows(1000)).save({str(path)!r})
except InvalidRequestError as problem:
    print(problem)
"""
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout == f"{path} cannot be written: File too large.\n"
        assert path.read_text() == before
        assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]

    def test_a_report(self, tmp_path):
        text = rich_result().save(tmp_path / "r.html").read_text()
        assert text.startswith("<!DOCTYPE html>")
        assert "relevance" in text
        with pytest.raises(InvalidRequestError, match="is a report, which cannot be loaded: save a"):
            EvaluationResult.load(tmp_path / "r.html")

    def test_parquet_without_a_library_for_it(self, tmp_path, monkeypatch):
        for name in ("pyarrow", "polars"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingLibraryError, match="needs pyarrow or polars, and neither is installed: pip"):
            EvaluationResult().save(tmp_path / "r.parquet")
        assert not list(tmp_path.iterdir())


class TestWorkers:
    """Where rows ran is kept in each kind of file."""

    ROWS = (
        RowResult(0, "a", {"worker": "Ann", "n": 1}, (Score("x", 1),), worker="tcp://10.0.0.7:1"),
        RowResult(
            1, "b", {"worker": "Bob", "n": 2}, (Score("x", 2),), stdout="printed", worker="tcp://10.0.0.8:2"
        ),
        RowResult(2, "c", {"worker": "Cid", "n": 3}, error=BROKEN),
    )

    @pytest.mark.parametrize("suffix", ["jsonl", "csv"])
    def test_what_is_loaded_is_what_was_saved(self, tmp_path, suffix):
        result = EvaluationResult(self.ROWS)
        loaded = EvaluationResult.load(result.save(tmp_path / f"r.{suffix}"))
        assert loaded == result
        assert [row.worker for row in loaded] == ["tcp://10.0.0.7:1", "tcp://10.0.0.8:2", None]
        assert [row.row for row in loaded] == [row.row for row in result]

    def test_they_are_a_column_where_there_are_any(self):
        frame = EvaluationResult(self.ROWS).to_pandas()
        assert [*frame] == [
            "index",
            "key",
            "row.worker",
            "n",
            "error_kind",
            "error",
            "x",
            "attempts",
            "ms",
            "worker",
        ]
        assert frame["worker"].tolist()[:2] == ["tcp://10.0.0.7:1", "tcp://10.0.0.8:2"]
        assert frame["row.worker"].tolist() == ["Ann", "Bob", "Cid"]


class TestPandas:
    def test_columns(self):
        frame = rich_result().to_pandas()
        assert list(frame) == [
            *("index", "key", "repetition", "cluster", "tenant", "n", "tags", "note", "row.ms"),
            *("error_kind", "error", "relevance", "relevance.reason", "relevance.passed"),
            *("tone", "tone.reason", "score.error", "attempts", "ms"),
        ]
        first = frame.iloc[0]
        assert (first["relevance"], first["relevance.reason"], first["tone"]) == (0.25, "because", "kind")
        assert first["tags"] == ["a", {"b": None}]
        assert (first["row.ms"], first["ms"], first["attempts"]) == (7, 20.5, 2)
        assert list(frame["relevance"].isna()) == [False, True, True, False]
        assert frame["relevance.reason"][2] == "NaN"
        assert frame["tone.reason"][2] == "no key"
        assert list(frame["error_kind"].dropna()) == ["no_result"]

    def test_names_that_are_taken(self, tmp_path):
        scores = tuple(Score(name, 0.5, "why") for name in ("a", "a.reason", "key", "ms", "", "n"))
        result = EvaluationResult((RowResult(0, "k", {"n": 1, "a": 2, "key": 3, "a.reason": 4}, scores),))
        frame = result.to_pandas()
        assert frame.columns.is_unique
        assert [frame[f"row.{name}"][0] for name in ("n", "a", "key", "a.reason")] == [1, 2, 3, 4]
        loaded = EvaluationResult.load(result.save(tmp_path / "r.csv"))
        assert loaded.rows[0].row == result.rows[0].row
        assert loaded.rows[0].scores == result.rows[0].scores

    def test_rows_that_are_odd(self, tmp_path):
        class Refuses(dict):
            def __getitem__(self, key):
                raise RuntimeError

        deep = []
        for _ in range(100_000):
            deep = [deep]
        rows = [Refuses(a=1), {"a": deep, "b": 10**5000, None: 1, (1, 2): object()}, deep, {"a": "\ud800"}, None]
        result = EvaluationResult(tuple(RowResult(n, str(n), row, (Score("s", 1),)) for n, row in enumerate(rows)))
        assert len(result.to_pandas()) == len(rows)
        for ending in ("jsonl", "csv", "html"):
            path = result.save(tmp_path / f"r.{ending}")
            if ending != "html":
                assert [row.scores for row in EvaluationResult.load(path)] == [row.scores for row in result]
        assert sum(map(len, result.by("a").values())) == len(rows)

    def test_rows_without_fields(self):
        frame = EvaluationResult((RowResult(0, "a", 5), RowResult(1, "b", "text"))).to_pandas()
        assert list(frame["row"]) == [5, "text"]

    def test_no_rows(self):
        assert list(EvaluationResult().to_pandas()) == ["index", "key", "error_kind", "error", "attempts", "ms"]

    def test_without_pandas(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingLibraryError, match=r"to_pandas\(\) needs pandas"):
            EvaluationResult().to_pandas()


class TestResult:
    def test_repr(self):
        told = "EvaluationResult(relevance 0.5 ± 0.2, 10 of 10 scored)"
        assert repr(EvaluationResult(some_rows(10))) == told
        told = repr(rich_result())
        assert told.startswith("EvaluationResult(relevance 0.6")
        assert told.endswith(
            ", tone 1 kind, error 2, 2 of 4 scored, 1 failed, 1 unscored, 2 not run, stopped early)"
        )
        assert repr(EvaluationResult()) == "EvaluationResult(0 of 0 scored)"
        assert repr(EvaluationResult(some_rows(1), not_run=None)) == "EvaluationResult(relevance 0, 1 of 1 scored)"

    def test_a_row_by_its_key_or_position(self):
        result = EvaluationResult(some_rows(4))
        assert result["k2"] is result[2] is result.rows[2]
        assert result[-1] is result.rows[3]
        assert result[1:3] == result.rows[1:3]
        assert ("k2" in result, "k9" in result, result.rows[1] in result) == (True, False, True)
        with pytest.raises(NoSuchRowError, match="There is no row with the key 'k9' among 4"):
            result["k9"]
        with pytest.raises(NoSuchRowError, match=r"It is a metric: .summary\['metrics'\] has it"):
            result["relevance"]
        twice = EvaluationResult((*some_rows(1), *some_rows(1, repetition=1)))
        with pytest.raises(KeyError, match="There are 2 rows with the key 'k0'"):
            twice["k0"]
