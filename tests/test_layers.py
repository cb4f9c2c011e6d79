"""The direction of the imports, and what importing the package costs."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import isolated_magic

ROOT = Path(isolated_magic.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module may import from its own layer and from those after it; `child` may import nothing but itself.
LAYERS = [
    ["__init__"],
    ["magic"],
    ["distributed"],
    ["executors"],
    ["evaluation"],
    ["supervisor", "telemetry", "render"],
    ["launch"],
    ["history"],
    ["request"],
    ["environment", "redaction"],
    ["payload", "packages"],
    ["models"],
    ["limits", "data_frame"],
    ["errors"],
    ["sanitize"],
    ["strict_json", "new_file", "syntax", "user_cache"],
    ["child"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ONLY_IMPORTER = {
    "IPython": "magic",
    "opentelemetry": "telemetry",
    "docker": "launch",
    "distributed": "distributed",
}


def layer_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(file: Path, *, for_types: bool = False):
    """Absolute names that the file imports when it runs; with ``for_types`` those for type checkers too."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            node.body = []
    package = ["isolated_magic", *file.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_of(file: Path) -> str:
    return ".".join(["isolated_magic", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(file): file for file in FILES}
    graph = {}
    for module, file in modules.items():
        names = set(imports_of(file, for_types=True))
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & set(modules)
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    own = layer_of(file)
    for name in imports_of(file):
        parts = name.split(".")
        if parts[0] in ONLY_IMPORTER:
            assert own == ONLY_IMPORTER[parts[0]], f"{own} imports {name}"
        if parts[0] != "isolated_magic" or len(parts) == 1:
            continue
        other = parts[1]
        assert other in RANK, f"{other} has no layer"
        if own != other:
            assert RANK[own] < RANK[other], f"{own} imports {name}, which points up"


@pytest.mark.parametrize("file", sorted((ROOT / "child").glob("*.py")), ids=lambda file: file.name)
def test_the_child_imports_the_standard_library_and_itself_alone(file):
    for name in imports_of(file):
        top = name.split(".")[0]
        assert name.startswith("isolated_magic.child") or top in sys.stdlib_module_names, name


def test_every_file_has_a_layer():
    assert {layer_of(file) for file in FILES} <= set(RANK)


def test_importing_the_package_is_cheap():
    code = "import isolated_magic, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [
        name
        for name in loaded
        if name.split(".")[0] in {"IPython", "opentelemetry", "docker", "json", "asyncio", "subprocess"}
    ]


def test_every_public_name_is_there():
    for name in isolated_magic.__all__:
        assert getattr(isolated_magic, name).__doc__
    assert set(isolated_magic.__all__) <= set(dir(isolated_magic))
    with pytest.raises(AttributeError):
        isolated_magic.nothing_of_this_name  # noqa: B018 - the access is the test


def lines_of_docstrings(tree: ast.Module) -> int:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    return sum(docstring.end_lineno - docstring.lineno + 1 for docstring in found)


def test_files_and_functions_stay_short():
    for file in FILES:
        text = file.read_text()
        tree = ast.parse(text)
        assert text.count("\n") - lines_of_docstrings(tree) <= 480, file
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert not body or body[-1].end_lineno - body[0].lineno < 40, f"{file}: {node.name}"
