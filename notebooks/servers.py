"""Servers on this machine for `integrations.ipynb`: uvicorn, a stand-in for Opik's server, an RQ worker."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

END_SECS = 30.0


class WebServer:
    """uvicorn in a thread, on a free port of the loopback address, as ``uvicorn module:app`` is in a process.

    Args:
        app: an ASGI application.
    """

    def __init__(self, app: object) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Requests that are still running one second after the end was asked for are cancelled.
        config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())
        if not self._server.started:
            raise RuntimeError("The web server did not start.")

    def end(self) -> None:
        """End it as SIGTERM does: the application's lifespan comes to its end."""
        self._server.should_exit = True
        self._thread.join(END_SECS)


class OpikStandIn:
    """An application that says yes to whatever Opik's client sends, and counts the traces."""

    def __init__(self) -> None:
        self.traces = 0

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]
    ) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"].endswith("/traces/batch"):
            sent = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
            self.traces += len(json.loads(sent)["traces"])
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": b"{}"})


# A worker ends with its owner, also where that is killed.
WORKER = """
import os, sys, threading, time

owner = int(sys.argv[1])

def end_with_owner():
    while os.getppid() == owner:
        time.sleep(0.5)
    os._exit(1)

threading.Thread(target=end_with_owner, daemon=True).start()

import redis, rq, jobs

queue = rq.Queue("scores", connection=redis.Redis(unix_socket_path=sys.argv[3]))
getattr(rq, sys.argv[2])([queue], connection=queue.connection).work(logging_level="CRITICAL")
"""


def start_worker(kind: str, redis_socket: str) -> subprocess.Popen[bytes]:
    """Start an RQ worker for the queue ``scores``, as ``rq worker --worker-class rq.KIND scores`` does.

    Args:
        kind: ``"Worker"``, which forks for each job, or ``"SimpleWorker"``, which does not.
        redis_socket: path of the socket of redis-server.
    """
    command = [sys.executable, "-c", WORKER, str(os.getpid()), kind, redis_socket]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
