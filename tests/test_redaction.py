"""Secrets: found in every form that programs write them in, wherever the text was cut, and nothing else hidden."""

import base64
import html
import itertools
import json
import random
import re
import time
import urllib.parse

import pytest

from isolated_magic.redaction.matching import Finder, Needles
from isolated_magic.redaction.redactor import (
    CREDENTIAL_NAMES,
    MASK,
    Redactor,
    Secret,
    StreamRedactor,
    secret_values,
)
from isolated_magic.sanitize import without_ansi

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
    "hexadecimal in capitals": lambda value: base64.b16encode(value.encode()).decode(),
    "hexadecimal with colons": lambda value: value.encode().hex(":"),
    "HTML": html.escape,
    "HTML with numbers": lambda value: html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)[1:-1]),
    "repr beside both quotes": lambda value: repr(f"\"'{value}")[4:-1],
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


def hidden_by_one_loop(needles, text):
    """What the simplest search finds: the indexes that a needle covers."""
    covered = set()
    for needle in needles:
        at = text.find(needle)
        while at >= 0:
            covered.update(range(at, at + len(needle)))
            at = text.find(needle, at + 1)
    return covered


def test_the_search_finds_what_a_loop_over_the_needles_finds():
    chance = random.Random(6)
    for _ in range(2000):
        lengths = chance.choices([1, 2, 3, 5, 7, 8, 9, 12, 20, 40], k=chance.randrange(1, 12))
        needles = {"".join(chance.choices("abc", k=length)) for length in lengths}
        pieces = chance.choices([*needles, "abc"], k=12)
        text = "".join(piece[: chance.randrange(1, len(piece) + 1)] for piece in pieces) + pieces[0]
        spans = Finder(Needles(needles)).spans(text)
        assert {index for start, end in spans for index in range(start, end)} == hidden_by_one_loop(needles, text)
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))


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


@pytest.mark.parametrize("number", [4711, 4711.0, -4711, -4711.0])
def test_a_number_that_is_a_secret(number):
    assert Redactor(["4711"]).object({"a": number, "b": True}) == {"a": MASK, "b": True}


@pytest.mark.parametrize(
    "value", ['pa"ssword"123', "sécret-pässword", "pa\\ssword\\123", "two\nlines\nof it", "a<b>&c'd\""]
)
@pytest.mark.parametrize("write", [json.dumps, repr, html.escape], ids=["JSON", "repr", "HTML"])
def test_a_secret_that_is_escaped_within_a_string_of_an_object(value, write):
    hidden = Redactor([value]).object({"scores": [{"reason": write(value)}], write(value): 1})
    assert write(value)[1:-1] not in repr(hidden)
    assert json.dumps(hidden).count(MASK) == 2


def wrapped(secret, before, width=76):
    text = base64.b64encode((b"x" * before) + secret.encode() + b"-" * 80).decode()
    return "\n".join(text[at : at + width] for at in range(0, len(text), width)) + "\n"


@pytest.mark.parametrize("before", range(30, 60))
def test_base64_of_several_lines(before):
    secret = "s3cret-value-4711-of-thirty-bytes"
    redactor = Redactor([secret])
    text = wrapped(secret, before)
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    stream = StreamRedactor(redactor)
    assert "".join([*map(stream.feed, pieces), stream.end()]) == redactor.text(text)
    left = redactor.text(text).replace("\n", "")
    assert MASK in left
    encoded = base64.b64encode((b"x" * before) + secret.encode()).decode()
    assert encoded[-20:-8] not in left


def test_base64_of_a_secret_of_several_lines():
    secret = "\n".join(f"line {number} of a long secret" for number in range(20))
    assert Redactor([secret]).text(base64.encodebytes(secret.encode()).decode()).strip() == MASK


ANSI = ("\x1b[1m", "\x1b[38;5;10m", "\x1b]8;;http://x\x07", "\x1bM", "\x1b(B", "\x1b[0m\x1b[1m")


@pytest.mark.parametrize("code", ANSI)
def test_a_secret_that_is_coloured_in_part(code):
    assert without_ansi(code) == ""
    redactor, text = Redactor(["s3cret-value"]), f"a s3c{code}ret-val{code}ue b"
    assert redactor.text(text) == "a *** b"
    assert redactor.object({"a": text}) == {"a": "a *** b"}
    for cut in range(len(text)):
        stream = StreamRedactor(redactor)
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.end() == "a *** b"


@pytest.mark.parametrize(
    "dump", [str, lambda text: json.dumps(json.loads(text), separators=(",", ":")), json.loads]
)
def test_a_secret_that_is_json(dump):
    secret = '{"user": "bob", "password": "hunter2hunter2", "more": [{"key": "line one of it\\nline two of it"}]}'
    hidden = Redactor([secret]).object({"a": dump(secret)})
    assert "hunter2" not in repr(hidden)
    assert "line" not in repr(hidden)


def test_a_long_secret_is_hidden_as_one_and_what_is_left_of_it():
    secret = "".join(random.Random(1).choices("abcdefghij", k=5000))
    redactor = Redactor([secret])
    assert redactor.text(f"<{secret}>") == "<***>"
    assert redactor.cut_text(f"<{secret[:3333]}") == "<***"
    assert redactor.cut_text(f"{secret[3333:]}>", at_start=True, at_end=False) == "***>"


def test_what_may_be_a_part_of_a_secret_is_dropped_at_both_sides_of_a_cut():
    redactor = Redactor(["s3cret-value"])
    assert redactor.cut_text("t-value and s3cret", at_start=True) == "*** and ***"
    assert redactor.cut_text("t-value and s3cret", at_end=False) == "t-value and s3cret"


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


def test_a_value_that_is_given_is_a_secret_and_no_name():
    assert secret_values({b"A": b"x"}, [Secret("A"), Secret("*")]) == ("*", "A")


def many(count, length, seed=1):
    chance = random.Random(seed)
    return [
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=length))
        for _ in range(count)
    ]


PLAIN = "The quick brown fox jumps over the lazy dog 0123456789\n" * 100_000
FLOODS = {
    "400 lines": (["\n".join(many(400, 64))], PLAIN),
    "1500 lines": (["\n".join(many(1500, 64))], PLAIN),
    "1000 lines, printed": (["\n".join(many(1000, 64))], "\n".join(many(1000, 64)) * 80),
    "500 secrets": (many(500, 40), PLAIN),
    "secrets that begin alike": ([f"SECRET_KEY_{one}" for one in many(500, 20)], "SECRET_KEY_0" * 400_000),
    "one that overlaps itself": (["0" * 8], "0" * 5_000_000),
    "one that repeats itself": (["a" * 3000], "a" * 5_000_000),
    "one that nearly is there": (["a" * 200 + "b"], "a" * 5_000_000),
    "colours": (["s3cret-value"], "s\x1b[1m" * 1_000_000),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_the_work_grows_with_the_output_alone(kind):
    secrets, text = FLOODS[kind]
    started = time.thread_time()
    stream = StreamRedactor(Redactor(secrets))
    for at in range(0, len(text), 65_536):
        stream.feed(text[at : at + 65_536])
        assert len(stream._buffer) < 20_000
    stream.end()
    assert time.thread_time() - started < 20  # some minutes, when it does not


def test_secrets_that_follow_one_another_are_one_however_they_come():
    stream = StreamRedactor(Redactor(["s3cret"]))
    assert [stream.feed(text) for text in ("a s3cret", "s3cre", "ts3cret", " b")] == ["a ***", "", "", " b"]


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

    @pytest.mark.parametrize(
        ("secret", "code", "told"),
        [
            ('pa"ssword"123', "{'scores':[{'name':'n','value':1,'reason':json.dumps({'k':s})}]}", 'pa\\"ssword'),
            ("S3CR3T" * 8, "raise ValueError((s+' ')*60)", "S3CR3T"),
            ("S3CR3T" * 8, "raise ValueError('x'*997 + (s+' ')*4000)", "S3CR3T"),
            ("SUPERSECRETVALUE1234567890", "x = 1/0; y = '" + "z" * 175 + "SUPERSECRETVALUE1234567890'", "SUPER"),
            (
                "SUPERSECRETVALUE1234567890",
                "print('{\"' + 'k'*190 + s + '\": 1, \"' + 'k'*190 + s + '\": 2}')",
                "SUPER",
            ),
            ("SUPERSECRETVALUE1234567890", "{'scores': [], 'r': s[:8] + '\\x1b[1m' + s[8:]}", "SUPER"),
            ("SUPERSECRETVALUE1234567890", "raise ValueError(s[:8] + '\\x1b[1m' + s[8:])", "SUPER"),
            ("abc12\ndef34", "raise ValueError(s)", "abc12"),
            ('{"user": "bob", "password": "hunter2hunter2"}', "print(s)", "hunter2"),
            ('{"user": "bob", "password": "hunter2hunter2"}', "{'scores': [], **json.loads(s)}", "hunter2"),
        ],
        ids=itertools.count(),
    )
    def test_no_part_of_a_secret_is_left(self, executor, secret, code, told):
        result = executor.run(f"import json, os\ns = os.environ['S']\n{code}", None, {"S": secret}, secrets=["S"])
        shown = repr((result, result.to_dict(), result.stdout, result.stderr, result.error, result.scores))
        assert told not in shown
        assert MASK in shown or "is a secret, which is no result" in shown

    def test_a_secret_printed_last_is_no_result(self, executor):
        secret = '{"user": "bob", "password": "hunter2hunter2"}'
        result = executor.run("import os\nprint(os.environ['S'])", None, {"S": secret}, secrets=["S"])
        assert "the last line printed is a secret, which is no result" in result.error.text
        assert result.stdout == "***\n"

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
