"""What Prometheus can ask the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """The service's numbers, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "sidlsg_triggers_deliveries", "Webhook deliveries, by the answer", ["status"], registry=self.registry
        )
        self.causes = Counter("sidlsg_triggers_causes", "New causes, by rule", ["rule"], registry=self.registry)
        self.actions = Counter(
            "sidlsg_triggers_actions",
            "Runs, copies and rollouts, by how they ended",
            ["kind", "result"],
            registry=self.registry,
        )
        self.wanted = Gauge("sidlsg_triggers_wanted", "Causes that nothing came of yet", registry=self.registry)
        self.failing = Gauge(
            "sidlsg_triggers_failing",
            "Events, causes, servers and looks at the registry that failed when last tried, and rollouts taken back",
            registry=self.registry,
        )
        self.looked = Gauge(
            "sidlsg_triggers_last_look_timestamp_seconds", "When the registry was last read", registry=self.registry
        )
