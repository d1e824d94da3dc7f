"""Reads the registry: the version of an event, and events that no webhook delivered; makes the webhook.

Every call raises InputError if MLflow refuses it, and StorageError if it does not answer.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.exceptions import MlflowException

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.deletion import Deletion
from sidlsg.registry.promotion import changes_to
from sidlsg.registry.versions import CHAMPION, alias_version, all_versions, pages
from sidlsg.runtime.errors import ContentError, InputError, SidlsgError
from sidlsg.runtime.parsing import http_address
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3
from sidlsg.storage.uri import open_store
from sidlsg.webhooks.ledger import Cause, Event
from sidlsg.webhooks.rules import Table
from sidlsg.webhooks.telemetry import log


@explained
def causes_of(
    client: MlflowClient,
    event: Event,
    table: Table,
    tracking_uri: str,  # noqa: ARG001 - names the server in errors
) -> list[Cause]:
    """The causes of an event, by its version's present state; none for a version that was deleted."""
    try:
        version = client.get_model_version(event.model, event.version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return []
    if event.alias and alias_version(client, event.model, event.alias) != int(event.version):
        # It moved on, or never was there: a signature proves the sender, not the event.
        log("left alone", happened=str(event), why="the alias does not point to that version now")
        return []
    return table.causes(event, version.tags, _mark(event, version))


@explained
def all_causes(
    client: MlflowClient,
    table: Table,
    tracking_uri: str,  # noqa: ARG001 - names the server in errors
) -> list[Cause]:
    """The causes that follow from the present state of all versions in the registry."""
    found: list[Cause] = []
    for model in pages(client.search_registered_models):
        aliases: dict[str, list[str]] = defaultdict(list)
        for alias, number in model.aliases.items():
            aliases[str(number)].append(alias)
        for version in all_versions(client, model.name):
            # A SQLite store has numbers, a server has texts.
            number = str(version.version)
            for event in table.possible(model.name, number, version.tags, aliases[number]):
                found += table.causes(event, version.tags, _mark(event, version))
    return found


def prompt_set_at(uri: str) -> str:
    """The present digest of the prompt set at a URI; empty if there is none."""
    if "://" not in uri and not Path(uri).is_dir():
        return ""
    store = open_store(uri, create=False, check=False)
    try:
        text = store.read(PromptSet.FILE).decode(errors="replace")
    except ContentError:
        return ""
    return PromptSet.from_json(text, f"{uri}/{PromptSet.FILE}").digest


def check_places(table: Table) -> None:
    """Raise InputError that names each place on S3 of a copy or a prompt set that cannot be used now, and why.

    An empty prefix is no mistake: its prompt set may come later.
    """
    copies = [asked for rule in table.on if (asked := rule.copy_ or rule.serve) is not None]
    wrong = []
    for place in sorted({each.to for each in copies} | {watch.place for watch in table.watch}):
        try:
            if place.startswith(S3):
                open_store(place)
        except SidlsgError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong))


def _mark(event: Event, version: Any) -> str:
    """The version's run, since another registry has the same numbers, and the number of a champion's last change.

    So an alias that comes back is another cause, and one that is set again is not.
    """
    change = max(changes_to(version.tags), default=0) if event.alias == CHAMPION else 0
    return f"run {version.run_id}" + (f" change {change}" if change else "")


NAME = "sidlsg-triggers"


@explained
def require_webhook(table: Table, tracking_uri: str, url: str, secret: str) -> str:
    """Make MLflow's webhook for the table's events, or change the existing one. Returns a line for people.

    `url` is the service's `/webhooks/mlflow`, as MLflow reaches it; MLflow signs with `secret`.

    Raises:
        InputError: the URL is invalid, or MLflow refuses it.
        StorageError: MLflow does not answer.
    """
    parts = http_address(url)
    if parts is None or "@" in parts.netloc:
        raise InputError(
            "the service's address must be http(s)://HOST:PORT, without a user and a password, which MLflow would keep "
            "and show; deliveries are signed instead"
        )
    client = connect(tracking_uri)
    parted = [kind.rpartition(".") for kind in table.kinds]
    events = [WebhookEvent(WebhookEntity(entity), WebhookAction(action)) for entity, _, action in parted]
    there = [hook for hook in pages(client.list_webhooks) if hook.name == NAME]
    if not there:
        client.create_webhook(name=NAME, url=url, events=events, secret=secret)
        return f"made webhook {NAME} to {url}"
    first, *others = sorted(there, key=lambda hook: str(hook.webhook_id))
    client.update_webhook(first.webhook_id, url=url, events=events, secret=secret, status="ACTIVE")
    for other in others:
        client.delete_webhook(other.webhook_id)
    return f"changed webhook {NAME} to {url}"


@explained
def webhook_deletions(tracking_uri: str) -> list[Deletion]:
    """What deletes the webhooks that `require_webhook` made."""
    client = connect(tracking_uri)
    return [
        Deletion(what=f"webhook {hook.name} to {hook.url}", do=partial(client.delete_webhook, hook.webhook_id))
        for hook in pages(client.list_webhooks)
        if hook.name == NAME
    ]
