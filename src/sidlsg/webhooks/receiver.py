"""The web application: takes MLflow's webhooks, and answers about health, readiness and metrics."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.runtime.secrets import read_secrets
from sidlsg.webhooks.ledger import Ledger, parse_event
from sidlsg.webhooks.telemetry import WebhookMetrics, log

VERSION = "v1"
WINDOW_S = 300.0
"""Maximum difference between a delivery's timestamp and this machine's clock, in seconds."""
DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TIMESTAMP = re.compile(r"[0-9]{1,12}")


class ForgedError(SidlsgError):
    """A delivery that is not signed with a known secret."""


class ExpiredError(SidlsgError):
    """A delivery that was signed too long ago, or in the future."""


def signature_of(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Sign a delivery as MLflow does: HMAC-SHA256 of `ID.TIMESTAMP.BODY`, in base64."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"{VERSION},{base64.b64encode(digest).decode()}"


def check_signature(
    secrets: Sequence[str],
    delivery_id: str,
    timestamp: str,
    signature: str,
    body: bytes,
    now: float,
    window_s: float = WINDOW_S,
) -> None:
    """Check a delivery's three headers `X-MLflow-*` against its body, before anything parsed it.

    There are several secrets while one replaces another. The timestamp and `now` are seconds since 1970, which may
    differ by `window_s`.

    Raises:
        ForgedError: a header is malformed, or no secret makes this signature.
        ExpiredError: the signature is good, and the timestamp is outside the window.
    """
    if not DELIVERY_ID.fullmatch(delivery_id) or not TIMESTAMP.fullmatch(timestamp):
        raise ForgedError("the headers of the delivery are malformed")
    given = signature.encode(errors="replace")
    # All are compared, so that the time does not depend on which secret it is.
    good = [hmac.compare_digest(signature_of(one, delivery_id, timestamp, body).encode(), given) for one in secrets]
    if not any(good):
        raise ForgedError("no known secret makes the signature of the delivery")
    # Only after the signature: a forger learns nothing of the clock.
    if abs(now - int(timestamp)) > window_s:
        raise ExpiredError("the delivery was signed outside the window of time")


PATH = "/webhooks/mlflow"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of deliveries."""

    body_bytes: int = 1 << 20
    window_s: float = WINDOW_S
    per_minute: int = 600
    """Signed deliveries of all senders together."""
    per_sender: int = 300
    """Signed deliveries of one address in a minute."""


class Receiver:
    """Checks and stores deliveries; the worker acts on them."""

    def __init__(
        self, ledger: Ledger, secrets: Sequence[str], metrics: WebhookMetrics, limits: Limits, taken: Callable[[], None]
    ) -> None:
        """MLflow may sign with any of the secrets; `taken` is called after an event was stored."""
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
                # The header's length may be wrong.
                if len(body) > self._limits.body_bytes:
                    return 413
        except ClientDisconnect:
            return 400
        return await run_in_threadpool(self._checked, request, bytes(body))

    def _checked(self, request: Request, body: bytes) -> int:
        headers, now = request.headers, time.time()
        delivery = headers.get("x-mlflow-delivery-id", "")
        stamp, signature = headers.get("x-mlflow-timestamp", ""), headers.get("x-mlflow-signature", "")
        try:
            check_signature(self._secrets, delivery, stamp, signature, body, now, self._limits.window_s)
            # Unsigned deliveries do not use up the senders' quota.
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
    metrics: WebhookMetrics,
    missing: Callable[[], Awaitable[dict[str, str]]],
    failing: Callable[[], dict[str, str]] = dict,
) -> FastAPI:
    """The application.

    `missing` returns what is not ready, and why. `failing` returns what failed last, and why: it is reported, and the
    service stays ready, since everything else works.
    """
    # No pages of documentation, which would tell strangers about the service.
    app = FastAPI(openapi_url=None)
    app.post(PATH)(receiver.take)

    # None of these needs a thread: deliveries may use them all.
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


VARIABLE = "SIDLSG_WEBHOOK_SECRET"


def webhook_secrets(file: Path | None) -> list[str]:
    """The secrets in a file, one a line, or without a file the one in the environment; raises as `read_secrets`."""
    return read_secrets(file, VARIABLE, "webhook secret")


EXCHANGE_S = 20.0
"""Seconds of a request: from the connection's start, or the previous answer, to the end of its answer."""
CONNECTIONS = 256
"""Maximum number of connections, and at most half of the files that the process may open."""
BACKLOG = 64
"""Maximum number of connections that wait to be accepted."""


def web_server(app: ASGIApp, address: str, port: int) -> uvicorn.Server:
    """A server for the application that idle, slow and malformed senders cannot block for others."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=address,
            port=port,
            http=TimedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # otherwise a sender chooses its own address
            backlog=BACKLOG,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=10,
        )
    )


class TimedProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for each request, and a limit of connections.

    Beyond the limit, the connection that has waited longest for its sender is closed for a new one.
    """

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the first request's deadline, and enforce the limit."""
        super().connection_made(transport)
        self._start_time()
        open_ = [one for one in self.connections if isinstance(one, TimedProtocol) and not one.transport.is_closing()]
        if len(open_) > most_connections():
            waiting = [one for one in open_ if one._waits_for_sender]
            # The others' answers are in progress, and end by themselves.
            if waiting:
                min(waiting, key=lambda one: one._since).transport.abort()

    def on_response_complete(self) -> None:
        """Start the next request's deadline."""
        super().on_response_complete()
        self._start_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _start_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._since = self.loop.time()
        # `close` would wait for a peer that reads nothing.
        self._timer = self.loop.call_later(EXCHANGE_S, self.transport.abort)

    @property
    def _waits_for_sender(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body


def most_connections() -> int:
    """The limit of connections of this process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)
