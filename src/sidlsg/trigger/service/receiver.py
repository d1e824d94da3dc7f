"""The web application that MLflow sends its webhooks to."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sidlsg.errors import InputError
from sidlsg.trigger.service.event import parse_event
from sidlsg.trigger.service.ledger import Ledger
from sidlsg.trigger.service.signature import ExpiredError, ForgedError, check_signature
from sidlsg.trigger.service.table import Table

PATH = "/webhooks/mlflow"
BODY_BYTES = 1 << 20
"""The longest body that is read."""


def receiver(table: Table, ledger: Ledger, secrets: Sequence[str]) -> FastAPI:
    """Make the application. What it answers 202 is on the disk; starting the runs is another's work.

    Answers: 202 taken, also for a delivery that was taken before; 400 expired, or signed and not an event of MLflow;
    401 not signed with a secret; 413 too long.

    Args:
        table: the rules.
        ledger: receives what they ask for.
        secrets: those that MLflow may sign with; never empty.

    Raises:
        InputError: there is no secret, or an empty one.
    """
    if not secrets or not all(secrets):
        raise InputError("the webhooks' secret is empty; give the one that the webhook was made with")
    # No pages of documentation: they would tell strangers what is here.
    app = FastAPI(openapi_url=None)

    @app.post(PATH)
    async def take(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return Response(status_code=413)
        return Response(status_code=await run_in_threadpool(_take, request, body))

    def _take(request: Request, body: bytes) -> int:
        told = request.headers
        delivery = told.get("x-mlflow-delivery-id", "")
        now = time.time()
        try:
            signature = told.get("x-mlflow-signature", "")
            check_signature(secrets, delivery, told.get("x-mlflow-timestamp", ""), signature, body, now)
            event = parse_event(body)
            ledger.take(delivery, table.intents(event) if event else [], now)
        except ForgedError:
            return 401
        except (ExpiredError, InputError):
            return 400
        return 202

    return app


async def _body(request: Request) -> bytes | None:
    """Read the body; None for one that is too long, whatever length its header tells."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            return None
    return bytes(body)
