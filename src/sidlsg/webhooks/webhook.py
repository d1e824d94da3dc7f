"""The webhook in MLflow that tells the service: made once, and kept as the table needs it."""

from __future__ import annotations

from urllib.parse import urlsplit

from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

from sidlsg.registry.connection import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.versions import pages
from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.rules import Table

NAME = "sidlsg-triggers"


@explained
def require_webhook(table: Table, tracking_uri: str, url: str, secret: str) -> str:
    """Make the webhook that tells of the table's events, or change the one that is there.

    Args:
        table: whose events are needed.
        tracking_uri: where MLflow is, a server.
        url: of the service's `/webhooks/mlflow`, as MLflow reaches it.
        secret: that MLflow signs with.

    Returns:
        What was done, in words.

    Raises:
        InputError: the address is none, or MLflow refuses it.
        StorageError: MLflow does not answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            "the service's address must be http(s)://HOST:PORT, without a user and a password, which MLflow would keep "
            "and show; deliveries are signed instead"
        )
    client = connect(tracking_uri)
    events = [WebhookEvent(*_parts(kind)) for kind in table.kinds]
    there = [hook for hook in pages(client.list_webhooks) if hook.name == NAME]
    if not there:
        client.create_webhook(name=NAME, url=url, events=events, secret=secret)
        return f"made webhook {NAME} to {url}"
    first, *others = sorted(there, key=lambda hook: str(hook.webhook_id))
    client.update_webhook(first.webhook_id, url=url, events=events, secret=secret, status="ACTIVE")
    for other in others:
        client.delete_webhook(other.webhook_id)
    return f"changed webhook {NAME} to {url}"


def _parts(kind: str) -> tuple[WebhookEntity, WebhookAction]:
    entity, _, action = kind.rpartition(".")
    return WebhookEntity(entity), WebhookAction(action)
