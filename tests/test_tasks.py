"""What is made of the rows of an evaluation, before any runs: mistakes, hostile rows, secrets in them."""

import math

import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor, Secret
from isolated_magic.executors import tasks
from tests.runs import rows_of, values

CODE = "1 / data['n']"
ECHO = "data['n']"


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"jobs": 0}, "jobs is 0: give a whole number, 1 or more"),
            ({"repeat": None}, "repeat is None: give a whole number, 1 or more"),
            ({"limit": -1}, "limit is -1: give a whole number, 0 or more"),
            ({"retries": 1.5}, "retries is 1.5: give a whole number"),
            ({"retry_on": "timeout"}, "retry_on is str: give a list of names"),
            ({"retry_on": ["Rate limit"]}, "'Rate limit' is neither the name of an exception nor a kind of error"),
            ({"rate": "fast"}, "rate is 'fast': give a number of runs in a time, such as '10/s'"),
            ({"rate": 0}, "rate is 0"),
            ({"fail_on_error": -1}, "fail_on_error is -1: give a number of rows, or a share"),
            ({"fail_on_error": "10%"}, "fail_on_error is '10%'"),
            ({"per": 3}, "per is int: give a function of the row, or the name of a field"),
            ({"env_vars": ["A"]}, "env_vars is list: give a dict"),
            ({"env_vars": {"A=": "1"}}, "holds '='"),
            ({"secrets": "KEY"}, "secrets is str: give a list of names"),
            ({"timeout_secs": 0}, "timeout_secs is 0"),
            ({"data": [1]}, "data is list: give a dict"),
            ({"data": {"x": object()}}, "object cannot be sent as JSON"),
            ({"seed": "a"}, "seed is 'a'"),
            ({"payload_type": 1}, "payload_type is int"),
        ],
    )
    def test_of_all_rows_are_said_before_the_first(self, executor, options, message):
        read = []
        rows = (read.append(n) or {"n": n} for n in range(3))
        with pytest.raises(InvalidRequestError, match=message.replace("(", r"\(")):
            executor.evaluate(CODE, rows, **options)
        assert read == []

    def test_an_option_that_is_none(self, executor):
        with pytest.raises(
            TypeError, match="unexpected keyword argument 'job': the options of an evaluation are data"
        ):
            executor.evaluate(CODE, [], job=2)

    def test_of_the_code_and_of_what_is_no_rows(self, executor):
        with pytest.raises(InvalidRequestError, match=r"file not found: no_such_file\.py"):
            executor.map("no_such_file.py", [{}])
        with pytest.raises(InvalidRequestError, match="rows is int"):
            executor.evaluate(CODE, 3)

    def test_variables_for_workers_are_refused_once(self, workers):
        for env_vars in ({"A": "1"}, lambda row: {"A": row["n"]}):
            with pytest.raises(InvalidRequestError, match="cannot be given to ProcessExecutor"):
                workers.evaluate(ECHO, rows_of(2), env_vars=env_vars)


class Odd:
    """A row that can do nothing."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no eq")

    __hash__ = None


class Undecided:
    """A value that is equal to nothing, not even itself."""

    def __eq__(self, other):
        raise RuntimeError("no eq")

    def __hash__(self):
        return 1


class OddError(Exception):
    def __str__(self):
        raise RuntimeError("no str")


def raising(problem):
    def function(row):
        if row["n"] == 2:
            raise problem
        return row["n"]

    return function


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class TestHostileRows:
    def test_costs_no_other_row(self, workers):
        rows = [
            *({"n": 1}, 3, None, "text", Odd(), [1], {"x": Odd()}, {"x": nested(10_000)}),
            *({"n": math.nan}, {("a",): 1}, {1: 0, "1": 0}, {"n": 2, "big": "x" * 100_000_000}, {"n": 3}),
        ]
        result = workers.evaluate(ECHO, rows)
        found = values(result)
        assert found[0] == 1
        assert found[1] == (
            "The row is int: give rows that are dicts, or data=, a function of the row that gives a dict."
        )
        assert [found[n][:14] for n in (2, 3, 4)] == ["The row is Non", "The row is str", "The row is Odd"]
        assert "data is list" in found[5]
        assert 'data["x"]: Odd cannot be sent as JSON' in found[6]
        assert "nested too deeply" in found[7]
        assert math.isnan(found[8])
        assert "Rename one of them" in found[10]
        assert found[11:] == [2, 3]
        assert result.rows[4].key == "#4"
        assert [row.index for row in result] == [*range(13)]

    @pytest.mark.parametrize("option", ["data", "key", "cluster", "per", "secrets"])
    def test_what_a_function_raises_is_the_error_of_its_row(self, workers, option):
        for problem, told in (
            (KeyError("tenant"), "KeyError: 'tenant'"),
            (ValueError(), "ValueError"),
            (StopIteration(), "StopIteration"),
            (OddError(), "OddError: <OddError that cannot be printed>"),
        ):
            function = raising(problem)
            if option == "data":
                function = lambda row, inner=function: {"n": inner(row)}  # noqa: E731 - of one row
            elif option == "secrets":
                function = lambda row, inner=function: inner(row) and ()  # noqa: E731 - likewise
            result = workers.evaluate(ECHO, rows_of(3), **{option: function})
            assert values(result) == [1, f"{option}: the function of the row raised {told}", 3]

    @pytest.mark.parametrize(
        ("option", "given", "message"),
        [
            ("key", None, "key: the function of the row gave None: give each row a key."),
            ("key", math.nan, "gave nan"),
            ("key", " ", "gave no text"),
            ("key", object(), "gave object, whose text differs in every program"),
            ("key", "1", "the key '1' belongs to an earlier row, too"),
            ("cluster", None, "give each row a cluster"),
            ("per", [], "per: the function of the row gave list, by which rows cannot be grouped"),
            ("per", Undecided(), "per: the function of the row gave Undecided, by which rows cannot be grouped"),
            ("data", 5, "data is int: give a dict"),
            ("secrets", 5, "secrets is int: give a list of names"),
        ],
    )
    def test_nonsense_of_a_function_is_the_error_of_its_row(self, workers, option, given, message):
        def function(row):
            if row["n"] == 2:
                return given
            return {"data": row, "secrets": ()}.get(option, str(row["n"]))

        result = workers.evaluate(ECHO, rows_of(3), **{option: function})
        assert [row.ok for row in result] == [True, False, True]
        assert message in result.rows[1].error.summary
        assert result.rows[1].error.kind == "invalid_request"

    def test_nonsense_of_variables(self, executor):
        given = [{"A": "1"}, None, 5, {"A": object()}, {"A=": "1"}, {"A": "x" * 10_000_000}]
        result = executor.evaluate(ECHO, rows_of(6), env_vars=lambda row: given[row["n"] - 1])
        assert [row.ok for row in result] == [True, True, False, False, False, False]
        assert "env_vars is int" in result.rows[2].error.text

    def test_a_field_that_a_row_has_not(self, workers):
        result = workers.evaluate(ECHO, [{"n": 1, "id": "a"}, {"n": 2}], key="id")
        assert values(result) == [1, "key: the row has no 'id'; it has 'n'."]

    def test_a_row_that_cannot_be_run_has_its_key(self, executor):
        rows = [{"id": "a", "n": {1}}, {"id": "b", "n": 1}, {"id": "c", "n": 1}]
        result = executor.evaluate(
            ECHO, rows, key="id", env_vars=lambda row: {"A": {"a": "1", "b": "2"}[row["id"]]}
        )
        assert [row.key for row in result] == ["a", "b", "c"]
        assert [row.ok for row in result] == [False, True, False]

    def test_a_key_of_any_length(self, workers):
        result = workers.evaluate(ECHO, rows_of(2), key=lambda row: "x" * 1_000_000 + str(row["n"]))
        assert len({row.key for row in result}) == 2
        assert all(len(row.key) <= 200 for row in result)

    def test_rows_that_end_with_an_exception(self, workers):
        def rows():
            yield {"n": 1}
            yield {"n": 2}
            raise OSError("the disk is gone")

        result = workers.evaluate(ECHO, rows())
        assert values(result) == [1, 2]
        assert result.stopped == "The rows ended with OSError: the disk is gone."
        assert result.not_run is None
        found = []
        with pytest.raises(OSError, match="the disk is gone"):
            found.extend(workers.map(ECHO, rows()))
        assert values(found) == [1, 2]

    def test_large_rows_are_not_read_ahead(self, workers):
        most = waiting = 0

        def rows():
            nonlocal most, waiting
            for n in range(6):
                waiting += 1
                most = max(most, waiting)
                yield {"n": n, "big": "x" * 30_000_000}

        for _ in workers.map("import time; time.sleep(0.05); data['n']", rows(), jobs=1):
            waiting -= 1
        assert most <= 4


class TestSecrets:
    def test_rows_keys_and_clusters_hold_none(self, executor):
        rows = [{"n": n, "key": f"xyzzy-{n}-4711", "who": {"k": [f"<xyzzy-{n}-4711>"]}} for n in range(3)]
        given = [dict(row) for row in rows]
        result = executor.evaluate(
            "import os\nprint(os.environ['API_KEY'])\ndata['n']",
            rows,
            env_vars=lambda row: {"API_KEY": row["key"]},
            secrets=["API_KEY"],
            key="key",
            cluster=lambda row: f"of {row['key']}",
        )
        assert values(result) == [0, 1, 2]
        assert [row.row for row in result] == [{"n": n, "key": "***", "who": {"k": ["<***>"]}} for n in range(3)]
        assert rows == given
        assert len({row.key for row in result}) == len({row.cluster for row in result}) == 3
        assert "xyzzy" not in repr([(row, row.row) for row in result])

    def test_a_row_without_a_secret_is_the_row_itself(self, executor):
        row = {"n": 1}
        result = executor.evaluate(ECHO, [row], env_vars={"API_KEY": "xyzzy-4711"}, secrets=["API_KEY"])
        assert result.rows[0].row is row

    def test_secrets_of_the_row(self, executor):
        code = "import os\nprint(os.environ['A'], os.environ['B'])\n1"
        result = executor.evaluate(
            code,
            [{"hide": "A"}, {"hide": "B"}],
            env_vars={"A": "xyzzy-4711", "B": "plugh-1174"},
            secrets=lambda row: [row["hide"]],
        )
        assert [row.stdout for row in result] == ["*** plugh-1174\n", "xyzzy-4711 ***\n"]

    def test_errors_hold_none(self, executor):
        def raising(row):
            raise ValueError("no row with xyzzy-4711")

        for option in ("data", "key", "per", "env_vars"):
            variables = {"env_vars": {"API_KEY": "xyzzy-4711"}, option: raising}
            result = executor.evaluate(ECHO, rows_of(1), secrets=["API_KEY", Secret("xyzzy-4711")], **variables)
            assert values(result) == [f"{option}: the function of the row raised ValueError: no row with ***"]

        def rows():
            yield {"n": 1}
            raise ValueError("xyzzy-4711")

        result = executor.evaluate(ECHO, rows(), env_vars={"API_KEY": "xyzzy-4711"}, secrets=["API_KEY"])
        assert result.stopped == "The rows ended with ValueError: ***."

    def test_a_row_without_a_request_holds_none_either(self, executor):
        result = executor.evaluate(
            ECHO,
            [{"n": 1, "key": "xyzzy-4711"}, {"n": 2, "key": "plugh-1174", "told": "xyzzy-4711"}],
            env_vars=lambda row: {"API_KEY": row["key"], "OTHER": row["n"] if row["n"] == 1 else object()},
            secrets=["API_KEY"],
            key=lambda row: row["missing"],
        )
        assert [row.row["key"] for row in result] == ["***", "***"]
        assert [row.ok for row in result] == [False, False]

        def failing(row):
            if row["n"] == 2:
                raise ValueError("not xyzzy-4711")
            return {"API_KEY": row["key"]}

        result = executor.evaluate(
            ECHO, [{"n": 1, "key": "xyzzy-4711"}, {"n": 2}], env_vars=failing, secrets=["API_KEY"]
        )
        assert values(result) == [1, "env_vars: the function of the row raised ValueError: not ***"]

    def test_the_error_of_one_row_among_many_tenants_holds_none(self, executor, monkeypatch):
        monkeypatch.setattr(tasks, "MOST_SECRETS", 1)  # that are remembered beside those of the row

        def raising(row):
            raise ValueError(f"no row with {row['key']}")

        for option in ("data", "key", "per"):
            result = executor.evaluate(
                ECHO,
                [{"n": 1, "key": "xyzzy-4711"}],
                env_vars=lambda row: {"API_KEY": row["key"]},
                secrets=["API_KEY"],
                **{option: raising},
            )
            assert values(result) == [f"{option}: the function of the row raised ValueError: no row with ***"]

    def test_a_row_that_cannot_be_copied_is_not_kept(self, executor):
        class Holder:
            secret = "xyzzy-4711"

        result = executor.evaluate(
            ECHO,
            [Holder()],
            data=lambda row: {"n": len(row.secret)},
            env_vars={"API_KEY": "xyzzy-4711"},
            secrets=["API_KEY"],
        )
        assert values(result) == [10]
        assert result.rows[0].row == "<Holder that may hold a secret>"
