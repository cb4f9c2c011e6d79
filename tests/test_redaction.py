"""Secrets: found in every form that programs write them in, wherever the text was cut, and nothing else hidden."""

import base64
import html
import json
import random
import re
import time
import urllib.parse

import pytest

from isolated_magic.redaction import CREDENTIAL_NAMES, MASK, Redactor, SecretText, StreamRedactor, secret_values

NASTY = "sk-proj/ab+c=é\"x' 9<&"
FORMS = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON with its letters": lambda value: json.dumps(value, ensure_ascii=False),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "URL": urllib.parse.quote,
    "URL, all of it": lambda value: urllib.parse.quote(value, safe=""),
    "URL in lower case": lambda value: re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(value, safe="")),
    "form": urllib.parse.quote_plus,
    "Base64": lambda value: base64.b64encode(value.encode()).decode(),
    "Base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "hexadecimal": lambda value: value.encode().hex(),
    "hexadecimal, upper case": lambda value: base64.b16encode(value.encode()).decode(),
    "hexadecimal with colons": lambda value: value.encode().hex(":"),
    "HTML": html.escape,
    "HTML with numbers": lambda value: html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value))[2:-2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [NASTY, "plain-token-4711", "s3cret", "ключ от квартиры"])
def test_every_form_is_hidden(form, value):
    text = f"before {FORMS[form](value)} after"
    hidden = Redactor([value]).text(text)
    assert MASK in hidden
    assert value not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert len(hidden) <= len("before *** after") + 3  # quotes, and what marks bytes


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "user12:"])
@pytest.mark.parametrize("after", ["", "@", "@host", "@host.example"])
def test_a_secret_within_what_was_encoded_as_a_whole(before, after):
    value = "s3cret-value-4711"
    encoded = base64.b64encode((before + value + after).encode()).decode()
    hidden = Redactor([value]).text(f"Basic {encoded}")
    assert MASK in hidden
    rest = hidden.removeprefix("Basic ").split(MASK)
    assert len("".join(rest)) <= len(before + after) * 4 / 3 + 6


def test_no_piece_of_output_however_cut_holds_a_part_of_a_secret():
    chance = random.Random(5)
    redactor = Redactor(["abcab", "bcabx", "ababab", "xyz1"])
    for _ in range(5000):
        text = "".join(chance.choice("abcx") for _ in range(chance.randrange(30)))
        stream, pieces, start = StreamRedactor(redactor), [], 0
        while start < len(text):
            end = start + chance.randrange(1, 6)
            pieces.append(stream.feed(text[start:end]))
            start = end
        pieces.append(stream.end())
        assert "".join(pieces) == redactor.text(text)


def test_what_cannot_be_a_secret_is_not_held_back():
    stream = StreamRedactor(Redactor(["s3cret"]))
    assert stream.feed("50%") == "50%"
    assert stream.feed("plus s3c") == "plus "
    assert stream.feed("urity") == "s3curity"
    assert stream.feed("a s3cr") == "a "
    assert stream.end() == "s3cr"


def test_secrets_that_overlap_or_contain_one_another_are_hidden_whole():
    redactor = Redactor(["abcdef", "defghi", "abc"])
    assert redactor.text("x abcdefghi y abc z") == "x *** y *** z"


def test_the_lines_of_a_long_key_are_hidden_each():
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    hidden = Redactor([key]).text(f"{key}|MIIEvQIBADANBg|  kqhkiG9w0BAQEF")
    assert hidden == "***|***|  ***"


def test_the_beginning_of_a_secret_at_the_end_of_a_cut_text():
    redactor = Redactor(["s3cret-value"])
    assert redactor.cut_text("it is s3cret-v") == "it is ***"
    assert redactor.cut_text("it is s3cret-value") == "it is ***"
    assert redactor.cut_text("it is a") == "it is a"


def test_json_keeps_its_form():
    redactor = Redactor(["4711", "s3cret"])
    value = {"a s3cret": [1, 4711, "x4711", None, True, 0.4711], "b": {"c": "s3cret"}}
    assert redactor.object(value) == {"a ***": [1, MASK, "x***", None, True, 0.4711], "b": {"c": MASK}}
    untouched = {"a": 1}
    assert redactor.object(untouched) is untouched


def names_found(**environment):
    values = secret_values({k.encode(): v.encode() for k, v in environment.items()}, CREDENTIAL_NAMES)
    return {name for name, value in environment.items() if value in values}


def test_names_that_look_like_credentials():
    found = names_found(
        OPENAI_API_KEY="sk-1234",
        aws_secret_access_key="aws-1234",
        DB_PASSWORD="hunter2",
        GITHUB_TOKEN="ghp-1234",
        PGPASSWORD="123456",
        MY_CREDENTIALS="c-1234",
        HOME="/home/me",
        KEYBOARD="german",
        MONKEY="banana",
        TENANT_ID="t1-long",
        MAX_TOKENS="128000",
        TOKENIZERS_PARALLELISM="false",
        EMPTY_TOKEN="",
        SHORT_KEY="abc",
    )
    assert found == {
        *("OPENAI_API_KEY", "aws_secret_access_key", "DB_PASSWORD", "GITHUB_TOKEN"),
        *("PGPASSWORD", "MY_CREDENTIALS"),
    }


def test_a_name_that_is_given_is_a_secret_whatever_its_value():
    assert secret_values({b"A": b"x", b"B": b"  ", b"C": b"y"}, ["A", "B"]) == ("x",)
    assert secret_values({b"A": b"x"}, []) == ()


@pytest.mark.parametrize("value", ["super'secret", 'super"secret', "super'sec\"ret", "plain-secret"])
@pytest.mark.parametrize("around", ["{}", "it's {}", 'say "{}"', 'it\'s "{}"'])
def test_a_repr_of_what_it_stands_in(value, around):
    hidden = Redactor([value]).text(repr([around.format(value)]))
    assert MASK in hidden
    assert "super" not in hidden
    assert "ret" not in hidden


@pytest.mark.parametrize(
    "encode", [base64.encodebytes, lambda raw: re.sub(b"(.{64})", rb"\1\n", base64.b64encode(raw))]
)
def test_base64_in_lines(encode):
    value = "eyJhbGciOiJIUzI1NiJ9." + "Q2hhcmxpZQ" * 20
    lines = Redactor([value]).text(encode(value.encode()).decode()).split()
    assert all(len(line.replace(MASK, "")) < 8 for line in lines)


def test_the_texts_in_a_secret_that_is_json():
    redactor = Redactor(['{"user": "bob", "password": "hunter2", "private": "a long text", "n": 1}'])
    assert redactor.text("bob hunter2 and a long text 1") == "bob *** and *** 1"


@pytest.mark.parametrize("number", ["12345678", "12345678.0", "-12345678", "1.2345678e7"])
def test_a_number_that_is_a_secret_however_it_is_written(number):
    assert Redactor(["12345678"]).object({"a": json.loads(number)}) == {"a": MASK}


def test_ansi_codes_in_the_middle_of_a_secret():
    redactor = Redactor(["s3cret-value"])
    assert redactor.text("a s3cret\x1b[1m-value\x1b[0m b") == "a *** b"
    assert redactor.text("\x1b[1mbold\x1b[0m") == "\x1b[1mbold\x1b[0m"


def test_a_deep_value_without_secrets_is_left_alone():
    value = json.loads('{"a":' + "[" * 900 + "]" * 900 + "}")
    assert Redactor(["s3cret"]).object(value) is value


def test_the_repr_of_a_value_to_hide_does_not_show_it():
    assert repr([SecretText("s3cret")]) == "[SecretText('***')]"
    assert secret_values({b"A": b"x"}, ["A", SecretText("y")]) == ("x", "y")


LINES = ["".join(random.Random(seed).choices("abcdefghijklmnop", k=64)) for seed in range(1500)]
OUTPUT = "The quick brown fox jumps over the lazy dog 0123456789\n"


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        (["\n".join(LINES[:400])], [OUTPUT] * 20_000),
        (["\n".join(LINES)], [OUTPUT * 100] * 100),
        (["\n".join(LINES)], [f"{line}\n" for line in LINES]),
        ([line[:40] for line in LINES[:500]], [OUTPUT * 100] * 100),
        (["00000000"], ["0" * 50_000] * 20),
        (["00000000"], ["0" * 1_000_000]),
        (["a" * 5000 + "b"], ["a" * 4096] * 20),
    ],
    ids=["400 lines", "1500 lines", "all of it", "500 secrets", "repetitive", "in one piece", "a long beginning"],
)
def test_the_work_does_not_grow_faster_than_the_text(values, pieces):
    begun = time.monotonic()
    stream = StreamRedactor(Redactor(values))
    for piece in pieces:
        stream.feed(piece)
    stream.end()
    assert time.monotonic() - begun < 20  # it took minutes


def test_it_is_fast_on_a_flood():
    redactor = Redactor([f"sk-{number}-{'a' * 40}" for number in range(20)])
    text = "The quick brown fox jumps over the lazy dog 0123456789\n" * 100_000
    assert redactor.text(text) is text


class TestRuns:
    SECRET = "sk-live/4711+x"

    def run(self, executor, code, **settings):
        return executor.run(code, None, {"API_KEY": self.SECRET}, secrets=["*_KEY"], **settings)

    @pytest.mark.parametrize(
        "code",
        [
            "print(key)",
            "import sys\nprint(key, file=sys.stderr)",
            "import sys\nfor one in key: sys.stdout.write(one); sys.stdout.flush()",
            "import os\nos.write(1, key[:5].encode()); os.write(1, key[5:].encode())",
            "import json\nprint(json.dumps({'scores': [{'name': key, 'value': key, 'reason': 'for ' + key}]}))",
            "{'scores': [{'name': 'a', 'value': 1, 'metadata': {key: [key]}}], 'key': key}",
            "raise ValueError(key)",
            "raise KeyError(key)",
            "try:\n    raise ValueError(key)\nexcept ValueError as e:\n    e.add_note(key)\n    raise ExceptionGroup(key, [e])",
            "import sys\nsys.exit(key)",
            'print(\'{"a": "\' + key)',
            "print('{\"a\": \"' + 'x' * 150 + key * 50)",
            "print('x' * 195 + key)",
            "raise ValueError('x' * 499 + key + 'y' * 2000)",
            "raise ValueError('x' * 49_900 + key * 20 + 'y' * 200_000)",
            "key",
            "[key]",
            "print('{' + '\"a\": 1, ' * 3 + key + '}')",
            "print(key, end='')",
            "import os\nprint(os.environ)\nopen('/nowhere/' + key)",
            "import time\nglobals()[key] = 1\nprint(key)\ntime.sleep(1000)",
            "import json\n{'scores': [{'name': 'n', 'value': 1, 'reason': json.dumps({'k': key})}]}",
            "{'scores': [{'name': 'n', 'value': 1, 'reason': key[:8] + '\\x1b[1m' + key[8:]}]}",
            "raise ValueError((key + ' ') * 300)",
            "raise ValueError((key + ' ') * 30_000)",
            f"x = 1/0; y = '{'z' * 175}sk-live/4711+x'",
            "k = 'x' * 190 + key\nprint('{\"' + k + '\": 1, \"' + k + '\": 2}')",
            "import subprocess\nsubprocess.run('echo $API_KEY | base64', shell=True)\n1",
        ],
    )
    def test_nothing_of_a_run_holds_a_secret(self, executor, code):
        output = []
        result = self.run(
            executor,
            f"import os\nkey = os.environ['API_KEY']\n{code}",
            timeout_secs=1 if "time.sleep" in code else None,
            on_output=lambda *part: output.append(part),
        )
        told = repr((result, result.to_dict(), result.stdout, result.stderr, result.error, result.scores, output))
        shown = "".join(text for _, text in output)
        assert "sk-live" not in told + shown
        assert "4711" not in told + shown

    def test_a_secret_that_is_json_is_no_result(self, executor):
        value = '{"user": "bob", "password": "hunter2"}'
        result = executor.run(
            "import os\nprint(os.environ['API_KEY'])", None, {"API_KEY": value}, secrets=["API_KEY"]
        )
        assert "hunter2" not in repr(result.to_dict()) + result.stdout
        assert "the last line printed is a secret" in result.error.text

    def test_the_text_of_an_escaped_secret_in_a_result(self, executor):
        value = 'pa"ssé\\word\n123'
        code = "import os, json, html\ns = os.environ['API_KEY']\nforms = [json.dumps(s), repr(s), html.escape(s)]\n{'scores': [{'name': 'n', 'value': 1, 'reason': ' '.join(forms)}]}"
        result = executor.run(code, None, {"API_KEY": value}, secrets=["API_KEY"])
        assert "ss" not in result.scores[0].reason
        assert "123" not in result.scores[0].reason

    def test_what_stands_for_it(self, executor):
        result = self.run(executor, "import os\nprint('<' + os.environ['API_KEY'] + '>')\n1")
        assert result.stdout == "<***>\n"

    def test_the_code_itself_has_it(self, executor):
        assert self.run(executor, "import os\nlen(os.environ['API_KEY'])")["score"].value == len(self.SECRET)

    def test_a_run_without_secrets_shows_what_it_prints(self, executor):
        result = executor.run("import os\nprint(os.environ['API_KEY'])\n1", None, {"API_KEY": self.SECRET})
        assert result.stdout == f"{self.SECRET}\n"

    def test_secrets_that_are_no_names(self, executor):
        assert "give a list of names" in executor.run("1", secrets="API_KEY").error.text

    def test_a_run_in_the_background(self, executor):
        run = executor.start(
            "import os\nprint(os.environ['API_KEY'])\n1", None, {"API_KEY": self.SECRET}, secrets=["API_KEY"]
        )
        assert run.result(60).stdout == "***\n"
        assert run.stdout == "***\n"

    def test_a_secret_in_a_result_that_is_nested_too_deeply_is_not_let_through(self, executor):
        code = "import os\nprint('{\"scores\": [], \"x\": ' + '[' * 950 + '\"' + os.environ['API_KEY'] + '\"' + ']' * 950 + '}')"
        result = self.run(executor, code)
        assert self.SECRET not in repr(result.to_dict())
