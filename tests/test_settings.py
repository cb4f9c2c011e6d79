"""Settings from %config, a profile, IPython's command line and pyproject.toml, in real kernels."""

import pytest

from isolated_magic.magic.settings import IsolatedMagic
from tests.kernels import kernel

SLEEP = "%%isolated\nimport time\ntime.sleep(1000)"


@pytest.fixture(scope="module")
def cells():
    with kernel() as started:
        yield started


@pytest.fixture
def fresh(cells):
    """The same kernel with the extension loaded anew, before and after."""
    cells.ok("%reload_ext isolated_magic")
    yield cells
    cells.ok("%reload_ext isolated_magic")


def set_to(cells, name, value):
    return cells.run(f"%config IsolatedMagic.{name} = {value}")


class TestConfig:
    def test_a_timeout(self, fresh):
        set_to(fresh, "timeout_secs", 0.5)
        assert fresh.run(SLEEP).evalue == "Execution timed out after 0.5 seconds"
        assert fresh.run(SLEEP.replace("%%isolated", "%%isolated -t 0.3")).evalue.endswith("after 0.3 seconds")

    def test_failed_runs_that_do_not_raise(self, fresh):
        set_to(fresh, "raise_errors", False)
        assert "ZeroDivisionError" in fresh.ok("%%isolated\n1/0").text
        assert fresh.run("%%isolated --raise\n1/0").ename == "RunFailedError"
        set_to(fresh, "raise_errors", True)
        assert fresh.run("%%isolated\n1/0").ename == "RunFailedError"

    def test_a_clean_environment(self, fresh):
        fresh.ok("import os; os.environ['ZEBRA'] = 'x'")
        code = "import os\nfloat('ZEBRA' in os.environ)"
        set_to(fresh, "clean_env", True)
        assert fresh.ok(f"%%isolated\n{code}").text.split()[1] == "0"
        assert fresh.ok(f"%%isolated --no-clean-env\n{code}").text.split()[1] == "1"

    def test_limits(self, fresh):
        set_to(fresh, "open_files", 50)
        code = "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)[0]"
        assert fresh.ok(f"%%isolated\n{code}").text.split()[1] == "50"
        assert fresh.ok(f"%%isolated --open-files 60\n{code}").text.split()[1] == "60"
        assert float(fresh.ok(f"%%isolated --open-files none\n{code}").text.split()[1]) > 60
        set_to(fresh, "max_output", "'1K'")
        assert "1 KB, the limit of output" in fresh.ok("%%isolated\nprint('x' * 2000)\n1").stdout
        assert "cut here" not in fresh.ok("%%isolated --max-output 1M\nprint('x' * 2000)\n1").stdout

    def test_how_runs_start(self, fresh):
        fresh.ok("%%isolated\n1")
        set_to(fresh, "launch", "'cold'")
        for _ in range(3):
            fresh.ok("%%isolated -o result\n1")
            assert fresh.ok("result.launch").text == "'cold'"
        set_to(fresh, "launch", "'forked'")
        fresh.ok("%%isolated\n1")
        fresh.ok("assert get_ipython().magics_manager.registry['IsolatedMagics'].executors.isolated.warm_up()")
        fresh.ok("%%isolated -o result\n1")
        assert fresh.ok("result.launch").text == "'forked'"

    def test_what_runs_started_from_before_ends(self, fresh):
        fresh.ok("import psutil; children = lambda: psutil.Process().children(recursive=True)")
        fresh.ok("%%isolated\n1")
        fresh.ok("assert get_ipython().magics_manager.registry['IsolatedMagics'].executors.isolated.warm_up()")
        fresh.ok("before = children()\nassert before")
        set_to(fresh, "launch", "'cold'")
        fresh.ok("gone, alive = psutil.wait_procs(before, timeout=30)\nassert not alive, alive")

    def test_it_takes_effect_while_a_run_goes_on(self, fresh, tmp_path):
        code = "import pathlib, time\nwhile not pathlib.Path(data['gate']).exists(): time.sleep(0.01)\n0.5"
        fresh.ok(f"%%isolated --bg -o run -d gate={tmp_path}/gate\n{code}")
        set_to(fresh, "launch", "'cold'")
        fresh.ok("%%isolated\n1")
        (tmp_path / "gate").touch()
        assert fresh.ok("run.result(60)").text.split()[1] == "0.5"

    def test_pid_and_timings_are_saved_unless_they_are_not_wanted(self, fresh):
        assert set(fresh.ok("%%isolated\n1").metadata) == {"isolated_magic", "isolated_magic_run"}
        set_to(fresh, "run_metadata", False)
        assert set(fresh.ok("%%isolated\n1").metadata) == {"isolated_magic"}

    def test_many_scores(self, fresh):
        set_to(fresh, "most_scores", 2)
        shown = fresh.ok("%%isolated\n{'scores': [{'name': f's{n}', 'value': n} for n in range(5)]}")
        assert shown.text.splitlines()[-1] == "... 3 more scores"

    @pytest.mark.parametrize("value", ["'inf'", "'none'", "float('inf')"])
    def test_no_limit(self, fresh, value):
        for name, expected in (("timeout_secs", "inf"), ("cpu_secs", "None")):
            if name == "timeout_secs" or "float" not in value:
                shown = set_to(fresh, name, value)
                assert (shown.ename, shown.stderr) == (None, "")
                assert fresh.ok(f"str({SETTINGS}[{name!r}])").text == repr(expected)
        for name in ("memory", "processes", "max_output"):
            set_to(fresh, name, "'none'")
            assert fresh.ok(f"{SETTINGS}[{name!r}] is None").text == "True"
        assert fresh.ok("%%isolated\n0.5").text.split()[1] == "0.5"

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("timeout_secs", "-1", "timeout_secs is -1.0: give a number of seconds greater than zero"),
            (
                "timeout_secs",
                "'soon'",
                "timeout_secs is 'soon': give a number of seconds greater than zero, or 'inf'",
            ),
            ("timeout_secs", "float('nan')", "greater than zero"),
            ("memory", "'lots'", "memory is 'lots': give a size, such as '512M'"),
            ("memory", "-5", "memory is -5: give a size"),
            ("processes", "0", "processes is 0"),
            ("processes", "True", "processes is True"),
            ("launch", "'warm'", "launch is 'warm': give 'forked' or 'cold'."),
            ("preload", "['no module']", "names"),
            ("preload", "5", "preload is 5: give 'learned', a list"),
            ("standby", "65", "Give 64 at most."),
            ("standby", "10**5000", "Give 64 at most."),
            ("most_scores", "10**30", "give a whole number from 1 to 100,000"),
            ("memory", "500", "memory is 500: no interpreter starts with so little memory; did you mean 500M?"),
            ("memory", "'8M'", "give at least 16M."),
            ("memory", "[]", "memory is []: give a size, such as '512M', or a number of bytes"),
            ("cpu_secs", "'long'", "cpu_secs is 'long': give"),
            ("standby", "-1", "standby is -1"),
            ("idle_secs", "0", "idle_secs is 0"),
            ("most_scores", "0", "most_scores"),
            ("secret_names", "5", "secret_names is 5: give a list of names"),
            ("secret_names", "[5]", "give a list of names"),
            ("compare", "'yes'", "compare is 'yes': give True or False."),
            ("cpus", "0", "cpus is 0.0: give a number of processors, such as 0.5"),
            ("volumes", "['/data']", "volumes is ['/data']: give a list of paths here and in the container, such"),
            ("command", "'node \"'", "command is 'node \"': it is no command: no closing quotation."),
            ("docker_memory", "'lots'", "docker_memory is 'lots': give a size, such as '512M'"),
            ("docker_pids", "0", "docker_pids is 0: give a whole number greater than zero."),
            ("docker_user", "''", "docker_user is '': give a user, such as '65534:65534'."),
            ("docker_capabilities", "'ALL'", "docker_capabilities is 'ALL': give a list of names"),
            ("tmeout_secs", "5", "not recognized"),
        ],
    )
    def test_a_bad_value_is_refused_at_once(self, fresh, name, value, said):
        before = fresh.ok(f"settings = {{n: v for n, v in {SETTINGS}.items()}}\nsettings").text
        shown = set_to(fresh, name, value)
        assert said in shown.stderr + (shown.evalue or "")
        assert fresh.ok(f"{{n: v for n, v in {SETTINGS}.items()}}").text == before


SETTINGS = "get_ipython().magics_manager.registry['IsolatedMagics'].settings.trait_values(config=True)"


class TestProject:
    @pytest.fixture
    def project(self, cells, tmp_path):
        inner = tmp_path / "notebooks" / "deep"
        inner.mkdir(parents=True)
        cells.ok("import os; here = os.getcwd()")
        cells.ok(f"%cd -q {inner}")
        yield tmp_path / "pyproject.toml"
        cells.ok("%cd -q {here}")
        cells.ok("%reload_ext isolated_magic")

    def test_the_table_of_a_folder_above_is_read(self, cells, project):
        project.write_text('[tool.isolated_magic]\ntimeout_secs = 0.5\nsecret_names = ["ZEBRA*"]\nmemory = "1G"\n')
        (project.parent / "notebooks" / "pyproject.toml").write_text("[project]\nname = 'no table here'\n")
        cells.ok("%reload_ext isolated_magic")
        assert cells.run(SLEEP).evalue == "Execution timed out after 0.5 seconds"
        assert cells.ok("%config IsolatedMagic.memory").text == "'1G'"
        assert cells.ok("%config IsolatedMagic.secret_names").text == "['ZEBRA*']"
        set_to(cells, "timeout_secs", 0.3)
        assert cells.run(SLEEP).evalue == "Execution timed out after 0.3 seconds"

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ("timeout_secs = -1", "[tool.isolated_magic] timeout_secs: timeout_secs is -1.0: give a number"),
            ("timeout = 5", "[tool.isolated_magic] timeout: there is no such setting. Did you mean timeout_secs?"),
            ("memory = 'lots'", "give a size, such as '512M'"),
            ("timeout_secs = ", "pyproject.toml cannot be read: Invalid value"),
        ],
    )
    def test_what_cannot_be_is_said_when_the_extension_is_loaded(self, cells, project, table, said):
        project.write_text(f"[tool.isolated_magic]\n{table}\n")
        shown = cells.run("%reload_ext isolated_magic")
        assert shown.ename == "SettingError"
        assert said in shown.evalue
        assert str(project) in shown.evalue
        assert " ".join(shown.traceback.split()) == f"SettingError: {shown.evalue}"  # sentences are wrapped
        project.unlink()
        cells.ok("%load_ext isolated_magic")
        assert cells.ok("%%isolated\n0.5").text.startswith("score  0.5")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("[tool]\nisolated_magic = 5\n", "tool.isolated_magic is int: make it a table"),
            ("tool = 5\n", "tool is int: make it a table"),
            ("x = " + "[" * 3000, "nested too deeply"),
        ],
    )
    def test_no_table(self, cells, project, content, said):
        project.write_text(content)
        shown = cells.run("%reload_ext isolated_magic")
        assert shown.ename == "SettingError"
        assert said in shown.evalue


class TestProfile:
    @pytest.fixture
    def ipython(self, tmp_path, monkeypatch):
        profile = tmp_path / "profile_default"
        profile.mkdir()
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
        return profile / "ipython_kernel_config.py"

    def test_it_is_read_and_the_project_and_the_command_line_go_over_it(self, ipython, tmp_path):
        ipython.write_text(
            "c.IsolatedMagic.timeout_secs = 0.5\nc.IsolatedMagic.memory = '3G'\nc.IsolatedMagic.standby = 3\n"
        )
        (tmp_path / "pyproject.toml").write_text("[tool.isolated_magic]\nmemory = '2G'\nstandby = 4\n")
        with kernel("--IsolatedMagic.standby=5") as cells:
            assert cells.run(SLEEP).evalue == "Execution timed out after 0.5 seconds"
            assert cells.ok("%config IsolatedMagic.memory").text == "'3G'"
            cells.ok(f"%cd -q {tmp_path}")
            cells.ok("%reload_ext isolated_magic")
            assert cells.ok("%config IsolatedMagic.memory").text == "'2G'"
            assert cells.ok("%config IsolatedMagic.standby").text == "5"
            assert cells.ok("%config IsolatedMagic.timeout_secs").text == "0.5"

    def test_what_cannot_be_is_said(self, ipython):
        ipython.write_text("c.IsolatedMagic.timeout_secs = 'soon'\n")
        with kernel(loads=False) as cells:
            shown = cells.run("%load_ext isolated_magic")
            assert shown.ename == "SettingError"
            assert "timeout_secs is 'soon': give a number" in shown.evalue


def test_each_setting_has_a_help():
    for name, trait in IsolatedMagic.class_traits(config=True).items():
        assert trait.help, name
