"""Trees of texts, whatever happens while they are made."""

import ast
import gc
from contextlib import contextmanager

import pytest

from isolated_magic.syntax import expression_of, module_of

DEEP = "[x for x in (1, [2, {3: (4, [5, 6])}])]"
PROGRAM, EXPRESSION = f"a = {DEEP}\n" * 50, f"[{f'{DEEP}, ' * 50}]"


@contextmanager
def disturbed(times=300):
    """So many times a tree is made in the middle of what is done, as another thread would."""
    before, left = gc.get_threshold(), [*range(times)]

    def callback(phase, info):
        if left:
            left.pop()
            ast.parse("1")

    gc.callbacks.append(callback)
    gc.set_threshold(10)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(callback)


@pytest.mark.parametrize(("make", "text"), [(module_of, PROGRAM), (expression_of, EXPRESSION)])
def test_another_one_that_is_made_meanwhile_costs_nothing(make, text):
    with disturbed():
        found = make(text)
    assert ast.dump(found) == ast.dump(make(text))


@pytest.mark.parametrize("make", [module_of, expression_of])
@pytest.mark.parametrize("text", ["1 +", "(" * 1000, "a\0"])
def test_what_is_no_program_is_said(make, text):
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        make(text)
