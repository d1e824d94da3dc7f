"""What happened in MLflow's registry: as a webhook tells it, or as a look at the registry finds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json

CREATED, ALIAS, TAG = "model_version.created", "model_version_alias.created", "model_version_tag.set"
KINDS = (CREATED, ALIAS, TAG)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change of a model version; what the version is, the registry says."""

    kind: str
    model: str
    version: str
    alias: str = ""
    tag: str = ""
    """The key of the tag that was set."""

    def to_json(self) -> str:
        """As text, for the disk."""
        return json.dumps(asdict(self), sort_keys=True)


def parse_event(body: bytes) -> Event | None:
    """Read the body of a delivery.

    Returns:
        The event, or None for one of a kind that no rule can name.

    Raises:
        InputError: it is not what MLflow sends.
    """
    try:
        content = parse_json(body)
    except ValueError as error:
        raise InputError("the body of the delivery is not JSON; MLflow's webhooks send it") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise InputError("the body of the delivery has no table 'data'; MLflow's webhooks send one")
    kind = f"{content.get('entity')}.{content.get('action')}"
    if kind not in KINDS:
        return None
    return Event(
        kind=kind,
        model=_word(data, "name"),
        version=_word(data, "version"),
        alias=_word(data, "alias") if kind == ALIAS else "",
        tag=_word(data, "key") if kind == TAG else "",
    )


def _word(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    # MLflow's database has no room for such characters, and no name of a thing is so long.
    if not isinstance(value, str) or len(value) > 1000 or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{key!r} of the delivery is not a short text")
    return value
