"""What can score, told by its type alone: metrics of libraries, functions, classes with a method that scores.

Nothing here calls ``isinstance`` or reads an attribute of the code's objects, for lazy ones run code of their own
then: only ``type()`` and what the interpreter keeps of a type are looked at.
"""

from __future__ import annotations

import sys

from . import modules
from .metric_arguments import is_class
from .plain import is_measured, library_of, mro_of, name_of, names_in

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from typing import Any

# What the metrics of a library inherit from, and how they are called: see scorers.py.
BASES = {
    ("deepeval", "BaseMetric"): "deepeval",
    ("deepeval", "BaseConversationalMetric"): "deepeval",
    ("ragas", "SingleTurnMetric"): "ragas",
    ("ragas", "MultiTurnMetric"): "ragas",
    ("ragas", "SimpleBaseMetric"): "ragas_simple",
    ("autoevals", "Scorer"): "autoevals",
    ("braintrust", "Scorer"): "autoevals",
    ("braintrust_core", "Scorer"): "autoevals",
    ("mlflow", "Scorer"): "mlflow",
    ("phoenix", "Evaluator"): "phoenix",
    ("langsmith", "RunEvaluator"): "langsmith",
}
OPIK = "opik"
OPIK_BASES = frozenset({"BaseMetric", "ConversationThreadMetric"})
NOT_OPIK = frozenset({"deepeval", "ragas"})  # which have a BaseMetric, too
# Where the libraries keep the function that a decorator made a metric of.
DECORATED = {"ragas": "_func", "mlflow": "_original_func", "phoenix": "_fn", "langsmith": "__wrapped__"}
# Methods by which an object of a plain class scores: the first that there is.
METHODS = ("score", "measure", "evaluate", "ascore", "a_measure", "__call__")
FUNCTIONS = (type(is_class), type(len), type(modules.StandardImports().__enter__))
MADE_OF_FUNCTIONS = frozenset({"partial", "_lru_cache_wrapper"})  # by functools
IN_PYTHON = frozenset({"function", "staticmethod", "classmethod"})


def is_named(value: object) -> bool:
    """Whether it scores on the last line: a metric of a library, a function, or a class with a method for it."""
    return bool(library_of_metric(value)) or is_function(value) or (is_class(value) and has_method(value))


def library_of_metric(value: object) -> str:
    """Whose metric it is: an object of a metric class, or a concrete metric class; empty when it is none."""
    if is_class(value):
        return "" if is_abstract(value) else library_of_class(value)
    library = library_of_class(type(value))
    return "" if library and is_measured(value) else library


def library_of_class(kind: object) -> str:
    """Whose metrics a class makes; empty for another class, and for what metrics inherit from."""
    bases = mro_of(kind)
    for base in bases:
        found = BASES.get((library_of(base), name_of(base)))
        if found is not None:
            return "" if base is kind else found
    for base in bases:
        if name_of(base) == "BaseMetric" and library_of(base) not in NOT_OPIK:
            return OPIK if name_of(kind) not in OPIK_BASES else ""
    return ""


def is_of_main(kind: object) -> bool:
    """Whether the code itself defines a class."""
    module = names_in(kind).get("__module__")
    return type(module) is str and module == "__main__"


def is_decorated(value: Any) -> bool:  # noqa: ANN401 - whatever the code has
    """Whether it is a function of the code that a decorator of a library made a metric."""
    kind = type(value)
    library = library_of(kind)
    if library not in DECORATED or not library_of_class(kind):
        return False
    function = getattr(value, DECORATED[library], None)
    if library == "langsmith":  # whose function may stand in a wrapper of its own
        return function is not None
    return getattr(function, "__module__", None) == "__main__"


def is_abstract(kind: object) -> bool:
    """Whether a class has abstract methods."""
    left = names_in(kind).get("__abstractmethods__")
    return type(left) is frozenset and bool(left)


def is_function(value: object) -> bool:
    """Whether it is a function, a method, a builtin or a partial of one."""
    kind = type(value)
    is_plain = any(kind is one for one in FUNCTIONS)
    return is_plain or (name_of(kind) in MADE_OF_FUNCTIONS and library_of(kind) == "functools")


def has_method(value: object) -> bool:
    """Whether it is a class, or an object of one, with a method that scores."""
    if value is None or (is_class(value) and is_abstract(value)):
        return False
    return method_of(value if is_class(value) else type(value)) is not None


def method_of(kind: object) -> tuple[str, bool] | None:
    """The method by which objects of a class score, and whether it is the user's own; None for no such method.

    ``__call__`` has to be: objects of many libraries can be called.
    """
    for name in METHODS:
        home = next((base for base in mro_of(kind) if name in names_in(base)), None)
        if home is not None and name_of(type(names_in(home)[name])) in IN_PYTHON:
            is_own = not _is_installed(home)
            if is_own or name != "__call__":
                return name, is_own
    return None


def _is_installed(kind: object) -> bool:
    name = names_in(kind).get("__module__")
    module = sys.modules.get(name) if type(name) is str else None
    return name != "__main__" and module is not None and modules.is_installed(module)
