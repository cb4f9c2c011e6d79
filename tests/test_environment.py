import enum
import os
import sys

import pytest

from isolated_magic import InvalidRequestError
from isolated_magic.environment import environment_for_run

SECRET = "sk-do-not-print"


@pytest.mark.parametrize(
    ("env_vars", "named"),
    [
        ({"KEY": True}, "KEY is bool"),
        ({"KEY": [SECRET]}, "KEY is list"),
        ({"KEY": SECRET.encode()}, "KEY is bytes"),
        ({"KEY": object()}, "KEY is object"),
        ({"KEY": f"{SECRET}\0"}, "KEY holds a NUL"),
        ({"KEY": f"{SECRET}\ud800"}, "KEY holds a character"),
        ({"KEY": 10**5000}, "KEY is an integer too long"),
        ({"": SECRET}, "empty name"),
        ({f"NAME={SECRET}": SECRET}, "'NAME'"),
        ({"NA\0ME": SECRET}, "NUL"),
        ({5: SECRET}, "int"),
        ([("KEY", SECRET)], "env_vars is list"),
        (SECRET, "env_vars is str"),
    ],
)
def test_what_no_environment_can_hold_is_refused_without_the_value(env_vars, named):
    with pytest.raises(InvalidRequestError) as caught:
        environment_for_run(env_vars)
    assert named in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_value_is_what_it_is_and_not_how_it_prints():
    class Masked(str):
        def __str__(self):
            return "****"

    class Region(enum.StrEnum):
        EU = "eu"

    class Level(enum.IntEnum):
        HIGH = 3

    class Plain(str, enum.Enum):  # noqa: UP042 - it prints otherwise than a StrEnum
        A = "a"

    made = environment_for_run({"K": Masked("real"), "R": Region.EU, "L": Level.HIGH, "P": Plain.A})
    assert (made[b"K"], made[b"R"], made[b"L"], made[b"P"]) == (b"real", b"eu", b"3", b"a")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of one entry is Linux's")
def test_the_longest_value_passes_and_one_more_byte_is_refused(executor):
    longest = "x" * (131072 - len("KEY=") - 1)
    code = "import os\nlen(os.environ['KEY'])"
    assert executor.execute(code, {}, {"KEY": longest})["scores"][0]["value"] == len(longest)
    answer = executor.execute(code, {}, {"KEY": longest + "x"})
    assert answer["code"] == 400
    assert "KEY is too long" in answer["error"]
    assert "xxx" not in answer["error"]


def test_bytes_that_are_no_utf8_are_inherited_as_they_are(executor, monkeypatch):
    monkeypatch.setitem(os.environb, b"ISOLATED_TEST_RAW", b"\xff\xfe")
    code = "import os\nos.environb[b'ISOLATED_TEST_RAW'] == b'\\xff\\xfe'"
    assert executor.execute(code, {})["scores"][0]["value"] == 1
