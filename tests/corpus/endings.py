"""How runs end: exits, exceptions, and what an interpreter still does after the last line."""

from tests.corpus.program import Program

EXITS = {
    "none": ("sys.exit(None)", 0),
    "nothing": ("sys.exit()", 0),
    "0": ("sys.exit(0)", 0),
    "3": ("sys.exit(3)", 3),
    "256": ("sys.exit(256)", 0),
    "minus_1": ("sys.exit(-1)", 255),
    "true": ("sys.exit(True)", 1),
    "text": ("sys.exit('some text')", 1),
    "tuple": ("sys.exit(('a', 1))", 1),
    "float": ("sys.exit(2.5)", 1),
    "empty_text": ("sys.exit('')", 1),
    "surrogate": ("sys.exit('\\udcff')", 1),
}
RAISED = {
    "plain": "def inner():\n    return {}['k']\n\ninner()",
    "cause": "try:\n    1 / 0\nexcept ZeroDivisionError as problem:\n    raise ValueError('no') from problem",
    "context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    [][1]",
    "no_context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('no') from None",
    "group": "raise ExceptionGroup('both', [ValueError('a'), ExceptionGroup('inner', [KeyError('b')])])",
    "notes": "e = ValueError('a')\ne.add_note('a note')\nraise e",
    "syntax": "x = 1\nif x\n    pass",
    "indentation": "x = 1\n  y = 2",
    "a_nul": "x = 1\0",
    "compiled_later": "eval('1 +')",
    "imported": "import broken",
    "raised_in_an_import": "import raising",
    "not_there": "import no_such_module_anywhere",
    "name_not_there": "from os import no_such_name",
    "interrupt": "raise KeyboardInterrupt('now')",
    "generator_exit": "raise GeneratorExit",
    "recursion": "def down(): down()\ndown()",
    "memory": "bytearray(10**17)",
    "assertion": "assert [1, 2] == [1, 3], 'they differ'",
    "unprintable": "class E(Exception):\n    def __str__(self): raise RuntimeError('no text')\nraise E",
    "name_error": "import colections",
    "suggestion": "import math\nmath.squrt",
    "unicode": "raise ValueError('\\udcff \\u65e5\\u672c')",
    "many_lines": "raise ValueError('one\\ntwo\\n\\nthree')",
    "in_a_sibling": "import helper\nhelper.fail(3)",
    "os_error": "open('no/such/file')",
    "async": "import asyncio\nasync def f(): raise ValueError('in a task')\nasyncio.run(f())",
}
NEIGHBOURS = {
    "broken.py": "x = (\n",
    "raising.py": "raise ValueError('while it is imported')\n",
    "helper.py": "def fail(n):\n    if n:\n        fail(n - 1)\n    raise ValueError('in a sibling')\n",
}

PROGRAMS = [
    *(
        Program(f"exit_with_{name}", f"import sys\n{code}", error="no_result", exit_status=status)
        for name, (code, status) in EXITS.items()
    ),
    Program(
        "exit_with_what_cannot_be_printed",
        "import sys\nclass E:\n    def __str__(self): raise ValueError\nsys.exit(E())",
        error="no_result",
        exit_status=1,
        shows=("cannot be printed",),
    ),
    Program("exit_after_a_result", "import sys\nprint('{\"seen\": 1}')\nsys.exit()", seen=1),
    Program(
        "exit_by_raise_in_a_function",
        "def f(): raise SystemExit(7)\ntry:\n    f()\nfinally:\n    print('finally')",
        error="no_result",
        exit_status=7,
        stdout="finally\n",
    ),
    Program(
        "exit_in_a_thread",
        "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start(); t.join()\n0.5",
    ),
    Program("exit_by_quit", "quit(5)", error="no_result", exit_status=5),
    Program(
        "exit_at_once",
        "import atexit, os, sys\natexit.register(print, 'never')\nprint('a line')\nsys.stdout.write('lost')\nos._exit(3)",
        error="no_result",
        exit_status=3,
        stdout="a line\n",
    ),
    Program("exit_at_once_with_0", "import os\nprint('{\"seen\": 1}')\nos._exit(0)", seen=1),
    Program(
        "becoming_another_program",
        """
        import os, sys
        os.environ["CORPUS_LATER"] = "later"
        code = "import os; print(os.environ['CORPUS_LATER'], os.getpid() == os.getsid(0)); print('{%sseen%s: 1}' % (chr(34), chr(34)))"
        os.execv(sys.executable, [sys.executable, "-c", code])
        """,
        stdout="later True\n",
        seen=1,
    ),
    *(
        Program(f"raised_{name}", code, files=NEIGHBOURS, error="user_code", exit_status=1)
        for name, code in RAISED.items()
    ),
    *(
        Program(
            f"raised_in_a_file_{name}",
            RAISED[name],
            files=NEIGHBOURS,
            file="main.py",
            error="user_code",
            exit_status=1,
        )
        for name in ("plain", "group", "syntax", "in_a_sibling", "recursion")
    ),
    Program(
        "raised_in_a_cell_of_a_notebook",
        "x = 1\n\n1 / (x - 1)",
        source_name="Cell In[3]",
        error="user_code",
        exit_status=1,
        shows=('"Cell In[3]", line 3',),
    ),
    Program(
        "tracebacks_that_the_code_prints",
        """
        import sys, traceback
        def f():
            return 1 / 0
        try:
            f()
        except ZeroDivisionError:
            traceback.print_exc()
            print(traceback.format_exc(limit=-1))
            print([(frame.name, frame.lineno, frame.line) for frame in traceback.extract_tb(sys.exc_info()[2])])
        0.5
        """,
    ),
    Program(
        "raised_in_a_thread",
        """
        import threading
        def work():
            1 / 0
        for name in (None, "named"):
            thread = threading.Thread(target=work, name=name)
            thread.start(); thread.join()
        0.5
        """,
        shows=("Exception in thread Thread-1 (work):", "Exception in thread named:"),
    ),
    Program(
        "raised_in_a_thread_with_a_hook",
        """
        import threading
        threading.excepthook = lambda args: print(args.exc_type.__name__, args.thread.name)
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start(); thread.join()
        0.5
        """,
        stdout="ZeroDivisionError Thread-1 (<lambda>)\n",
    ),
    Program(
        "raised_at_exit",
        """
        import atexit
        def failing():
            raise ValueError("at exit")
        atexit.register(print, "still called")
        atexit.register(failing)
        0.5
        """,
        stdout="still called\n",
        shows=("ValueError: at exit",),
    ),
    Program(
        "raised_in_a_finalizer",
        """
        class Failing:
            def __del__(self):
                raise ValueError("in a finalizer")
        Failing()
        kept = Failing()
        0.5
        """,
        shows=("Exception ignored", "ValueError: in a finalizer"),
    ),
    Program(
        "raised_in_a_finalizer_with_a_hook",
        """
        import sys
        sys.unraisablehook = lambda args: print("unraisable", args.exc_type.__name__, args.exc_value)
        class Failing:
            def __del__(self):
                raise ValueError("in a finalizer")
        Failing()
        0.5
        """,
        stdout="unraisable ValueError in a finalizer\n",
    ),
    Program(
        "a_task_whose_exception_nobody_asks_for",
        """
        import asyncio, gc
        async def failing():
            raise ValueError("nobody asked")
        async def main():
            task = asyncio.create_task(failing(), name="the task")
            await asyncio.sleep(0)
        asyncio.run(main())
        gc.collect()
        async def forgotten(): pass
        forgotten()
        0.5
        """,
        shows=("Task exception was never retrieved", "coroutine 'forgotten' was never awaited"),
    ),
    Program(
        "callbacks_at_exit",
        """
        import atexit
        for n in range(3): atexit.register(print, "callback", n)
        atexit.register(lambda: atexit.register(print, "registered at exit"))
        atexit.register(print, "unregistered")
        atexit.unregister(print)
        atexit.register(print, "last in, first out")
        print("end of the code")
        0.5
        """,
        shows=("end of the code\nlast in, first out\n",),
    ),
    Program(
        "callbacks_in_reverse_order",
        "import atexit\nfor n in range(3): atexit.register(print, n)\nprint('end')\n0.5",
        stdout="end\n2\n1\n0\n",
    ),
    Program(
        "callbacks_after_an_exception",
        "import atexit\natexit.register(print, 'called')\n1 / 0",
        error="user_code",
        exit_status=1,
        stdout="called\n",
    ),
    Program(
        "callbacks_after_an_exit",
        "import atexit, sys\natexit.register(print, 'called')\nsys.exit(4)",
        error="no_result",
        exit_status=4,
        stdout="called\n",
    ),
    Program(
        "the_result_printed_at_exit",
        'import atexit\natexit.register(print, \'{"seen": "late"}\')\nx = 1',
        seen="late",
    ),
    Program(
        "leaving_in_a_callback",
        "import atexit, sys\natexit.register(print, 'still called')\natexit.register(sys.exit, 5)\n0.5",
        stdout="still called\n",
    ),
    Program(
        "a_file_that_nobody_closes",
        """
        file = open("left.txt", "w")
        file.write("first line\\n")
        file.write("without an end")
        binary = open("left.bin", "ab")
        binary.write(b"bytes")
        0.5
        """,
        leaves={"left.txt": "first line\nwithout an end", "left.bin": "bytes"},
    ),
    Program(
        "files_that_nobody_closes_after_an_exception",
        """
        class Holder: pass
        holder = Holder()
        holder.me = holder
        holder.file = open("left.txt", "w")
        holder.file.write("in a cycle")
        def generate():
            with open("generated.txt", "w") as file:
                file.write("in a generator")
                yield 1
        generator = generate()
        next(generator)
        raise ValueError("at the end")
        """,
        error="user_code",
        exit_status=1,
        leaves={"left.txt": "in a cycle", "generated.txt": "in a generator"},
    ),
    Program(
        "a_file_that_nobody_closes_before_an_exit_at_once",
        "import os\nfile = open('left.txt', 'w')\nfile.write('lost')\nos._exit(2)",
        error="no_result",
        exit_status=2,
        leaves={"left.txt": ""},
    ),
    Program(
        "a_file_of_a_sibling_that_nobody_closes",
        "import keeper\nkeeper.note('one')\nkeeper.note('two')\n0.5",
        files={"keeper.py": "FILE = open('notes.txt', 'w')\ndef note(text): FILE.write(text + '\\n')\n"},
        leaves={"notes.txt": "one\ntwo\n"},
    ),
    Program(
        "finalizers_of_globals",
        """
        import sys
        class Thing:
            def __init__(self, name): self.name = name
            def __del__(self): print("gone:", self.name, sys is not None and sys.is_finalizing())
        first, second, _private = Thing("first"), Thing("second"), Thing("private")
        second = None
        del first
        third = Thing("third")
        print("end")
        0.5
        """,
        shows=("end\n", "gone: third True", "gone: private True"),
    ),
    Program(
        "finalizers_that_import",
        """
        import sys
        class Thing:
            def __del__(self):
                for name in ("json", "os", "wave", "sibling", "no_such_module", "email.message"):
                    try:
                        __import__(name)
                    except ImportError as problem:
                        print(type(problem).__name__, problem)
                print(sys.meta_path, sys.path, sys.path_hooks, sys.argv, sys.ps1, sys.modules.get("sibling"))
                import sibling
        thing = Thing()
        import sibling
        0.5
        """,
        files={"sibling.py": "print('sibling is loaded')\n"},
        stdout="sibling is loaded\n"
        + "ImportError sys.meta_path is None, Python is likely shutting down\n" * 6
        + "None None None None None None\n",
        shows=(
            "Exception ignored in: <function Thing.__del__ at",
            "ImportError: sys.meta_path is None, Python is likely shutting down",
        ),
    ),
    Program(
        "finalizers_that_import_what_is_on_its_way_out",
        """
        import json, owner, other
        print(json.dumps({"seen": other.X}))
        """,
        files={
            "owner.py": "print('owner is loaded')\nclass Thing:\n    def __del__(self):\n        import other\nTHING = Thing()\n",
            "other.py": "import owner\nX = 1\n",
        },
        seen=1,
        stdout="owner is loaded\n",
    ),
    Program(
        "finalizers_of_a_main_without_functions",
        """
        import sys, owner
        thing = owner.Thing()
        0.5
        """,
        files={
            "owner.py": "class Thing:\n    def __del__(self):\n        import os\n        print('gone', os is not None)\n"
        },
        stdout="gone True\n",
    ),
    Program(
        "finalizers_of_garbage_still_import",
        """
        class Node:
            def __init__(self): self.me = self
            def __del__(self):
                import sibling
                print("gone")
        Node()
        0.5
        """,
        files={"sibling.py": "print('sibling is loaded')\n"},
        stdout="sibling is loaded\ngone\n",
    ),
    Program(
        "objects_that_answer_for_themselves",
        """
        import logging, sys, types
        def tell(*names): sys.__stdout__.write(f"{names} was asked\\n")
        class Proxy:
            def __getattribute__(self, name): tell(name)
            __class__ = property(lambda self: tell("__class__"))
            __hash__ = None
        class Lazy(types.ModuleType):
            def __getattr__(self, name):
                if not name.startswith("__") or name == "__dict__": tell(name)
                raise AttributeError(name)
        logging.kept, here = [Proxy()], [Proxy()]
        modules = vars(sys)["modules"]  # to name it would have the run go cold
        modules["lazy_one"], lazy = Proxy(), Lazy("lazy")
        modules["lazy_two"] = lazy
        print("end")
        0.5
        """,
        stdout="end\n",
    ),
    Program(
        "finalizers_of_what_sys_keeps",
        """
        import sys
        class Thing:
            def __init__(self, name): self.name = name
            def __del__(self): print("gone:", self.name)
        kept = Thing("a global")
        sys.kept = Thing("on sys")
        print("end")
        0.5
        """,
    ),
    Program(
        "finalizers_of_cycles",
        """
        class Node:
            def __init__(self, name): self.name, self.me = name, self
            def __del__(self): print("gone:", self.name)
        Node("left to the collector")
        kept = Node("kept")
        print("end")
        0.5
        """,
        shows=("gone: kept", "gone: left to the collector"),
    ),
    Program(
        "finalizers_of_siblings",
        "import owner\nprint('end')\n0.5",
        files={"owner.py": "class Thing:\n    def __del__(self): print('gone')\nTHING = Thing()\n"},
        stdout="end\ngone\n",
    ),
    Program(
        "finalizers_by_weakref",
        """
        import weakref
        class Thing: pass
        first, second = Thing(), Thing()
        weakref.finalize(first, print, "first")
        weakref.finalize(second, print, "second")
        quiet = weakref.finalize(second, print, "not at exit")
        quiet.atexit = False
        del first
        print("end")
        0.5
        """,
        stdout="first\nend\nsecond\n",
    ),
    Program(
        "what_a_generator_still_has_to_do",
        """
        def generate():
            try:
                yield 1
            finally:
                print("finally")
        generator = generate()
        next(generator)
        print("end")
        0.5
        """,
        stdout="end\nfinally\n",
    ),
    Program(
        "an_exit_stack_that_nobody_closes",
        """
        import contextlib
        stack = contextlib.ExitStack()
        stack.callback(print, "never")
        stack.enter_context(open("left.txt", "w")).write("kept")
        print("end")
        0.5
        """,
        stdout="end\n",
        leaves={"left.txt": "kept"},
    ),
    Program(
        "temporary_things_that_nobody_removes",
        """
        import os, tempfile
        folder = tempfile.TemporaryDirectory(dir=".")
        open(os.path.join(folder.name, "inside"), "w").close()
        file = tempfile.NamedTemporaryFile(dir=".")
        spooled = tempfile.SpooledTemporaryFile(max_size=1, dir=".")
        spooled.write(b"rolled over")
        {"scores": [], "seen": len(os.listdir("."))}
        """,
        seen=2,
    ),
    Program(
        "a_thread_that_runs_on",
        """
        import threading, time
        def work():
            time.sleep(0.05)
            print("by the thread", threading.main_thread().is_alive())
        threading.Thread(target=work).start()
        print("end")
        0.5
        """,
        shows=("end\nby the thread",),
    ),
    Program(
        "a_daemon_thread_is_abandoned",
        """
        import threading, time
        def work():
            try:
                time.sleep(1000)
            finally:
                print("never")
        threading.Thread(target=work, daemon=True).start()
        print("end")
        0.5
        """,
        stdout="end\n",
    ),
    Program(
        "a_pool_of_threads_left_running",
        """
        import atexit, threading
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        ending = threading.Event()
        for n in range(3):
            pool.submit(lambda n=n: (ending.wait(), print("task", n)))
        atexit.register(print, "by atexit")
        threading._register_atexit(lambda: (print("by threading"), ending.set()))
        print("end")
        0.5
        """,
        stdout="end\nby threading\ntask 0\ntask 1\ntask 2\nby atexit\n",
    ),
    Program(
        "handlers_of_logging_are_flushed",
        """
        import logging, logging.handlers
        target = logging.FileHandler("log.txt", delay=True)
        memory = logging.handlers.MemoryHandler(100, target=target)
        logging.getLogger().addHandler(memory)
        logging.warning("kept in memory")
        0.5
        """,
        leaves={"log.txt": "kept in memory\n"},
    ),
    Program(
        "a_child_left_running_is_killed",
        """
        import subprocess, sys
        code = "import time; print('child', flush=True); time.sleep(1000); open('late', 'w')"
        child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True)
        {"scores": [], "seen": child.stdout.readline()}
        """,
        seen="child\n",
    ),
    Program(
        "a_daemon_left_running_is_killed",
        """
        import os, time
        readable, writable = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(writable, b"x")
                time.sleep(1000)
            os._exit(0)
        os.read(readable, 1)
        0.5
        """,
    ),
    Program(
        "a_fork_that_goes_on_to_the_end",
        """
        import atexit, os
        atexit.register(lambda: print("at exit of", "the child" if me == 0 else "the parent"))
        me = os.fork()
        if me:
            os.wait()
        0.5
        """,
        stdout="at exit of the child\nat exit of the parent\n",
    ),
    Program(
        "modules_that_the_code_takes_apart",
        """
        import json, sys
        json.dumps = json.loads = None
        sys.modules.clear()
        sys.path.clear()
        0.5
        """,
        launch="either",
    ),
    Program("descriptors_that_the_code_closes", "import os\nos.closerange(3, 4096)\n0.5"),
    Program(
        "no_result_at_all",
        "x = 1",
        error="no_result",
        shows=("nothing was printed and the code does not end with a value",),
    ),
    Program("a_list_that_is_no_result", "print('words')\n[1, 2]", error="no_result", shows=("item 0 is an int",)),
]
