"""What a server counts and times, as Prometheus reads it."""

from __future__ import annotations

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """The meters of one server.

    Attributes:
        requests: by path and status.
        request_s: from a request to its answer, by path.
        queued: rows that wait.
        batch_rows: rows labelled together.
        batch_s: the time of that.
        rows: labelled in all.
        dropped: requests that nobody waited for any more, by why.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": "foldwise", "registry": self._registry}
        self.requests = Counter("requests", "Requests answered", ["path", "code"], **made)
        self.request_s = Histogram(
            "request_seconds", "From a request to its answer", ["path"], buckets=_SECONDS, **made
        )
        self.queued = Gauge("queued_rows", "Rows that wait to be labelled", **made)
        self.batch_rows = Histogram("batch_rows", "Rows labelled together", buckets=_ROWS, **made)
        self.batch_s = Histogram("batch_seconds", "Time to label a batch", buckets=_SECONDS, **made)
        self.rows = Counter("rows", "Rows labelled", **made)
        self.dropped = Counter("dropped_requests", "Requests given up", ["why"], **made)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)
