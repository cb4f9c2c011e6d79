"""The process of naive forks: ``python naive_process.py`` reads requests from stdin, one JSON object a line.

The first request is ``{"code": ..., "data": ...}``: what each fork runs. The next ones say how many forks to make
one after the other (``{"forks": 5}``), or for how long (``{"seconds": 2.0}``). Each is answered with a line:
``{"milliseconds": [...], "outputs": [...]}``: what each fork took, and what they printed, each output once.

It imports what a fork server imports, runs the code once, and calls ``gc.freeze()``. It times the forks itself:
a request for each of them would add two wake-ups.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from time import perf_counter

from isolated_magic.child import fork_server  # noqa: F401 - the memory that each fork inherits
from isolated_magic.child.preload import import_ours

BUFFER_BYTES = 65536


def main() -> None:
    """Answer requests until stdin ends."""
    import_ours()
    first = json.loads(sys.stdin.readline())
    code, data = first["code"], first["data"]
    outputs = {rehearse(code, data)}
    gc.collect()
    gc.freeze()
    answer([], outputs)
    for line in sys.stdin:
        request = json.loads(line)
        milliseconds, outputs = list[float](), set[bytes]()
        until = perf_counter() + request.get("seconds", 0.0)
        while len(milliseconds) < request.get("forks", 0) or perf_counter() < until:
            begun = perf_counter()
            output = run(code, data)
            milliseconds.append((perf_counter() - begun) * 1000)
            outputs.add(output)
        answer(milliseconds, outputs)


def answer(milliseconds: list[float], outputs: set[bytes]) -> None:
    """Write one answer. Nothing of it stays in the buffer, which forks inherit."""
    texts = sorted(output.decode() for output in outputs)
    print(json.dumps({"milliseconds": milliseconds, "outputs": texts}), flush=True)


def run(code: str, data: dict[str, object]) -> bytes:
    """Run the code in a fork; returns what it printed.

    Raises:
        RuntimeError: the fork failed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(writer, 1)
            exec(code, {"__name__": "__main__", "data": data})  # noqa: S102 - that is what is measured
            sys.stdout.flush()
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    output = b""
    while chunk := os.read(reader, BUFFER_BYTES):
        output += chunk
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"A naive fork ended with status {os.waitstatus_to_exitcode(status)}.")
    return output


def rehearse(code: str, data: dict[str, object]) -> bytes:
    """Run the code in this process: forks inherit what it imports and caches. Returns what it printed."""
    file, stdout = os.memfd_create("stdout"), os.dup(1)
    try:
        os.dup2(file, 1)
        exec(code, {"__name__": "__main__", "data": data})  # noqa: S102 - likewise
        sys.stdout.flush()
        return os.pread(file, BUFFER_BYTES, 0)
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(file)


if __name__ == "__main__":
    main()
