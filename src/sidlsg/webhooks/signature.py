"""The signature of MLflow's webhooks: who has the secret, and when they signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from sidlsg.runtime.errors import SidlsgError

VERSION = "v1"
WINDOW_S = 300.0
"""How far a timestamp may be from this machine's clock, in seconds, before or after."""
DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TIMESTAMP = re.compile(r"[0-9]{1,12}")


class ForgedError(SidlsgError):
    """A delivery that is not signed with a known secret; the sender is told no more than that."""


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
    """Check a delivery's three headers against its body.

    Args:
        secrets: those in use; several while one replaces another.
        delivery_id: header `X-MLflow-Delivery-Id`.
        timestamp: header `X-MLflow-Timestamp`, in seconds since 1970.
        signature: header `X-MLflow-Signature`.
        body: as it came, before anything parsed it.
        now: this machine's clock, in seconds since 1970.
        window_s: how far the timestamp may be from `now`, either way.

    Raises:
        ForgedError: a header is malformed, or no secret makes this signature.
        ExpiredError: the signature is good, and the timestamp is outside the window.
    """
    if not DELIVERY_ID.fullmatch(delivery_id) or not TIMESTAMP.fullmatch(timestamp):
        raise ForgedError("the headers of the delivery are malformed")
    given = signature.encode(errors="replace")
    # All are compared, so that the time taken does not tell which secret was near.
    good = [hmac.compare_digest(signature_of(one, delivery_id, timestamp, body).encode(), given) for one in secrets]
    if not any(good):
        raise ForgedError("no known secret makes the signature of the delivery")
    # Only after the signature: a forger learns nothing of the clock.
    if abs(now - int(timestamp)) > window_s:
        raise ExpiredError("the delivery was signed outside the window of time")
