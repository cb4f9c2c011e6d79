"""The environment: as Python sees it, as C sees it, as children and the system see it."""

from tests.corpus.program import Program

C_ENVIRON = '''
import ctypes

def c_environ():
    """All that the C library has, as text."""
    pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found = []
    while pointer and pointer[len(found)] is not None:
        found.append(pointer[len(found)])
    return [entry.decode("latin-1") for entry in found]

def getenv(name):
    """What getenv(3) says."""
    function = ctypes.CDLL(None).getenv
    function.restype = ctypes.c_char_p
    value = function(name.encode())
    return None if value is None else value.decode("latin-1")

def at_start(path="/proc/self/environ"):
    """What the system says that a process was started with."""
    with open(path, "rb") as file:
        return [entry.decode("latin-1") for entry in file.read().split(b"\\0")]
'''
PROBE = {"probe.py": C_ENVIRON}
MANY = {f"MANY_{n:03}": f"value {n} " + "x" * (n % 17) for n in range(300)}
LARGE = {"LARGE_A": "a" * 100_000, "LARGE_B": "b" * 30_000}

PROGRAMS = [
    Program(
        "environ_as_a_whole",
        """
        import os
        {"scores": [], "seen": sorted(os.environ.items())}
        """,
        {"CORPUS_SET": "one two", "CORPUS_OTHER": "=x="},
    ),
    Program(
        "environ_in_its_order",
        """
        import os
        {"scores": [], "seen": [list(os.environ), [name.decode() for name in os.environb]]}
        """,
        {"ZZ_FIRST": "1", "AA_SECOND": "2", "MM_THIRD": "3"},
    ),
    Program(
        "environ_without_what_is_inherited",
        """
        import os
        from probe import at_start
        {"scores": [], "seen": [list(os.environ.items()), at_start()]}
        """,
        {"CORPUS_SET": "1"},
        files=PROBE,
        inherit_env=False,
        linux=True,
    ),
    Program(
        "environ_of_posix_is_the_same",
        """
        import os, posix
        same = [(os.fsdecode(name), os.fsdecode(value)) for name, value in posix.environ.items()] == list(os.environ.items())
        {"scores": [], "seen": [same, type(os.environ).__name__, os.environ is not posix.environ, len(posix.environ) > 5]}
        """,
        {"CORPUS_SET": "1"},
        seen=[True, "_Environ", True, True],
    ),
    Program(
        "c_environ_as_a_whole",
        """
        from probe import c_environ
        {"scores": [], "seen": c_environ()}
        """,
        {"CORPUS_SET": "é", "CORPUS_OTHER": ""},
        files=PROBE,
    ),
    Program(
        "c_getenv_follows_os_environ",
        """
        import os
        from probe import getenv
        seen = [getenv("CORPUS_SET"), getenv("CORPUS_MISSING"), getenv("CORPUS_EMPTY")]
        os.environ["CORPUS_SET"] = "changed"
        os.environ["CORPUS_NEW"] = "new"
        seen += [getenv("CORPUS_SET"), getenv("CORPUS_NEW")]
        del os.environ["CORPUS_SET"]
        os.environ.pop("CORPUS_NEW")
        seen += [getenv("CORPUS_SET"), getenv("CORPUS_NEW"), os.getenv("CORPUS_SET", "gone")]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_SET": "set", "CORPUS_EMPTY": ""},
        files=PROBE,
        seen=["set", None, "", "changed", "new", None, None, "gone"],
    ),
    Program(
        "c_setenv_is_not_seen_by_os_environ",
        """
        import ctypes, os, subprocess
        from probe import getenv
        ctypes.CDLL(None).setenv(b"CORPUS_SET", b"by C", 1)
        ctypes.CDLL(None).setenv(b"CORPUS_NEW", b"by C", 1)
        child = subprocess.run(["sh", "-c", "echo $CORPUS_SET/$CORPUS_NEW"], capture_output=True, text=True).stdout
        {"scores": [], "seen": [os.environ["CORPUS_SET"], os.getenv("CORPUS_NEW"), getenv("CORPUS_SET"), child]}
        """,
        {"CORPUS_SET": "set"},
        files=PROBE,
        seen=["set", None, "by C", "by C/by C\n"],
    ),
    Program(
        "getenv_after_changes",
        """
        import os
        seen = [os.getenv("CORPUS_SET"), os.getenv("CORPUS_MISSING"), os.getenv("CORPUS_MISSING", "d")]
        os.environ["CORPUS_SET"] += "+"
        os.environ |= {"CORPUS_UPDATED": "u"}
        os.environ.setdefault("CORPUS_SET", "no")
        seen += [os.getenv("CORPUS_SET"), os.getenvb(b"CORPUS_UPDATED").decode(), "CORPUS_UPDATED" in os.environ]
        os.unsetenv("CORPUS_SET")
        seen += [os.getenv("CORPUS_SET")]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_SET": "set"},
        seen=["set", None, "d", "set+", "u", True, "set+"],
    ),
    Program(
        "a_subprocess_sees_putenv_and_unsetenv",
        """
        import os, subprocess, sys
        os.environ["CORPUS_BY_ENVIRON"] = "1"
        os.putenv("CORPUS_BY_PUTENV", "2")
        os.unsetenv("CORPUS_UNSET")
        seen = subprocess.run(["env"], capture_output=True, text=True).stdout.splitlines()
        {"scores": [], "seen": sorted(seen), "own": [os.environ.get("CORPUS_BY_PUTENV"), os.environ["CORPUS_UNSET"]]}
        """,
        {"CORPUS_UNSET": "x", "CORPUS_KEPT": "kept"},
    ),
    Program(
        "os_system_and_popen_see_the_environment",
        """
        import os
        os.environ["CORPUS_LATER"] = "later"
        seen = [os.popen("echo $CORPUS_SET $CORPUS_LATER").read(), os.system("test $CORPUS_LATER = later")]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_SET": "a b"},
        seen=["a b later\n", 0],
    ),
    Program(
        "proc_environ",
        """
        import os
        from probe import at_start
        before = at_start()
        os.environ["CORPUS_LATER"] = "1"
        del os.environ["CORPUS_SET"]
        {"scores": [], "seen": [sorted(before), before[-1] == "", before == at_start(), len(before)]}
        """,
        {"CORPUS_SET": "exact", "CORPUS_EMPTY": ""},
        files=PROBE,
        linux=True,
    ),
    Program(
        "proc_environ_in_its_order",
        """
        from probe import at_start, c_environ
        {"scores": [], "seen": at_start(), "same": at_start()[:-1] == c_environ()}
        """,
        {"ZZ_FIRST": "1", "AA_SECOND": "2"},
        files=PROBE,
        linux=True,
    ),
    Program(
        "proc_environ_as_another_process_sees_it",
        """
        import subprocess
        text = subprocess.run(["sh", "-c", "cat /proc/$PPID/environ"], capture_output=True).stdout
        {"scores": [], "seen": sorted(text.decode("latin-1").split("\\0"))}
        """,
        {"CORPUS_SET": "exact"},
        linux=True,
    ),
    Program(
        "proc_environ_after_a_removal",
        """
        import os
        from probe import at_start
        {"scores": [], "seen": [sorted(at_start()), "HOME" in os.environ]}
        """,
        {"HOME": None, "PWD": None, "OPIK_SENTRY_ENABLE": None},
        files=PROBE,
        linux=True,
    ),
    Program(
        "an_empty_value",
        """
        import os
        from probe import at_start, getenv
        seen = [os.environ["CORPUS_EMPTY"], getenv("CORPUS_EMPTY"), "CORPUS_EMPTY=" in at_start(), os.getenv("CORPUS_EMPTY", "d")]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_EMPTY": ""},
        files=PROBE,
        seen=["", "", True, ""],
        linux=True,
    ),
    Program(
        "bytes_that_are_no_utf_8",
        """
        import os, subprocess
        from probe import at_start, c_environ
        mine = sorted([name.decode("latin-1"), value.decode("latin-1")] for name, value in os.environb.items() if b"CORPUS" in name)
        child = subprocess.run(["env"], capture_output=True).stdout
        seen = [mine, [ascii(item) for item in os.environ.items() if "CORPUS" in item[0]]]
        seen += [b"V\\xff=\\xfe\\xfd\\n" in child, sorted(e for e in at_start() if "CORPUS" in e), sorted(e for e in c_environ() if "CORPUS" in e)]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_V\udcff": "\udcfe\udcfd", "CORPUS_PLAIN": "a\udc80b"},
        files=PROBE,
        linux=True,
    ),
    Program(
        "odd_names_and_values",
        """
        import os
        from probe import getenv
        names = ["CORPUS-A.B", "corpus lower", "CORPUS_ÜNÏ", "CORPUS_LINES", "CORPUS_1", "1CORPUS"]
        {"scores": [], "seen": [[os.environ[name], getenv(name)] for name in names]}
        """,
        {
            "CORPUS-A.B": "dash",
            "corpus lower": " space ",
            "CORPUS_ÜNÏ": "日本",
            "CORPUS_LINES": "a\nb\tc\r",
            "CORPUS_1": "$HOME `x` 'q' \"d\"",
            "1CORPUS": "=",
        },
        files=PROBE,
    ),
    Program(
        "many_variables",
        """
        import hashlib, os
        from probe import at_start, c_environ
        names = sorted(name for name in os.environ if name.startswith("MANY_"))
        digest = hashlib.sha256(repr([(name, os.environ[name]) for name in names]).encode()).hexdigest()
        {"scores": [], "seen": [len(os.environ), len(names), digest, len(at_start()), sorted(at_start()) == sorted(c_environ() + [""])]}
        """,
        MANY,
        files=PROBE,
        launch="either",
        linux=True,
    ),
    Program(
        "large_variables",
        """
        import os
        from probe import at_start, getenv
        lengths = sorted(len(entry) for entry in at_start())
        {"scores": [], "seen": [len(os.environ["LARGE_A"]), len(getenv("LARGE_B")), lengths, open("/proc/self/environ", "rb").read(5) != b""]}
        """,
        LARGE,
        files=PROBE,
        launch="either",
        linux=True,
    ),
    Program(
        "few_variables_after_many",
        """
        from probe import at_start, c_environ
        {"scores": [], "seen": [c_environ(), at_start()]}
        """,
        {"CORPUS_SET": "1"},
        files=PROBE,
        inherit_env=False,
        linux=True,
    ),
    Program(
        "an_environment_that_the_code_clears",
        """
        import os, subprocess
        from probe import c_environ
        os.environ.clear()
        child = subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout
        {"scores": [], "seen": [len(os.environ), c_environ(), child]}
        """,
        {"CORPUS_SET": "1"},
        files=PROBE,
        seen=[0, [], ""],
    ),
    Program(
        "what_the_quiet_defaults_set",
        """
        import os
        names = ["OPIK_ANALYTICS_ENABLE", "OPIK_SENTRY_ENABLE", "LITELLM_LOCAL_MODEL_COST_MAP"]
        {"scores": [], "seen": [os.environ.get(name) for name in names]}
        """,
        {"OPIK_SENTRY_ENABLE": "true", "LITELLM_LOCAL_MODEL_COST_MAP": None},
        seen=["false", "true", None],
    ),
    Program(
        "variables_that_the_standard_library_reads_late",
        """
        import locale, os, shutil, ssl, tempfile, urllib.request
        from pathlib import Path
        seen = [str(Path.home()), os.path.expanduser("~/x"), tempfile.gettempdir() == os.getcwd(), shutil.which("corpus_tool")]
        seen += [shutil.get_terminal_size().columns, urllib.request.getproxies().get("http"), ssl.get_default_verify_paths().cafile]
        seen += [os.get_exec_path()]
        {"scores": [], "seen": seen}
        """,
        {
            "HOME": "/nowhere/home",
            "TMPDIR": "{folder}",
            "COLUMNS": "41",
            "http_proxy": "http://proxy.invalid:1",
            "SSL_CERT_FILE": "/nowhere/ca.pem",
            "PATH": "/nowhere/bin:/usr/bin:/bin",
        },
    ),
    Program(
        "a_home_that_is_not_set",
        """
        import os, pathlib, pwd
        {"scores": [], "seen": [os.path.expanduser("~") == pwd.getpwuid(os.getuid()).pw_dir, "HOME" in os.environ]}
        """,
        {"HOME": None},
        seen=[True, False],
    ),
]
