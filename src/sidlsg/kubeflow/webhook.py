"""Sends a notice to a webhook: a few tries, each with a deadline, and never to another address."""

from __future__ import annotations

import json
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import InputError, StorageError, first_line
from sidlsg.runtime.provenance import NOTICE_VARIABLE

TRY_S = 30.0
"""Seconds of one try."""
PAUSES = (2.0, 10.0, 60.0)
"""Seconds before each further try."""
AGAIN = (408, 425, 429)
"""Codes below 500 that say that the same request may work later."""


def check_webhook(url: str) -> str:
    """The scheme and the host of a webhook's URL, for messages: the rest of it may be a secret.

    Raises:
        InputError: it is no http(s) URL, or holds a login.
    """
    try:
        parts = urlsplit(url)
        host, login = parts.hostname, parts.username is not None
        where = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        host, login, where = None, False, ""
    if not host or not where.startswith(("http://", "https://")) or login or not url.isprintable() or " " in url:
        raise InputError(
            f"{NOTICE_VARIABLE} holds no webhook's URL (its value is not shown); put http(s)://HOST/PATH, without a "
            "login, in the Secret that the profile names"
        )
    return where


def send(url: str, payload: dict[str, Any], key: str) -> None:
    """Send JSON to a webhook.

    A try whose answer is lost may have arrived, so a later one can be a repetition: `key` lets the receiver see that.

    Args:
        url: of the webhook.
        payload: the JSON object.
        key: of the notice, as the header `Idempotency-Key`.

    Raises:
        InputError: the URL is none, or the webhook refuses the notice.
        StorageError: it does not take the notice after all tries.
    """
    where = f"the webhook at {check_webhook(url)}"
    body = json.dumps(payload).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "sidlsg"}
    opener = urllib.request.build_opener(_NoRedirects)
    for pause in (*PAUSES, None):
        try:
            request = urllib.request.Request(url, data=body, headers=headers, method="POST")
            with deadline(TRY_S, where), opener.open(request, timeout=TRY_S):
                return
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in AGAIN:
                raise InputError(
                    f"{where} refused the notice with code {error.code}; check the URL in the Secret"
                ) from None
            reason = f"code {error.code}"
        except (OSError, HTTPException, StorageError) as error:
            # The error of a request may show the whole URL.
            reason = first_line(error).replace(url, "the URL")
        if pause is None:
            raise StorageError(
                f"{where} did not take the notice in {len(PAUSES) + 1} tries, the last one: {reason}; see that it can "
                "be reached from the cluster; the run's own results are not changed"
            )
        time.sleep(pause)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Turns a redirect into a refusal: it would be followed by a request without the notice."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""
        return
