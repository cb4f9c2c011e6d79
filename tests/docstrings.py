"""What `isolated_magic` makes public, and what the docstrings of it say.

``python -m tests.docstrings`` runs all their examples, and prints a dict of those that failed: what went wrong, by name.
"""

import doctest
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import isolated_magic
from isolated_magic import IsolatedSubprocessExecutor

# Called by the package alone, such as by the magic: no promise to anyone else, so they need no example.
INTERNAL = {
    "BackgroundRun.amend",
    "BackgroundRun.peek",
    "History.run_of",
    "History.run_with_scores",
    "History.with_evaluation",
    "History.with_result",
    "Lifetime.forget",
}
SECTION = re.compile(r"^(Args|Returns|Raises|Example):$", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\*{0,2}[\w.]+): \S", re.MULTILINE)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclass
class Documented:
    """One public class, function, method or property.

    Args:
        name: such as ``Executor.run``.
        thing: it.
        home: the module where it is defined.
    """

    name: str
    thing: object
    home: str
    sections: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.doc = inspect.cleandoc(
            vars(self.thing).get("__doc__") or "" if self.is_class else self.thing.__doc__ or ""
        )
        parts = SECTION.split(self.doc)
        self.sections = dict(zip(parts[1::2], parts[2::2], strict=True))

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.thing)

    @property
    def is_property(self) -> bool:
        return not self.is_class and not inspect.isfunction(self.thing)

    def listed(self, section: str) -> list[str]:
        """The names that a section describes."""
        return [name.strip("*") for name in ENTRY.findall(self.sections.get(section, ""))]


def function_of(member: object) -> object:
    """The function of a method, whatever it is decorated with; anything else as it is."""
    return member.__func__ if isinstance(member, (classmethod, staticmethod)) else member


def documented() -> Iterator[Documented]:
    """All that is public: what the package exports, and the methods and properties of its classes."""
    seen = set()
    for name in isolated_magic.__all__:
        thing = getattr(isolated_magic, name)
        yield Documented(name, thing, thing.__module__)
        if not inspect.isclass(thing):
            continue
        for base in thing.__mro__:
            if not base.__module__.startswith("isolated_magic"):
                continue
            for member_name, member in vars(base).items():
                found = function_of(member)
                is_method = inspect.isfunction(found)
                is_property = isinstance(found, property) or type(found).__name__ == "cached_property"
                if member_name.startswith("_") or id(member) in seen or not (is_method or is_property):
                    continue
                seen.add(id(member))
                yield Documented(f"{base.__name__}.{member_name}", found, base.__module__)


def failures() -> dict[str, str]:
    """Run all examples, and return what each of those that failed printed."""
    finder = doctest.DocTestParser()
    found = {}
    for one in documented():
        test = finder.get_doctest(one.doc, {}, one.name, one.home, 0)
        printed = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
        if runner.run(test, out=printed.write).failed:
            found[one.name] = printed.getvalue()
    return found


if __name__ == "__main__":
    with IsolatedSubprocessExecutor() as kept:  # so that the fork servers last from one example to the next
        kept.warm_up()
        sys.stdout.write(json.dumps(failures()) + "\n")
