"""Packages that do more than define things while they are imported, and what a fresh interpreter makes of them.

Each is installed in a virtual environment of the tests (see venv.py) and used by some runs. A template that has
imported one beforehand must not be told from an interpreter that imports it now.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.corpus.program import UNCHECKED

SEEN = '{"scores": [], "seen": seen}\n'


@dataclass(frozen=True)
class Round:
    """One use of a package: cold, forked, and forked again when there was time to learn.

    Args:
        env_vars: as ``run`` takes them.
        files: what the working folder holds, text by relative path.
        folder: the working folder, below that of the test.
        code: another program than the package's own.
        seen: the value that "seen" of the result must have.
    """

    env_vars: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folder: str = "."
    code: str | None = None
    seen: object = UNCHECKED


@dataclass(frozen=True)
class Package:
    """A package of one module, and the programs that use it.

    Args:
        name: by which it is imported.
        source: of its module, or of its modules by file name.
        code: the program that uses it.
        rounds: its uses, in their order.
        stdout: all that each use must print.
        shows: what must be part of stdout, stderr or the error of each use.
        error: the kind of the error that each use must end with.
        varies: "varies" of each result is another one every time.
        needs: modules without which it is skipped.
        launch: how the last use of all has to run, None where every way is right.
    """

    name: str
    source: str | Mapping[str, str] = field(repr=False)
    code: str = field(repr=False)
    rounds: tuple[Round, ...] = (Round(),)
    stdout: str = ""
    shows: tuple[str, ...] = ()
    error: str | None = None
    varies: bool = False
    needs: tuple[str, ...] = ()
    launch: str | None = None


def around(name: str, look: str) -> str:
    """A program that looks at something before and after it imports a package.

    Args:
        name: of the package.
        look: an expression.
    """
    return f"import os, sys\nseen = [{look}]\nimport {name}\nseen += [{look}]\n{SEEN}"


def reader(name: str, expression: str, *, missing: object = UNCHECKED) -> Package:
    """A package that reads TINY_VALUE while it is imported.

    Args:
        name: of the package.
        expression: how it reads it.
        missing: what it reads where there is no such variable; left out where that is an error.
    """
    rounds = [
        Round({"TINY_VALUE": "one"}, seen="one"),
        Round({"TINY_VALUE": "two"}, seen="two"),
        Round({"TINY_VALUE": "one"}, seen="one"),
    ]
    if missing is not UNCHECKED:
        rounds.append(Round(seen=missing))
    source = f"import ctypes, os, subprocess\nVALUE = {expression}\n"
    return Package(name, source, f"import {name}\nseen = {name}.VALUE\n{SEEN}", tuple(rounds))


# Ways to set TINY_VALUE that no text names.
UNNAMED = (
    'os.environ["TINY_" + "VALUE"] = "by the code"',
    'name = "_".join(["TINY", "VALUE"])\nos.environ[f"{name}"] = "by the code"',
    "import json\nos.environ.update(json.loads('{\"TINY_' + 'VALUE\": \"by the code\"}'))",
    'os.environ.update(**{"TINY_" + "VALUE": "by the code"})',
    'os.environ |= {"TINY_" + "VALUE": "by the code"}',
    'os.environ.setdefault("TINY_" + "VALUE", "by the code")',
    'os.environ.__setitem__("TINY_" + "VALUE", "by the code")',
    'for last in ("A", "VALUE"):\n    os.environ["TINY_" + last] = "by the code"',
    'env = os.environ\nenv["TINY_" + "VALUE"] = "by the code"',
    'from os import environ as e\ne["TINY_" + "VALUE"] = "by the code"',
    'def put(where): where["TINY_" + "VALUE"] = "by the code"\nput(os.environ)',
    'vars(os)["environ"]["TINY_" + "VALUE"] = "by the code"',
    'getattr(os, "environ")["TINY_" + "VALUE"] = "by the code"',
    'os.environb[b"TINY_" + b"VALUE"] = b"by the code"',
    "exec(\"os.environ['TINY_' + 'VALUE'] = 'by the code'\")",
    'import unittest.mock\nunittest.mock.patch.dict(os.environ, {"TINY_" + "VALUE": "by the code"}).start()',
    'setattr(os, "environ", {"TINY_" + "VALUE": "by the code"})',
    'list(map(os.environ.update, [{"TINY_" + "VALUE": "by the code"}]))',
)
SETTINGS = {"settings.py": "import os\ndef set_up():\n    os.environ.update({'TINY_' + 'VALUE': 'by the code'})\n"}
# What else a program may do before an import that sees it.
CHANGES = (
    "pass",
    "locale.setlocale(locale.LC_NUMERIC, 'C.UTF-8')",
    "sys.setswitchinterval(0.25)",
    "sys.setrecursionlimit(1234)",
    "warnings.simplefilter('error')",
    "warnings.filterwarnings('ignore')",
    "multiprocessing.set_start_method('spawn')",
    "logging.basicConfig()",
    "logging.disable(50)",
    "gc.disable()",
    "sys.stdout = io.StringIO()",
    "sys.argv = ['program', 'argument']",
    "setattr(sys, 'tiny_mark', 1)",
    "from sys import setrecursionlimit as limit\nlimit(1234)",
)


def setter(name: str, source: str | Mapping[str, str], line: str, *rounds: Round) -> Package:
    """A package that changes variables while it is imported, and can be ahead all the same.

    Args:
        name: of the package.
        source: of its module, or of its modules by file name.
        line: that imports it.
        rounds: its uses.
    """
    look = "[os.environ.get('TINY_SET'), getenv('TINY_SET')]"
    getenv = "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.getenv.restype = ctypes.c_char_p\ngetenv = lambda name: (libc.getenv(name.encode()) or b'').decode()"
    code = f"import os\n{getenv}\nseen = [{look}]\nimport tinyplainly\nseen += [{look}]\n{line}\nseen += [{look}, os.environ.get('TINY_OTHER')]\n{SEEN}"
    plainly = source if isinstance(source, Mapping) else {"__init__.py": source}
    return Package(name, {**plainly, "../tinyplainly.py": ""}, code, rounds, launch="forked")


def states(before: str | None, after: str | None, other: str | None = None) -> list[object]:
    """What such a program sees of the variables.

    Args:
        before: value of one before the import, None where there is none.
        after: likewise, after it.
        other: value of the other one then.
    """
    return [[before, before or ""], [before, before or ""], [after, after or ""], other]


SETTERS = [
    setter(
        "tinysetsdefault",
        "import os\nos.environ.setdefault('TINY_SET', 'by the package')\n",
        "import tinysetsdefault",
        Round(seen=states(None, "by the package")),
        Round({"TINY_SET": "mine"}, seen=states("mine", "mine")),
        Round(seen=states(None, "by the package")),
    ),
    setter(
        "tinyupdates",
        "import os\nos.environ.update(TINY_SET='by the package', TINY_OTHER='2')\n",
        "import tinyupdates",
        Round(seen=states(None, "by the package", "2")),
    ),
    setter(
        "tinydeletes",
        "import os\nos.environ.pop('TINY_SET', None)\n",
        "import tinydeletes",
        Round({"TINY_SET": "mine"}, seen=states("mine", None)),
    ),
    setter(
        "tinysetspart",
        {
            "__init__.py": "",
            "part.py": "import os\nos.environ['TINY_SET'] = 'by the part'\n",
            "user.py": "from . import part\n",
        },
        "import tinysetspart.user",
        Round(seen=states(None, "by the part")),
    ),
    setter(
        "tinysetsfrom",
        {"__init__.py": "", "part.py": "import os\nos.environ['TINY_SET'] = 'by the part'\n"},
        "import tinysetsfrom\nassert not hasattr(tinysetsfrom, 'part')\nfrom tinysetsfrom import part\nassert tinysetsfrom.part is part",
        Round(seen=states(None, "by the part")),
    ),
    setter(
        "tinysetsround",
        {
            "__init__.py": "from . import one\n",
            "one.py": "from . import two\nfrom os import environ\nenviron['TINY_SET'] = 'by one'\n",
            "two.py": "from . import one\n",
        },
        "import importlib\nimportlib.import_module('tinysetsround.two')",
        Round(seen=states(None, "by one")),
    ),
    setter(
        "tinysetsalias",
        "import os, sys, types\nos.environ['TINY_SET'] = 'by the package'\nsys.modules[__name__ + '.inner'] = inner = types.ModuleType(__name__ + '.inner')\n",
        "import sys\nimport tinysetsalias.inner",
        Round(seen=states(None, "by the package")),
    ),
    setter(
        "tinysetslazily",
        {
            "__init__.py": "def use():\n    from . import part\n",
            "part.py": "import os\nos.environ['TINY_SET'] = 'by the part'\n",
        },
        "import tinysetslazily\nassert os.environ.get('TINY_SET') is None\ntinysetslazily.use()",
        Round(seen=states(None, "by the part")),
    ),
    setter(
        "tinysetsmaybe",
        "import os\nos.environ['TINY_SET'] = 'by the package'\n",
        "if os.environ.get('TINY_GO'): import tinysetsmaybe",
        Round({"TINY_GO": "1"}, seen=states(None, "by the package")),
        Round(seen=states(None, None)),
        Round({"TINY_GO": "1"}, seen=states(None, "by the package")),
    ),
]

READERS = [
    reader("tinyname", "os.environ['TINY_VALUE']"),
    reader("tinyget", "os.environ.get('TINY_VALUE')", missing=None),
    reader("tinygetenv", "os.getenv('TINY_VALUE', 'none')", missing="none"),
    reader(
        "tinyin", "os.environ['TINY_VALUE'] if 'TINY_VALUE' in os.environ else 'not in it'", missing="not in it"
    ),
    reader("tinyitems", "''.join(v for k, v in os.environ.items() if k.startswith('TINY_'))", missing=""),
    reader("tinykeys", "[os.environ[name] for name in os.environ if name.startswith('TINY_')][0]"),
    reader("tinycopy", "dict(os.environ).get('TINY_VALUE')", missing=None),
    reader("tinycopied", "os.environ.copy().pop('TINY_VALUE', 'none')", missing="none"),
    reader("tinybytes", "os.environb.get(b'TINY_VALUE', b'none').decode()", missing="none"),
    reader("tinyexpand", "os.path.expandvars('$TINY_VALUE')", missing="$TINY_VALUE"),
    reader("tinytext", "str(os.environ).partition(\"'TINY_VALUE': '\")[2][:3]", missing=""),
    reader(
        "tinyc",
        "(ctypes.c_char_p * 1)(ctypes.cast(ctypes.CDLL(None).secure_getenv, ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_char_p))(b'TINY_VALUE'))[0].decode()",
    ),
    reader(
        "tinyproc",
        "open('/proc/self/environ').read().partition('TINY_VALUE=')[2].partition(chr(0))[0]",
        missing="",
    ),
    reader(
        "tinychild",
        "subprocess.run(['sh', '-c', 'echo $TINY_VALUE'], capture_output=True, text=True).stdout.strip()",
        missing="",
    ),
    Package(
        "tinysets",
        "import os\nos.environ.setdefault('TINY_SET', 'by the package')\nos.environ['TINY_FORCED'] = '1'\n",
        around("tinysets", "[os.environ.get('TINY_SET'), os.getenv('TINY_FORCED')]"),
        (
            Round(seen=[[None, None], ["by the package", "1"]]),
            Round({"TINY_SET": "mine"}, seen=[["mine", None], ["mine", "1"]]),
            Round(seen=[[None, None], ["by the package", "1"]]),
        ),
        launch="forked",
    ),
    *SETTERS,
    Package(
        "tinycode",
        "import os\nVALUE = os.environ.get('TINY_VALUE')\n",
        "",
        tuple(
            Round(
                code=f"import os\n{line}\nimport tinycode\nseen = tinycode.VALUE\n{SEEN}",
                env_vars=env_vars,
                seen=seen,
            )
            for line, env_vars, seen in [
                ("os.environ['TINY_VALUE'] = 'by the code'", {}, "by the code"),
                ("os.environ['TINY_VALUE'] = 'otherwise'", {}, "otherwise"),
                ("os.environ.pop('TINY_VALUE')", {"TINY_VALUE": "set"}, None),
                ("pass", {"TINY_VALUE": "set"}, "set"),
                *((line, {}, "by the code") for line in UNNAMED),
            ]
        ),
    ),
    Package(
        "tinycodefile",
        "import os\nVALUE = os.environ.get('TINY_VALUE')\n",
        f"import settings\nsettings.set_up()\nimport tinycodefile\nseen = tinycodefile.VALUE\n{SEEN}",
        (
            Round(code=f"import tinycodefile\nseen = tinycodefile.VALUE\n{SEEN}", seen=None),
            Round(files=SETTINGS, seen="by the code"),
        ),
    ),
    Package(
        "tinynotes",
        "import gc, io, locale, logging, multiprocessing, sys, warnings\n"
        "SEEN = [locale.setlocale(locale.LC_NUMERIC), sys.getswitchinterval(), sys.getrecursionlimit(), warnings.filters[0][0],\n"
        "    multiprocessing.get_start_method(allow_none=True), len(logging.root.handlers), logging.root.manager.disable, gc.isenabled(),\n"
        "    isinstance(sys.stdout, io.StringIO), sys.argv[1:], hasattr(sys, 'tiny_mark')]\n",
        "",
        tuple(
            Round(
                code=f"import gc, io, locale, logging, multiprocessing, sys, warnings\n{line}\nimport tinynotes\nsys.stdout = sys.__stdout__\nseen = tinynotes.SEEN\n{SEEN}"
            )
            for line in CHANGES
        ),
    ),
]

FOLDERS = [
    Package(
        "tinycwd",
        "import os\nfrom pathlib import Path\nHERE = [os.path.basename(os.getcwd()), Path.cwd().name, os.path.abspath('x')[-6:], Path('x').resolve().name]\n",
        f"import tinycwd\nseen = tinycwd.HERE\n{SEEN}",
        tuple(Round(folder=name, seen=[name, name, f"/{name}/x"[-6:], "x"]) for name in ("one", "two", "one")),
    ),
    Package(
        "tinyconfig",
        "import os\nTEXT = open('tiny.cfg').read() if os.path.exists('tiny.cfg') else None\n",
        f"import tinyconfig\nseen = tinyconfig.TEXT\n{SEEN}",
        (
            Round(files={"tiny.cfg": "a = 1"}, seen="a = 1"),
            Round(files={"tiny.cfg": "a = 2 now"}, seen="a = 2 now"),
            Round(seen=None),
            Round(files={"tiny.cfg": "a = 3"}, folder="one", seen="a = 3"),
        ),
    ),
    Package(
        "tinyhome",
        "import os\nPATH = os.path.expanduser('~/.tinyrc')\nTEXT = open(PATH).read() if os.path.exists(PATH) else None\n",
        f"import tinyhome\nseen = tinyhome.TEXT\n{SEEN}",
        (
            Round({"HOME": "{folder}/home"}, {"home/.tinyrc": "first"}, seen="first"),
            Round({"HOME": "{folder}/home"}, {"home/.tinyrc": "second, longer"}, seen="second, longer"),
            Round({"HOME": "{folder}/other"}, {"home/.tinyrc": "first"}, seen=None),
        ),
    ),
    Package(
        "tinylog",
        "with open('tiny.log', 'a') as file: file.write('imported\\n')\n",
        f"import tinylog\nseen = open('tiny.log').read()\n{SEEN}",
        (Round(seen="imported\n"), Round(seen="imported\n")),
    ),
    Package(
        "tinyoptional",
        "try:\n    import only_in_the_folder\n    FOUND = only_in_the_folder.WORD\nexcept ImportError:\n    FOUND = None\n",
        f"import tinyoptional\nseen = tinyoptional.FOUND\n{SEEN}",
        (
            Round(seen=None),
            Round(files={"only_in_the_folder.py": "WORD = 'found'\n"}, seen="found"),
            Round(seen=None),
        ),
    ),
]

EFFECTS = [
    Package(
        "tinyplain",
        "VERSION = 1\n",
        f"import tinyplain\nseen = tinyplain.VERSION\n{SEEN}",
        (Round(seen=1),),
        launch="forked",
    ),
    Package(
        "tinyhalf",
        {
            "__init__.py": "import os, secrets\nos.environ.setdefault('TINY_LOG', 'quiet')\nfrom . import part\nTOKEN = secrets.token_hex(4)\n",
            "part.py": "import tinyhalflib\n",
            "../tinyhalflib.py": "import os\nif os.environ.get('TINY_LOG') != 'quiet': os.write(2, b'INFO: the library is here')\n",
        },
        "before = list(vars(__import__('sys'))['modules'])\nimport tinyhalf\nseen = [name for name in before if 'tinyhalf' in name]\n"
        + SEEN,
        (Round(seen=[]), Round(seen=[])),
        launch="cold",
    ),
    Package(
        "tinyreads",
        {
            "__init__.py": "import os, tinyreadsset, tinyreadsit\n",
            "../tinyreadsset.py": "import os\nos.environ['TINY_SET'] = 'set'\n",
            "../tinyreadsit.py": "import os\nVALUE = os.environ.get('TINY_SET')\n",
        },
        f"import os\nif os.environ.get('TINY_ALL'): import tinyreads\nimport tinyreadsit\nseen = tinyreadsit.VALUE\n{SEEN}",
        (Round({"TINY_ALL": "1"}, seen="set"), Round(seen=None), Round({"TINY_ALL": "1"}, seen="set")),
    ),
    Package(
        "tinydeprecated",
        "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)\n",
        "import tinydeprecated\n0.5",
        (Round(), Round()),
        shows=("DeprecationWarning: old",),
    ),
    Package(
        "tinyprints",
        "import os, sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\nos.write(1, b'to descriptor 1\\n')\n",
        "import tinyprints\n0.5",
        stdout="to stdout\nto descriptor 1\n",
        shows=("to stderr",),
    ),
    Package(
        "tinywarns",
        "import warnings\nwarnings.warn('from the package')\nwarnings.warn('old', DeprecationWarning, stacklevel=2)\n",
        "import tinywarns\n0.5",
        shows=("UserWarning: from the package", "DeprecationWarning: old"),
    ),
    Package(
        "tinylogs",
        "import logging\nlogging.basicConfig(format='%(name)s says %(message)s')\nlogging.getLogger(__name__).warning('hello')\n",
        around("tinylogs", "len(__import__('logging').getLogger().handlers)"),
        (Round(seen=[0, 1]),),
        shows=("tinylogs says hello",),
    ),
    Package(
        "tinythread",
        """
import queue, threading
_todo, _done = queue.Queue(), queue.Queue()
def _work():
    while True: _done.put(_todo.get().upper())
THREAD = threading.Thread(target=_work, name="tiny", daemon=True)
THREAD.start()
def ask(text):
    _todo.put(text)
    return _done.get(timeout=5)
""",
        "import os, threading\nimport tinythread\n"
        "seen = [tinythread.ask('x'), sorted(t.name for t in threading.enumerate()), len(os.listdir('/proc/self/task')), tinythread.THREAD.is_alive()]\n"
        + SEEN,
        (Round(seen=["X", ["MainThread", "tiny"], 2, True]),),
    ),
    Package(
        "tinypool",
        "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(1)\nFIRST = POOL.submit(abs, -1).result()\n",
        f"import tinypool\nseen = [tinypool.FIRST, tinypool.POOL.submit(abs, -2).result(5)]\n{SEEN}",
        (Round(seen=[1, 2]),),
    ),
    Package(
        "tinypicky",
        "import sys\nif sys.argv[0] != '-c': raise RuntimeError('not here')\nARGV = sys.argv\n",
        f"import tinypicky\nseen = tinypicky.ARGV\n{SEEN}",
        (Round(seen=["-c"]),),
    ),
    Package(
        "tinyraises",
        "raise ValueError('never works')\n",
        "import tinyraises\n0.5",
        error="user_code",
        shows=("never works",),
    ),
    Package("tinyleaves", "import sys\nsys.exit(3)\n", "import tinyleaves\n0.5", error="no_result"),
    Package("tinyends", "import os\nos._exit(4)\n", "import tinyends\n0.5", error="no_result"),
    Package("tinydies", "import os\nos.abort()\n", "import tinydies\n0.5", error="died"),
    Package(
        "tinyrandom",
        "import random, secrets, uuid\nINSTANCE, TOKEN, NUMBER, ID = random.Random(), secrets.token_hex(4), random.random(), str(uuid.uuid4())\n",
        'import tinyrandom as t\n{"scores": [], "varies": {"instance": t.INSTANCE.random(), "token": t.TOKEN, "number": t.NUMBER, "id": t.ID}}',
        varies=True,
    ),
    Package(
        "tinygenerator",
        "import numpy\nGENERATOR, STATE = numpy.random.default_rng(), numpy.random.RandomState()\n",
        'import tinygenerator as t\n{"scores": [], "varies": {"generator": t.GENERATOR.random(), "state": t.STATE.rand()}}',
        varies=True,
        needs=("numpy",),
    ),
    Package(
        "tinyseeded",
        "import random\nINSTANCE = random.Random(42)\nFIRST = INSTANCE.random()\n",
        f"import tinyseeded as t\nseen = [t.FIRST, t.INSTANCE.random()]\n{SEEN}",
        (Round(seen=[0.6394267984578837, 0.025010755222666936]),),
    ),
    Package(
        "tinyseeds",
        "import random\nrandom.seed(42)\n",
        f"import random\nimport tinyseeds\nseen = [random.random(), random.random()]\n{SEEN}",
        (Round(seen=[0.6394267984578837, 0.025010755222666936]),),
    ),
    Package(
        "tinypid",
        "import os, threading\nPID, THREAD, MAIN = os.getpid(), threading.get_native_id(), threading.main_thread()\n",
        f"import os, threading\nimport tinypid as t\nseen = [t.PID == os.getpid(), t.THREAD == os.getpid(), t.MAIN is threading.main_thread()]\n{SEEN}",
        (Round(seen=[True, True, True]),),
    ),
    Package(
        "tinystreams",
        "import sys\nIN, OUT, ERR, TTY = sys.stdin, sys.stdout, sys.stderr, sys.stdout.isatty()\n",
        "import sys\nimport tinystreams as t\nt.OUT.write('through it\\n')\nt.ERR.write('err through it\\n')\n"
        f"seen = [t.OUT is sys.stdout, t.ERR is sys.stderr, t.IN is sys.stdin, t.TTY, t.IN.read()[:7]]\n{SEEN}",
        (Round(seen=[True, True, True, False, '{"data"']),),
        stdout="through it\n",
        shows=("err through it",),
    ),
    Package(
        "tinymain",
        "import sys\nimport __main__\nSEEN = [__main__ is sys.modules['__main__'], hasattr(__main__, '__file__'), getattr(__main__, 'SETTING', None)]\n",
        f"SETTING = 5\nimport tinymain\nseen = tinymain.SEEN\n{SEEN}",
        (
            Round(seen=[True, False, 5]),
            Round(code=f"import tinymain\nseen = tinymain.SEEN\n{SEEN}", seen=[True, False, None]),
        ),
    ),
    Package(
        "tinyatexit",
        "import atexit\natexit.register(print, 'good bye')\n",
        "import atexit\nimport tinyatexit\natexit.register(print, 'of the code')\n0.5",
        (Round(), Round()),
        stdout="of the code\ngood bye\n",
    ),
    Package(
        "tinyfinal",
        "import weakref\nclass Thing:\n    def __del__(self): print('gone')\nTHING = Thing()\nweakref.finalize(THING, print, 'finalized')\nFILE = open('kept.txt', 'w')\nFILE.write('written')\n",
        "import tinyfinal\ntinyfinal.FILE.write(' more')\n0.5",
        stdout="finalized\ngone\n",
    ),
    Package(
        "tinysignal",
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n",
        "import signal\nprint(signal.getsignal(signal.SIGUSR1).name)\nimport tinysignal\nsignal.raise_signal(signal.SIGUSR1)\n0.5",
        stdout="SIG_DFL\nheard\n",
    ),
    Package(
        "tinypath",
        "import sys\nsys.path.insert(0, '/nowhere/tiny')\nsys.corpus_mark = 1\n",
        around("tinypath", "[sys.path[0], hasattr(sys, 'corpus_mark')]"),
        (Round(seen=[["", False], ["/nowhere/tiny", True]]),),
    ),
    Package(
        "tinyhook",
        "import sys\nsys.excepthook = lambda kind, *_: print('hooked', kind.__name__)\n",
        "import sys\nprint(sys.excepthook is sys.__excepthook__)\nimport tinyhook\n1 / 0",
        stdout="True\nhooked ZeroDivisionError\n",
        error="user_code",
    ),
    Package(
        "tinystate",
        "import decimal, faulthandler, gc, locale, os, sys, time\n"
        "gc.disable(); sys.setrecursionlimit(5000); sys.setswitchinterval(0.5); decimal.getcontext().prec = 5\n"
        "os.environ['TZ'] = 'JST-9'; time.tzset(); faulthandler.enable()\n",
        "import decimal, faulthandler, gc, sys, time\n"
        "look = lambda: [gc.isenabled(), sys.getrecursionlimit(), sys.getswitchinterval(), str(decimal.Decimal(1) / 7), time.localtime(0).tm_hour, faulthandler.is_enabled()]\n"
        f"seen = [look()]\nimport tinystate\nseen += [look()]\n{SEEN}",
        (
            Round(
                {"TZ": "UTC"},
                seen=[
                    [True, 1000, 0.005, "0.1428571428571428571428571429", 0, False],
                    [False, 5000, 0.5, "0.14286", 9, True],
                ],
            ),
        ),
    ),
    Package(
        "tinyprocess",
        "import os, resource, signal\nos.umask(0o77); os.chdir('/'); os.nice(1)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n",
        "import os, resource, signal\n"
        "look = lambda: [os.getcwd() == '/', os.nice(0) - before, len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200]\n"
        f"before = os.nice(0)\nseen = [look()]\nimport tinyprocess\nseen += [look(), os.umask(0)]\n{SEEN}",
        (Round(seen=[[False, 0, 0, False], [True, 1, 1, True], 0o77]),),
    ),
    Package(
        "tinychildren",
        "import subprocess\nCHILD = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n",
        "import os\nimport tinychildren as t\nparent = open(f'/proc/{t.CHILD.pid}/stat').read().rpartition(')')[2].split()[1]\n"
        f"seen = [int(parent) == os.getpid(), t.CHILD.communicate('to it')[0], t.CHILD.returncode]\n{SEEN}",
        (Round(seen=[True, "to it", 0]),),
    ),
    Package(
        "tinydescriptor",
        "FILE = open('/dev/null')\nNUMBER = FILE.fileno()\n",
        f"import os\nimport tinydescriptor as t\nseen = [t.NUMBER, sorted(int(n) for n in os.listdir('/proc/self/fd') if int(n) < 10), t.FILE.read()]\n{SEEN}",
        (Round(seen=[3, [0, 1, 2, 3, 4], ""]),),
    ),
    Package(
        "tinydatabase",
        "import sqlite3\nDATABASE = sqlite3.connect(':memory:')\nDATABASE.execute('create table t (a)')\n",
        f"from tinydatabase import DATABASE as d\nd.execute('insert into t values (1)')\nseen = d.execute('select count(*) from t').fetchone()\n{SEEN}",
        (Round(seen=[1]), Round(seen=[1])),
    ),
    Package(
        "tinycount",
        "import itertools\nCOUNT = itertools.count()\nKEPT = []\n",
        f"import tinycount as t\nt.KEPT.append(1)\nseen = [next(t.COUNT), len(t.KEPT)]\n{SEEN}",
        (Round(seen=[0, 1]), Round(seen=[0, 1])),
    ),
    Package(
        "tinyloop",
        "import asyncio\nLOOP = asyncio.new_event_loop()\n",
        f"import asyncio\nimport tinyloop as t\nseen = t.LOOP.run_until_complete(asyncio.sleep(0.01, 'done'))\nt.LOOP.close()\n{SEEN}",
        (Round(seen="done"), Round(seen="done")),
    ),
    Package(
        "tinycontext",
        "import contextvars, threading\nVAR = contextvars.ContextVar('tiny')\nVAR.set('set')\nLOCAL = threading.local()\nLOCAL.value = 'local'\n",
        f"import tinycontext as t\nseen = [t.VAR.get('lost'), getattr(t.LOCAL, 'value', 'lost')]\n{SEEN}",
        (Round(seen=["set", "local"]),),
    ),
    Package(
        "tinyforks",
        "import os\nos.register_at_fork(before=lambda: print('before a fork', flush=True), after_in_child=lambda: print('in a fork', flush=True))\n",
        "import os\nimport tinyforks\nprint('the code', flush=True)\nif os.fork() == 0: os._exit(0)\nos.wait()\n0.5",
        stdout="the code\nbefore a fork\nin a fork\n",
    ),
    Package(
        "tinypipe",
        "import os\nR, W = os.pipe()\nos.set_blocking(R, False)\n",
        "import os\nimport tinypipe as t\ntry: seen = os.read(t.R, 9).decode()\nexcept BlockingIOError: seen = ''\n"
        f"os.write(t.W, b'of a run')\n{SEEN}",
        (Round(seen=""), Round(seen=""), Round(seen="")),
    ),
    Package(
        "tinyshared",
        "import mmap\nMEMORY = mmap.mmap(-1, 4096)\n",
        f"import tinyshared as t\nseen = t.MEMORY[:3].hex()\nt.MEMORY[:3] = b'run'\n{SEEN}",
        (Round(seen="000000"), Round(seen="000000"), Round(seen="000000")),
    ),
    Package(
        "tinyfolder",
        "import tempfile\nFOLDER = tempfile.TemporaryDirectory()\n",
        f"import os\nimport tinyfolder as t\nseen = os.path.exists(t.FOLDER.name)\n{SEEN}",
        (Round(seen=True), Round(seen=True), Round(seen=True)),
    ),
    Package(
        "tinymask",
        "import os\nos.umask(0o077)\n",
        f"import os\nbefore = os.umask(0); os.umask(before)\nimport tinymask\nseen = [before == 0o077, os.umask(0) == 0o077]\n{SEEN}",
        (Round(seen=[False, True]), Round(seen=[False, True])),
    ),
    Package(
        "tinychoice",
        "import sys\nNAME = __name__\n",
        f"import os, sys\nif os.environ.get('TINY_CHOICE'): import tinychoice\nseen = 'tinychoice' in sys.modules\n{SEEN}",
        (Round(seen=False), Round({"TINY_CHOICE": "1"}, seen=True), Round(seen=False)),
    ),
]

PACKAGES = {package.name: package for package in [*READERS, *FOLDERS, *EFFECTS]}
