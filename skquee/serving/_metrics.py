"""What a server tells of itself: costs, paths, batches, drift."""

from __future__ import annotations

from typing import Any

from skquee.routers.monitoring import RouteMonitor
from skquee.values._optional import require
from skquee.walk import Routes

__all__ = ["Metrics"]

# Rows that a monitor takes in at once.
MONITORED = 256
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in Prometheus' text format.

    `reference_rows`: rows first served, with which those after them are compared: drift since the
    start, or since the last change of ``lambda_``.
    """

    def __init__(self, reference_rows: int) -> None:
        prometheus = require("prometheus_client", "skquee serve")
        self._text = prometheus.generate_latest
        self.registry = prometheus.CollectorRegistry()
        self.content_type = prometheus.CONTENT_TYPE_LATEST

        def make(kind: str, name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
            made = getattr(prometheus, kind)
            return made(f"skquee_{name}", text, labels, registry=self.registry, **more)

        self.requests = make("Counter", "requests", "Requests answered", ("route", "code"))
        self.seconds = make("Histogram", "request_seconds", "Time to the answer of /predict")
        self.batch_rows = make("Histogram", "batch_rows", "Rows that ran together", buckets=BATCHES)
        self.rows = make("Counter", "rows", "Rows that took each path", ("path",))
        self.cost = make("Counter", "cost", "Cost of the paths taken, in the unit of the costs")
        self.calls = make("Counter", "calls", "Rows that each classifier ran", ("classifier",))
        self.knob = make("Gauge", "lambda", "Price of cost, lambda_")
        self.waiting = make("Gauge", "waiting_rows", "Rows that wait for the classifier")
        self.alarm = make("Gauge", "drift_alarm", "1 once rows differ from those first served")
        self.martingale = make("Gauge", "drift_martingale", "Evidence of drift; alarm at 1 / 0.01")
        self._reference_rows = reference_rows
        self._kept: list[Routes] = []
        self._n_kept = 0
        self._monitor: RouteMonitor | None = None

    def see(self, routes: Routes, n_batches: int = 1) -> None:
        """Count a batch."""
        self.batch_rows.observe(len(routes))
        self.cost.inc(float(routes.costs.sum()))
        names = routes.tree.names
        for path in routes.paths.tolist():
            self.rows.labels(names[path]).inc()
        for name, n_rows in routes.counts.items():
            self.calls.labels(name).inc(n_rows)
        self._watch(routes)

    def forget(self) -> None:
        """Begin a new reference: rows are routed otherwise from now on."""
        self._kept, self._n_kept, self._monitor = [], 0, None
        self.alarm.set(0)
        self.martingale.set(0)

    def text(self) -> bytes:
        """Return all of it."""
        return self._text(self.registry)

    def _watch(self, routes: Routes) -> None:
        if not self._reference_rows:
            return
        self._kept.append(routes)
        self._n_kept += len(routes)
        if self._n_kept < (MONITORED if self._monitor else self._reference_rows):
            return
        seen = Routes.joined(self._kept)
        self._kept, self._n_kept = [], 0
        if self._monitor is None:
            self._monitor = RouteMonitor(None, alpha=0.01, random_state=0).fit(seen)
        else:
            self._monitor.update(seen)
            self.alarm.set(self._monitor.alarm_)
            self.martingale.set(self._monitor.martingale_)
