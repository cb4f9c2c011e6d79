"""Trees of texts, whatever happens while they are made."""

import ast
import gc

import pytest

from isolated_magic.syntax import expression_of, module_of

DEEP = "[x for x in (1, [2, {3: (4, [5, 6])}])]"


@pytest.fixture
def disturbed():
    """As where another thread makes a tree in the middle of this one's."""
    before, left = gc.get_threshold(), [*range(20)]

    def callback(phase, info):
        if left:
            left.pop()
            ast.parse("1")

    gc.callbacks.append(callback)
    gc.set_threshold(10)
    yield left
    gc.set_threshold(*before)
    gc.callbacks.remove(callback)


@pytest.mark.parametrize(
    ("make", "text"), [(module_of, f"a = {DEEP}\n" * 50), (expression_of, f"[{f'{DEEP}, ' * 50}]")]
)
def test_another_one_that_is_made_meanwhile_costs_nothing(disturbed, make, text):
    assert isinstance(make(text), ast.AST)
    assert not disturbed


@pytest.mark.parametrize("make", [module_of, expression_of])
@pytest.mark.parametrize("text", ["1 +", "(" * 1000, "a\0"])
def test_what_is_no_program_is_said(make, text):
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        make(text)
