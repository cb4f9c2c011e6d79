"""An evaluation as one HTML file that needs nothing else, to be kept and handed on."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import brief, plural
from isolated_magic.evaluation.report import view_of_evaluation
from isolated_magic.evaluation.report_tables import first_of
from isolated_magic.evaluation.row_report import failures_table, rows_table
from isolated_magic.render.blocks import Fold
from isolated_magic.render.html import to_html

if TYPE_CHECKING:
    from isolated_magic.evaluation.evaluated import Evaluated
    from isolated_magic.render.blocks import Block

MOST_ROWS = 1000  # of each kind
# Nothing is fetched and nothing runs, whatever stands in a row.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0 8px 1rem; overflow-wrap: anywhere; }
summary { cursor: pointer; }
"""


def to_html_report(result: Evaluated) -> str:
    """A whole page: the summary with running times, the comparison, and at most a thousand rows of each kind."""
    title = brief(result.label) or "Evaluation"
    view: list[Block] = [
        block for block in view_of_evaluation(result, has_times=True) if not isinstance(block, Fold)
    ]
    failures, rows = result.failures, result.rows
    if failures:
        told = _title("failed row", len(failures))
        view.append(Fold(told, failures_table([*islice(failures, MOST_ROWS)], has_data=True)))
    if rows:
        table = rows_table(rows[:MOST_ROWS], result.summary, has_data=True)
        view.append(Fold(_title("row", len(rows)), table))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{to_html(tuple(view))}\n</body>\n</html>\n"
    )


def _title(noun: str, count: int) -> str:
    return f"{count:,} {plural(noun, count)}{first_of(MOST_ROWS, count)}"
