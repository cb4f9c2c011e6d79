"""Syntax trees of programs and expressions."""

from __future__ import annotations

import ast

MOST_ATTEMPTS = 100


def module_of(source: str | bytes) -> ast.Module:
    """The tree of a program; what ast.parse() raises where it is none."""
    for _ in range(MOST_ATTEMPTS):
        # All threads count together how deep a tree is, and before Python 3.12 the garbage collector may call
        # anybody's code in the middle of one: if that lets another thread make a tree, the numbers do not agree.
        try:
            return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)


def expression_of(text: str) -> ast.expr:
    """Likewise of an expression."""
    for _ in range(MOST_ATTEMPTS):
        try:
            return ast.parse(text, mode="eval").body
        except SystemError:
            continue
    return ast.parse(text, mode="eval").body
