"""Variables that act while an interpreter or the C library starts, with the effect that they have."""

from tests.corpus.program import Program

FLAGS = """
import sys
{"scores": [], "seen": [list(sys.flags), sys.warnoptions, {name: str(value) for name, value in sys._xoptions.items()}]}
"""
LOCALE = """
import codecs, io, locale, os, sys
seen = [locale.getpreferredencoding(False), locale.getlocale(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()]
seen += [sys.flags.utf8_mode, io.TextIOWrapper(io.BytesIO()).encoding, os.environ.get("LC_CTYPE"), locale.setlocale(locale.LC_ALL)]
seen += [[stream.encoding, stream.errors] for stream in (sys.stdin, sys.stdout, sys.stderr)]
seen += [locale.nl_langinfo(locale.CODESET), ascii(os.fsdecode(b"\\xc3\\xa9\\xff")), "x".encode(locale.getencoding()).decode()]
{"scores": [], "seen": seen}
"""
CLOCK = """
import datetime, time
seen = [time.tzname, time.timezone, time.altzone, time.daylight, list(time.localtime(0)), list(time.localtime(1_720_000_000))]
seen += [time.strftime("%Z %z", time.localtime(0)), datetime.datetime.fromtimestamp(0).isoformat(), time.mktime((2024, 7, 3, 12, 0, 0, 0, 0, -1))]
seen += [str(datetime.datetime.fromtimestamp(0).astimezone().tzinfo)]
{"scores": [], "seen": seen}
"""
SIBLING = {"sibling.py": "WORD = 'found'\n"}
IN_LIB = {"lib/in_lib.py": "WORD = 'in lib'\n"}

PROGRAMS = [
    *(
        Program(f"flags_with_{name.lower()}_{value.split(':')[0] or 'empty'}", FLAGS, {name: value})
        for name, value in [
            ("PYTHONOPTIMIZE", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTHONDEVMODE", "1"),
            ("PYTHONHASHSEED", "random"),
            ("PYTHONHASHSEED", "7"),
            ("PYTHONWARNINGS", "default::DeprecationWarning,ignore::UserWarning"),
            ("PYTHONOPTIMIZE", ""),
        ]
    ),
    Program(
        "hashseed_0",
        """
        import sys
        {"scores": [], "seen": [hash("text"), hash(b"bytes"), list({"a", "b", "c", "d"}), sys.flags.hash_randomization]}
        """,
        {"PYTHONHASHSEED": "0"},
    ),
    Program(
        "hashseed_123",
        """
        import subprocess, sys
        child = subprocess.run([sys.executable, "-S", "-c", "print(hash('text'))"], capture_output=True, text=True).stdout
        {"scores": [], "seen": [hash("text"), int(child) == hash("text")]}
        """,
        {"PYTHONHASHSEED": "123"},
    ),
    Program(
        "optimize_2",
        '''
        import sys
        import sibling
        def documented():
            """Says something."""
        assert False, "asserts are off"
        {"scores": [], "seen": [__debug__, documented.__doc__, sibling.DEBUG, sibling.__doc__, sys.flags.optimize]}
        ''',
        {"PYTHONOPTIMIZE": "2"},
        files={"sibling.py": '"""Documented."""\nDEBUG = __debug__\nassert False\n'},
        seen=[False, None, False, None, 2],
    ),
    Program(
        "warnings_as_errors",
        """
        import warnings
        try:
            warnings.warn("careful")
        except UserWarning as problem:
            seen = [str(problem)]
        warnings.warn("not this one", DeprecationWarning)
        {"scores": [], "seen": seen}
        """,
        {"PYTHONWARNINGS": "error::UserWarning"},
        seen=["careful"],
        shows=("not this one",),
    ),
    Program(
        "warnings_that_are_off",
        """
        import warnings
        warnings.warn("careful")
        warnings.warn("old", DeprecationWarning)
        {"scores": [], "seen": [str(entry) for entry in warnings.filters]}
        """,
        {"PYTHONWARNINGS": "ignore"},
    ),
    Program(
        "pythonpath_relative",
        """
        import sys
        import in_lib
        {"scores": [], "seen": [in_lib.WORD, in_lib.__file__, sys.path]}
        """,
        {"PYTHONPATH": "lib"},
        files=IN_LIB,
    ),
    Program(
        "pythonpath_absolute",
        """
        import subprocess, sys
        import in_lib
        child = subprocess.run([sys.executable, "-c", "import in_lib; print(in_lib.WORD)"], capture_output=True, text=True).stdout
        {"scores": [], "seen": [in_lib.WORD, in_lib.__file__, sys.path, child]}
        """,
        {"PYTHONPATH": "{folder}/lib:/nowhere"},
        files=IN_LIB,
    ),
    Program(
        "pythonpath_shadows_the_standard_library",
        """
        import colorsys, json
        {"scores": [], "seen": [colorsys.WORD, json.WORD]}
        """,
        {"PYTHONPATH": "{folder}/lib"},
        files={"lib/colorsys.py": "WORD = 'mine'\n", "lib/json.py": "WORD = 'mine too'\n"},
        seen=["mine", "mine too"],
        launch="either",
    ),
    Program(
        "pythonpath_holds_a_sitecustomize",
        """
        import sys
        {"scores": [], "seen": [sys.corpus_was_here, "sitecustomize" in sys.modules]}
        """,
        {"PYTHONPATH": "{folder}/lib"},
        files={"lib/sitecustomize.py": "import sys\nsys.corpus_was_here = True\nprint('site customized')\n"},
        seen=[True, True],
        stdout="site customized\n",
        launch="either",
    ),
    Program(
        "dontwritebytecode",
        """
        import os, sys
        import sibling
        {"scores": [], "seen": [os.path.exists("__pycache__"), sys.dont_write_bytecode, sibling.WORD]}
        """,
        {"PYTHONDONTWRITEBYTECODE": "1"},
        files=SIBLING,
        seen=[False, True, "found"],
    ),
    Program(
        "bytecode_is_written",
        """
        import os, sys
        import sibling
        {"scores": [], "seen": [os.path.exists("__pycache__"), sys.dont_write_bytecode, sibling.__cached__]}
        """,
        files=SIBLING,
    ),
    Program(
        "pycacheprefix",
        """
        import os, sys
        import sibling
        {"scores": [], "seen": [os.path.isdir("cache"), sys.pycache_prefix, os.path.exists("__pycache__")]}
        """,
        {"PYTHONPYCACHEPREFIX": "{folder}/cache"},
        launch="either",  # after many programs, whose modules of the standard library it has not compiled there, cold
        files=SIBLING,
    ),
    *(
        Program(f"locale_{name}", LOCALE, env_vars)
        for name, env_vars in {
            "utf8_mode": {"PYTHONUTF8": "1"},
            "utf8_mode_off": {"PYTHONUTF8": "0"},
            "lc_all_c": {"LC_ALL": "C"},
            "lc_all_c_as_it_is": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
            "none": {"LC_ALL": None, "LANG": None, "LC_CTYPE": None},
            "lang_c_utf8": {"LANG": "C.UTF-8", "LC_ALL": None},
            "unknown": {"LC_ALL": "xx_XX.nowhere"},
            "ioencoding": {"PYTHONIOENCODING": "latin-1:backslashreplace"},
            "plain": {},
        }.items()
    ),
    *(
        Program(f"time_zone_{name}", CLOCK, {"TZ": zone})
        for name, zone in {
            "tokyo": "Asia/Tokyo",
            "new_york": "America/New_York",
            "of_posix": "CET-1CEST,M3.5.0,M10.5.0/3",
            "empty": "",
            "unset": None,
        }.items()
    ),
    Program(
        "time_zone_set_by_the_code",
        """
        import os, time
        before = time.localtime(0).tm_hour
        os.environ["TZ"] = "JST-9"
        seen = [before, time.localtime(0).tm_hour, time.tzname]
        time.tzset()
        seen += [time.localtime(0).tm_hour, time.tzname]
        {"scores": [], "seen": seen}
        """,
        {"TZ": "UTC"},
    ),
    Program(
        "time_zone_set_by_the_code_for_mktime",
        """
        import os, time
        os.environ["TZ"] = "JST-9"
        first = time.mktime((1970, 1, 2, 9, 0, 0, 0, 0, 0))
        {"scores": [], "seen": [first, time.localtime(0).tm_hour, time.tzname]}
        """,
        {"TZ": None},
    ),
    Program(
        "malloc_arenas",
        """
        import ctypes, threading
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.fopen.restype = ctypes.c_void_p
        gate = threading.Barrier(5)
        def work():
            libc.malloc(1000)
            gate.wait()
            gate.wait()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        gate.wait()
        file = ctypes.c_void_p(libc.fopen(b"heaps.xml", b"w"))
        libc.malloc_info(0, file)
        libc.fclose(file)
        gate.wait()
        import os
        text = open("heaps.xml").read()
        os.remove("heaps.xml")
        {"scores": [], "seen": text.count("<heap nr=")}
        """,
        {"MALLOC_ARENA_MAX": "1"},
        seen=1,
        linux=True,
    ),
    Program(
        "malloc_fills_what_it_gives",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        place = libc.malloc(5000)  # too much for the cache of small pieces, which are not filled
        {"scores": [], "seen": list(ctypes.string_at(place, 4))}
        """,
        {"MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.perturb=165"},
        seen=[90, 90, 90, 90],
        linux=True,
    ),
    Program(
        "pythonmalloc",
        """
        import sys
        {"scores": [], "seen": sys.getallocatedblocks()}
        """,
        {"PYTHONMALLOC": "malloc"},
        seen=0,
    ),
    Program(
        "tracemalloc",
        """
        import tracemalloc
        {"scores": [], "seen": [tracemalloc.is_tracing(), tracemalloc.get_traceback_limit()]}
        """,
        {"PYTHONTRACEMALLOC": "3"},
        seen=[True, 3],
    ),
    Program(
        "safe_path",
        """
        import os, sys
        try:
            import sibling
        except ModuleNotFoundError as problem:
            seen = str(problem)
        {"scores": [], "seen": [seen, os.getcwd() in sys.path, "" in sys.path, sys.flags.safe_path, sys.path]}
        """,
        {"PYTHONSAFEPATH": "1"},
        files=SIBLING,
    ),
    Program(
        "safe_path_of_a_file",
        """
        import os, sys
        try:
            import sibling
        except ModuleNotFoundError as problem:
            seen = str(problem)
        {"scores": [], "seen": [seen, sys.path, __file__]}
        """,
        {"PYTHONSAFEPATH": "1"},
        file="main.py",
        files=SIBLING,
    ),
    Program(
        "unbuffered",
        """
        import os, sys
        sys.stdout.write("by write, ")
        sys.stdout.buffer.write(b"by buffer, ")
        os.write(1, b"by descriptor\\n")
        {"scores": [], "seen": [sys.stdout.write_through, sys.stderr.write_through, sys.stdout.line_buffering]}
        """,
        {"PYTHONUNBUFFERED": "1"},
    ),
    Program(
        "faulthandler",
        """
        import faulthandler, sys
        {"scores": [], "seen": [faulthandler.is_enabled(), sys.flags.dev_mode]}
        """,
        {"PYTHONFAULTHANDLER": "1"},
        seen=[True, False],
    ),
    Program(
        "devmode",
        """
        import asyncio, faulthandler, sys, warnings
        def leaves_a_file_open():
            open("/dev/null")
        leaves_a_file_open()
        loop = asyncio.new_event_loop()
        seen = [sys.flags.dev_mode, faulthandler.is_enabled(), loop.get_debug(), [str(entry) for entry in warnings.filters]]
        loop.close()
        {"scores": [], "seen": seen}
        """,
        {"PYTHONDEVMODE": "1"},
        shows=("ResourceWarning: unclosed file",),
    ),
    Program(
        "asynciodebug",
        """
        import asyncio
        async def main():
            return asyncio.get_running_loop().get_debug()
        {"scores": [], "seen": asyncio.run(main())}
        """,
        {"PYTHONASYNCIODEBUG": "1"},
        seen=True,
    ),
    Program(
        "intmaxstrdigits",
        """
        import sys
        seen = [sys.get_int_max_str_digits(), sys.flags.int_max_str_digits, len(data["number"])]
        try:
            int("1" * 700)
        except ValueError as problem:
            seen += [type(problem).__name__]
        {"scores": [], "seen": seen}
        """,
        {"PYTHONINTMAXSTRDIGITS": "640"},
        {"number": "1" * 700},
        seen=[640, 640, 700, "ValueError"],
    ),
    Program(
        "nodebugranges",
        "1 + [][0]",
        {"PYTHONNODEBUGRANGES": "1"},
        error="user_code",
        exit_status=1,
        shows=("IndexError",),
    ),
    Program(
        "warndefaultencoding",
        """
        import sys
        open("/dev/null").close()
        {"scores": [], "seen": sys.flags.warn_default_encoding}
        """,
        {"PYTHONWARNDEFAULTENCODING": "1"},
        seen=1,
        shows=("EncodingWarning",),
    ),
    Program(
        "user_site",
        """
        import site, sys
        {"scores": [], "seen": [site.ENABLE_USER_SITE, site.getuserbase(), site.getusersitepackages(), sys.flags.no_user_site, sys.path]}
        """,
        {"PYTHONUSERBASE": "{folder}/base"},
    ),
    Program(
        "inspect_after_the_end",
        """
        import sys
        {"scores": [], "seen": sys.flags.inspect}
        """,
        {"PYTHONINSPECT": "1"},
        launch="either",
    ),
    Program(
        "a_preloaded_library_that_is_missing",
        """
        import os
        {"scores": [], "seen": os.environ["LD_PRELOAD"]}
        """,
        {"LD_PRELOAD": "/nowhere/corpus.so"},
        shows=("/nowhere/corpus.so",),
        launch="either",
        linux=True,
    ),
    Program(
        "a_library_path",
        """
        import ctypes, os
        {"scores": [], "seen": [os.environ["LD_LIBRARY_PATH"], ctypes.CDLL(None).getpid() == os.getpid()]}
        """,
        {"LD_LIBRARY_PATH": "{folder}"},
        linux=True,
    ),
    Program(
        "an_interpreter_without_a_home",
        "0.5",
        {"PYTHONHOME": "/nowhere"},
        error="launch",
        exit_status=1,
        shows=("The interpreter could not start",),
        launch="either",
    ),
    Program(
        "an_interpreter_with_a_bad_seed",
        "0.5",
        {"PYTHONHASHSEED": "bad"},
        error="launch",
        exit_status=1,
        shows=("PYTHONHASHSEED",),
        launch="either",
    ),
    Program(
        "breakpoint_reads_its_variable_late",
        """
        breakpoint("from breakpoint")
        import os
        os.environ["PYTHONBREAKPOINT"] = "0"
        breakpoint("not shown")
        0.5
        """,
        {"PYTHONBREAKPOINT": "builtins.print"},
        stdout="from breakpoint\n",
    ),
]
