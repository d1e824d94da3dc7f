"""The service's log, one JSON object a line, and its metrics."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


def log(event: str, **values: object) -> None:
    """Write a line: time, event and further values, never a secret."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **values}, default=str)
    # One write, so that lines of several threads do not mix.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def log_libraries() -> None:
    """Log the warnings of libraries in the same form, a traceback within its line."""
    logging.getLogger().handlers = [_Lines(logging.WARNING)]
    # It warns of each malformed request, with which any sender could fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # MLflow has a handler of its own.
    library = logging.getLogger("mlflow")
    library.handlers, library.propagate = [], True


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            # The query of an address may hold a signature.
            what = re.sub(r"\?\S+", "?...", record.getMessage())
            error = record.exc_info[1] if record.exc_info else None
            values = {"traceback": "".join(traceback.format_exception(error))} if error else {}
            log("library", name=record.name, level=record.levelname.lower(), what=what, **values)
        except Exception:  # such as arguments that do not fit the message
            self.handleError(record)


class WebhookMetrics:
    """The service's Prometheus metrics."""

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
            "Events, causes, servers and scans of the registry that failed last, and rollouts taken back",
            registry=self.registry,
        )
        self.scanned = Gauge(
            "sidlsg_triggers_last_look_timestamp_seconds", "When the registry was last read", registry=self.registry
        )
