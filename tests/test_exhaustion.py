"""Out of descriptors, processes, threads, memory, disk: the run says so, and the next one works when there is more.

Each owner of runs is a process of its own, so that nothing here runs short of anything itself.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.processes import HANG_GUARD_SECS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux's")

ROOT = Path(__file__).parent.parent
IS_ROOT = os.geteuid() == 0
SOMEBODY = str(300_000 + os.getpid())  # a user that nobody else is: the limit of processes counts all of a user's
READS_ALL = "+dac_override,+dac_read_search"
AS_SOMEBODY = (
    *("setpriv", "--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"),
    *("--inh-caps", READS_ALL, "--ambient-caps", READS_ALL),
)


@pytest.fixture(params=["cold", "forked"])
def owner(request):
    """Has a program run by a process of its own that may run short of anything."""

    def run(code, *prefix, **settings):
        program = "from tests.exhausted import *\n" + textwrap.dedent(code)
        done = subprocess.run(
            [*prefix, sys.executable, "-W", "error", "-c", program, request.param],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=10 * HANG_GUARD_SECS,
            **settings,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    return run


needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root may make namespaces and mount")


class TestDescriptors:
    @pytest.mark.parametrize("first", ["used", "made"])
    def test_an_owner_without(self, owner, first):
        owner(f"""
            with nothing_leaks():
                for count in range(17):
                    with {first}() as executor:
                        with descriptors_left(count):
                            for _ in range(4):
                                result = ends(executor)
                                assert result.ok or result.error.kind == "launch", result.error
                                if not result.ok:
                                    says(result.to_dict(), "no file descriptors left (this process may open 100: close")
                            assert not result.ok or count > 3 or launch == "forked", count
                        works(executor)
                        works(executor)
        """)

    @pytest.mark.parametrize("free", [0, 1, 2, 4])
    def test_a_guardian_and_a_template_without(self, owner, free):
        owner(f"""
            with nothing_leaks(), used(standby=0) as executor:
                with contextlib.ExitStack() as limits:
                    for pid in reapers():
                        limits.enter_context(limited(resource.RLIMIT_NOFILE, room_for({free}, pid), [pid]))
                    if {free} < 3:
                        words = "no file descriptors left (the guardian process may open"
                        refused(executor, words, *(["has no room"] if not {free} else []))
                    else:
                        works(executor)
                        assert ends(executor, "import os\\nos.fork() or os._exit(0)\\nos.wait()\\n1").ok
                works(executor)
                works(executor)
        """)

    def test_a_template_without_costs_no_run(self, owner):
        owner("""
            with nothing_leaks(), used(standby=0) as executor:
                guardian, *templates = reapers()
                with contextlib.ExitStack() as limits:
                    for pid in templates:
                        limits.enter_context(limited(resource.RLIMIT_NOFILE, room_for(0, pid), [pid]))
                    assert [ends(executor).launch for _ in range(3)] == ["cold"] * 3
                works(executor)
        """)

    def test_a_guardian_started_under_a_low_limit_has_more(self, owner):
        """Its runs have the limit of the owner; it keeps as many as there are, whenever it was started."""
        owner("""
            import concurrent.futures
            with nothing_leaks(), made() as executor:
                with limited(resource.RLIMIT_NOFILE, 40):
                    result = executor.run("import resource\\nresource.getrlimit(resource.RLIMIT_NOFILE)[0]")
                    assert result.scores[0].value == 40, result
                with concurrent.futures.ThreadPoolExecutor(60) as pool:
                    code = "import time\\ntime.sleep(1)\\n1"
                    results = list(pool.map(executor.run, [code] * 60))
                assert all(result.ok for result in results), {str(result.error) for result in results}
        """)

    def test_what_cannot_be_looked_at_is_not_taken_for_nothing(self, owner, tmp_path):
        """A fork has json loaded; in a folder that has another one, it must not be used."""
        (tmp_path / "json.py").write_text("WHOSE = 1")
        owner(
            f"""
            with nothing_leaks(), used() as executor:
                os.chdir({str(tmp_path)!r})
                time.sleep(2.5)  # until the folder counts as settled
                code = "import json\\njson.WHOSE"
                with descriptors_left(0):
                    result = executor.run(code)
                    says(result.to_dict(), "no file descriptors left")
                os.umask(0o027)
                result = executor.run(code)
                assert result.ok and result.launch == "cold", result
                os.chdir("/")
                result = executor.run("import os\\nos.umask(0)")
                assert result.scores[0].value == 0o027, result
            """
        )


class TestProcesses:
    def somebody(self, owner, code):
        return owner(code, *AS_SOMEBODY) if IS_ROOT else owner(code)

    @pytest.mark.parametrize("first", ["used", "made"])
    def test_a_fork_that_is_refused(self, owner, first):
        self.somebody(
            owner,
            f"""
            with nothing_leaks(), {first}(standby=0) as executor:
                with limited(resource.RLIMIT_NPROC, 0, [0, *reapers()]):
                    refused(executor, "no processes left (end some, or raise the limit")
                    refused(executor, "no processes left (end some, or raise the limit", code="import json\\n1")
                works(executor)
                works(executor)
            """,
        )

    def test_a_template_that_may_not_fork_costs_no_run(self, owner):
        self.somebody(
            owner,
            """
            with nothing_leaks(), used(standby=0) as executor:
                guardian, *templates = reapers()
                with limited(resource.RLIMIT_NPROC, 0, templates):
                    assert [ends(executor).launch for _ in range(3)] == ["cold"] * 3
                works(executor)
            """,
        )

    def test_a_thread_that_cannot_be_started(self, owner):
        self.somebody(
            owner,
            """
            import asyncio
            with nothing_leaks(), used() as executor:
                loop = asyncio.new_event_loop()
                with limited(resource.RLIMIT_NPROC, 0):
                    for _ in range(3):
                        says(loop.run_until_complete(executor.aexecute("1", {})), "no threads left")
                        run = executor.start("1")
                        result = run.result(SLOWEST_SECS)
                        says(result.to_dict(), "no threads left")
                        assert (result.error.kind, run.pid, run.done(), run.kill()) == ("launch", None, True, True)
                    works(executor)  # which has all that it needs, but for a template of its own
                    result = executor.run("import colorsys\\n1")
                    assert result.ok, result.error
                    assert not executor.live_runs
                assert loop.run_until_complete(executor.aexecute("1", {}))["scores"]
                assert executor.start("1").result(SLOWEST_SECS).ok
                assert executor.warm_up()
                works(executor)
                loop.close()
            """,
        )


class TestMemory:
    @pytest.mark.parametrize("first", ["used", "made"])
    def test_a_new_interpreter_that_does_not_fit(self, owner, first):
        owner(f"""
            told = "Its memory is limited to 4 MB", "no memory left"  # the child has none, or the owner
            with nothing_leaks(), {first}() as executor:
                with limited(resource.RLIMIT_AS, 4 << 20):
                    for fresh in (False, True, True):
                        result = executor.run("1", fresh=fresh)
                        assert result.ok or any(text in result.error.text for text in told), result.error
                        assert result.ok or result.error.kind == "launch"
                    assert not result.ok
                works(executor)
                works(executor)
        """)

    @pytest.mark.parametrize("megabytes", [12, 15, 20, 30, 50, 100])
    def test_an_owner_that_has_hardly_any_does_not_hang(self, owner, megabytes):
        """Thread.start() waits for ever for a thread that finds no memory to begin with."""
        owner(f"""
            with nothing_leaks(), made() as executor:
                with limited(resource.RLIMIT_AS, {megabytes} << 20):
                    for code in ("1", "import json\\n1", "import colorsys\\n1"):
                        result = ends(executor, code)
                        assert result.ok or result.error.code in (400, 500), result
                works(executor)
                works(executor)
        """)

    def test_reapers_that_have_none(self, owner):
        owner("""
            with nothing_leaks(), used() as executor:
                with limited(resource.RLIMIT_AS, 1 << 20, reapers()):
                    for _ in range(5):
                        result = ends(executor)
                        assert result.ok or result.error.kind == "launch", result
                works(executor)
        """)

    @needs_root
    def test_no_memory_for_a_guardian(self, owner):
        owner("""
            with nothing_leaks(), made() as executor:
                with without_memory_for_forks():
                    refused(executor, "no memory left (free some, or raise the limit")
                works(executor)
                works(executor)
        """)

    @needs_root
    @pytest.mark.parametrize("roles", [("guardian",), ("fork_server",), ("guardian", "fork_server")])
    def test_no_memory_for_what_a_reaper_forks(self, owner, tmp_path, roles):
        wrapper = tmp_path / "python"
        wrapper.write_text(
            f"#!{sys.executable}\n"
            "import ctypes, os, sys\n"
            f"if {roles!r} and set(sys.argv) & set({roles!r}):\n"
            f"    assert ctypes.CDLL(None).unshare(0x20000000) == 0\n"
            "    pid = os.fork()\n"
            "    if pid == 0: os._exit(0)\n"
            "    os.waitpid(pid, 0)\n"
            f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
        )
        wrapper.chmod(0o755)
        refused = "guardian" in roles
        owner(f"""
            import signal
            with nothing_leaks(), made() as executor:
                own, sys.executable = sys.executable, {str(wrapper)!r}
                for _ in range(4):
                    result = ends(executor)
                    executor.warm_up(5)
                    assert result.ok == {not refused}, result.error
                    if not result.ok:
                        says(result.to_dict(), "no memory left (free some, or raise the limit")
                        assert result.error.kind == "launch"
                sys.executable = own
                executor.teardown()
                works(executor)
                assert executor.warm_up()
                works(executor)
        """)


class TestDisk:
    @needs_root
    def test_launching_needs_none(self, owner, tmp_path):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
        try:
            (tmp_path / "filler").write_bytes(b"x" * 65536)
            owner(
                f"""
                folder = {str(tmp_path)!r}
                with nothing_leaks(), made() as executor:
                    os.chdir(folder)
                    for _ in range(3):
                        works(executor)
                        assert executor.run("import json, colorsys\\n1").ok
                        executor.warm_up()
                    writing = "with open('file', 'w') as file:\\n    file.write('x' * 9999)\\n1"
                    answer = executor.execute(writing, {{}})
                    assert answer["code"] == 400 and "No space left on device" in answer["error"], answer
                    os.unlink("filler")
                    assert executor.run(writing).ok
                    os.chdir("/")
                """,
                env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
            )
        finally:
            subprocess.run(["umount", tmp_path], check=True)

    def test_a_run_that_may_write_no_file_still_has_its_data(self, owner, tmp_path):
        owner(f"""
            reading = "import json, sys\\nlen(json.load(sys.stdin)['data']['text'])"
            writing = "import os\\nos.write(os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY), b'xy')\\n1"
            with nothing_leaks(), used() as executor:
                with limited(resource.RLIMIT_FSIZE, 0):
                    for size in (10, 10_000, 1_000_000):
                        result = executor.run(reading, {{"text": "x" * size}})
                        assert result.ok and result.scores[0].value == size, result.error
                    answer = executor.execute(writing, {{}})
                    assert answer["code"] == 400 and "File too large" in answer["error"], answer
                assert executor.run(writing).ok
        """)
