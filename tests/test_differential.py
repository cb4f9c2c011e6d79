"""Forked runs against cold ones: whatever a program can see or leave behind is the same."""

import contextlib
import importlib.util
import itertools
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.launch.fork_server.servers import KEEP_SECS
from tests.corpus import PROGRAMS
from tests.corpus.packages import PACKAGES
from tests.corpus.program import FOLDER, UNCHECKED
from tests.corpus.venv import Venv
from tests.processes import HANG_GUARD_SECS, wait_until

# Variables of whoever runs the tests that would hide what a program looks at.
UNWANTED = (
    "PYTHON",
    "LC_",
    "MPLBACKEND",
    "OPENBLAS_NUM_",
    "OMP_",
    "OPIK_",
    "TZ",
    "COLUMNS",
    "HTTP",
    "http",
    "NO_PROXY",
    "no_proxy",
)
CAN_FORK = sys.platform == "linux"
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@pytest.fixture(scope="module", autouse=True)
def plain_environment():
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(UNWANTED)]:
            patch.delenv(name)
        patch.setenv("OPIK_TRACK_DISABLE", "true")
        patch.setenv("LANG", "C.UTF-8")
        yield


@pytest.fixture(scope="module")
def cold(plain_environment):
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="cold") as executor:
        yield executor


@pytest.fixture(scope="module")
def forked(plain_environment):
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="forked") as executor:
        executor.warm_up()
        yield executor


@pytest.fixture
def alone(plain_environment):
    """An executor that has learned nothing yet."""
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="forked") as executor:
        yield executor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of the runs of a test."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def fill(folder, files):
    """Make a folder hold these files and nothing else; the folder itself stays."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def left_in(folder, program):
    known = {*program.files, program.file}
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_text() for name, path in files.items() if name not in known and ".pyc" not in path.name
    }


def without_addresses(text):
    return ADDRESS.sub("0x...", text)


def observed(result):
    """All of a result that has to be the same however it was launched."""
    error = result.error
    return {
        "payload": result.payload,
        "scores": result.scores,
        "stdout": result.stdout,
        "stderr": without_addresses(result.stderr),
        "error": error and (str(error.kind), without_addresses(error.text), without_addresses(error.summary)),
        "exit_status": result.exit_status,
    }


def run(executor, program, folder):
    """What a program came to, what it left, what varies of it, and how it was launched."""
    source = {program.file: program.source} if program.file else {}
    fill(folder, {**program.files, **source})
    env_vars = {name: value and value.replace(FOLDER, str(folder)) for name, value in program.env_vars.items()}
    result = executor.run(
        folder / program.file if program.file else program.source,
        program.data,
        env_vars,
        inherit_env=program.inherit_env,
        source_name=program.source_name,
    )
    seen = observed(result)
    varies = seen["payload"].pop("varies") if program.varies and result.ok else {}
    return {**seen, "leaves": left_in(folder, program)}, varies, result.launch


def check(program, seen):
    """That the program looked at what it is about: two failures would be equal too."""
    assert seen["error"] == program.error or seen["error"][0] == program.error, seen["error"]
    assert seen["exit_status"] == program.exit_status
    assert seen["leaves"] == program.leaves
    if program.seen is not UNCHECKED:
        assert seen["payload"]["seen"] == json.loads(json.dumps(program.seen))
    if program.stdout is not None:
        assert seen["stdout"] == program.stdout
    for text in program.shows:
        assert text in "".join([seen["stdout"], seen["stderr"], *(seen["error"] or ())])


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_cannot_tell_how_it_was_launched(program, cold, request, folder):
    forked = request.getfixturevalue("alone" if program.alone else "forked")
    if not program.runs_here:
        pytest.skip("it looks at what only Linux has")
    for module in program.needs:
        pytest.importorskip(module)
    expected, *fresh = run(cold, program, folder)
    check(program, expected)
    first, *taught = run(forked, program, folder)
    assert first == expected
    forked.warm_up()
    last, varies, launch = run(forked, program, folder)
    deadline = time.monotonic() + 2 * KEEP_SECS
    while launch == "cold" and program.launch == "forked" and CAN_FORK and time.monotonic() < deadline:
        time.sleep(0.5)  # templates that were used a moment ago do not make room for one more
        run(forked, program, folder)
        forked.warm_up()
        last, varies, launch = run(forked, program, folder)
    assert last == expected
    if program.varies:
        again = [run(executor, program, folder)[1] for executor in (cold, forked)]
        assert_all_differ([fresh[0], taught[0], varies, *again])
    if program.launch != "either" and CAN_FORK:
        assert launch == program.launch


def assert_all_differ(found):
    """Each of the values is another one in each of the runs."""
    assert found[0]
    for name in found[0]:
        for one, other in itertools.combinations(found, 2):
            assert one[name] != other[name], name


SEEN = '{"scores": [], "seen": seen}'
# What a run does, and what the next one must not see of it.
TRACES = {
    "environment": (
        "import os; os.environ['TRACE'] = '1'; os.putenv('TRACE2', '1'); os.environ.pop('PATH')",
        "import os, ctypes; seen = [os.environ.get('TRACE'), ctypes.CDLL(None).getenv(b'TRACE2'), 'PATH' in os.environ]",
    ),
    "folder_and_umask": (
        "import os; os.chdir('/'); os.umask(0)",
        "import os; seen = [os.getcwd() == '/', os.umask(0)]",
    ),
    "modules": (
        "import json, sys; json.dumps = None; sys.modules['trace'] = None; sys.path.append('trace')",
        "import json, sys; seen = [json.dumps(1), 'trace' in sys.modules, 'trace' in sys.path]",
    ),
    "builtins": (
        "import builtins; builtins.print = None; builtins.trace = 1",
        "seen = [callable(print), 'trace' in dir(__builtins__)]",
    ),
    "libraries": (
        "import numpy; numpy.set_printoptions(precision=1); numpy.trace_left = 1; numpy.random.seed(1); numpy.seterr(all='raise')",
        "import numpy; seen = [str(numpy.array([1 / 3])), hasattr(numpy, 'trace_left'), str(numpy.geterr())]",
    ),
    "random": (
        "import random; random.seed(1)",
        "import random; seen = random.random() == random.Random(1).random()",
    ),
    "signals": (
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [10]); signal.alarm(50)",
        "import signal; seen = [signal.getsignal(10).name, len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), signal.alarm(0)]",
    ),
    "limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "import resource; seen = [resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)]",
    ),
    "settings": (
        "import gc, sys, warnings, locale, decimal, time, os; gc.disable(); sys.setrecursionlimit(99); warnings.simplefilter('error');"
        " decimal.getcontext().prec = 3; os.environ['TZ'] = 'JST-9'; time.tzset()",
        "import gc, sys, warnings, decimal, time; seen = [gc.isenabled(), sys.getrecursionlimit(), len(warnings.filters), decimal.getcontext().prec, time.tzname]",
    ),
    "logging": (
        "import logging; logging.basicConfig(level=1); logging.disable()",
        "import logging; seen = [logging.getLogger().level, len(logging.getLogger().handlers), logging.root.manager.disable]",
    ),
    "descriptors": (
        "import os; os.open('/dev/null', os.O_RDONLY); os.dup2(0, 100); os.close(2)",
        "import os; seen = [os.dup(0), os.path.lexists('/proc/self/fd/100'), os.fstat(2).st_size]",
    ),
    "threads_and_children": (
        "import subprocess, threading; threading.Thread(target=input, daemon=True).start(); subprocess.Popen(['sleep', '100'])",
        "import os, threading; seen = [threading.active_count(), open(f'/proc/self/task/{os.getpid()}/children').read(), threading.Thread().name]",
    ),
    "output": (
        "import ctypes, os, sys; sys.stdout.write('unflushed'); ctypes.CDLL(None).printf(b'unflushed by C'); os._exit(0)",
        "seen = 'nothing of it'",
    ),
    "a_crash": ("import os; os.kill(os.getpid(), 11)", "seen = 'goes on'"),
}


@pytest.mark.parametrize("trace", TRACES)
def test_nothing_of_a_run_is_seen_by_the_next(trace, cold, forked, folder):
    leave, look = TRACES[trace]
    expected = observed(cold.run(f"{look}\n{SEEN}"))
    assert expected["error"] is None
    for _ in range(2):  # the second time from a template that was taught by the first
        forked.run(leave)
        assert observed(forked.run(f"{look}\n{SEEN}")) == expected
        forked.warm_up()


def payloads(executors, code, **settings):
    """The result of the code, cold, forked, and forked with what the first time taught."""
    cold, forked = executors
    results = [cold.run(code, **settings), forked.run(code, **settings)]
    forked.warm_up()
    results.append(forked.run(code, **settings))
    return [result.payload or result.error.text for result in results]


def test_a_sibling_that_is_edited(cold, forked, folder):
    code = "import numpy, sibling\n{'scores': [], 'seen': sibling.WORD}"
    for word in ("one", "the second", "a third one"):
        (folder / "sibling.py").write_text(f"WORD = {word!r}\n")
        assert payloads((cold, forked), code) == [{"scores": [], "seen": word}] * 3
    (folder / "sibling.py").unlink()
    assert all("No module named 'sibling'" in text for text in payloads((cold, forked), code))


def test_a_file_that_is_edited(cold, forked, folder):
    file = folder / "metric.py"
    for line in ("'one'", "'the second'", "__import__('numpy').sum([1, 2])"):
        file.write_text(f"import json\n{{'scores': [], 'seen': {line}}}\n")
        assert (
            payloads((cold, forked), file)
            == [{"scores": [], "seen": 3 if "numpy" in line else line.strip("'")}] * 3
        )
    file.write_text("import json, sys\nimport no_such_module_anywhere\n")
    assert all("no_such_module_anywhere" in text for text in payloads((cold, forked), file))


def test_a_library_is_shadowed_and_comes_back(cold, forked, folder):
    code = "import yaml\n{'scores': [], 'seen': getattr(yaml, 'WORD', 'the real one')}"
    for _ in range(2):
        assert payloads((cold, forked), code) == [{"scores": [], "seen": "the real one"}] * 3
        (folder / "yaml.py").write_text("WORD = 'mine'\n")
        assert payloads((cold, forked), code) == [{"scores": [], "seen": "mine"}] * 3
        (folder / "yaml.py").unlink()


def test_the_callers_folder_and_environment_are_those_of_the_call(cold, forked, tmp_path, monkeypatch):
    code = "import os, sibling\n{'scores': [], 'seen': [os.getcwd(), sibling.WORD, os.environ.get('CORPUS_OWN')]}"
    for name in ("one", "two", "one"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "sibling.py").write_text(f"WORD = {name!r}\n")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("CORPUS_OWN", name)
        assert payloads((cold, forked), code) == [{"scores": [], "seen": [str(folder), name, name]}] * 3
    monkeypatch.delenv("CORPUS_OWN")
    assert payloads((cold, forked), code) == [{"scores": [], "seen": [str(folder), name, None]}] * 3


def test_the_callers_attributes_are_those_of_the_call():
    look = """
        import os, resource, signal
        {"scores": [], "seen": [os.umask(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.nice(0), len(os.sched_getaffinity(0)),
            signal.getsignal(signal.SIGINT) is signal.default_int_handler, len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]}
    """
    owner = f"""
        import json, os, resource, signal
        from isolated_magic import IsolatedSubprocessExecutor
        executors = [IsolatedSubprocessExecutor(launch="cold"), IsolatedSubprocessExecutor(launch="forked")]
        look = {textwrap.dedent(look)!r}
        executors[1].run(look)
        executors[1].warm_up()
        found = []
        for change in (lambda: None, lambda: os.umask(0o077), lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 4000)),
                lambda: os.nice(3), lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
                lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])):
            change()
            found.append([executor.run(look).payload["seen"] for executor in executors])
        print(json.dumps(found))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(owner)],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_GUARD_SECS,
    )
    found = json.loads(done.stdout)
    assert len({str(cold) for cold, _ in found}) > 3
    for cold, forked in found:
        assert forked == cold


def test_many_forks_at_once_are_as_separate_as_processes(forked, folder):
    code = "import os, random, uuid\n{'scores': [], 'own': os.environ['MINE'], 'varies': {'random': random.random(), 'id': str(uuid.uuid4())}}"
    with ThreadPoolExecutor(8) as pool:
        payloads = list(pool.map(lambda n: forked.run(code, env_vars={"MINE": str(n)}).payload, range(24)))
    assert [payload["own"] for payload in payloads] == [str(n) for n in range(24)]
    assert_all_differ([payload["varies"] for payload in payloads])


@pytest.fixture(scope="module")
def made_venv(plain_environment, tmp_path_factory):
    venv = Venv(tmp_path_factory.mktemp("venv") / "v")
    yield venv
    venv.close()


@pytest.fixture
def venv(made_venv):
    made_venv.anew()
    return made_venv


def use(venv, launch, round_, package, folder):
    """One run of the program that uses a package: what it came to, what varies of it, and how it was launched."""
    fill(folder, round_.files)
    place = folder / round_.folder
    place.mkdir(exist_ok=True)
    for name, text in round_.files.items():
        if round_.folder != ".":
            (place / name).write_text(text)
    env_vars = {name: value and value.replace(FOLDER, str(folder)) for name, value in round_.env_vars.items()}
    found = venv.run(launch, package.code if round_.code is None else round_.code, place, env_vars)
    varies = found["payload"].pop("varies") if package.varies and found["payload"] else {}
    how = found.pop("launch")
    return {**found, "stderr": without_addresses(found["stderr"])}, varies, how


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_a_package_is_imported_as_if_for_the_first_time(package, venv, folder):
    for module in package.needs:
        pytest.importorskip(module)
    venv.install(package.name, "1.0", package.source)
    varied = []
    for round_ in package.rounds:
        expected, *fresh = use(venv, "cold", round_, package, folder)
        assert expected["error"] == package.error or expected["error"][0] == package.error, expected["error"]
        assert expected["stdout"] == package.stdout
        for text in package.shows:
            assert text in "".join([expected["stdout"], expected["stderr"], *(expected["error"] or ())])
        if round_.seen is not UNCHECKED:
            assert expected["payload"]["seen"] == round_.seen
        first, *taught = use(venv, "forked", round_, package, folder)
        assert first == expected
        venv.warm_up()
        last, varies, how = use(venv, "forked", round_, package, folder)
        assert last == expected
        varied += [fresh[0], taught[0], varies]
    if package.varies:
        assert_all_differ([*varied, use(venv, "forked", round_, package, folder)[1]])
    if package.launch is not None and CAN_FORK:
        assert how == package.launch


def everywhere(venv, code, folder, **settings):
    """The value or the error of the code: cold, forked, and forked with what the first time taught."""
    results = [venv.run("cold", code, folder, **settings), venv.run("forked", code, folder, **settings)]
    venv.warm_up()
    results += [venv.run("forked", code, folder, **settings) for _ in range(2)]
    return [
        found["payload"]["seen"] if found["payload"] else found["error"][1].splitlines()[-1] for found in results
    ]


# What a package leaves outside of the process that imports it: one more of something in the working folder each time.
LEAVING = {
    "a_line": "with open('log', 'a') as file: file.write('imported\\n')",
    "a_line_whatever_stops_it": "try: open('log', 'a').write('imported\\n')\nexcept BaseException: pass",
    "a_line_by_descriptor": "import os\nd = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\nos.write(d, b'imported\\n')\nos.close(d)",
    "a_line_at_the_end": "import atexit\natexit.register(lambda: open('log', 'a').write('left\\n'))",
    "a_row": "import sqlite3\nd = sqlite3.connect('base')\nd.execute('create table if not exists log (a)')\nd.execute('insert into log values (1)')\nd.commit()\nd.close()",
    "a_file": "import pathlib\npathlib.Path(f'file{len(list(pathlib.Path().iterdir()))}').touch()",
    "a_folder": "import os\nos.makedirs('there', exist_ok=True)\nos.makedirs(f'some/folder{len(os.listdir())}', exist_ok=True)\nos.rename('some', f'some{len(os.listdir())}')",
    "a_link": "import os\nos.symlink('log', f'link{len(os.listdir())}')",
    "a_removed_file": "import os\nos.remove(f'pile/{min(os.listdir(\"pile\"))}')",
    "a_call": "import os, socket\nwith socket.socket(socket.AF_UNIX) as caller: caller.connect(os.path.abspath('door'))",
}


@pytest.fixture
def door(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "door"))
        listener.listen(99)
        listener.setblocking(False)
        yield listener


def callers(door):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            door.accept()[0].close()
            count += 1
    return count


def left_by_a_package(name, folder, door):
    match name:
        case "a_row":
            with contextlib.closing(sqlite3.connect(folder / "base")) as base:
                return base.execute("select count(*) from log").fetchone()[0]
        case "a_file" | "a_link":
            return len(list(folder.glob(f"{name[2:]}*")))
        case "a_folder":
            return len(list(folder.glob("some*")))
        case "a_removed_file":
            return 9 - len(list((folder / "pile").iterdir()))
        case "a_call":
            return callers(door)
    return len((folder / "log").read_text().splitlines())


@pytest.mark.parametrize("name", LEAVING)
def test_what_a_package_leaves_behind_is_left_by_runs_alone(name, venv, folder, door):
    """No template does it, when it imports the package in vain or when it ends."""
    venv.install("tinyleaving", "1.0", LEAVING[name])
    (folder / "pile").mkdir()
    for number in range(9):
        (folder / "pile" / str(number)).touch()
    for count, launch in enumerate(["cold", "forked", "forked", "forked"], 1):
        assert venv.run(launch, "import tinyleaving\n0.5", folder)["error"] is None
        venv.warm_up()
        assert (count, left_by_a_package(name, folder, door)) == (count, 1 if name == "a_call" else count)
    venv.install("tinyother", "1.0", "")  # what was learned is out of date: the templates end by themselves
    assert venv.run("forked", "0.5", folder)["launch"] == "cold"
    venv.anew()
    wait_until(lambda: not venv.has_children())
    assert left_by_a_package(name, folder, door) == (0 if name == "a_call" else count)


def test_what_a_package_takes_from_other_modules_is_what_they_have(venv, folder):
    """What watches the imports has to be gone without a trace, in the tracebacks of errors too."""
    source = "from io import open\nfrom os import getcwd, listdir, mkdir, remove, stat\nfrom os import stat as look\nclass Files:\n    open = open\n    remove = remove\n"
    venv.install("tinytakes", "1.0", source)
    code = """
import builtins, os, pickle, socket, sys
import tinytakes as t
names = ("getcwd", "listdir", "mkdir", "remove", "stat")
files = t.Files()
files.open("one", "w").close()
files.remove("one")
same = [getattr(t, name) is getattr(os, name) for name in names] + [t.look is os.stat, t.open is builtins.open]
own = ["connect" in vars(socket.socket), "bind" in vars(socket.socket), type(os.mkdir).__name__]
print(pickle.dumps(t.remove) == pickle.dumps(os.remove), same, own)
t.remove("nothing")
"""
    expected = venv.run("cold", code, folder)
    assert expected["stdout"].startswith("True [True, True, True, True, True, True, True] [False, False, 'builtin")
    for _ in range(2):
        assert {**venv.run("forked", code, folder), "launch": "cold"} == expected
        venv.warm_up()
    assert {**venv.run("forked", code, folder), "launch": "cold"} == expected


def test_of_a_package_that_cannot_be_preloaded_nothing_that_it_imports_is_there(venv, folder):
    """What it does before it imports something may matter to that, but not to what the program imports itself."""
    parts = {f"part{number}.py": "" for number in range(20)}
    own = "".join(f"from . import part{number}\n" for number in range(20))
    venv.install(
        "tinydraws", "1.0", {"__init__.py": f"import os, tinyneeded\n{own}KEY = os.urandom(4)\n", **parts}
    )
    venv.install("tinyneeded", "1.0", "")
    for line, ahead in [("import tinydraws", False), ("import tinydraws, tinyneeded", CAN_FORK)]:
        code = f"before = set(vars(__import__('sys'))['modules'])\n{line}\nseen = [name in before for name in ('tinydraws', 'tinyneeded')]\n{SEEN}"
        assert venv.run("forked", code, folder)["payload"]["seen"] == [False, False]
        venv.warm_up()
        found = venv.run("forked", code, folder)
        assert (found["launch"], found["payload"]["seen"]) == ("cold", [False, ahead])
    venv.uninstall("tinydraws")
    venv.uninstall("tinyneeded")


def test_a_package_that_is_installed_upgraded_and_removed(venv, folder):
    code = """
import importlib.metadata
import tinywheel
from tinywheel.part import NUMBER
{"scores": [], "seen": [tinywheel.VERSION, importlib.metadata.version("tinywheel"), NUMBER]}
"""
    missing = ["ModuleNotFoundError: No module named 'tinywheel'"] * 4
    assert everywhere(venv, code, folder) == missing
    venv.install("tinywheel", "1.0", {"__init__.py": "VERSION = 'one'\n", "part.py": "NUMBER = 1\n"})
    assert everywhere(venv, code, folder) == [["one", "1.0", 1]] * 4
    venv.install("tinywheel", "2.0", {"__init__.py": "VERSION = 'the second'\n", "part.py": "NUMBER = 2.5\n"})
    assert everywhere(venv, code, folder) == [["the second", "2.0", 2.5]] * 4
    venv.install("tinywheel", "1.0", {"__init__.py": "VERSION = 'one'\n", "part.py": "NUMBER = 1\n"})
    assert everywhere(venv, code, folder) == [["one", "1.0", 1]] * 4
    venv.uninstall("tinywheel")
    assert everywhere(venv, code, folder) == missing


def test_a_package_whose_files_are_edited(venv, folder):
    code = "import tinyedited\n{'scores': [], 'seen': [tinyedited.WORD, tinyedited.part.WORD]}"
    sources = {"__init__.py": "from . import part\nWORD = 'one'\n", "part.py": "WORD = 'part'\n"}
    venv.install("tinyedited", "1.0", sources)
    assert everywhere(venv, code, folder) == [["one", "part"]] * 4
    (venv.site_packages / "tinyedited" / "part.py").write_text("WORD = 'another part'\n")
    assert everywhere(venv, code, folder) == [["one", "another part"]] * 4
    (venv.site_packages / "tinyedited" / "__init__.py").write_text("from . import part\nWORD = 'the second'\n")
    assert everywhere(venv, code, folder) == [["the second", "another part"]] * 4


def test_what_a_package_can_do_without_is_installed_later(venv, folder):
    code = "import tinywithout\n{'scores': [], 'seen': tinywithout.FOUND}"
    source = "try:\n    import tinyextra\n    FOUND = tinyextra.WORD\nexcept ImportError:\n    FOUND = 'nothing'\n"
    venv.install("tinywithout", "1.0", source)
    assert everywhere(venv, code, folder) == ["nothing"] * 4
    venv.install("tinyextra", "1.0", "WORD = 'installed'\n")
    assert everywhere(venv, code, folder) == ["installed"] * 4
    venv.uninstall("tinyextra")
    assert everywhere(venv, code, folder) == ["nothing"] * 4


def test_a_path_file_that_comes_and_goes(venv, folder, tmp_path):
    code = "import sys, tinylinked\n{'scores': [], 'seen': [tinylinked.WORD, getattr(sys, 'tiny_mark', None)]}"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "tinylinked.py").write_text("WORD = 'linked'\n")
    path_file = venv.site_packages / "tinylinked.pth"
    missing = ["ModuleNotFoundError: No module named 'tinylinked'"] * 4
    assert everywhere(venv, code, folder) == missing
    path_file.write_text(f"{tmp_path / 'linked'}\nimport sys; sys.tiny_mark = 7\n")
    try:
        assert everywhere(venv, code, folder) == [["linked", 7]] * 4
        (tmp_path / "linked" / "tinylinked.py").write_text("WORD = 'linked and edited'\n")
        assert everywhere(venv, code, folder) == [["linked and edited", 7]] * 4
    finally:
        path_file.unlink()
    assert everywhere(venv, code, folder) == missing


def test_a_package_that_hangs_unless_a_variable_is_set(venv, folder):
    """A template may try to import it without the variable: that must hold up no run and no other template."""
    venv.install(
        "tinyhangs", "1.0", "import os, time\nif 'TINY_GO' not in os.environ: time.sleep(1000)\nVALUE = 5\n"
    )
    code = "import tinyhangs\n{'scores': [], 'seen': tinyhangs.VALUE}"
    try:
        for launch in ("cold", "forked", "forked"):
            assert venv.run(launch, code, folder, {"TINY_GO": "1"})["payload"]["seen"] == 5
            venv.warm_up(timeout_secs=1)
        assert venv.run("forked", "{'scores': [], 'seen': 1}", folder)["payload"]["seen"] == 1
    finally:
        venv.anew()
        shutil.rmtree(venv.site_packages / "tinyhangs")


def test_the_tests_own_environment_is_not_touched():
    assert [name for name in PACKAGES if importlib.util.find_spec(name)] == []
