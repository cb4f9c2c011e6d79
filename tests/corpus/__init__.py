"""Small programs whose outcome must not depend on how their process came to life (see test_differential.py)."""

from dataclasses import replace

from tests.corpus import (
    endings,
    environment,
    importing,
    interpreter,
    libraries,
    parallel,
    processes,
    randomness,
    startup,
    streams,
)
from tests.corpus.program import Program

_TOPICS = (
    environment,
    startup,
    interpreter,
    processes,
    randomness,
    streams,
    endings,
    parallel,
    importing,
    libraries,
)

_ALONE = (startup, libraries)


def _programs() -> dict[str, Program]:
    found = {}
    for topic in _TOPICS:
        for program in topic.PROGRAMS:
            if program.name in found:
                raise ValueError(f"two programs are called {program.name}")
            found[program.name] = replace(program, alone=topic in _ALONE or bool(program.needs))
    return found


PROGRAMS = _programs()
