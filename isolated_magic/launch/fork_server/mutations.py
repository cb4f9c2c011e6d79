"""What a program changes, as far as its text tells, that an import after that may see.

A write to environment variables whose names are in the text is judged by these names (``ForkServer.suits``). Any
other write to the environment, to settings of the interpreter, or to another module counts as a change of
anything. So does every use of the environment that is not known to be harmless.
"""

from __future__ import annotations

import ast
import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENVIRONS = frozenset({"environ", "environb"})
_BY_NAME = frozenset({"setdefault", "pop", "__setitem__", "__delitem__"})  # the name is the first argument
_BY_MAPPING = frozenset({"update", "__ior__"})
# Functions that set a variable by its name, whatever they are called on: os.putenv(), pytest's monkeypatch, C's.
_SETTERS = frozenset({"putenv", "unsetenv", "setenv", "delenv"})
_HARMLESS_CALLS = frozenset(
    {
        *("all", "any", "bool", "dict", "enumerate", "filter", "id", "isinstance", "iter", "len", "list", "map"),
        *("max", "min", "print", "repr", "reversed", "set", "sorted", "str", "tuple", "type", "zip", "frozenset"),
        *("ChainMap", "MappingProxyType", "call", "check_call", "check_output", "create_subprocess_exec"),
        *("create_subprocess_shell", "deepcopy", "dump", "dumps", "pprint", "run", "Popen", "get", "hash", "next"),
        *("format", "format_map", "join", "debug", "info", "warning", "log"),
    }
)
_LOADERS = frozenset({"load_dotenv", "dotenv", "read_env", "read_envfile"})  # they set what no text says
_PATCHERS = frozenset({"dict", "patch", "setattr", "setitem", "delitem", "multiple", "object"})
_RUNNERS = frozenset({"exec", "eval", "execfile", "run_path", "run_module"})
_IMPORTERS = frozenset({"__import__", "import_module", "reload", "exec", "eval", "run_path", "run_module"})
# Settings that a module may look at while it is imported, or that decide what comes of it.
_SETTINGS = frozenset(
    {
        *("setlocale", "setswitchinterval", "setrecursionlimit", "settrace", "setprofile", "addFilter"),
        *("filterwarnings", "simplefilter", "resetwarnings", "catch_warnings", "captureWarnings", "basicConfig"),
        *("dictConfig", "fileConfig", "setLoggerClass", "setLogRecordFactory", "addLevelName", "setLevel"),
        *("addHandler", "removeHandler", "set_int_max_str_digits"),
        *("set_start_method", "set_executable", "set_forkserver_preload", "setdefaulttimeout", "stack_size"),
        *("tzset", "setrlimit", "umask", "nice", "setpriority", "sched_setaffinity", "set_event_loop_policy"),
        *("set_event_loop", "setcontext", "getcontext", "localcontext", "redirect_stdout", "redirect_stderr"),
        *("set_threshold", "set_debug", "register_error", "addaudithook", "setdlopenflags", "seed"),
        *("patch", "monkey_patch", "patch_all", "install_opener", "set_asyncgen_hooks", "excepthook"),
    }
)
_SETTINGS_OF = {  # names that mean much else, by the module that they are called on
    "use": frozenset({"matplotlib", "mpl"}),
    "disable": frozenset({"gc", "logging", "faulthandler"}),
    "enable": frozenset({"gc", "faulthandler", "cgitb"}),
    "freeze": frozenset({"gc"}),
    "signal": frozenset({"signal"}),
    "start": frozenset({"tracemalloc"}),
    "register": frozenset({"codecs", "atexit", "copyreg"}),
}


class Mutations:
    """What the program with this syntax tree may change.

    Attributes:
        named: names of the variables that it may set.
        before: it may change anything else before an import.
        after: it may set variables under other names after its last import.
    """

    def __init__(self, tree: ast.AST) -> None:
        self._nodes = list(ast.walk(tree))
        self._parents = {id(child): node for node in self._nodes for child in ast.iter_child_nodes(node)}
        self._called = {  # the original names, by those in the text
            alias.asname or alias.name: alias.name
            for node in self._nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._modules = {
            (alias.asname or alias.name.partition(".")[0]): alias.name
            for node in self._nodes
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        self._aliases = self._names_of_environ()
        self.named: set[str] = set()
        last = max((self._place_of_import(node) for node in self._nodes), default=-1.0)
        writes = [node for node in self._nodes if self._sets_anything(node)]
        self.before = any(_line(node) <= last for node in writes) or any(
            _line(node) <= last and self._changes_settings(node) for node in self._nodes
        )
        self.after = any(_line(node) > last for node in writes)

    def _place_of_import(self, node: ast.AST) -> float:
        """The line of an import; infinity in a function, which may be called at any time; -1 for other nodes."""
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and self._name_of_call(node) in _IMPORTERS:
            names = [""]
        else:
            return -1.0
        if all(name.partition(".")[0] in sys.stdlib_module_names for name in names):
            return -1.0
        inside = any(
            isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for one in self._above(node)
        )
        return math.inf if inside else _line(node)

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        while (parent := self._parents.get(id(node))) is not None:
            yield parent
            node = parent

    def _names_of_environ(self) -> set[str]:
        """The names of the environment in the text, such as ``e`` of ``e = os.environ``."""
        found = {name for name, original in self._called.items() if original in _ENVIRONS} | _ENVIRONS
        before = 0
        while len(found) > before:
            before = len(found)
            for node in self._nodes:
                if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and _is_one_of(node.value, found):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    found |= {target.id for target in targets if isinstance(target, ast.Name)}
        return found

    def _is_environ(self, node: ast.AST | None) -> bool:
        return _is_one_of(node, self._aliases)

    def _name_of_call(self, node: ast.Call) -> str:
        if isinstance(node.func, ast.Attribute):
            return node.func.attr
        return self._called.get(node.func.id, node.func.id) if isinstance(node.func, ast.Name) else ""

    def _sets_anything(self, node: ast.AST) -> bool:
        """Whether this may set a variable whose name is not in the text; those in the text go to ``named``."""
        if isinstance(node, ast.Call):
            return self._calls_setter(node)
        if isinstance(node, ast.Import):
            return any(alias.name in _LOADERS for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr == "__dict__":
            return self._modules.get(node.value.id) == "os"
        return self._is_environ(node) and self._is_changed(node)

    def _calls_setter(self, node: ast.Call) -> bool:
        name = self._name_of_call(node)
        if name in _LOADERS or name in _RUNNERS:
            return True
        if name in _SETTERS:
            return not self._note(node.args[:1])
        first = node.args[0] if node.args else None
        if name in {"vars", "getattr", "setattr", "delattr"} and self._is_module(first, "os"):
            return not (name == "getattr" and _text(node.args[1:2]) not in {None, *_ENVIRONS, *_SETTERS})
        return name in _PATCHERS and any(_text([one]) in {"os.environ", "os.environb"} for one in node.args)

    def _is_module(self, node: ast.AST | None, name: str) -> bool:
        return isinstance(node, ast.Name) and self._modules.get(node.id) == name

    def _is_changed(self, node: ast.AST) -> bool:
        """Whether the expression around the environment does more than read it."""
        parent = self._parents.get(id(node))
        match parent:
            case ast.Attribute():
                return self._is_changed_by_method(parent)
            case ast.Subscript() if parent.value is node:
                return not isinstance(parent.ctx, ast.Load) and not self._note([parent.slice])
            case ast.AugAssign() if parent.target is node:
                return not self._note_mapping(parent.value)
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
                if parent.value is not node:  # assigned to: a plain name just gets another meaning
                    return isinstance(node, ast.Attribute)
                targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
                in_class = isinstance(self._parents.get(id(parent)), ast.ClassDef)  # where other code can reach it
                return in_class or not all(isinstance(target, ast.Name) for target in targets)
            case ast.Call():
                is_patch = isinstance(parent.func, ast.Attribute) and parent.func.attr == "dict"
                is_harmless = self._name_of_call(parent) in _HARMLESS_CALLS or self._copies(parent)
                return is_patch or not is_harmless
            case ast.keyword() if parent.arg is not None:
                call = self._parents.get(id(parent))
                return not (isinstance(call, ast.Call) and self._name_of_call(call) in _HARMLESS_CALLS)
            case ast.Dict():
                return not any(
                    key is None and value is node for key, value in zip(parent.keys, parent.values, strict=True)
                )
            case ast.Return() | ast.Yield() | ast.List() | ast.Tuple() | ast.Set() | ast.Lambda() | ast.Delete():
                return True
        return False

    def _copies(self, call: ast.Call) -> bool:
        """Whether the call copies the variables into something that is no environment."""
        function = call.func
        return (
            isinstance(function, ast.Attribute)
            and function.attr == "update"
            and not self._is_environ(function.value)
        )

    def _is_changed_by_method(self, method: ast.Attribute) -> bool:
        call = self._parents.get(id(method))
        if not (isinstance(call, ast.Call) and call.func is method):
            return method.attr in _BY_NAME | _BY_MAPPING | {"clear", "popitem"}
        if method.attr in _BY_NAME:
            return not self._note(call.args[:1])
        if method.attr in _BY_MAPPING:
            self.named.update(keyword.arg for keyword in call.keywords if keyword.arg)
            is_told = all(keyword.arg for keyword in call.keywords)
            noted = [self._note_mapping(argument) for argument in call.args]
            return not (all(noted) and is_told)
        return method.attr in {"clear", "popitem"}

    def _note(self, names: list[ast.expr]) -> bool:
        """Note names of variables; False if some are not in the text."""
        texts = [self._texts(name) for name in names]
        self.named.update(text for found in texts if found for text in found)
        return all(found is not None for found in texts)

    def _note_mapping(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Dict):
            return self._note([key for key in node.keys if key is not None]) and None not in node.keys
        if isinstance(node, ast.Call) and self._name_of_call(node) == "dict" and not node.args:
            self.named.update(keyword.arg for keyword in node.keywords if keyword.arg)
            return all(keyword.arg for keyword in node.keywords)
        if isinstance(node, ast.List | ast.Tuple):
            pairs = [pair for pair in node.elts if isinstance(pair, ast.Tuple | ast.List) and pair.elts]
            return len(pairs) == len(node.elts) and self._note([pair.elts[0] for pair in pairs])
        return False

    def _texts(self, node: ast.expr) -> list[str] | None:
        """What the name of a variable may be, None if that is not in the text."""
        if (text := _text([node])) is not None:
            return [text]
        if not isinstance(node, ast.Name):
            return None
        found: list[str] = []
        for values in self._values_of(node.id):
            if values is None:
                return None
            found += [text for value in values if (text := _text([value])) is not None]
        return found or None

    def _values_of(self, name: str) -> Iterator[list[ast.expr] | None]:
        """For each assignment to this name, the literals that it may get; None if it may get anything else."""
        for node in self._nodes:
            if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
                yield self._literals_for(node)
            elif isinstance(node, ast.arg) and node.arg == name:
                yield None

    def _literals_for(self, target: ast.Name) -> list[ast.expr] | None:
        for parent in self._above(target):
            if isinstance(parent, ast.For | ast.comprehension):
                return _literal(parent.iter)
            if isinstance(parent, ast.Assign | ast.AnnAssign):
                return _literal(parent.value) if parent.value is not None else None
            if not isinstance(parent, ast.Tuple):
                return None
        return None

    def _changes_settings(self, node: ast.AST) -> bool:
        """Whether this changes a setting of the interpreter or the process, or another module."""
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            owner: ast.AST = node
            while isinstance(owner, ast.Attribute | ast.Subscript):
                owner = owner.value
            return isinstance(owner, ast.Name) and owner.id in self._modules and not self._is_of_environ(node)
        if not isinstance(node, ast.Call):
            return False
        name = self._name_of_call(node)
        if name in {"setattr", "delattr"} and node.args and isinstance(node.args[0], ast.Name):
            return node.args[0].id in self._modules
        if name in _SETTINGS_OF:
            owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            return isinstance(owner, ast.Name) and self._modules.get(owner.id, owner.id) in _SETTINGS_OF[name]
        return name in _SETTINGS

    def _is_of_environ(self, node: ast.AST) -> bool:
        return any(self._is_environ(inner) for inner in ast.walk(node))


def _is_one_of(node: ast.AST | None, names: set[str] | frozenset[str]) -> bool:
    if isinstance(node, ast.NamedExpr):
        node = node.value
    return (isinstance(node, ast.Attribute) and node.attr in _ENVIRONS) or (
        isinstance(node, ast.Name) and node.id in names
    )


def _line(node: ast.AST) -> float:
    return float(getattr(node, "lineno", -1))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _text(nodes: list[ast.expr]) -> str | None:
    value = nodes[0].value if nodes and isinstance(nodes[0], ast.Constant) else None
    return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else None


def _literal(node: ast.expr) -> list[ast.expr] | None:
    """The literals that this is or holds, None if it is anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"items", "keys"}:
        node = node.func.value
    if isinstance(node, ast.Constant):
        return [node] if _is_text(node) else None
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if key is not None]
        return keys if len(keys) == len(node.keys) and all(map(_is_text, keys)) else None
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = [_literal(part) for part in node.elts]
        return [one for part in parts if part for one in part] if all(part is not None for part in parts) else None
    return None
