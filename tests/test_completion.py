"""The Tab key on the magic's line, in a real kernel."""

import time

import pytest

from tests.kernels import kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("work")
    (made / "metrics").mkdir()
    for name in ("metrics/relevance.py", "rows.json", "rows.jsonl", "tenant.env", "other.txt", "two words.py"):
        (made / name).write_text("")
    (made / "loop").symlink_to("loop")
    return made


@pytest.fixture(scope="module")
def cells(folder):
    with kernel(ZEBRA_API_KEY="x", ZEBRA_REGION="eu") as started:
        started.ok(f"%cd -q {folder}")
        started.ok("zebra_rows = [{'tenant': 't', 'user_id': 1}]")
        started.ok("zebra_row = {'a': 1}; zebra_text = 'x'; zebra_number = 5\ndef zebra_bye(): pass")
        started.ok("%%isolated -o zebra_result\n0.5")
        started.ok("from concurrent.futures import ThreadPoolExecutor\nzebra_pool = ThreadPoolExecutor(1)")
        yield started


def words(cells, code):
    return [match.split()[-1] for match in cells.complete(code)]


@pytest.mark.parametrize(
    ("code", "offered"),
    [
        (
            "%%isolated --c|\npass",
            [
                "--clean-env",
                "--cpus",
                "--command",
                "--compare",
                "--cluster",
                "--checkpoint",
                "--checkpoint-mode",
                "--cpu",
            ],
        ),
        (
            "%%isolated --no-|\npass",
            [
                "--no-clean-env",
                "--no-allow-build",
                "--no-compare",
                "--no-raise",
                "--no-strict",
                "--no-score",
                "--no-rich",
            ],
        ),
        ("%%isolated --ra|\npass", ["--raise", "--rate"]),
        ("%%isolated -o |\npass", []),
        ("%isolated forget |", ["--all"]),
        ("%isolated forget --|", ["--all"]),
        ("%isolated run s|", []),
        ("%%isolated -t 5 --time|\npass", ["--timeout"]),
        ("%%isolated --data zebra_r|\npass", ["zebra_result", "zebra_row", "zebra_rows"]),
        ("%%isolated --each z|\npass", ["zebra_rows"]),
        ("%%isolated --each ro|\npass", ["rows.jsonl"]),
        ("%%isolated --each $zebra_ro|\npass", ["$zebra_row", "$zebra_rows"]),
        ("%%isolated --each zebra_rows --per |\npass", ["tenant", "user_id"]),
        ('%%isolated --each zebra_rows --per row["|\npass', ['row["tenant', 'row["user_id']),
        ("%%isolated --each=zebra_rows -e TENANT={row['t|\npass", ["TENANT={row['tenant"]),
        ('%%isolated --each zebra_rows --as one -e T={one["t|\npass', ['T={one["tenant']),
        ("%%isolated --each zebra_rows -e T={ro|\npass", ["T={row"]),
        ("%%isolated -e T={ro|\npass", []),
        ("%%isolated --each zebra_rows --on |\npass", ["zebra_pool"]),
        ("%%isolated --each zebra_rows --on $zebra_p|\npass", ["$zebra_pool"]),
        ("%%isolated --each zebra_rows --on {zebra_p|\npass", ["{zebra_pool"]),
        ("%%isolated --each zebra_rows --on={ro|\npass", []),
        ("%%isolated --each zebra_rows --on t|\npass", []),
        ("%%isolated --each zebra_rows --checkpoint-mode r|\npass", ["resume", "restart"]),
        ("%%isolated --each zebra_rows --retry-on Ti|\npass", ["TimeoutError"]),
        ("%%isolated -d zebra_r|", ["zebra_result", "zebra_row", "zebra_rows"]),
        ("%%isolated -d ro|\npass", ["rows.json"]),
        ("%%isolated -d answer=$zebra_t|\npass", ["answer=$zebra_text"]),
        ("%%isolated -d answer={zebra_t|\npass", ["answer={zebra_text"]),
        ("%%isolated -d answer={len(zebra_t|)}\npass", ["answer={len(zebra_text"]),
        ("%%isolated -d $zebra_ro|\npass", ["$zebra_row", "$zebra_rows"]),
        ("%%isolated -e ZEB|\npass", ["ZEBRA_API_KEY", "ZEBRA_REGION"]),
        ("%%isolated --env=ZEBRA_R|\npass", ["--env=ZEBRA_REGION"]),
        ("%%isolated -e zebra_|\npass", ["zebra_row", "zebra_text"]),
        ("%%isolated -e A=$zebra_t|\npass", ["A=$zebra_text"]),
        ("%%isolated --secret ZEBRA_A|\npass", ["ZEBRA_API_KEY"]),
        ("%%isolated --compare zebra|\npass", ["zebra_result"]),
        ("%%isolated --payload-type |\npass", ["trace_thread"]),
        ("%%isolated --executor |\npass", ["isolated", "process", "docker"]),
        ("%%isolated --executor d|\npass", ["docker"]),
        ("%%isolated --executor docker --volume met|\npass", ["metrics/"]),
        ("%%isolated --executor docker --network h|\npass", ["host"]),
        ("%%isolated --memory 5|\npass", ["512M"]),
        ("%%isolated --env-file ten|\npass", ["tenant.env"]),
        ("%%isolated --env-file met|\npass", ["metrics/"]),
        ("%%isolated --file metrics/r|\npass", ["metrics/relevance.py"]),
        ("%isolated run metrics/|", ["metrics/relevance.py"]),
        ("%isolated run metrics/relevance.py --dat|", ["--data"]),
        ("%isolated st|", ["status", "stop"]),
        ("%isolated on-teardown zeb|", ["zebra_bye"]),
        ("result = %isolated run met|", ["metrics/"]),
        ("x = 1\n%isolated hist|", ["history"]),
    ],
)
def test_what_is_offered(cells, code, offered):
    assert words(cells, code) == offered


def test_options_are_offered_where_one_can_stand(cells):
    assert "--timeout" in words(cells, "%%isolated |\npass")
    assert "--data" in words(cells, "%%isolated --fresh |\npass")
    assert {"run", "history", "--data"} <= set(words(cells, "%isolated |"))
    assert "zebra_row" in words(cells, "%%isolated --data |\npass")
    assert "answer=$zebra_row" in words(cells, "%%isolated -d answer=|\npass")


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("%isolated |", {"run": "command", "history": "command", "--data": "option", "--help": "option"}),
        ("%%isolated |\npass", {"--data": "option"}),
        ("%%isolated --|\npass", {"--data": "option"}),
        ("%isolated run |", {"metrics/": "file"}),
        ("%%isolated --data |\npass", {"zebra_row": "variable", "rows.json": "file", "metrics/": "file"}),
        ("%%isolated -e |\npass", {"ZEBRA_REGION": "environment", "zebra_text": "variable"}),
        ("%%isolated -e $zebra|\npass", {"zebra_row": "variable"}),
        ("%%isolated --compare |\npass", {"zebra_result": "variable", "--data": "option"}),
        ("%%isolated --executor |\npass", {"docker": "value"}),
    ],
)
def test_each_is_called_what_it_is(cells, code, kinds):
    found = cells.kinds(code)
    assert {name: found.get(name) for name in kinds} == kinds


@pytest.mark.parametrize(
    "code",
    [
        "%%isolated -d x=1\nzebra_row --c|",
        "%%isolated\n--|",
        "print('%%isolated --c|')",
        "x = 1\n%%isolated --c|",
        "%%isolatedly --c|",
        "%time --c|",
        "zebra_ro --dat|",
    ],
)
def test_elsewhere_nothing_of_ours_is(cells, code):
    ours = ("--clean-env", "--compare", "--data", "--env")
    assert not [match for match in cells.complete(code) if match.endswith(ours)]


def test_completion_in_the_body_is_as_ever(cells):
    assert "zebra_row" in words(cells, "%%isolated -d zebra_row\nzebra_ro|")


def test_hidden_names_are_offered_when_asked_for(cells):
    cells.ok("_zebra = 1")
    assert "_zebra" not in words(cells, "%%isolated -d |\npass")
    assert words(cells, "%%isolated -d _zeb|\npass") == ["_zebra"]


def test_a_large_namespace_and_an_odd_line_hold_nothing_up(cells):
    cells.ok("globals().update({f'large_{number}': number for number in range(50_000)})")
    begun = time.monotonic()
    assert 0 < len(words(cells, "%%isolated -d large_|\npass")) <= 500
    assert time.monotonic() - begun < 20  # a hang guard
    cells.ok("for number in range(50_000): del globals()[f'large_{number}']")
    for odd in (
        "-e 'A=b |",
        '-d "x |',
        "-d {a: |",
        "--env-file /root/\\0|",
        "--file ~nobody/|",
        "-d ={|",
        "= |",
        "-o |",
    ):
        cells.complete(f"%%isolated {odd}\npass")
