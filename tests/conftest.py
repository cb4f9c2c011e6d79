import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser

from isolated_magic import ProcessExecutor
from tests import daemon as daemons
from tests import jupyterlab
from tests.kernels import Kernel, kernel

pytest_plugins = ["tests.clusters", "tests.fixtures", "tests.parallel", "tests.quick", "tests.fork_servers"]

TESTS = Path(__file__).parent
NOTEBOOKS = TESTS.parent / "notebooks"

# Opik wraps every metric when pytest is loaded, and the exit of a run then waits for its server.
os.environ["OPIK_TRACK_DISABLE"] = "true"

# What a test learns is no other test's business, and the user's cache none of theirs: those about it say otherwise.
os.environ["ISOLATED_MAGIC_REMEMBER"] = "off"

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[daemons.Daemon]:
    """A real Docker daemon, with images that were made here."""
    with daemons.daemon(tmp_path_factory.mktemp("docker"), pytestconfig.cache.mkdir("docker")) as started:
        yield started


# For a module, not a session: its event loop runs in this thread, and asyncio.run() of later tests would refuse to.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with jupyterlab.browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyterlab.Server]:
    with jupyterlab.server(tmp_path_factory.mktemp("jupyterlab")) as started:
        shutil.copytree(NOTEBOOKS, started.folder, dirs_exist_ok=True)
        yield started


@pytest.fixture(scope="module")
def cells() -> Iterator[Kernel]:
    """A kernel that has loaded the extension."""
    with kernel() as started:
        yield started


# No metric library may ask the network for something, or tell it something.
OFFLINE = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPIK_ANALYTICS_ENABLE": "false",
    "OPIK_TRACK_DISABLE": "true",
    "RAGAS_DO_NOT_TRACK": "true",
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessExecutor]:
    """One worker for the extra `metrics`: it imports each library once, which takes up to five seconds.

    It has a folder of its own: deepeval, for one, writes into it.
    """
    folder = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {**OFFLINE, "HOME": str(folder)}.items():
            patch.setenv(name, value)
        with ProcessExecutor(workers=1, timeout_secs=120) as executor:
            yield executor


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: somewhere to look at them, when the environment says where."""
    folder = os.environ.get("ISOLATED_MAGIC_PICTURES")
    made = Path(folder).resolve() if folder else tmp_path_factory.mktemp("pictures")
    made.mkdir(parents=True, exist_ok=True)
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip of a fixture stands where the fixture is: the summary has one line for it, not one for each test."""
    report = yield
    if (
        report.skipped
        and report.when == "setup"
        and call.excinfo is not None
        and isinstance(report.longrepr, tuple)
    ):
        for entry in reversed(call.excinfo.traceback):
            if Path(entry.path).is_relative_to(TESTS):
                report.longrepr = (str(entry.path), entry.lineno + 1, report.longrepr[2])
                break
    return report


# What a machine has or has not, and CI cannot install.
ALLOWED_SKIPS = (
    "control groups",
    "network namespaces",
    "ptrace is not permitted",
    "torch is not installed",
    "no other version of Python",
)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where a skip is not allowed, it fails the session: CI must not pass for want of what it should install."""
    if hasattr(session.config, "workerinput"):  # the controller of pytest-xdist hears of all of them
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    refused = [reason for reason in reasons if not any(allowed in reason for allowed in ALLOWED_SKIPS)]
    if os.environ.get("ISOLATED_MAGIC_ALLOW_NO_SKIPS") and refused:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
