"""Whatever is printed, sent or handed over: a result, or an error that says why not. Never another exception.

The same examples each time; `pytest tests/test_fuzz.py --hypothesis-profile=thorough` tries many others.
"""

import dataclasses
import datetime
import decimal
import itertools
import json

from hypothesis import example, given
from hypothesis import strategies as st

from isolated_magic import InvalidRequestError
from isolated_magic.child import wire
from isolated_magic.child.channel import decode_payload, encode
from isolated_magic.child.result import NotAResultError, result_of
from isolated_magic.launch.protocol import Messages
from isolated_magic.magic.display import bundle
from isolated_magic.models import Timings
from isolated_magic.payload.encode import encode_payload
from isolated_magic.render.html import to_html
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of
from isolated_magic.request import build_request
from isolated_magic.supervisor.output import Decoder, ResultLine
from isolated_magic.supervisor.result import build_result
from tests.test_exit_report import ENDED

REQUEST = build_request("1", {}, None, 1, None)

texts = st.text(st.one_of(st.characters(), st.sampled_from("\ud800\udfff\x1b\n\x00<$")), max_size=20)
numbers = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, -0.0]),
)
scalars = st.one_of(st.none(), numbers, texts)


def nested(leaves, keys):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=12,
    )


json_values = nested(scalars, texts)


FIELDS = ("name", "value", "reason", "category_name", "metadata", "scoring_failed", "other")
score_like = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=5)
scores = st.fixed_dictionaries(
    {"name": texts, "value": json_values},
    optional={"reason": json_values, "metadata": json_values, "scoring_failed": json_values},
)
score_lists = st.lists(st.one_of(scores, score_like, json_values), max_size=4)
payloads = st.one_of(
    st.fixed_dictionaries({"scores": st.lists(scores, max_size=4)}, optional={"model": json_values}),
    st.fixed_dictionaries({"scores": st.one_of(score_lists, json_values)}, optional={"x": json_values}),
    st.dictionaries(texts, json_values, max_size=4),
)

depths = st.sampled_from([3, 200, 400, 480, 900, 960, 980, 990, 1000, 100_000])
nestings = st.builds(
    lambda depth, opening, closing, before: before + opening * depth + closing * depth + "}",
    depths,
    *[st.just("["), st.just("]")],
    st.sampled_from(['{"x": ', '{"scores": ', '{"scores": [{"name": "a", "value": 1, "reason": ']),
)
SIGNS = [*'{}[]":, x\t\r\n\x00\x0b\x1c\u2028\ufeff\\-1', "\\ud800", "1e999", "NaN", "-Infinity", "true", "nul"]
fragments = st.sampled_from([*SIGNS, '"scores"', '"name"', '"value"', "9" * 5000])
# With every key twice, with a key of JSON's twice, cut in half, deep, anything.
printed_texts = st.one_of(
    payloads.map(json.dumps),
    payloads.map(lambda payload: json.dumps(payload, ensure_ascii=False)),
    payloads.map(lambda payload: json.dumps(payload) + "\n"),
    payloads.map(lambda payload: json.dumps({"a": payload, "b": payload}).replace('"b"', '"a"')),
    st.builds(lambda payload, end: json.dumps(payload)[:end], payloads, st.integers(0, 60)),
    nestings,
    st.lists(fragments, max_size=12).map("".join),
    st.lists(fragments, max_size=12).map(lambda parts: "{" + "".join(parts)),
    st.text(st.characters(), max_size=40),
)


def cut(whole, places):
    edges = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 80), max_size=8)
lines = st.text(st.sampled_from("{}x \t\n\n\r\x1c\u2028"), max_size=12)
few_cuts = st.lists(st.integers(0, 12), min_size=1, max_size=4)


def parted(parts, **settings):
    line = ResultLine(**settings)
    passed = "".join(line.feed(part) for part in parts)
    return passed, line.result(), line.release()


def shown(result):
    """Everything that a user or a notebook gets of it."""
    view = view_of(result)
    for text in (to_text(view), to_html(view)):
        text.encode()
    by_type, metadata = bundle(result)
    json.dumps(by_type).encode()
    json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    return by_type


def is_sound(result):
    """A payload or an error, its scores those of its payload, all of it to be shown."""
    assert (result.payload is None) == (result.error is not None)
    shown(result)
    answer = result.to_dict()
    if result.error is not None:
        assert answer["code"] in {400, 500}
        assert result.error.text
        result.error.text.encode()
        result.error.summary.encode()
        assert "\n" not in result.error.summary or result.error.code == 400
        return True
    if result.scores:
        items = answer["scores"]
        assert [score.name for score in result.scores] == [item["name"] for item in items]
        assert all(is_value_of(score, item) for score, item in zip(result.scores, items, strict=True))
    return True


def is_value_of(score, item):
    value = item.get("value")
    if value is None:
        return score.value is None and score.scoring_failed and score.reason
    return score.value is value or (type(value) is bool and repr(score.value) == repr(float(value)))


def read_by_pairs(text):
    """What json reads, objects as lists of pairs: nothing is lost."""
    return json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs))


class TestPrinted:
    @given(st.one_of(lines, lines, st.lists(fragments, max_size=20).map("".join), printed_texts), few_cuts)
    @example("{}\n\x1c", [2, 3])
    @example("{}\n \nx", [4, 5])
    def test_the_parting_does_not_depend_on_the_cuts_and_loses_nothing(self, text, places):
        whole = parted([text])
        assert whole[0] + whole[2] == text
        assert repr(parted(cut(text, places))) == repr(whole)

    @given(st.lists(fragments, max_size=20).map("".join), cuts, st.integers(1, 40))
    def test_of_a_long_line_no_more_is_kept_than_the_limit(self, text, places, most):
        line = ResultLine(most)
        for part in cut(text, places):
            line.feed(part)
            kept = [line._held.text(), line._blank.text()]
            assert all(len(some.encode("utf-8", "surrogatepass")) <= most * 4 for some in kept)
        assert repr(line.result()) == repr(parted([text], most=most)[1])

    @given(printed_texts)
    @example('{"scores": ' + "[" * 100_000)
    @example('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    @example('{"scores": [{"name": "a", "value": 1, "reason": ' + "[" * 900 + "]" * 900 + "}]}")
    @example('{"scores": [{"name": "\\ud800", "value": NaN, "value": 1}]}')
    @example('{"scores": [{"name": "a", "value": ' + "9" * 5000 + "}]}")
    @example('{"scores": [{"name": "a", "value": ' + "9" * 400 + '}, {"name": "a", "value": -1e999}]}')
    @example('{"\ud800": "\udfff"')
    @example("\x0c{}\x0c")
    def test_a_printed_line_is_a_result_as_it_stands_or_an_error(self, text):
        passed, printed, rest = parted([text])
        stdout = passed + rest if printed is None or printed.value is None else passed
        said = Messages()
        said.feed(wire.frame(b'{"started": {}}'))
        result = build_result(
            dataclasses.replace(
                ENDED, printed=printed, stdout=stdout.encode("utf-8", "replace").decode(), messages=said
            ),
            REQUEST,
            Timings(),
        )
        assert is_sound(result)
        if result.ok:
            assert repr(read_by_pairs(json.dumps(result.payload))) == repr(read_by_pairs(rest.strip()))

    @given(st.binary(max_size=60), cuts)
    def test_any_bytes_are_text(self, printed, places):
        decoder = Decoder("replace")
        text = "".join(map(decoder.decode, cut(printed, places))) + decoder.decode(b"", final=True)
        assert text == printed.decode(errors="replace")
        parted([text])


def framed(message):
    return wire.frame(json.dumps(message).encode())


outcomes = st.one_of(
    payloads.map(lambda payload: {"result": payload}),
    st.fixed_dictionaries({"error": st.fixed_dictionaries({"text": texts, "summary": texts})}),
    texts.map(lambda text: {"found": text}),
    texts.map(lambda text: {"exit_message": text}),
    st.lists(texts).map(lambda notes: {"result": {"scores": []}, "notes": notes}),
    texts.map(lambda text: {"found": text, "found_kind": "value"}),
    st.dictionaries(
        st.sampled_from(["result", "error", "found", "found_kind", "exit_message", "notes"]),
        json_values,
        max_size=3,
    ),
)
reports = st.one_of(
    st.fixed_dictionaries({"installed": st.lists(texts), "files": st.lists(texts)}),
    st.fixed_dictionaries({"pages": st.lists(st.integers(), max_size=3)}),
    st.fixed_dictionaries({"errno": texts, "path": texts, "reason": texts}),
    st.just({}),
    json_values,
)
kinds = st.sampled_from(
    ["started", "not_started", "ask", "mark", "imported", "memory", "outcome", "over", "other"]
)
known = st.sampled_from(
    [
        {"started": {}},
        {"ask": {}},
        {"mark": {}},
        {"imported": {"installed": ["a"], "files": []}},
        {"memory": {"pages": [1]}},
        {"over": {"status": 0}},
        {"not_started": {"errno": 7, "path": None}},
        {"outcome": {"result": {"scores": []}}},
        {"outcome": {"error": {"text": "a", "summary": "b"}}},
    ]
)
messages = st.one_of(
    known,
    outcomes.map(lambda said: {"outcome": said}),
    st.dictionaries(kinds, reports, max_size=2),
    json_values,
)
frames = st.one_of(
    messages.map(framed),
    st.just(framed({"started": {}})),
    st.binary(max_size=20),
    st.binary(max_size=20).map(wire.frame),
    printed_texts.map(lambda text: wire.frame(text.encode("utf-8", "surrogatepass"))),
    st.integers(0, 1 << 64).map(lambda length: min(length, (1 << 64) - 1).to_bytes(8, "big")),
)
channels = st.one_of(
    st.lists(frames, max_size=6).map(b"".join),
    st.lists(frames, max_size=4).map(lambda some: framed({"started": {}}) + b"".join(some)),
)


def heard(parts):
    found = Messages()
    asked = [found.feed(part) for part in parts]
    found.end()
    return found, any(asked)


class TestChannel:
    @given(channels, cuts)
    def test_any_bytes_are_messages_or_the_end_of_the_conversation(self, sent, places):
        whole, asked = heard([sent])
        found, asked_too = heard(cut(sent, places))
        assert repr(vars(found)) == repr(vars(whole))
        assert asked == asked_too
        assert len(found._received) == 0
        assert found.broken is None or found.outcome is None

    @given(channels, st.sampled_from([0, 0, 0, 1, 120, -9, None]))
    def test_what_it_comes_to_is_a_result_or_an_error(self, sent, exit_status):
        said, _ = heard([sent])
        result = build_result(
            dataclasses.replace(ENDED, messages=said, exit_status=exit_status), REQUEST, Timings()
        )
        assert is_sound(result)
        if result.ok:
            assert exit_status == 0 or "after the code had finished" in " ".join(result.notes)
            assert isinstance(result.payload["scores"], list)
            assert len(result.scores) == len(result.payload["scores"])

    @given(st.lists(known, max_size=5))
    def test_each_message_is_taken_once_and_in_its_order(self, said_of_it):
        found, _ = heard(map(framed, said_of_it))
        order = ["started", "ask", "mark", "imported", "outcome", "memory", "over"]
        kinds = [next(iter(message)) for message in said_of_it]
        in_order = kinds[:1] in ([], ["started"]) and kinds == [kind for kind in order if kind in kinds]
        in_order &= "outcome" in kinds or not {"memory", "over"} & {*kinds}
        assert (found.broken is None) == (in_order or kinds == ["not_started"])
        assert found.broken is None or found.outcome is None

    @given(outcomes)
    @example({"result": {"scores": [{"value": 1}]}})
    @example({"result": {"scores": [{"name": None, "value": 1}]}})
    @example({"error": {"text": "\ud800", "summary": "\ud800"}})
    @example({"found": "\ud800"})
    @example({"exit_message": "\ud800"})
    def test_an_outcome_as_the_program_sends_it(self, said_of_it):
        said, _ = heard([framed({"started": {}}) + framed({"outcome": said_of_it})])
        result = build_result(dataclasses.replace(ENDED, messages=said), REQUEST, Timings())
        assert is_sound(result)
        assert not result.ok or len(result.scores) == len(result.payload["scores"])


class Odd:
    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name


class ScoreResult:
    def __init__(self, name, value, reason):
        self.name, self.value, self.reason = name, value, reason


huge = st.builds(lambda: 10**5000)
odd_scalars = st.one_of(
    scalars,
    st.decimals(),
    st.fractions(),
    st.dates(),
    st.timedeltas(),
    st.binary(max_size=3),
    st.complex_numbers(),
    texts.map(Odd),
    st.sampled_from([Odd, len, datetime.UTC, decimal.Decimal("1e999999"), {1}]),
    huge,
)
likely_keys = st.sampled_from(["scores", "1", "null", "None", "True", "1.0"])
odd_keys = st.one_of(
    texts, likely_keys, likely_keys.map(Odd), st.sampled_from([1, None, True, 1.5]), numbers, huge
)
odd_values = nested(odd_scalars, odd_keys)
odd_scores = st.one_of(st.builds(ScoreResult, st.one_of(texts, odd_values), odd_values, odd_values), scores)


def holding_itself(value):
    value.append(value)
    return value


class TestLastExpression:
    @given(
        st.one_of(
            odd_values,
            odd_scores,
            st.lists(odd_scores, max_size=3),
            st.fixed_dictionaries({"scores": st.lists(st.one_of(odd_scores, odd_values), max_size=3)}),
            st.builds(
                lambda scores, more: {**more, "scores": scores},
                st.lists(odd_scores, max_size=3),
                st.dictionaries(odd_keys, odd_values, max_size=3),
            ),
            st.lists(odd_values).map(holding_itself),
        )
    )
    @example({"scores": [], 1: 2, "1": 3})
    @example({"scores": [], Odd("scores"): [{"name": "a", "value": 1}]})
    def test_a_value_is_a_result_that_survives_the_way_or_is_refused(self, value):
        try:
            result = result_of(value)
            sent = encode({"outcome": {"result": result}})
        except (
            NotAResultError,
            OverflowError,
            ValueError,
        ):  # a Decimal beyond a float, an int beyond text
            return
        if isinstance(value, dict) and "scores" in value:
            assert len(result) == len(value)
        said, _ = heard([framed({"started": {}}) + wire.frame(sent.encode())])
        assert said.broken is None
        assert repr(said.outcome.result) == repr(json.loads(json.dumps(result)))
        assert is_sound(build_result(dataclasses.replace(ENDED, messages=said), REQUEST, Timings()))


class TestRequest:
    @given(st.dictionaries(texts, json_values, max_size=5))
    def test_json_arrives_as_it_is(self, data):
        assert repr(decode_payload(encode_payload(data))["data"]) == repr(data)

    @given(st.dictionaries(odd_keys, st.one_of(odd_values, odd_scores), max_size=5), texts)
    def test_anything_else_arrives_or_is_refused(self, data, payload_type):
        try:
            sent = encode_payload(data, payload_type)
        except InvalidRequestError as problem:
            str(problem).encode("utf-8", "backslashreplace")
            return
        arrived = decode_payload(sent)
        assert arrived["payload_type"] == payload_type
        assert len(arrived["data"]) == len(data)

    @given(odd_values)
    def test_what_is_no_dict_is_refused(self, data):
        try:
            encode_payload(data)
        except InvalidRequestError:
            assert not isinstance(data, dict) or data

    @given(depths, st.booleans())
    def test_data_of_any_depth(self, depth, in_dicts):
        data = {}
        for _ in range(depth):
            data = {"a": data} if in_dicts else [data]
        try:
            sent = encode_payload({"x": data})
        except InvalidRequestError:
            return
        try:
            arrived = decode_payload(sent)["data"]["x"]
        except RecursionError:  # which the run refuses by itself
            return
        for _ in range(depth):
            arrived = arrived["a"] if in_dicts else arrived[0]
        assert arrived == {}
