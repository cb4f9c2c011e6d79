"""What a row is after its secrets were hidden."""

import pytest

from isolated_magic.executors.row_values import without_secrets
from isolated_magic.redaction.redactor import redactor_for

KEY = "the key of one tenant"


@pytest.fixture
def redactor():
    return redactor_for((KEY,))


def test_a_row_without_secrets_is_itself(redactor):
    row = {"id": 1, "text": "nothing to hide"}
    assert without_secrets(row, redactor) is row


def test_a_field_that_cannot_be_copied_costs_no_other_field(redactor):
    row = {"id": 1, "tenant": "t1", "key": KEY, "odd": {KEY}, "nested": [{"key": KEY}]}
    hidden = {
        "id": 1,
        "tenant": "t1",
        "key": "***",
        "odd": "<set that may hold a secret>",
        "nested": [{"key": "***"}],
    }
    assert without_secrets(row, redactor) == hidden


def test_a_row_that_is_text(redactor):
    assert without_secrets(f"with {KEY}", redactor) == "with ***"


def test_what_is_no_dict_and_cannot_be_copied(redactor):
    assert without_secrets([{KEY}], redactor) == "<list that may hold a secret>"
