"""The rollouts that are under way, one for each InferenceService, and those that were rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.versions import alias_version
from sidlsg.webhooks.copies import copy_model
from sidlsg.webhooks.ledger import DONE, Cause, Ledger
from sidlsg.webhooks.rollout import ROLLED_BACK, Rollout, Target

MOVED_ON = "left alone: the alias points to another version now"


class Rollouts:
    """Takes each rollout a step further when it is asked to."""

    def __init__(self, tracking_uri: str) -> None:
        """Args:
        tracking_uri: where MLflow is.
        """
        self._uri = tracking_uri
        self._under_way: dict[str, Rollout] = {}

    def step(self, cause: Cause) -> str | None:
        """Copy the model the first time, then take the next step.

        Returns:
            What came of it; None while it is under way.

        Raises:
            SidlsgError: something failed that the next call tries again.
        """
        wanted = cause.action["serve"]
        rollout = self._under_way.get(cause.name)
        if rollout is None:
            is_current = partial(_is_current, wanted["model"], wanted["version"], wanted["alias"], self._uri)
            target = Target(**{field.name: wanted[field.name] for field in fields(Target)})
            # A rollout that was begun is taken back by its own steps.
            if not is_current() and not target.holds(cause.name):
                return MOVED_ON
            copy = copy_model(wanted["model"], wanted["version"], wanted["alias"], wanted["to"], self._uri)
            rollout = self._under_way[cause.name] = Rollout(cause.name, target, copy, is_current)
        result = rollout.step()
        if result is not None:
            del self._under_way[cause.name]
        return result


@explained
def _is_current(model: str, version: str, alias: str, tracking_uri: str) -> bool:
    """Whether an alias points to a version."""
    return alias_version(connect(tracking_uri), model, alias) == int(version)


def service_of(action: Mapping[str, Any]) -> tuple[str, str] | None:
    """Namespace and name of the InferenceService that an action changes; None where it changes none."""
    wanted = action.get("serve")
    return None if wanted is None else (wanted["namespace"], wanted["service"])


def first_of_each_service(causes: Iterable[Cause]) -> list[Cause]:
    """Causes without those that wait for an older one's rollout on the same InferenceService."""
    chosen, busy = [], set()
    for cause in causes:
        service = service_of(cause.action)
        if service is None or service not in busy:
            chosen.append(cause)
            busy.add(service)
    return chosen


def rolled_back(ledger: Ledger) -> dict[str, str]:
    """Why the last rollout of an InferenceService was rolled back, by the cause's name."""
    last = {
        service: (cause.name, result)
        for cause, state, result, _ in ledger.causes()
        if state == DONE and (service := service_of(cause.action)) is not None
    }
    return {name: result for name, result in last.values() if result.startswith(ROLLED_BACK)}
