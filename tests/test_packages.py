"""Packages that come, change and go: what a fork imports is what a cold run would."""

import contextlib
import importlib.util
import shutil
import socket
import sqlite3

import pytest

from tests.corpus import comparing
from tests.corpus.comparing import CAN_FORK, assert_all_differ, fill, without_addresses
from tests.corpus.packages import PACKAGES
from tests.corpus.program import FOLDER, UNCHECKED
from tests.corpus.venv import Venv
from tests.processes import wait_until


@pytest.fixture(scope="module", autouse=True)
def _plain_environment():
    with comparing.plain_environment():
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of the runs of a test."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


SEEN = '{"scores": [], "seen": seen}'


@pytest.fixture(scope="module")
def made_venv(_plain_environment, tmp_path_factory):
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
