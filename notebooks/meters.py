"""Shows what OpenTelemetry has recorded as a table of counts, for `telemetry.ipynb`.

Durations differ from run to run, so that a document cannot show them: of a histogram it shows how many records
there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tables import Table

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric


class Meters:
    """What a reader has collected so far.

    Args:
        reader: of the process's meter provider.
    """

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def metrics(self) -> list[Metric]:
        """Every metric, in the order of its name."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return sorted((metric for scope in scopes for metric in scope.metrics), key=lambda metric: metric.name)

    def kinds(self) -> Table:
        """A line for each metric: name, instrument, unit, attributes."""
        rows = []
        for metric in self.metrics():
            points = metric.data.data_points
            names = sorted({name for point in points for name in point.attributes or {}})
            kind = "histogram" if hasattr(points[0], "count") else "up-down counter"
            rows.append((metric.name, kind, metric.unit, ", ".join(names) or "none"))
        return Table(("metric", "instrument", "unit", "attributes"), tuple(rows))

    def counts(self, prefix: str = "") -> Table:
        """A line for each outcome: how many processes and runs the histograms have.

        Args:
            prefix: the names of the metrics begin so.
        """
        found: dict[tuple[str, str], dict[str, int]] = {}
        for metric in self.metrics():
            of, _, what = metric.name.removesuffix("_latency").rpartition("_")
            if metric.name.startswith(prefix) and what in {"creation", "execution"}:
                for point in metric.data.data_points:
                    found.setdefault((of, str(point.attributes["outcome"])), {})[what] = point.count
        rows = [
            (of, outcome, str(counts.get("creation", 0)), str(counts.get("execution", 0)))
            for (of, outcome), counts in sorted(found.items())
        ]
        return Table(("executor", "outcome", "creation_latency", "execution_latency"), tuple(rows))

    def active(self, prefix: str = "isolated_subprocess") -> int:
        """How many runs are going on, as the up-down counter has it.

        Args:
            prefix: of its name.
        """
        name = f"{prefix}_active_count"
        points = [point for metric in self.metrics() if metric.name == name for point in metric.data.data_points]
        return sum(point.value for point in points)

    def ended(self, prefix: str, outcome: str) -> int:
        """How many runs of one executor have ended with this outcome.

        Args:
            prefix: what the names of its metrics begin with.
            outcome: of the runs.
        """
        rows = self.counts(prefix).rows
        return next((int(row[-1]) for row in rows if row[1] == outcome), 0)
