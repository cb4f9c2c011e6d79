"""What cannot be staged with real processes: two things at the same moment."""

import dataclasses
import json

import pytest

from isolated_magic.child import wire
from isolated_magic.messages import Messages
from isolated_magic.models import Timings
from isolated_magic.request import build_request
from isolated_magic.supervise import Ending
from isolated_magic.verdict import judge


def said(*messages):
    found = Messages()
    for message in messages:
        found.feed(wire.frame(json.dumps(message).encode()))
    return found


ENDED = Ending(
    pid=1,
    exit_status=0,
    cpu_secs=0.0,
    interrupted=False,
    timed_out=False,
    killed=False,
    failure=None,
    said=said({"started": {}}, {"outcome": {"result": {"scores": []}}}),
    printed=None,
    stdout="",
    stderr="",
    created_at=0.0,
)


def judged(**changes):
    return judge(dataclasses.replace(ENDED, **changes), build_request("1", {}, None, 1, None), Timings())


@pytest.mark.parametrize("asked", ["timed_out", "killed"])
def test_a_run_that_ended_by_itself_was_not_killed(asked):
    assert judged(**{asked: True}).payload == {"scores": []}
    assert not judged(**{asked: True}, exit_status=-9).ok


def test_a_refused_process_is_said():
    error = judged(failure="no processes left", exit_status=None).error
    assert error.code == 500
    assert "no processes left" in error.text


def test_an_outcome_that_is_not_ours_is_no_result():
    assert not judged(said=said({"started": {}}, {"outcome": {"result": [1]}})).ok
    assert not judged(said=said({"started": {}})).ok
