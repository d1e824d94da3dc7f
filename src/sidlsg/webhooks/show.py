"""What the service knows, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sidlsg.webhooks.ledger import EventFailure, Ledger


def lines(ledger: Ledger) -> Iterator[str]:
    """Every cause with its state and result, oldest first; then what else fails, such as a look at the registry."""
    failures = ledger.failures()
    for cause, state, result, made in ledger.causes():
        failure = failures.pop(cause.name, None)
        came = _told(failure) if failure else result
        yield f"{_time(made)} {state:<6} {cause.name} {cause.rule}: {cause.what}{f': {came}' if came else ''}"
    for what, failure in failures.items():
        yield f"failing: {what}: {_told(failure)}"


def _told(failure: EventFailure) -> str:
    return f"{' '.join(failure.why.split())}; next attempt at {_time(failure.again)}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
