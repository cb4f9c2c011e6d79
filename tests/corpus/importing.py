"""Where modules come from: the folder, packages, archives, what shadows what; and modules that look at themselves."""

from tests.corpus.program import Program

PACKAGE = {
    "pack/__init__.py": "from .inner import WORD\nfrom . import inner\n__version__ = '1.5'\n",
    "pack/inner.py": "from .deep.deepest import NUMBER\nWORD = 'inner'\n",
    "pack/deep/__init__.py": "",
    "pack/deep/deepest.py": "NUMBER = 7\n",
    "pack/notes.txt": "some notes\n",
    "pack/__main__.py": "print('run as a module', __name__, __package__)\n",
}
STATE = "import sys\nsys.corpus_imports = getattr(sys, 'corpus_imports', 0) + 1\nprint('imported', __name__)\n"

PROGRAMS = [
    Program(
        "a_sibling",
        """
        import sys
        import sibling
        spec = sibling.__spec__
        seen = [sibling.WORD, sibling.__file__, sibling.__cached__, type(sibling.__loader__).__name__, spec.origin, spec.name, spec.has_location]
        {"scores": [], "seen": [*seen, sys.modules["sibling"] is sibling, sorted(vars(sibling))]}
        """,
        files={"sibling.py": "WORD = 'found'\n"},
    ),
    Program(
        "a_package",
        """
        import pack.deep.deepest
        from pack import inner, __version__
        seen = [pack.WORD, inner.NUMBER, pack.__path__, pack.__file__, pack.__package__, pack.deep.__spec__.submodule_search_locations]
        {"scores": [], "seen": [*seen, __version__, sorted(vars(pack))]}
        """,
        files=PACKAGE,
    ),
    Program(
        "a_package_without_init",
        """
        import spaced.module
        {"scores": [], "seen": [spaced.module.WORD, list(spaced.__path__), getattr(spaced, "__file__", None), type(spaced.__loader__).__name__]}
        """,
        files={"spaced/module.py": "WORD = 'in a namespace'\n"},
    ),
    Program(
        "a_file_with_neighbours_in_its_folder",
        """
        import os, sys
        import helper, pack
        try:
            import of_the_working_folder
        except ModuleNotFoundError as problem:
            seen = [problem.name]
        here = os.path.dirname(__file__)
        seen += [helper.WORD, pack.WORD, open(os.path.join(here, "table.csv")).read(), os.path.exists("table.csv"), sys.path[0]]
        {"scores": [], "seen": seen}
        """,
        file="metrics/main.py",
        files={
            "metrics/helper.py": "WORD = 'helps'\n",
            "metrics/table.csv": "a,b\n",
            "of_the_working_folder.py": "",
            **{f"metrics/{name}": text for name, text in PACKAGE.items()},
        },
    ),
    Program(
        "relative_files",
        """
        from pathlib import Path
        {"scores": [], "seen": [open("rows.csv").read(), Path("deep/rows.csv").read_text(), sorted(map(str, Path().rglob("*.csv"))), str(Path("rows.csv").resolve())]}
        """,
        files={"rows.csv": "1,2\n", "deep/rows.csv": "3,4\n"},
    ),
    Program(
        "a_sibling_shadows_the_standard_library",
        """
        import json
        {"scores": [], "seen": [json.WORD, json.__file__]}
        """,
        files={"json.py": "WORD = 'mine'\n"},
        launch="cold",
    ),
    Program(
        "a_sibling_shadows_what_others_import",
        """
        import tempfile, random
        {"scores": [], "seen": [random.WORD, tempfile.gettempprefix()]}
        """,
        files={"random.py": "WORD = 'mine'\nclass Random:\n    def choices(self, *a, **k): return []\n"},
        launch="either",
    ),
    Program(
        "a_folder_shadows_the_standard_library",
        """
        import logging, logging.extra
        {"scores": [], "seen": [logging.WORD, logging.extra.WORD]}
        """,
        files={"logging/__init__.py": "WORD = 'mine'\n", "logging/extra.py": "WORD = 'mine too'\n"},
        launch="either",
    ),
    Program(
        "a_neighbour_of_a_file_shadows_the_standard_library",
        """
        import enum, statistics
        {"scores": [], "seen": [statistics.WORD, hasattr(enum, "Enum")]}
        """,
        file="deep/main.py",
        files={"deep/statistics.py": "WORD = 'mine'\n", "enum.py": "WORD = 'not on the path'\n"},
        launch="either",
    ),
    Program(
        "a_file_with_a_name_of_the_standard_library",
        """
        import random
        if __name__ == "__main__":
            print(random.__name__, random.__file__ == __file__)
        VALUE = 5
        {"scores": [], "seen": [random.VALUE, random is not None]}
        """,
        file="random.py",
        seen=[5, True],
        launch="either",
    ),
    Program(
        "siblings_shadow_what_the_error_needs",
        "import colorsys\n1 / 0",
        files={"traceback.py": "X = 1\n", "linecache.py": "X = 1\n", "colorsys.py": "X = 1\n"},
        error="user_code",
        exit_status=1,
        shows=("ZeroDivisionError",),
        launch="either",
    ),
    Program(
        "a_sibling_shadows_a_library",
        """
        import numpy
        {"scores": [], "seen": [numpy.WORD, numpy.__file__, hasattr(numpy, "array")]}
        """,
        files={"numpy.py": "WORD = 'mine'\n"},
        launch="either",
    ),
    Program(
        "a_sibling_shadows_what_a_library_imports",
        """
        import jinja2
        {"scores": [], "seen": [jinja2.Template("{{ a }}").render(a="<"), jinja2.filters.Markup.__module__, jinja2.filters.Markup.WORD]}
        """,
        files={
            "markupsafe.py": (
                "class Markup(str):\n    WORD = 'mine'\ndef escape(text): return Markup(text)\n"
                "def soft_str(text): return str(text)\nclass EscapeFormatter: pass\n"
            )
        },
        seen=["<", "markupsafe", "mine"],
        launch="either",
        needs=("jinja2",),
    ),
    Program(
        "a_folder_without_code_shadows_nothing",
        """
        import json, numpy
        {"scores": [], "seen": [json.dumps([1]), numpy.sum([1, 2])]}
        """,
        files={"numpy/data.txt": "x", "json/data.txt": "x"},
        launch="either",
        needs=("numpy",),
    ),
    Program(
        "modules_that_the_code_writes",
        """
        import importlib, sys
        from pathlib import Path
        Path("fresh.py").write_text("VALUE = 1\\n")
        importlib.invalidate_caches()
        import fresh
        seen = [fresh.VALUE]
        Path("fresh.py").write_text("VALUE = 'another length'\\n")
        seen += [importlib.reload(fresh).VALUE]
        del sys.modules["fresh"]
        import fresh as again
        seen += [again.VALUE, again is fresh]
        Path("fresh.py").unlink()
        {"scores": [], "seen": seen}
        """,
        seen=[1, "another length", "another length", False],
        launch="either",
    ),
    Program(
        "the_path_that_the_code_changes",
        """
        import sys
        sys.path.insert(0, "lib")
        sys.path.append("/nowhere")
        import in_lib
        {"scores": [], "seen": [in_lib.WORD, in_lib.__file__, sys.path[0], sys.path[-1]]}
        """,
        files={"lib/in_lib.py": "WORD = 'in lib'\n"},
        launch="either",
    ),
    Program(
        "an_archive",
        """
        import sys, zipfile, zipimport
        with zipfile.ZipFile("code.zip", "w") as archive:
            archive.writestr("zipped/__init__.py", "from .part import WORD\\n")
            archive.writestr("zipped/part.py", "WORD = 'from an archive'\\n")
        sys.path.insert(0, "code.zip")
        import zipped
        seen = [zipped.WORD, zipped.__file__, type(zipped.__loader__).__name__, zipimport.zipimporter("code.zip").is_package("zipped")]
        import os
        os.remove("code.zip")
        {"scores": [], "seen": seen}
        """,
        launch="either",
    ),
    Program(
        "circles",
        "import one\n{'scores': [], 'seen': [one.LATE, one.two.EARLY]}",
        files={
            "one.py": "EARLY = 1\nimport two\nLATE = two.FROM_ONE + 1\n",
            "two.py": "import one\nFROM_ONE = one.EARLY\nEARLY = 'x'\n",
        },
        seen=[2, "x"],
    ),
    Program(
        "modules_that_are_run",
        """
        import runpy
        names = runpy.run_path("script.py", run_name="corpus")
        runpy.run_module("pack", run_name="__main__", alter_sys=True)
        {"scores": [], "seen": [names["NAME"], __name__]}
        """,
        files={"script.py": "NAME = __name__ + __file__[-9:]\n", **PACKAGE},
        stdout="run as a module __main__ pack\n",
        seen=["corpusscript.py", "__main__"],
    ),
    Program(
        "main_by_its_name",
        """
        import importlib, sys
        VALUE = 5
        import __main__
        import looks_at_main
        {"scores": [], "seen": [__main__.VALUE, __main__ is sys.modules["__main__"], importlib.import_module("__main__") is __main__, looks_at_main.seen()]}
        """,
        files={
            "looks_at_main.py": "import __main__\ndef seen(): return [__main__.VALUE, hasattr(__main__, '__file__')]\n"
        },
        seen=[5, True, True, [5, False]],
    ),
    Program(
        "classes_of_main",
        """
        import copy, dataclasses, enum, pickle, typing
        @dataclasses.dataclass(order=True)
        class Point:
            x: int
            y: "typing.Optional[int]" = None
            rest: list = dataclasses.field(default_factory=list)
        class Colour(enum.Enum):
            RED = 1
        class Named(typing.NamedTuple):
            a: int
        seen = [repr(pickle.loads(pickle.dumps(Point(1, 2)))), copy.deepcopy(Point(1)) == Point(1), Point.__module__, Point.__qualname__]
        seen += [str(typing.get_type_hints(Point)), repr(pickle.loads(pickle.dumps(Colour.RED))), repr(pickle.loads(pickle.dumps(Named(1))))]
        {"scores": [], "seen": [*seen, [field.name for field in dataclasses.fields(Point)], repr(Point)]}
        """,
    ),
    Program(
        "source_of_main",
        """
        import inspect, linecache
        def f():
            return 1
        seen = []
        for get in (inspect.getsource, inspect.getsourcefile, inspect.getfile, inspect.getmodule, inspect.getdoc):
            try:
                seen.append(str(get(f))[:60])
            except Exception as problem:
                seen.append([type(problem).__name__, str(problem)])
        seen += [f.__code__.co_filename, f.__code__.co_firstlineno, linecache.getline("<string>", 1), f.__module__]
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "source_of_a_file",
        """
        import inspect, sibling
        def f():
            return 1
        {"scores": [], "seen": [inspect.getsource(f), inspect.getsourcefile(f), inspect.getsource(sibling), f.__code__.co_filename]}
        """,
        file="main.py",
        files={"sibling.py": "WORD = 'found'\n"},
    ),
    Program(
        "frames",
        """
        import inspect, sys
        def f():
            frame = sys._getframe()
            return [frame.f_code.co_name, frame.f_back.f_code.co_name, frame.f_back.f_lineno, frame.f_back.f_globals is globals(), frame.f_back.f_locals is globals()]
        {"scores": [], "seen": [f(), inspect.currentframe().f_code.co_filename, inspect.stack()[0].function]}
        """,
    ),
    Program(
        "annotations_from_the_future",
        """
        from __future__ import annotations
        def f(x: no_such_name) -> list[int]: pass
        y: also_none = 1
        {"scores": [], "seen": [f.__annotations__, __annotations__, (lambda: 0).__annotations__]}
        """,
    ),
    Program(
        "resources_of_packages",
        """
        import importlib.resources, pkgutil
        import pack
        text = importlib.resources.files("pack").joinpath("notes.txt").read_text()
        with importlib.resources.as_file(importlib.resources.files(pack) / "notes.txt") as path:
            seen = [text, str(path), pkgutil.get_data("pack", "notes.txt").decode()]
        seen += [[module.name for module in pkgutil.walk_packages(pack.__path__, "pack.")], [module.name for module in pkgutil.iter_modules(["."])]]
        {"scores": [], "seen": seen}
        """,
        files=PACKAGE,
    ),
    Program(
        "what_is_installed",
        """
        import importlib.metadata, importlib.util
        seen = [importlib.metadata.version("numpy"), len(list(importlib.metadata.distributions())), len(importlib.metadata.entry_points())]
        seen += [importlib.util.find_spec("numpy").origin, importlib.util.find_spec("no_such_module_anywhere"), importlib.util.find_spec("sibling").origin]
        {"scores": [], "seen": [*seen, importlib.metadata.requires("pandas") is not None, importlib.metadata.metadata("numpy")["Name"]]}
        """,
        files={"sibling.py": ""},
        needs=("numpy", "pandas"),
    ),
    Program(
        "a_distribution_in_the_folder",
        """
        import importlib.metadata
        {"scores": [], "seen": [importlib.metadata.version("corpus-thing"), importlib.metadata.entry_points(group="corpus")["one"].value]}
        """,
        files={
            "corpus_thing-3.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: corpus-thing\nVersion: 3.2\n",
            "corpus_thing-3.2.dist-info/entry_points.txt": "[corpus]\none = a:b\n",
        },
        seen=["3.2", "a:b"],
    ),
    Program(
        "modules_are_imported_once",
        """
        import sys, noisy
        import noisy
        from noisy import sys as again
        {"scores": [], "seen": sys.corpus_imports}
        """,
        files={"noisy.py": STATE},
        stdout="imported noisy\n",
        seen=1,
    ),
    Program(
        "finders_of_the_code",
        """
        import importlib.abc, importlib.util, sys
        class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def __init__(self): self.asked = []
            def find_spec(self, name, path, target=None):
                self.asked.append(name)
                return importlib.util.spec_from_loader(name, self) if name == "made_up" else None
            def create_module(self, spec): return None
            def exec_module(self, module): module.WORD = "made up"
        finder = Finder()
        sys.meta_path.insert(0, finder)
        import made_up, colorsys
        {"scores": [], "seen": [made_up.WORD, finder.asked]}
        """,
        launch="either",
    ),
    Program(
        "a_finder_of_the_code_hears_of_every_library",
        """
        import sys
        asked = []
        class Finder:
            @staticmethod
            def find_spec(name, path, target=None): asked.append(name)
        sys.meta_path.insert(0, Finder)
        import yaml
        {"scores": [], "seen": ["yaml" in asked, sorted(name for name in asked if name.startswith("yaml"))]}
        """,
        launch="cold",
        needs=("yaml",),
    ),
    Program(
        "an_import_that_the_code_replaces",
        """
        import builtins
        original, asked = builtins.__import__, []
        def recording(name, *args, **settings):
            asked.append(name)
            return original(name, *args, **settings)
        builtins.__import__ = recording
        import colorsys
        import os.path
        builtins.__import__ = original
        {"scores": [], "seen": asked}
        """,
        launch="either",
    ),
    Program(
        "an_import_that_the_code_forbids",
        """
        import sys
        sys.modules["numpy"] = None
        try:
            import numpy
        except ImportError as problem:
            seen = str(problem)
        {"scores": [], "seen": seen}
        """,
        launch="either",
    ),
    Program(
        "bytecode_alone",
        """
        import os, py_compile
        py_compile.compile("gone.py", "gone.pyc")
        os.rename("gone.py", "gone.txt")
        import gone
        seen = [gone.WORD, gone.__file__]
        os.remove("gone.pyc"); os.rename("gone.txt", "gone.py")
        {"scores": [], "seen": seen}
        """,
        files={"gone.py": "WORD = 'compiled'\n"},
    ),
    Program(
        "a_file_with_an_encoding_and_a_hashbang",
        "#!/usr/bin/env python\n# -*- coding: latin-1 -*-\nword = 'Ã©'\n{'scores': [], 'seen': [word, len(word)]}",
        file="encoded.py",
    ),
]
