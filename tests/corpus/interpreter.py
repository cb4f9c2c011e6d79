"""What the interpreter says of itself, and what ``__main__`` is."""

from tests.corpus.program import Program

MAIN = """
import sys
main = sys.modules["__main__"]
names = sorted(vars(main))
seen = [names, main.__name__, getattr(main, "__file__", "none"), main.__spec__, type(main.__loader__).__name__]
seen += [getattr(main.__loader__, "__name__", "none"), main.__doc__, main.__package__, type(main.__builtins__).__name__]
seen += [__builtins__ is sys.modules["builtins"], vars(main) is globals(), getattr(main, "__cached__", "none"), str(main)]
seen += [main.__dict__.get("__annotations__", "none"), __name__, list(globals())[:8]]
{"scores": [], "seen": seen}
"""
DEPTH = """
import sys
def depth(n=1):
    try:
        return depth(n + 1)
    except RecursionError:
        return n
def frames():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count
{"scores": [], "seen": [sys.getrecursionlimit(), depth(), frames()]}
"""
RECORD = """
import logging, os, threading
class Keeper(logging.Handler):
    def emit(self, record):
        self.kept = record
keeper = Keeper()
logging.getLogger().addHandler(keeper)
logging.warning("x")
"""

PROGRAMS = [
    Program("main_of_a_string", MAIN),
    Program("main_of_a_file", MAIN, file="program.py"),
    Program("main_of_a_file_in_a_folder", MAIN, file="some/where/program.py"),
    Program(
        "arguments",
        """
        import sys
        {"scores": [], "seen": [sys.argv, sys.orig_argv, sys.path]}
        """,
    ),
    Program(
        "arguments_of_a_file",
        """
        import sys
        {"scores": [], "seen": [sys.argv, sys.orig_argv, sys.path]}
        """,
        file="some/program.py",
    ),
    Program(
        "the_build",
        """
        import sys, sysconfig, site, platform
        seen = [sys.executable, sys._base_executable, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.version, sys.platlibdir]
        seen += [sys.pycache_prefix, sys._framework, sys.abiflags, sys.implementation.cache_tag, sysconfig.get_paths(), site.PREFIXES]
        seen += [platform.python_version(), platform.node(), sysconfig.get_config_var("LDLIBRARY"), site.getsitepackages()]
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "flags_and_switches",
        """
        import sys
        seen = [str(sys.flags), sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.getswitchinterval()]
        seen += [sys.gettrace(), sys.getprofile(), sys.getdlopenflags(), sys.getrecursionlimit(), sys.get_int_max_str_digits()]
        seen += [sys.get_coroutine_origin_tracking_depth(), list(map(str, sys.get_asyncgen_hooks())), hasattr(sys, "ps1"), hasattr(sys, "last_value")]
        seen += [hasattr(sys, "tracebacklimit"), sys.is_finalizing(), sorted(set(vars(sys)))]
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "hooks",
        """
        import sys, threading, warnings, builtins
        seen = [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.unraisablehook is sys.__unraisablehook__]
        seen += [sys.breakpointhook is sys.__breakpointhook__, threading.excepthook is threading.__excepthook__]
        seen += [repr(sys.excepthook), repr(sys.displayhook), repr(sys.unraisablehook), repr(threading.excepthook), repr(builtins.__import__)]
        seen += [warnings.showwarning.__module__, warnings.formatwarning.__module__, builtins.open.__module__, threading.gettrace(), threading.getprofile()]
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "builtins",
        """
        import builtins
        {"scores": [], "seen": sorted(vars(builtins))}
        """,
    ),
    Program(
        "how_modules_are_found",
        """
        import sys
        def name(thing):
            return getattr(thing, "__qualname__", type(thing).__qualname__)
        {"scores": [], "seen": [[name(finder) for finder in sys.meta_path], [name(hook) for hook in sys.path_hooks]]}
        """,
    ),
    Program(
        "modules_of_others_at_the_start",
        """
        import sys
        known = sys.stdlib_module_names
        {"scores": [], "seen": sorted(name for name in sys.modules if name.partition(".")[0] not in known and "isolated_magic" not in name)}
        """,
    ),
    Program(
        "a_library_is_not_there_before_it_is_imported",
        """
        import sys
        before = "numpy" in sys.modules
        import numpy
        {"scores": [], "seen": [before, "numpy" in sys.modules, "pandas" in sys.modules]}
        """,
        seen=[False, True, False],
        launch="cold",
        needs=("numpy",),
    ),
    Program(
        "garbage_collection",
        """
        import gc
        seen = [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks), gc.garbage]
        class Node: pass
        node = Node(); node.me = node; del node
        {"scores": [], "seen": [*seen, gc.collect() >= 1]}
        """,
    ),
    Program("depth_of_recursion", DEPTH),
    Program("depth_of_recursion_in_a_file", DEPTH, file="deep.py"),
    Program(
        "depth_of_recursion_after_an_import",
        DEPTH + "import numpy\n{'scores': [], 'seen': [depth(), frames()]}\n",
        needs=("numpy",),
    ),
    Program(
        "depth_of_recursion_in_a_thread",
        DEPTH.replace('{"scores"', "unused = {'scores'")
        + """
import threading
found = []
thread = threading.Thread(target=lambda: found.extend([depth(), frames()]))
thread.start(); thread.join()
{"scores": [], "seen": found}
""",
    ),
    Program(
        "deep_recursion_through_c",
        """
        import sys
        sys.setrecursionlimit(1_000_000)
        def down(n):
            return n and sorted([n], key=lambda _: down(n - 1))[0]
        try:
            seen = [down(data["levels"])]
        except RecursionError as problem:
            seen = [type(problem).__name__]
        {"scores": [], "seen": seen}
        """,
        data={"levels": 3500},  # some 14 MB
    ),
    Program(
        "the_stack_is_used_up",
        """
        import sys
        sys.setrecursionlimit(1_000_000_000)
        def down():
            return sorted([0], key=lambda _: down())
        try:
            down()
        except RecursionError:  # 3.12 and later notice it themselves
            import os
            os.kill(os.getpid(), 11)
        """,
        error="died",
        exit_status=-11,
    ),
    Program(
        "stack_sizes",
        """
        import ctypes, resource, threading
        libc = ctypes.CDLL(None)
        def size(fill):
            attributes = ctypes.create_string_buffer(256)
            assert fill(attributes) == 0
            found = ctypes.c_size_t()
            libc.pthread_attr_getstacksize(attributes, ctypes.byref(found))
            return found.value
        libc.pthread_self.restype = ctypes.c_void_p
        def own():
            return size(lambda attributes: libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes))
        seen = [threading.stack_size(), size(libc.pthread_getattr_default_np), resource.getrlimit(resource.RLIMIT_STACK)]
        found = []
        thread = threading.Thread(target=lambda: found.append(own()))
        thread.start(); thread.join()
        {"scores": [], "seen": [*seen, *found, round(own() / 2**20)]}
        """,
        linux=True,
    ),
    Program(
        "decimal_context",
        """
        import decimal
        from decimal import Decimal
        {"scores": [], "seen": [repr(decimal.getcontext()), str(Decimal(1) / 7), repr(decimal.DefaultContext)]}
        """,
    ),
    Program(
        "warnings_filters",
        """
        import warnings
        {"scores": [], "seen": [[str(entry) for entry in warnings.filters], warnings.defaultaction, warnings.onceregistry]}
        """,
    ),
    Program(
        "warnings_of_all_kinds",
        """
        import warnings, sibling
        for kind in (DeprecationWarning, UserWarning, ImportWarning, ResourceWarning, FutureWarning, PendingDeprecationWarning):
            for _ in range(2):
                warnings.warn(f"from main: {kind.__name__}", kind)
        x = 5 is 5
        0.5
        """,
        files={
            "sibling.py": "import warnings\nwarnings.warn('from sibling: old', DeprecationWarning)\nwarnings.warn('from sibling')\n"
        },
        shows=("<string>:4: DeprecationWarning: from main", "sibling.py:3: UserWarning", "SyntaxWarning"),
    ),
    Program(
        "warnings_of_a_file_show_their_line",
        """
        import warnings
        warnings.warn("old", DeprecationWarning)  # this line
        0.5
        """,
        file="warns.py",
        shows=("# this line",),
    ),
    Program(
        "warnings_of_source_show_their_line",
        """
        import warnings
        def old():
            warnings.warn("old", DeprecationWarning, stacklevel=2)
        old()  # this line
        0.5
        """,
        shows=("old()  # this line",),
    ),
    Program("warnings_of_the_compiler", "x = 'a'\nx is 'a'  # this line\n0.5", shows=("# this line",)),
    Program(
        "the_source_of_what_the_code_defines",
        """
        import dataclasses, doctest, inspect, linecache, textwrap, traceback

        @dataclasses.dataclass
        class Row:
            a: int
            def double(self):
                return self.a * 2

        def f(a):
            \"\"\"
            >>> f(1)
            2
            \"\"\"
            return a + 1

        linecache.checkcache()
        seen = [inspect.getsource(f), inspect.getsource(Row.double), inspect.getsourcelines(Row.double)[1]]
        try:
            inspect.getsource(Row)
        except OSError as problem:  # as in a notebook: only a file has the classes of __main__
            seen += [str(problem)]
        try:
            Row(1).double(2)
        except TypeError:
            seen += [traceback.format_exc()]
        {"scores": [], "seen": [*seen, *doctest.testmod()]}
        """,
        seen=[
            'def f(a):\n    """\n    >>> f(1)\n    2\n    """\n    return a + 1\n',
            "    def double(self):\n        return self.a * 2\n",
            6,
            "source code not available",
            'Traceback (most recent call last):\n  File "<string>", line 23, in <module>\n    Row(1).double(2)\n'
            "TypeError: Row.double() takes 1 positional argument but 2 were given\n",
            0,
            1,
        ],
    ),
    Program(
        "the_source_of_a_file",
        """
        import inspect
        class A:
            pass
        {"scores": [], "seen": [inspect.getsource(A), inspect.getsourcefile(A).endswith("/main.py")]}
        """,
        file="main.py",
        seen=["class A:\n    pass\n", True],
    ),
    Program(
        "warnings_once",
        """
        import warnings
        warnings.simplefilter("once")
        for n in range(3):
            warnings.warn("only once", DeprecationWarning)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("caught")
        {"scores": [], "seen": [len(caught), len(warnings.filters)]}
        """,
        shows=("only once",),
    ),
    Program(
        "logging_as_it_is_at_the_start",
        """
        import logging
        root = logging.getLogger()
        seen = [root.level, list(map(repr, root.handlers)), logging.root.manager.disable, list(map(repr, logging._handlers.values()))]
        others = {"asyncio", "concurrent", "concurrent.futures"}  # of modules that may be ahead
        seen += [sorted(root.manager.loggerDict.keys() - others), logging.raiseExceptions, repr(logging.lastResort), logging.getLoggerClass().__name__]
        logging.warning("by the last resort")
        logging.getLogger("some.where").error("an error")
        logging.info("not shown")
        {"scores": [], "seen": seen}
        """,
        shows=("WARNING:root:by the last resort\nERROR:some.where:an error\n",),
    ),
    Program(
        "logging_to_stderr",
        """
        import logging
        logging.getLogger("early").warning("before it is set up")
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s %(module)s %(funcName)s %(lineno)d %(threadName)s %(processName)s %(message)s")
        logging.debug("a debug line")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("it failed")
        0.5
        """,
        shows=("before it is set up\nDEBUG root", "MainThread MainProcess a debug line\n", "ZeroDivisionError"),
    ),
    Program(
        "logging_records",
        RECORD
        + """
record = keeper.kept
seen = [record.process == os.getpid(), record.thread == threading.main_thread().ident, record.processName, record.threadName]
seen += [0 <= record.relativeCreated < 60_000, record.filename, record.pathname, record.lineno]
{"scores": [], "seen": seen}
""",
        seen=[True, True, "MainProcess", "MainThread", True, "<string>", "<string>", 7],
    ),
    Program(
        "logging_captures_warnings",
        """
        import logging, warnings
        logging.basicConfig(format="%(name)s %(message)s")
        logging.captureWarnings(True)
        warnings.warn("through logging")
        0.5
        """,
        shows=("py.warnings <string>:4: UserWarning: through logging",),
    ),
    Program(
        "hooks_of_the_code",
        """
        import sys
        sys.displayhook = lambda value: print("shown", value)
        sys.excepthook = lambda kind, value, trace: print("hooked", kind.__name__, value, trace.tb_lineno)
        exec(compile("1 + 1", "<inner>", "single"))
        1 / 0
        """,
        error="user_code",
        exit_status=1,
        stdout="shown 2\nhooked ZeroDivisionError division by zero 5\n",
    ),
    Program(
        "tracing",
        """
        import sys
        calls = []
        def f(): return 1
        sys.settrace(lambda frame, event, arg: calls.append(frame.f_code.co_name))
        f()
        sys.settrace(None)
        sys.setprofile(lambda frame, event, arg: calls.append(event))
        f()
        sys.setprofile(None)
        {"scores": [], "seen": calls}
        """,
    ),
    Program(
        "audit_hooks",
        """
        import sys
        seen = []
        sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("corpus") else None)
        sys.audit("corpus.one")
        {"scores": [], "seen": seen}
        """,
        seen=["corpus.one"],
    ),
    Program(
        "names_in_the_code",
        """
        seen = [sorted(globals()), data, payload_type, sorted(locals()) == sorted(globals())]
        {"scores": [], "seen": seen}
        """,
        data={"a": [1, None, "é", 1.5, {"b": True}]},
    ),
    Program(
        "clocks_begin_with_the_run",
        """
        import os, time
        seen = [time.process_time() < 10, os.times().children_user == 0, os.times().children_system == 0, time.thread_time() < 10]
        {"scores": [], "seen": [*seen, time.get_clock_info("monotonic").implementation]}
        """,
        seen=[True, True, True, True, "clock_gettime(CLOCK_MONOTONIC)"],
        linux=True,
    ),
    Program(
        "contexts",
        """
        import contextvars, sys
        {"scores": [], "seen": [len(contextvars.copy_context()), [str(v) for v in sys.exc_info()]]}
        """,
        seen=[0, ["None", "None", "None"]],
    ),
    Program(
        "contexts_of_decimal",
        """
        import contextvars, decimal
        {"scores": [], "seen": len(contextvars.copy_context())}
        """,
        seen=0,
        alone=True,
    ),
]
