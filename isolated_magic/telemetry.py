"""OpenTelemetry metrics of runs. The only module that imports OpenTelemetry, and only when metrics are exported.

A program that exports metrics has imported ``opentelemetry.metrics`` to configure it, or names a provider in its
environment. Elsewhere the import would cost 66 ms for nothing.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from isolated_magic.environment import raw_environ

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Histogram, UpDownCounter

    from isolated_magic.models import RunResult

logger = logging.getLogger(__name__)

METER_NAME = "isolated_magic"
_PROVIDER = b"OTEL_PYTHON_METER_PROVIDER"


@dataclass(frozen=True)
class Instruments:
    """The instruments of one executor."""

    creation: Histogram  # ms from the call until the process exists
    execution: Histogram  # ms from the call to the end of the run
    active: UpDownCounter  # runs in progress

    def started(self) -> None:
        """Count a run as active."""
        _safely(lambda: self.active.add(1))

    def ended(self, result: RunResult) -> None:
        """Record a finished run, once for each that started."""
        attributes = {"outcome": str(result.error.kind) if result.error else "success"}
        timings = result.timings
        if result.pid is not None:
            _safely(lambda: self.creation.record(timings.creation_ms, attributes))
        _safely(lambda: self.execution.record(timings.execution_ms, attributes))
        self.abandoned()

    def abandoned(self) -> None:
        """Count a run as no longer active; alone for one that was interrupted."""
        _safely(lambda: self.active.add(-1))


def instruments(prefix: str) -> Instruments | None:
    """Instruments named with a prefix such as ``isolated_subprocess``; None where no metrics are exported."""
    if "opentelemetry.metrics" not in sys.modules and _PROVIDER not in raw_environ():
        return None
    try:
        return _instruments(prefix)
    except Exception:
        logger.warning("No metrics are recorded: OpenTelemetry failed to make them.", exc_info=True)
        return None


@cache
def _instruments(prefix: str) -> Instruments:
    from opentelemetry import metrics  # noqa: PLC0415 - 66 ms, see above

    meter = metrics.get_meter(METER_NAME)
    return Instruments(
        creation=meter.create_histogram(
            f"{prefix}_creation_latency",
            unit="ms",
            description="From the call to the existence of the process",
        ),
        execution=meter.create_histogram(
            f"{prefix}_execution_latency", unit="ms", description="From the call to the end of the run"
        ),
        active=meter.create_up_down_counter(
            f"{prefix}_active_count", unit="1", description="Runs that are going on"
        ),
    )


def _safely(record: Callable[[], None]) -> None:
    try:
        record()
    except Exception:
        logger.warning("A metric was not recorded: OpenTelemetry failed.", exc_info=True)
