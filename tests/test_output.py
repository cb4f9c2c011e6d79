import itertools
import json
import random

import pytest

from isolated_magic.supervisor.output import Decoder, ResultLine

TEXTS = [
    "",
    "plain",
    "a\nb\n",
    'a\n{"scores": []}',
    'a\n{"scores": []}\n\n \n',
    '{"a": 1}\nb\n  {"b": 2}  \n',
    '   \n\t{"a": 1}\n',
    '{"a": 1}\n{"b": 2}\n{"c": 3}\n',
    '{"broken": \n',
    "x {}\n{} x\n",
    "\n\n\n",
    "progress\rprogress\r\n{}\n",
    "one\x0b{}\x0ctwo\u2028{}\n",
]


def parted(text, cuts):
    line = ResultLine()
    edges = [0, *sorted(cuts), len(text)]
    passed = "".join(line.feed(text[start:end]) for start, end in itertools.pairwise(edges))
    return passed, line.result(), line.release()


def value_of(printed):
    return printed and printed.value


@pytest.mark.parametrize("text", TEXTS)
def test_the_parting_does_not_depend_on_how_the_text_was_cut(text):
    whole = parted(text, [])
    assert whole[0] + whole[2] == text
    chance = random.Random(text)
    for _ in range(200):
        cuts = [chance.randrange(len(text) + 1) for _ in range(chance.randrange(8))]
        assert parted(text, cuts) == whole


@pytest.mark.parametrize(
    ("text", "passed", "result"),
    [
        ('a\n{"n": 1}\n', "a\n", {"n": 1}),
        ('{"n": 1}\n\n', "", {"n": 1}),
        ('{"n": 1}\nb', '{"n": 1}\nb', None),
        ("[1]\n", "[1]\n", None),
        ("{no\n", "", None),
        ('x {"n": 1}', 'x {"n": 1}', None),
    ],
)
def test_only_the_last_non_empty_line_can_be_the_result(text, passed, result):
    before, printed, _ = parted(text, [])
    assert (before, value_of(printed)) == (passed, result)


def test_a_partial_line_passes_at_once():
    line = ResultLine()
    assert line.feed("50%") == "50%"
    assert line.feed(" {not a result") == " {not a result"


def test_characters_are_decoded_across_chunks_and_bad_bytes_replaced():
    decoder = Decoder("replace")
    whole = "é✓".encode() + b"\xff" + "𝄞".encode()
    text = "".join(decoder.decode(whole[n : n + 1]) for n in range(len(whole))) + decoder.decode(b"", final=True)
    assert text == "é✓\ufffd𝄞"


def test_of_a_line_that_is_too_long_the_beginning_is_kept_and_what_there_was():
    line = ResultLine()
    chunk = "x" * (1 << 20)
    assert line.feed('{"a": "') == ""
    for _ in range(200):
        assert line.feed(chunk) == ""
    assert len(line._held.text()) == 200
    assert line.result().problem == "the last line printed has more than 64 MB: 209,715,207 bytes"
    assert line.result().counts
    said = line.feed('"}\nafter\n')
    assert said.startswith('{"a": "xxx')
    assert said.endswith("x... [209,715,210 bytes; not kept]\nafter\n")
    assert line.result() is None


S1, S2 = '{"scores": [{"name": "a", "value": 1}]}', '{"scores": [{"name": "b", "value": 2}]}'
LOG, LISTED, TWICE = '{"level": "info"}', '{"scores": []}', '{"a": 1, "a": 2}'
TEXTS_WITH_SCORES = [
    f"{S1}\n{LOG}\n",
    f"x\n{S1}\n\n{LOG}\n  {LOG}",
    f"{S1}\n{LOG}\ntext\n{LOG}\n",
    f"{S1}\n{LOG}\n{S2}\n{LOG}\n",
    f"{LISTED}\n{S1}\n{LISTED}\n{LOG}\n\n",
    f"{LOG}\n{S1} x\n{LOG}\n",
    f"{S1}\n{{'scores': 1}}\n{LOG}\n",
    f"{S1}\n{TWICE}\n",
    f'{S1}\r\n{LOG}\r\n   \n{S2}\r\n{LOG}{{"scores',
]


@pytest.mark.parametrize("text", TEXTS_WITH_SCORES)
def test_with_scores_the_parting_depends_on_no_cut_either(text):
    test_the_parting_does_not_depend_on_how_the_text_was_cut(text)


@pytest.mark.parametrize(
    ("text", "result", "output"),
    [
        (f"a\n{S1}\n{LOG}\n", S1, f"a\n{LOG}\n"),
        (f"{S1}\n{S2}\n", S2, f"{S1}\n"),
        (f"{S1}\n{LOG}\n{S2}\n{LOG}\n", S2, f"{S1}\n{LOG}\n{LOG}\n"),
        (f"{LOG}\n{LISTED}\n{LOG}\n", LISTED, f"{LOG}\n{LOG}\n"),
        (f"{S1}\n{LISTED}\n", LISTED, f"{S1}\n"),
        (f'{S1}\n{{"scores": [0.5]}}\n', S1, '{"scores": [0.5]}\n'),
        (f"{S1}\ntext\n{LOG}\n", LOG, f"{S1}\ntext\n"),
        (f"{S1}\n{TWICE}\n", S1, f"{TWICE}\n"),
    ],
)
def test_what_has_scores_goes_before_what_has_none_and_the_rest_is_output(text, result, output):
    line = ResultLine()
    passed = line.feed(text)
    assert line.result().value == json.loads(result)
    assert passed + line.release(without_result=True) == output


def test_a_line_is_late_that_begins_after_the_mark():
    line = ResultLine()
    line.feed(f"{S1}\n")
    line.mark()
    assert not line.result().is_late
    line.feed(f"{LOG}\n")
    assert (line.result().value, line.result().is_late) == (json.loads(S1), False)
    line.feed(f"{S2}\n{LOG}\n")
    assert (line.result().value, line.result().is_late) == (json.loads(S2), True)


def test_a_flood_of_objects_behind_scores_is_not_held_back_for_ever():
    line, many = ResultLine(), f"{LOG}\n" * 100_000
    passed = line.feed(f"{S1}\n") + line.feed(many)
    assert len(passed) > len(many) - (1 << 20) - 100
    assert line.result().value == json.loads(S1)
    assert passed + line.release(without_result=True) == many
