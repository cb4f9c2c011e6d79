"""Secrets in a real kernel: where they come from, and that nothing that is shown or saved holds one."""

import base64
import json
import urllib.parse

import pytest

from tests.kernels import kernel

FROM_KERNEL, FROM_NOTEBOOK, TYPED = "sk-kernel/4711+x", "sk-notebook 4712=", "sk-typed-4713"
SECRETS = (FROM_KERNEL, FROM_NOTEBOOK, TYPED)


@pytest.fixture(scope="module")
def cells():
    with kernel(SERVICE_API_KEY=FROM_KERNEL, GREETING="hello") as started:
        started.ok(
            f"my_api_key = {FROM_NOTEBOOK!r}; DB_LOGIN = {FROM_NOTEBOOK!r}; keys = {{'eu': {FROM_NOTEBOOK!r}}}"
        )
        yield started


def told(shown):
    """All that a front end gets, and a saved notebook holds."""
    return json.dumps(
        [shown.stdout, shown.stderr, shown.data, shown.metadata, shown.ename, shown.evalue, shown.traceback],
        ensure_ascii=False,
    )


def forms(secret):
    encoded = base64.b64encode(secret.encode()).decode()
    return (secret, encoded, urllib.parse.quote(secret), urllib.parse.quote_plus(secret), json.dumps(secret)[1:-1])


def assert_hidden(shown):
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in told(shown)


SHOW = "import os\nvalue = os.environ[{name!r}]\n"
PRINTS = {
    "plain": "print(value)",
    "stderr": "import sys\nprint(value, file=sys.stderr)",
    "letter by letter": "import sys\nfor one in value: sys.stdout.write(one); sys.stdout.flush()\nprint()",
    "encoded": "import base64, urllib.parse\nprint(base64.b64encode(value.encode()).decode(), urllib.parse.quote(value))",
    "scores": "{'scores': [{'name': value, 'value': 1, 'reason': f'because {value}'}]}",
    "JSON": "import json\nprint(json.dumps({'value': value}))",
    "exception": "raise ValueError(f'bad key {value}')",
    "no result": "print('{\"a\": ' + value)",
    "exit": "import sys\nsys.exit(value)",
}


@pytest.mark.parametrize("how", PRINTS)
@pytest.mark.parametrize("no_raise", ["", "--no-raise"])
@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("", "SERVICE_API_KEY"),
        ("--secret DB_LOGIN", "DB_LOGIN"),
        ("--secret LOGIN=$DB_LOGIN", "LOGIN"),
        ("--secret LOGIN={keys['eu']}", "LOGIN"),
        ("-e X=$my_api_key", "X"),
        ("-e X={my_api_key}", "X"),
        ("-e my_api_key", "my_api_key"),
        ("--clean-env -e SERVICE_API_KEY", "SERVICE_API_KEY"),
        ("--secret SERVICE_API_KEY", "SERVICE_API_KEY"),
    ],
)
def test_nothing_that_is_shown_holds_a_secret(cells, line, name, how, no_raise):
    shown = cells.run(f"%%isolated {line} {no_raise}\n{SHOW.format(name=name)}{PRINTS[how]}")
    assert_hidden(shown)
    assert "***" in told(shown)


def test_the_code_has_the_value_itself(cells):
    code = f"import os\nfloat(os.environ['LOGIN'] == {FROM_NOTEBOOK!r})"
    assert cells.ok(f"%%isolated --secret LOGIN=$DB_LOGIN\n{code}").text.split()[1] == "1"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("-e URL={'pg://u:'+my_api_key+'@h'}", "import os\nprint(os.environ['URL'][7:-2])"),
        ("-e URL={'pg://u:'+vault.db_password+'@h'}", "import os\nprint(os.environ['URL'][7:-2])"),
        ("-e URL={f\"pg://u:{vaults['api_key']}@h\"}", "import os\nprint(os.environ['URL'][7:-2])"),
        ("-d token=$my_api_key", "print(data['token'])"),
        ("-d token={'Bearer '+my_api_key}", "print(data['token'][7:])"),
        ("-d {'token': my_api_key}", "print(data['token'])"),
    ],
)
def test_a_credential_within_a_value_is_hidden_by_itself(cells, line, code):
    cells.ok(
        f"import types\nvault = types.SimpleNamespace(db_password={FROM_NOTEBOOK!r})\nvaults = {{'api_key': {FROM_NOTEBOOK!r}}}"
    )
    shown = cells.ok(f"%%isolated {line}\n{code}\n1")
    assert shown.stdout == "***\n"
    assert_hidden(shown)


def test_what_does_not_look_like_a_credential_is_shown(cells):
    code = "import os\nprint(os.environ['GREETING'], os.environ['SCORING_MAX_TOKENS'], os.environ['NAME'])\n0.5"
    shown = cells.ok(f"%%isolated -e SCORING_MAX_TOKENS=4096 -e NAME=hello-world\n{code}")
    assert shown.stdout == "hello 4096 hello-world\n"
    assert shown.stderr == ""


def test_the_variables_of_the_notebook_hold_no_secret_after_the_run(cells):
    cells.run(f"%%isolated -o kept\n{SHOW.format(name='SERVICE_API_KEY')}print(value)\nraise ValueError(value)")
    shown = cells.ok("kept, kept.stdout, kept.error, kept.to_dict()")
    assert_hidden(shown)
    assert "***" in shown.text
    assert_hidden(cells.ok("%isolated history"))
    assert_hidden(cells.ok("_.to_pandas().to_json()"))


def test_a_run_in_the_background(cells):
    cells.ok(f"%%isolated --bg -o run\n{SHOW.format(name='SERVICE_API_KEY')}print(value)\nraise ValueError(value)")
    shown = cells.ok("run.result(60), run.stdout, run.result().error, run")
    assert_hidden(shown)
    assert "***" in shown.text


class TestAsking:
    def test_it_asks_once_and_hides_what_is_typed(self, cells):
        cell = f"%%isolated --secret TYPED_LOGIN\n{SHOW.format(name='TYPED_LOGIN')}print(value, len(value))\n1"
        shown, asked = cells.answer(cell, TYPED)
        assert [(one["password"], one["prompt"]) for one in asked] == [(True, "TYPED_LOGIN: ")]
        assert shown.stdout == f"*** {len(TYPED)}\n"
        shown, asked = cells.answer(cell)
        assert (shown.stdout, asked) == (f"*** {len(TYPED)}\n", [])
        assert_hidden(cells.ok("{name: value for name, value in globals().items() if 'typed' in name.lower()}"))
        assert "asked for again" in cells.ok("%isolated forget TYPED_LOGIN").stdout
        _, asked = cells.answer(cell, TYPED)
        assert len(asked) == 1
        cells.ok("%isolated forget TYPED_LOGIN")

    def test_nothing_entered(self, cells):
        shown, _ = cells.answer("%%isolated --secret TYPED_LOGIN\n1", "")
        assert shown.evalue == "--secret TYPED_LOGIN: nothing was entered."

    def test_where_nobody_can_be_asked(self, cells):
        shown = cells.run("%%isolated --secret TYPED_LOGIN\n1")
        assert shown.ename == "OptionError"
        assert "nobody can be asked here" in shown.evalue
        assert "--secret TYPED_LOGIN=$variable" in shown.evalue

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("--secret keys", "--secret keys: its value is dict"),
            ("--secret X=$nowhere", "the notebook has no variable nowhere"),
            ("--secret", "--secret needs a value"),
        ],
    )
    def test_a_wrong_line(self, cells, line, said):
        assert said in cells.run(f"%%isolated {line}\n1").evalue

    def test_one_that_is_too_short_is_asked_for_again(self, cells):
        cell = "%%isolated --secret TYPED_LOGIN\nimport os\nfloat(len(os.environ['TYPED_LOGIN']))"
        shown, _ = cells.answer(cell, "abc")
        assert shown.evalue.startswith("--secret TYPED_LOGIN: its value has fewer than 4 characters")
        assert "abc" not in told(shown)
        shown, asked = cells.answer(cell, TYPED)
        assert (len(asked), shown.text.split()[1]) == (1, str(len(TYPED)))
        cells.ok("%isolated forget TYPED_LOGIN")

    def test_nothing_to_forget(self, cells):
        assert "was not asked for" in cells.run("%isolated forget NEVER_ASKED").evalue


@pytest.mark.parametrize(
    "line", ["--secret DIGIT", "--secret X=$DIGIT", "--secret X={'7'}", "--secret {{'X': '7'}}"]
)
def test_a_secret_of_one_character_is_refused(cells, line):
    cells.ok("DIGIT = '7'")
    shown = cells.run(f"%%isolated {line}\nprint('total 77')\n1")
    assert shown.ename == "OptionError"
    assert "its value has fewer than 4 characters, and hiding it would hide parts of other words." in shown.evalue
    assert "7" not in shown.evalue


def test_what_a_setting_of_a_few_characters_is_handed_to_is_shown(cells):
    cells.ok("max_tokens = 10; api_key = 'no'")
    shown = cells.ok(
        "%%isolated -e N=$max_tokens -e K=$api_key\nimport os\nprint('total 110 no', os.environ['N'])\n1"
    )
    assert shown.stdout == "total 110 no 10\n"


@pytest.mark.parametrize(
    "line", ["-e api_keys", "-e $api_keys", "-e {api_keys}", "-e {dict(api_keys)}", "--secret $regions"]
)
def test_the_items_of_a_dict_of_credentials_are_hidden(cells, line):
    cells.ok(f"api_keys = {{'EU': {FROM_NOTEBOOK!r}, 'N': 3}}; regions = {{'EU': {FROM_NOTEBOOK!r}}}")
    shown = cells.ok(f"%%isolated {line}\nimport os\nprint(os.environ['EU'])\n1")
    assert shown.stdout == "***\n"
    assert_hidden(shown)


class TestLiterals:
    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ("-e SCORING_API_KEY=sk-literal-1", "SCORING_API_KEY"),
            ("--env 'SCORING_TOKEN=sk-literal-1'", "SCORING_TOKEN"),
            ("-e SCORING_TOKEN={'sk-literal-1'}", "SCORING_TOKEN"),
            ("--secret LOGIN=sk-literal-1", "LOGIN"),
            ("-e {'SCORING_TOKEN':'sk-literal-1'}", "SCORING_TOKEN"),
            ("""-e '{"SCORING_TOKEN": "sk-literal-1"}'""", "SCORING_TOKEN"),
            ("--secret {'LOGIN':'sk-literal-1'}", "LOGIN"),
        ],
    )
    def test_a_value_that_is_saved_with_the_notebook_is_warned_of(self, cells, line, name):
        shown = cells.ok(f"%%isolated {line}\nimport os\nprint(os.environ[{name!r}])\n1")
        assert f"the value of {name} stands on the magic's line" in shown.stderr
        assert f"--secret {name}" in shown.stderr
        assert "sk-literal-1" not in told(shown)

    @pytest.mark.parametrize(
        "line",
        [
            "-e SCORING_API_KEY=$my_api_key",
            "-e SCORING_API_KEY={keys['eu']}",
            "-e NAME=literal",
            "-e MAX_TOKENS=10",
        ],
    )
    def test_what_is_not_saved_with_it_is_not(self, cells, line):
        assert cells.ok(f"%%isolated {line}\n1").stderr == ""


def test_the_names_are_a_setting(cells):
    code = "import os\nprint(os.environ['GREETING'], len(os.environ['SERVICE_API_KEY']))\n1"
    cells.ok("%config IsolatedMagic.secret_names = ['GREET*']")
    try:
        assert cells.ok(f"%%isolated\n{code}").stdout == f"*** {len(FROM_KERNEL)}\n"
        cells.ok("%config IsolatedMagic.secret_names = []")
        assert cells.ok(f"%%isolated\n{code}").stdout == f"hello {len(FROM_KERNEL)}\n"
    finally:
        cells.ok("%reload_ext isolated_magic")
    assert cells.ok(f"%%isolated\n{code}").stdout == f"hello {len(FROM_KERNEL)}\n"
