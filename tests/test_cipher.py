"""No secret is anywhere in a cluster but in the workers that run with it: looked for while secrets run through."""

import base64
import gzip
import os
import queue
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from isolated_magic import DistributedExecutor, Secret
from isolated_magic.distributed.chunk import Chunk
from isolated_magic.distributed.cipher import AesCipher, KeyBox, new_key, sealed_for
from tests.clusters import tcp_cluster
from tests.processes import HANG_GUARD_SECS, wait_until

SECRETS = {
    kind: f"{kind}-{os.urandom(12).hex()}"
    for kind in (
        "env",
        "named",
        "secret",
        "row",
        "large",
        "key",
        "per",
        "cluster",
        "code",
        "printed",
        "raised",
        "shared",
    )
}

# Each row tells that it runs, and waits until all has been looked at.
CODE = f"""
import os, pathlib, sys, time
folder = pathlib.Path(data["folder"])
(folder / f"runs-{{data['number']}}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
literal = {SECRETS["code"]!r}
print(os.environ["PLAIN"], os.environ["NAMED"], literal, data["printed"], file=sys.stderr)
print(os.environ["PLAIN"], os.environ["NAMED"], literal, data["printed"])
if data["number"] % 2:
    raise ValueError(data["raised"] + os.environ["NAMED"])
if data["number"] == 2:
    os.kill(os.getpid(), 9)
1.0
"""


def row(number, folder):
    """A row that has a secret of each kind."""
    own = {kind: f"{SECRETS[kind]}-{number}" for kind in ("row", "key", "per", "cluster", "printed", "raised")}
    return {**own, "large": SECRETS["large"] * 20_000, "folder": str(folder), "number": number}


def variables(row):
    return {"PLAIN": SECRETS["env"], "NAMED": SECRETS["named"], "OTHER": Secret(SECRETS["secret"])}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """All its processes tell all that they know in their logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_LOGGING__DISTRIBUTED", "debug")
        patch.setenv("DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH", "10000")
        with tcp_cluster(tmp_path_factory.mktemp("cluster"), workers=2, nannies=True) as started:
            yield started


class Forms:
    """What to look for: the values as they are, and as others may write them.

    Args:
        values: text or bytes.
    """

    def __init__(self, *values):
        self._plain = {value.encode() if isinstance(value, str) else value: value for value in values}
        self._forms = {}
        for plain, value in self._plain.items():
            written = {plain, plain.hex().encode(), repr(plain).encode(), str(list(plain)).encode()}
            written |= {_inner_base64(plain, shift) for shift in range(3)}
            self._forms.update(dict.fromkeys(written, value))

    def assert_not_in(self, content, where, *, as_they_are=False):
        content = content.encode() if isinstance(content, str) else content
        forms = self._plain if as_they_are else self._forms
        found = [value for form, value in forms.items() if form in content]
        assert not found, f"{found} in {where}"


def _inner_base64(plain, shift):
    """What is in every base64 text that holds this at that distance from a multiple of three bytes."""
    return base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4]


def memory_of(pid):
    """All that a process can write to, in pieces."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(each, 16) for each in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                try:
                    memory.seek(first)
                    yield memory.read(last - first) or b""
                except (OSError, ValueError):  # not of the process: the kernel's own pages
                    continue


def pages_of(address):
    """All pages that the dashboard links to, by their addresses."""
    waiting, pages = [f"{address}/", f"{address}/sitemap.json", f"{address}/info/main/workers.html"], {}
    waiting += [
        f"{address}/{path}"
        for path in ("info/main/logs.html", "json/counts.json", "json/identity.json", "metrics")
    ]
    while waiting:
        page = waiting.pop()
        if page in pages or urlsplit(page).netloc != urlsplit(address).netloc or "statics" in page:
            continue
        try:
            with urllib.request.urlopen(page, timeout=HANG_GUARD_SECS) as answer:
                pages[page] = answer.read()
        except urllib.error.HTTPError as problem:
            pages[page] = problem.read()
        waiting += [
            urljoin(page, link.decode()) for link in re.findall(rb"""href=["']([^"'#]+)["']""", pages[page])
        ]
    return pages


class Everywhere:
    """Looks at all that can be looked at of a cluster.

    Args:
        cluster: in question.
        client: connected to it.
        forms: to look for.
    """

    def __init__(self, cluster, client, forms):
        self._cluster, self._client, self._forms = cluster, client, forms

    def look(self, folder):
        look_in = self._forms.assert_not_in

        for what, told in self._told().items():
            look_in(repr(told), what)
        for address, page in pages_of(self._cluster.dashboard).items():
            look_in(page, address)
        self._client.dump_cluster_state(str(folder / "dump"))
        look_in(gzip.decompress((folder / "dump.msgpack.gz").read_bytes()), "dump")
        for file in filter(Path.is_file, self._cluster.folder.rglob("*")):
            look_in(file.read_bytes(), file)
        for piece in memory_of(self._cluster.scheduler.pid):
            self._forms.assert_not_in(piece, "the memory of the scheduler", as_they_are=True)

    def _told(self):
        client = self._client
        return {
            "scheduler": client.run_on_scheduler(state_of_scheduler),
            "workers": client.run(state_of_worker),
            "events": client.get_events(),
            "scheduler's log": client.get_scheduler_logs(),
            "workers' logs": client.get_worker_logs(),
            "nannies' logs": client.get_worker_logs(nanny=True),
            "stacks": client.call_stack(),
            "profile": client.profile(),
            "stream": client.get_task_stream(),
            "story": client.story(*client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks])),
        }


def state_of_scheduler(dask_scheduler):
    tasks = dask_scheduler.tasks.values()
    return [
        [(name, repr(getattr(task, name, None))) for task in tasks for name in type(task).__slots__],
        repr([*dask_scheduler.transition_log]),
        repr(dask_scheduler.plugins),
        repr(dask_scheduler.worker_plugins),
    ]


def state_of_worker(dask_worker):
    import pickle

    told = [
        repr(list(dask_worker.state.log)),
        repr(dask_worker.state.tasks),
        repr(list(dask_worker.state.stimulus_log)),
    ]
    told += [repr([(key, repr(value)) for key, value in dask_worker.data.items()])]
    told += [
        repr((task.run_spec, task.exception_text, task.traceback_text))
        for task in dask_worker.state.tasks.values()
    ]
    for name, plugin in dask_worker.plugins.items():
        told += [name, repr(plugin)]
        if name.startswith("isolated_magic"):
            try:
                told.append(pickle.dumps(plugin))
            except TypeError as problem:
                told.append(str(problem))
    return told


def test_no_secret_is_seen_while_it_runs_and_after(cluster, tmp_path, caplog):
    caplog.set_level("DEBUG")
    options = {"env_vars": variables, "secrets": ["NAMED"], "key": "key", "cluster": "cluster"}
    folders = [tmp_path / "alone", tmp_path / "shared"]
    with cluster.client() as client, DistributedExecutor(client) as executor, ThreadPoolExecutor(2) as threads:
        forms = Forms(*SECRETS.values(), executor._cluster.engine._key)
        everywhere = Everywhere(cluster, client, forms)
        runs = []
        for folder, per in zip(folders, ({}, {"per": "per"}), strict=True):
            folder.mkdir()
            rows = [row(number, folder) for number in range(6)]
            runs.append(threads.submit(executor.evaluate, CODE, rows, **options, **per))
        try:
            begun = lambda: len([*tmp_path.glob("*/runs-*")])  # noqa: E731
            wait_until(lambda: begun() == 2 or any(run.done() for run in runs), 2 * HANG_GUARD_SECS)
            everywhere.look(tmp_path)
            keys = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks])
            assert any("isolated-" in key for key in keys)
        finally:
            for folder in folders:
                (folder / "go").touch()
        for result in [run.result() for run in runs]:
            assert [each.ok for each in result] == [True, False, False, False, True, False], result.failures
            assert SECRETS["printed"] in result[0].stdout
            shown = repr([(each.stdout, each.stderr, each.error, each.scores) for each in result])
            assert SECRETS["named"] not in shown
        everywhere.look(tmp_path)
    forms.assert_not_in(caplog.text, "logs of this process")


def test_what_fails_in_a_worker_shows_no_key(cluster):
    from isolated_magic.distributed import dask_plugin

    key = new_key()
    with cluster.client() as client:
        address, public = client.run(dask_plugin.public_key).popitem()
        sealed_key = sealed_for(public, key)
        settings = {"launch": "in no way that there is"}
        with pytest.raises(Exception, match="in no way that there is"):
            client.run(dask_plugin.install, "of-this-test", sealed_key, settings, workers=[address])
        wait_until(lambda: "of-this-test" in cluster.logs())
        Everywhere(cluster, client, Forms(key, str(key)[2:20])).look(cluster.folder)


def test_a_chunk_that_cannot_be_opened_says_so_to_the_client_alone(cluster):
    from isolated_magic.distributed.chunk import Failed

    with cluster.client() as client, DistributedExecutor(client) as executor:
        assert executor.run("1.0").ok
        engine = executor._cluster.engine
        chunk = Chunk("x-0", engine.id, "x", 1, None, False, b"not sealed by anybody, and long enough")
        outcomes = queue.SimpleQueue()
        engine.submit(engine.workers()[0], chunk, outcomes.put)
        assert isinstance(outcomes.get(timeout=HANG_GUARD_SECS), Failed)


def test_a_sealed_key_is_for_one_box():
    key, box = new_key(), KeyBox()
    sealed_key = sealed_for(box.public, key)
    assert box.opened(sealed_key) == key
    assert sealed_for(box.public, key) != sealed_key
    for other in (
        KeyBox().opened,
        lambda sealed: box.opened(sealed[:-1] + b"\0"),
        lambda sealed: box.opened(b"\0" * 32),
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever cryptography raises
            other(sealed_key)


def test_what_is_sealed_shows_nothing_and_is_not_forged():
    cipher = AesCipher(new_key())
    sealed = cipher.encrypt(b"secret" * 100)
    assert b"secret" not in sealed
    assert cipher.encrypt(b"secret" * 100) != sealed
    assert cipher.decrypt(sealed) == b"secret" * 100
    for forged in (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", sealed[:12]):
        with pytest.raises(Exception):  # noqa: B017, PT011 - likewise
            cipher.decrypt(forged)
    assert "secret" not in repr(Chunk("a-0", "e", "a", 1, None, False, b"secret"))
