"""What tests of results and of errors do with a run."""

import json
import textwrap

from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of

OURS = ("isolated_magic", "_isolated_magic_child")
# A stand-in that costs no import: what the child goes by is the names of the classes.
LIGHT = """
class BaseMetric:
    def __init__(self, name=None): self.name = name or type(self).__name__
class ScoreResult:
    def __init__(self, name, value, reason=None): self.name, self.value, self.reason = name, value, reason
"""


def scores(executor, code, data=None, **settings):
    result = executor.run(textwrap.dedent(code), data, **settings)
    assert result.error is None, result.error.text
    return result.payload["scores"]


def line(name, value=1):
    """A printed line with one score."""
    return json.dumps({"scores": [{"name": name, "value": value}]})


def refusal(executor, code, data=None):
    answer = executor.execute(textwrap.dedent(code), data)
    assert answer["code"] == 500, answer
    assert answer["error"].startswith("Invalid JSON response from subprocess: ")
    return answer["error"]


def run_cell(executor, code, **settings):
    return executor.run(f"\n{code}", source_name="<cell>", **settings)


def as_text(result):
    return to_text(view_of(result))


def rows_of(count, **more):
    """Rows numbered from 1."""
    return [{"n": n + 1, **more} for n in range(count)]


def values(evaluation):
    """The value of each row's first score, or its error."""
    return [row.scores[0].value if row.ok else row.error.summary for row in evaluation]
