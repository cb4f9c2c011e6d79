import itertools
import random

import pytest

from isolated_magic.output import Decoder, ResultLine

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
    decoder = Decoder()
    whole = "é✓".encode() + b"\xff" + "𝄞".encode()
    text = "".join(decoder.feed(whole[n : n + 1]) for n in range(len(whole))) + decoder.feed(b"", final=True)
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
