"""The service's log: one JSON object a line."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def log(event: str, **told: object) -> None:
    """Write a line: when, what, and more by name. Never a secret."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **told}, default=str)
    # One write, so that lines of several threads stay whole.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
