"""What cannot be staged with real processes: two things at the same moment."""

import dataclasses
import json
import signal

import pytest

from isolated_magic import Limits
from isolated_magic.child import wire
from isolated_magic.launch.protocol import Messages
from isolated_magic.models import Timings
from isolated_magic.request import build_request
from isolated_magic.supervisor.result import build_result
from isolated_magic.supervisor.supervisor import ExitReport


def said(*messages):
    found = Messages()
    for message in messages:
        found.feed(wire.frame(json.dumps(message).encode()))
    return found


ENDED = ExitReport(
    pid=1,
    exit_status=0,
    cpu_secs=0.0,
    interrupted=False,
    timed_out=False,
    killed=False,
    failure=None,
    messages=said({"started": {}}, {"outcome": {"result": {"scores": []}}}),
    printed=None,
    stdout="",
    stderr="",
    created_at=0.0,
)


def judged(strict=False, env_vars=None, secrets=(), **changes):
    request = build_request("1", {}, env_vars, 1, None, secrets=secrets, strict=strict)
    return build_result(dataclasses.replace(ENDED, **changes), request, Timings())


@pytest.mark.parametrize("asked", ["timed_out", "killed"])
def test_a_run_that_ended_by_itself_was_not_killed(asked):
    assert judged(**{asked: True}).payload == {"scores": []}
    assert not judged(**{asked: True}, exit_status=-9).ok


def test_a_refused_process_is_said():
    error = judged(failure="no processes left", exit_status=None).error
    assert error.code == 500
    assert "no processes left" in error.text


def test_an_outcome_that_is_not_ours_is_no_result():
    assert not judged(messages=said({"started": {}}, {"outcome": {"result": [1]}})).ok
    assert not judged(messages=said({"started": {}})).ok


SCORED = {"scores": [{"name": "a", "value": 1}]}


def noted(*notes):
    return said({"started": {}}, {"outcome": {"result": SCORED, "notes": list(notes)}})


def test_notes_stand_beside_the_scores_and_are_told_by_repr_and_equality():
    result = judged(messages=noted("x is None"))
    assert (result.ok, result.payload, result.notes) == (True, SCORED, ("x is None",))
    assert "notes=('x is None',)" in repr(result)
    assert result != judged(messages=noted())
    assert result == judged(messages=noted("x is None"))
    assert result.to_dict() == SCORED


def test_with_strict_a_note_is_an_error():
    result = judged(messages=noted("one", "two"), strict=True)
    assert (result.error.kind, result.error.code, result.error.text) == ("strict", 400, "one\ntwo")
    assert (result.payload, result.scores, result.notes) == (None, (), ("one", "two"))
    assert judged(messages=noted(), strict=True).ok


def test_notes_are_bounded_on_one_line_and_without_secrets():
    many = judged(messages=noted(*["n"] * 1000)).notes
    assert 10 < len(many) < 100
    (long,) = judged(messages=noted("x" * 100_000)).notes
    assert 500 < len(long) < 3000
    (shown,) = judged(messages=noted("key s3cret-value\nand \x1b[31mred \ud800")).notes
    assert shown == "key s3cret-value and red \\ud800"
    hidden = judged(messages=noted("key s3cret-value"), env_vars={"A_KEY": "s3cret-value"}, secrets=["*_KEY"])
    assert hidden.notes == ("key ***",)


@pytest.mark.parametrize("notes", [[1], "text", {"a": 1}, [None], None])
def test_notes_that_are_none_of_ours_end_the_conversation(notes):
    spoken = said({"started": {}}, {"outcome": {"result": SCORED, "notes": notes}})
    assert not judged(messages=spoken).ok


def test_what_was_found_instead_of_a_result_is_a_field_of_the_error():
    spoken = said(
        {"started": {}}, {"outcome": {"found": "the value of the last line is a str", "found_kind": "value"}}
    )
    error = judged(messages=spoken).error
    assert (error.found, error.found_kind) == ("the value of the last line is a str", "value")
    assert error.text.startswith("Invalid JSON response from subprocess: the value of the last line is a str.\n")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"exit_status": -6}, "The process died by signal 6 (SIGABRT) after the code had finished."),
        ({"exit_status": -9, "out_of_memory": True}, "Memory limit 64 MB exceeded after the code had finished."),
        ({"exit_status": -9, "memory_exceeded": True}, "Memory limit 64 MB exceeded after the code had finished."),
        ({"exit_status": -signal.SIGXCPU}, "CPU time limit 2 s exceeded after the code had finished."),
        ({"exit_status": 3}, "The process ended with exit status 3 after the code had finished."),
        ({"exit_status": 120}, "The process ended with exit status 120 after the code had finished: what it printed last could not be written."),
        ({"exit_status": 0}, None),
    ],
)  # fmt: skip
def test_what_becomes_of_the_process_after_the_code_is_a_note(changes, note):
    limits = Limits(memory_bytes=64 << 20, cpu_secs=2)
    request = build_request("1", {}, None, 1, None, limits=limits)
    for outcome in ({"result": {"scores": []}}, {"found": "nothing"}):
        ended = dataclasses.replace(ENDED, messages=said({"started": {}}, {"outcome": outcome}), **changes)
        result = build_result(ended, request, Timings())
        assert result.notes == ((note,) if note else ())
        assert result.exit_status == changes["exit_status"]
        assert result.ok == ("result" in outcome)
        assert result.ok or result.error.kind == "no_result"


@pytest.mark.parametrize(
    "outcome",
    [
        {"exit_message": "no good"},
        {"found": "the code left with sys.exit(3)", "found_kind": "exit", "status": 3},
        {"error": {"text": "ValueError", "summary": "ValueError"}},
    ],
)
@pytest.mark.parametrize("exit_status", [1, 3, -6])
def test_code_that_did_not_come_to_its_end_has_failed(outcome, exit_status):
    result = judged(messages=said({"started": {}}, {"outcome": outcome}), exit_status=exit_status)
    assert not result.ok
    assert result.notes == ()
