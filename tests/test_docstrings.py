"""What the docstrings of everything public have to say, and that their examples are true."""

import ast
import builtins
import importlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import isolated_magic
from tests.docstrings import INTERNAL, Documented, documented

ROOT = Path(__file__).parents[1]
TIMEOUT_SECS = 300
PUBLIC = [*documented()]
CALLABLE = [one for one in PUBLIC if not one.is_property and one.name not in INTERNAL]
NEEDS_A_DAEMON = {"DockerExecutor"}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The examples that failed, run in a process of their own: some load the extension into an IPython shell."""
    folder = tmp_path_factory.mktemp("examples")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:isolated_magic", "-m", "tests.docstrings"],
        cwd=folder,
        env=environment,
        timeout=TIMEOUT_SECS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def named(several: list[Documented]):
    return pytest.mark.parametrize("one", several, ids=lambda one: one.name)


def parameters_of(one: Documented) -> list[str]:
    """The names that a caller can give."""
    if one.is_class:
        if issubclass(one.thing, tuple):
            return [*one.thing._fields]
        if is_dataclass(one.thing):
            return [each.name for each in fields(one.thing) if each.init]
        if "__init__" not in vars(one.thing):
            return []
        function = one.thing.__init__
    else:
        function = one.thing
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    more = code.co_varnames[len(names) : len(names) + bool(code.co_flags & 4) + bool(code.co_flags & 8)]
    return [name for name in (*names, *more) if name not in {"self", "cls"}]


def raised_in(one: Documented) -> set[str]:
    """The classes of what the code of its own raises, where it says so by name."""
    functions = [one.thing]
    if one.is_class:
        functions = [vars(one.thing)[name] for name in ("__init__", "__post_init__") if name in vars(one.thing)]
    names = set()
    for function in functions:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError):  # made by dataclass()
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                names.add(ast.unparse(node.exc.func))
    return names


@named(PUBLIC)
def test_it_says_what_it_is(one):
    summary = one.doc.split("\n\n")[0]
    assert summary.rstrip().endswith((".", "?", "::")), one.name


@named(CALLABLE)
def test_it_describes_each_parameter_once(one):
    told = one.listed("Args")
    assert sorted(told) == sorted(parameters_of(one))


@named(CALLABLE)
def test_it_says_what_it_returns(one):
    if one.is_class:
        return
    returns = inspect.signature(one.thing).return_annotation
    assert ("Returns" in one.sections) is (returns not in {"None", None}), returns


@named(CALLABLE)
def test_it_says_what_it_raises(one):
    assert raised_in(one) <= {*one.listed("Raises")}
    for name in one.listed("Raises"):
        module, _, last = name.rpartition(".")
        homes = [importlib.import_module(module)] if module else [isolated_magic, builtins]
        assert any(hasattr(home, last) for home in homes), name


@named(CALLABLE)
def test_its_example_is_true(one, failures):
    assert ">>> " in one.sections.get("Example", ""), "it has no example"
    assert failures.get(one.name, "") == ""


def test_only_what_needs_a_daemon_is_left_out():
    assert {one.name for one in PUBLIC if "doctest: +SKIP" in one.doc} <= NEEDS_A_DAEMON


def test_properties_that_show_something_are_true(failures):
    assert not {one.name for one in PUBLIC if one.is_property} & failures.keys()


def test_type_checkers_see_every_public_name():
    tree = ast.parse(Path(isolated_magic.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        f"{node.module}.{each.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    assert {f"{home}.{name}" for name, home in isolated_magic._HOMES.items()} <= seen
