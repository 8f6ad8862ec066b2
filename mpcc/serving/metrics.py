"""The figures of a role that GET /metrics shows, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from mpcc.runtime.session.participant import Report

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one role; each has a registry of its own, so several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("mpcc_requests", "Requests by the HTTP status of their answer", ["status"], **known)
        self.seconds = Histogram("mpcc_request_seconds", "From a request's arrival to its answer", buckets=SECONDS, **known)
        self.batch = Histogram("mpcc_batch_requests", "Requests computed together", buckets=SIZES, **known)
        self.online = Histogram("mpcc_inference_seconds", "The rounds of one batch", buckets=SECONDS, **known)
        self.bytes = Counter("mpcc_party_bytes", "Bytes between server and helper, both directions", **known)
        self.failures = Counter("mpcc_session_failures", "Sessions between server, helper and dealer that failed", **known)

    def computed(self, requests: int, report: Report) -> None:
        """A batch was computed."""
        self.batch.observe(requests)
        self.online.observe(report.seconds)
        self.bytes.inc(report.bytes)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is looked up whenever it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))
