"""What happened in MLflow's registry, as a webhook tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidlsg.errors import InputError

KINDS = ("model_version.created", "model_version_alias.created", "model_version_tag.set")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of a model version."""

    kind: str
    model: str
    version: str
    alias: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Those that the event tells: all of a new version, or the one that was set."""


def parse_event(body: bytes) -> Event | None:
    """Read the body of a delivery.

    Returns:
        The event, or None for one of a kind that no rule can name.

    Raises:
        InputError: it is not what MLflow sends.
    """
    try:
        content = json.loads(body)
    # Brackets in brackets exhaust the parser's stack.
    except (ValueError, RecursionError) as error:
        raise InputError("the body of the delivery is not JSON; MLflow's webhooks send it") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise InputError("the body of the delivery has no table 'data'; MLflow's webhooks send one")
    kind = f"{content.get('entity')}.{content.get('action')}"
    if kind not in KINDS:
        return None
    tags = {_word(data, "key"): _word(data, "value")} if kind.endswith("tag.set") else data.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise InputError("'tags' of the delivery is not a table of texts")
    alias = _word(data, "alias") if kind == "model_version_alias.created" else ""
    return Event(kind=kind, model=_word(data, "name"), version=_word(data, "version"), alias=alias, tags=tags)


def _word(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise InputError(f"{key!r} of the delivery is not a text")
    return value
