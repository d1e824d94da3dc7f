"""The promote stage: moves the aliases `champion` and `previous`."""

from __future__ import annotations

from datetime import UTC, datetime

from sidlsg.errors import InputError
from sidlsg.records import Promotion, Verdict
from sidlsg.registry.connect import connect
from sidlsg.registry.versions import CHAMPION, PREVIOUS, alias_version, require_version


def promote(verdict: Verdict, tracking_uri: str) -> Promotion:
    """Make the judged version the champion, if the verdict passed and it is not the champion already.

    The champion's alias moves last: whoever sees it moved sees everything else done. MLflow cannot compare and set,
    so one promotion of a model runs at a time; the champion is only replaced by a version that was compared with it.

    Raises:
        InputError: there is no such version, or another champion came since the verdict.
    """
    client = connect(tracking_uri)
    name, number = verdict.name, str(verdict.version)
    require_version(client, name, verdict.version)
    champion = alias_version(client, name, CHAMPION)
    previous = alias_version(client, name, PREVIOUS)
    if not verdict.passed or champion == verdict.version:
        return Promotion(name=name, champion_version=champion, previous_version=previous, changed=False)
    if champion != verdict.champion_version:
        raise InputError(
            f"version {number} of {name!r} was compared with champion version {verdict.champion_version}, but the "
            f"champion is version {champion} now; run the gate again"
        )
    client.set_model_version_tag(name, number, "promoted_by_verdict_sha256", verdict.digest)
    client.set_model_version_tag(name, number, "promoted_at", datetime.now(UTC).isoformat(timespec="seconds"))
    if champion is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(champion))
        previous = champion
    client.set_registered_model_alias(name, CHAMPION, number)
    return Promotion(name=name, champion_version=verdict.version, previous_version=previous, changed=True)
