"""A virtual environment of the tests' own: packages come and go there, and a program in it runs code both ways."""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

import psutil

import isolated_magic

REPOSITORY = Path(isolated_magic.__file__).parent.parent

DRIVER = """
import json, os, re, sys
from isolated_magic import IsolatedSubprocessExecutor

executors = {}
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "anew":
        for executor in executors.values(): executor.teardown()
        executors = {launch: IsolatedSubprocessExecutor(timeout_secs=20, launch=launch) for launch in ("cold", "forked")}
        answer = None
    elif order["do"] == "warm up":
        answer = executors["forked"].warm_up(timeout_secs=order["timeout_secs"])
    else:
        os.chdir(order["folder"])
        result = executors[order["launch"]].run(order["code"], {}, order["env_vars"])
        error = result.error and [str(result.error.kind), result.error.text]
        answer = {"payload": result.payload, "stdout": result.stdout, "stderr": result.stderr, "error": error,
            "exit_status": result.exit_status, "launch": result.launch}
    print(json.dumps(answer), flush=True)
"""


class Venv:
    """The environment, and the driver that lives in it.

    Args:
        folder: where to make it; nothing is there yet.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        variables = {"base": str(folder), "platbase": str(folder)}
        self.site_packages = Path(sysconfig.get_path("purelib", vars=variables))
        # What isolated_magic itself needs comes from the environment that the tests run in.
        paths = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (self.site_packages / "of_the_tests.pth").write_text("\n".join(paths) + "\n")
        self._driver = subprocess.Popen(
            [folder / "bin" / "python", "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            text=True,
        )

    def anew(self) -> None:
        """Begin with executors that have learned nothing yet."""
        self._order(do="anew")

    def warm_up(self, timeout_secs: float = 60) -> bool:
        return self._order(do="warm up", timeout_secs=timeout_secs)

    def run(self, launch: str, code: str, folder: Path, env_vars: Mapping[str, str | None] | None = None) -> dict:
        return self._order(do="run", launch=launch, code=code, folder=str(folder), env_vars=dict(env_vars or {}))

    def has_children(self) -> bool:
        return bool(psutil.Process(self._driver.pid).children(recursive=True))

    def close(self) -> None:
        self._driver.stdin.close()
        self._driver.wait(20)
        self._driver.stdout.close()

    def install(self, name: str, version: str, source: str | Mapping[str, str]) -> None:
        """Put a package there as an installer does, in place of another version of it.

        Args:
            name: of the distribution and the package.
            version: of the distribution.
            source: of the package, or of its modules by file name.
        """
        self.uninstall(name)
        modules = {"__init__.py": source} if isinstance(source, str) else source
        for file, text in modules.items():
            path = self.site_packages / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        info = self.site_packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "INSTALLER").write_text("tests\n")
        (info / "WHEEL").write_text(
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        files = [*(f"{name}/{file}" for file in modules), *(f"{info.name}/{file.name}" for file in info.iterdir())]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info.name}/RECORD"]))

    def uninstall(self, name: str) -> None:
        for path in [self.site_packages / name, *self.site_packages.glob(f"{name}-*.dist-info")]:
            shutil.rmtree(path, ignore_errors=True)

    def _order(self, **order: object) -> object:
        self._driver.stdin.write(json.dumps(order) + "\n")
        self._driver.stdin.flush()
        answer = self._driver.stdout.readline()
        assert answer, "the driver ended"
        return json.loads(answer)
