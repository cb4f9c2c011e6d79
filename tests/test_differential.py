"""Forked runs against cold ones: whatever a program can see or leave behind is the same."""

import json
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.launch.fork_server.servers import KEEP_SECS
from tests.corpus import PROGRAMS, comparing
from tests.corpus.comparing import CAN_FORK, assert_all_differ, fill, without_addresses
from tests.corpus.program import FOLDER, UNCHECKED
from tests.processes import HANG_GUARD_SECS


@pytest.fixture(scope="module", autouse=True)
def _plain_environment():
    with comparing.plain_environment():
        yield


@pytest.fixture(scope="module")
def cold(_plain_environment):
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="cold") as executor:
        yield executor


@pytest.fixture(scope="module")
def forked(_plain_environment):
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="forked") as executor:
        executor.warm_up()
        yield executor


@pytest.fixture
def alone(_plain_environment):
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


def left_in(folder, program):
    known = {*program.files, program.file}
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_text() for name, path in files.items() if name not in known and ".pyc" not in path.name
    }


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
