"""Wheels and source distributions that the tests make, an index of them, and environments that are made of them."""

import base64
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def wheel(
    folder: Path,
    name: str,
    version: str,
    source: str | Mapping[str, str] = "",
    *,
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
) -> Path:
    """A wheel of one package, whose module says its version as ``VERSION``."""
    modules = {"__init__.py": source} if isinstance(source, str) else dict(source)
    modules["__init__.py"] = f"VERSION = {version!r}\n{modules.get('__init__.py', '')}"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {f"{name}/{file}": text for file, text in modules.items()}
    files[f"{info}/METADATA"] = metadata
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    record = "".join(f"{file},{_digest(text)},{len(text.encode())}\n" for file, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def install_from(shelf: Path, folder: Path, patch: pytest.MonkeyPatch, uv: Path | None = None) -> None:
    """Have packages come from a shelf of wheels alone, and environments and what uv keeps be in a folder."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        patch.delenv(name)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("UV_CACHE_DIR", str(uv or folder / "uv"))
    patch.setenv("UV_NO_INDEX", "1")
    patch.setenv("UV_FIND_LINKS", str(shelf))
    patch.setenv("UV_NO_CONFIG", "1")


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


BACKEND = """
import sys, zipfile
{prelude}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    info = "{name}-1.0.dist-info"
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        archive.writestr("{name}/__init__.py", "VERSION = '1.0'\\n")
        archive.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "")
    return name
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "{name}"\nversion = "1.0"\n'


def sdist(folder: Path, name: str, prelude: str = "") -> Path:
    """A source distribution that needs no other package to build; the prelude runs when it is built."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0.tar.gz"
    files = {
        "pyproject.toml": PROJECT.format(name=name),
        "backend.py": BACKEND.format(name=name, prelude=prelude),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@contextmanager
def index(folder: Path, login: str = "") -> Iterator[str]:
    """An index (PEP 503) of the wheels in a folder, on this machine alone; yields its address, without the login."""
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if login and self.headers.get("Authorization") != wanted:
                self._answer(401, b"", "text/plain")
                return
            parts = self.path.strip("/").split("/")
            if len(parts) == 2 and parts[0] == "simple":
                found = [file.name for file in folder.glob(f"{parts[1].replace('-', '_')}-*.whl")]
                body = "".join(f'<a href="/files/{name}">{name}</a>' for name in found).encode()
                self._answer(200 if found else 404, body, "text/html")
            elif (folder / parts[-1]).is_file():
                self._answer(200, (folder / parts[-1]).read_bytes(), "application/octet-stream")
            else:
                self._answer(404, b"", "text/plain")

        do_HEAD = do_GET  # noqa: N815 - likewise

        def _answer(self, status, body, kind):
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
