"""What Prometheus can ask the predictor: latency, errors, and the share of flagged images."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the latency histogram's buckets."""


class ServingMetrics:
    """The predictor's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "sidlsg_serving_request_seconds",
            "Time from a prediction request to its answer, waiting included",
            ["protocol"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            "sidlsg_serving_requests", "Prediction requests, by status", ["protocol", "status"], registry=self.registry
        )
        self.images = Counter(
            "sidlsg_serving_images", "Generated images, by the safety checker", ["flagged"], registry=self.registry
        )
        for flagged in ("false", "true"):
            self.images.labels(flagged=flagged)
