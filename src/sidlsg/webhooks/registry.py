"""Reads the registry: what an event's version is, and what happened that no webhook told."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sidlsg.registry.explain import explained
from sidlsg.registry.promotion import changes_to
from sidlsg.registry.versions import CHAMPION, alias_version, all_versions, pages
from sidlsg.runtime.errors import ContentError
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import open_store
from sidlsg.webhooks.event import Event
from sidlsg.webhooks.ledger import Cause
from sidlsg.webhooks.rules import Table
from sidlsg.webhooks.telemetry import log


@explained
def causes_of(
    client: MlflowClient,
    event: Event,
    table: Table,
    tracking_uri: str,  # noqa: ARG001 - names the server in errors
) -> list[Cause]:
    """What an event asks for, by what its version is now; nothing for a version that is gone.

    Raises:
        InputError: MLflow refuses it.
        StorageError: MLflow does not answer, or breaks off.
    """
    try:
        version = client.get_model_version(event.model, event.version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return []
    if event.alias and alias_version(client, event.model, event.alias) != int(event.version):
        # It moved on, or was never there: a signature says who told, not that it is so.
        log("left alone", happened=str(event), why="the alias does not point to that version now")
        return []
    return table.causes(event, version.tags, _mark(event, version))


@explained
def all_causes(
    client: MlflowClient,
    table: Table,
    tracking_uri: str,  # noqa: ARG001 - names the server in errors
) -> list[Cause]:
    """What all versions of the registry ask for, as they are now.

    Raises:
        InputError: MLflow refuses it.
        StorageError: MLflow does not answer, or breaks off.
    """
    found: list[Cause] = []
    for model in pages(client.search_registered_models):
        aliases: dict[str, list[str]] = defaultdict(list)
        for alias, number in model.aliases.items():
            aliases[str(number)].append(alias)
        for version in all_versions(client, model.name):
            # A SQLite store gives numbers, a server texts.
            number = str(version.version)
            for event in table.possible(model.name, number, version.tags, aliases[number]):
                found += table.causes(event, version.tags, _mark(event, version))
    return found


def prompt_set_at(place: str) -> str:
    """The digest of the prompt set at a place as it is now; empty where there is none.

    Raises:
        InputError: there is something else.
        StorageError: the server that has it does not answer.
    """
    if "://" not in place and not Path(place).is_dir():
        return ""
    store = open_store(place, create=False, check=False)
    try:
        text = store.read(PromptSet.FILE).decode(errors="replace")
    except ContentError:
        return ""
    return PromptSet.from_json(text, f"{place}/{PromptSet.FILE}").digest


def _mark(event: Event, version: Any) -> str:
    """The version's run, for another registry has the same numbers; and, of a champion, the number of the change that
    made it so: an alias that comes back is another cause, and one that is set again is not.
    """
    change = max(changes_to(version.tags), default=0) if event.alias == CHAMPION else 0
    return f"run {version.run_id}" + (f" change {change}" if change else "")
