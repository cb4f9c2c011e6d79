import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)

from isolated_magic import DistributedExecutor, DockerExecutor
from tests.processes import HANG_GUARD_SECS


@pytest.fixture(scope="module")
def reader():
    """The one reader of this process: OpenTelemetry takes a provider once."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    return reader


def points(reader):
    data = reader.get_metrics_data()
    found = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    return {metric.name: (metric.unit, list(metric.data.data_points)) for metric in found}


def counts(reader):
    if reader.get_metrics_data() is None:
        return {}
    _, found = points(reader)["isolated_subprocess_execution_latency"]
    return {point.attributes["outcome"]: point.count for point in found}


def test_each_run_is_recorded(reader, executor):
    before = counts(reader)
    executor.run("1")
    executor.run("2")
    executor.run("1/0")
    executor.run("import time\ntime.sleep(1000)", timeout_secs=0.2)
    after = counts(reader)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown == {"success": 2, "user_code": 1, "timeout": 1}
    found = points(reader)
    assert found["isolated_subprocess_creation_latency"][0] == "ms"
    assert found["isolated_subprocess_execution_latency"][0] == "ms"
    slow = [
        point
        for point in found["isolated_subprocess_execution_latency"][1]
        if point.attributes["outcome"] == "timeout"
    ]
    assert slow[0].sum >= 200
    assert sum(point.value for point in found["isolated_subprocess_active_count"][1]) == 0


def test_a_run_that_could_not_start_is_recorded_too(reader):
    with DockerExecutor(base_url="unix:///nowhere.sock") as executor:
        assert executor.run("1").error.kind == "launch"
    found = points(reader)
    assert [(point.attributes["outcome"], point.count) for point in found["docker_execution_latency"][1]] == [
        ("launch", 1)
    ]
    assert "docker_creation_latency" not in found
    assert sum(point.value for point in found["docker_active_count"][1]) == 0


def test_the_active_count_is_up_while_a_run_goes_on(reader, executor):
    seen = []
    executor.run(
        "print('now')\n1",
        on_output=lambda *_: seen.append(points(reader)["isolated_subprocess_active_count"][1][0].value),
    )
    assert set(seen) == {1}


def test_no_value_of_the_environment_or_the_data_is_recorded(reader, executor):
    executor.run("1", {"a": "sk-data"}, {"KEY": "sk-env"})
    assert "sk-" not in reader.get_metrics_data().to_json()


BROKEN = """
import logging
logging.basicConfig(level="CRITICAL")
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from isolated_magic import IsolatedSubprocessExecutor

class Broken:
    def __getattr__(self, name):
        def fail(*args, **kwargs): raise RuntimeError("the exporter is broken")
        return fail

class BrokenMeter(MeterProvider):
    def get_meter(self, *args, **kwargs):
        return type("Meter", (), {name: lambda *a, **k: Broken() for name in ("create_histogram", "create_up_down_counter")})()

class BrokenProvider(MeterProvider):
    def get_meter(self, *args, **kwargs): raise RuntimeError("the provider is broken")

metrics.set_meter_provider(PROVIDER())
assert IsolatedSubprocessExecutor().run("0.5").ok
"""


@pytest.mark.parametrize("provider", ["BrokenMeter", "BrokenProvider"])
def test_broken_telemetry_never_fails_a_run(provider):
    code = BROKEN.replace("PROVIDER()", f"{provider}()")
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=HANG_GUARD_SECS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nobody_who_does_not_listen_pays_for_opentelemetry():
    code = "import sys; from isolated_magic import IsolatedSubprocessExecutor as E; assert E().run('1').ok; assert not any(m.startswith('opentelemetry') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], timeout=HANG_GUARD_SECS, check=True)


def test_runs_and_rows_of_workers_are_recorded_where_they_are_asked_for(reader):
    with ThreadPoolExecutor(1) as pool, DistributedExecutor(pool) as executor:
        executor.run("1")
        executor.evaluate("1 / data['n']", [{"n": 0}, {"n": 1}, {"n": 2}])
    _, found = points(reader)["distributed_execution_latency"]
    assert {point.attributes["outcome"]: point.count for point in found} == {"success": 3, "user_code": 1}
    assert sum(point.value for point in points(reader)["distributed_active_count"][1]) == 0
