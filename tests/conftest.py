import os
from collections.abc import Iterator

import pytest

from isolated_magic import IsolatedSubprocessExecutor

# Opik wraps every metric when pytest is loaded, and the exit of a run then waits for its server.
os.environ["OPIK_TRACK_DISABLE"] = "true"


@pytest.fixture
def executor() -> Iterator[IsolatedSubprocessExecutor]:
    with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
        yield executor
