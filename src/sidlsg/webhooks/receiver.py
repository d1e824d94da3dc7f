"""The web application that MLflow sends its webhooks to, and that watchers ask how it is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.event import parse_event
from sidlsg.webhooks.ledger import Ledger
from sidlsg.webhooks.metrics import Metrics
from sidlsg.webhooks.signature import WINDOW_S, ExpiredError, ForgedError, check_signature
from sidlsg.webhooks.telemetry import log

PATH = "/webhooks/mlflow"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken."""

    body_bytes: int = 1 << 20
    """The longest body that is read."""
    window_s: float = WINDOW_S
    """How far a delivery's timestamp may be from this machine's clock, in seconds, before or after."""
    per_minute: int = 600
    """Signed deliveries of all senders together."""
    per_sender: int = 300
    """Of one address."""


class Receiver:
    """Checks deliveries, and stores what it takes; what comes of an event is another's work."""

    def __init__(
        self, ledger: Ledger, secrets: Sequence[str], metrics: Metrics, limits: Limits, taken: Callable[[], None]
    ) -> None:
        """Args:
        ledger: receives deliveries and their events.
        secrets: those that MLflow may sign with; never empty.
        metrics: count the answers.
        limits: of what is taken.
        taken: called after an event was stored.

        Raises:
            InputError: there is no secret, or an empty one.
        """
        if not secrets or not all(secrets):
            raise InputError("the webhooks' secret is empty; give the one that the webhook was made with")
        self._ledger, self._secrets, self._metrics, self._limits = ledger, secrets, metrics, limits
        self._taken = taken
        self._rates = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._all, self._one = RateLimitItemPerMinute(limits.per_minute), RateLimitItemPerMinute(limits.per_sender)

    async def take(self, request: Request) -> Response:
        """Answer a delivery.

        202: taken. 200: taken before. 400: signed and too old, or not an event of MLflow. 401: not signed with a
        secret. 413: too long. 429: too many. 503: it cannot be stored now.
        """
        status = await self._status(request)
        self._metrics.deliveries.labels(status=str(status)).inc()
        return Response(status_code=status)

    async def _status(self, request: Request) -> int:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                # Whatever length the header tells.
                if len(body) > self._limits.body_bytes:
                    return 413
        except ClientDisconnect:
            return 400
        return await run_in_threadpool(self._checked, request, bytes(body))

    def _checked(self, request: Request, body: bytes) -> int:
        told, now = request.headers, time.time()
        delivery = told.get("x-mlflow-delivery-id", "")
        stamp, signature = told.get("x-mlflow-timestamp", ""), told.get("x-mlflow-signature", "")
        try:
            check_signature(self._secrets, delivery, stamp, signature, body, now, self._limits.window_s)
            # What is not signed spends nothing of what those who may send have.
            sender = request.client.host if request.client else "unknown"
            if not (self._rates.hit(self._one, sender) and self._rates.hit(self._all, "all")):
                return 429
            event = parse_event(body)
        except ForgedError:
            return 401
        except (ExpiredError, InputError) as error:
            log("refused", delivery=delivery, why=str(error))
            return 400
        try:
            new = self._ledger.take(delivery, event, now)
        except Exception as error:  # a full disk, a locked file: MLflow sends it again
            log("not stored", delivery=delivery, why=f"{type(error).__name__}: {error}")
            return 503
        log("taken" if new else "taken before", delivery=delivery, happened=str(event))
        if new and event is not None:
            self._taken()
        return 202 if new else 200


def application(
    receiver: Receiver,
    metrics: Metrics,
    missing: Callable[[], Awaitable[dict[str, str]]],
    failing: Callable[[], dict[str, str]] = dict,
) -> FastAPI:
    """The application.

    Args:
        receiver: of the deliveries.
        metrics: for Prometheus.
        missing: what is not ready, and why; empty where all is.
        failing: what failed when it was last tried, and why. It is told, and the service stays ready: the rest is done.
    """
    # No pages of documentation: they would tell strangers what is here.
    app = FastAPI(openapi_url=None)
    app.post(PATH)(receiver.take)

    # None of these waits for one of the threads, which deliveries may have taken.
    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def ready(response: Response) -> dict[str, Any]:
        found, failed = await missing(), failing()
        response.status_code = 503 if found else 200
        return (found or {"status": "ready"}) | ({"failing": failed} if failed else {})

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
