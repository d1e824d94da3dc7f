"""What MLflow's page of a version says in Markdown: its table of tags shows three at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from sidlsg.registry.run_log import SECONDS_TAG
from sidlsg.runtime.texts import plain_markdown

SCORE = "score/"
"""Starts the tags that hold a version's scores."""
RULE = "rule."
"""Starts the tags that hold what the gate found, rule by rule."""


def description(tags: Mapping[str, str]) -> str:
    """What a student's version is, how it scores, and what the gate said; from its tags alone."""
    tags = {key: plain_markdown(value) for key, value in tags.items()}
    lines = [
        f"One-step student of recipe {tags.get('recipe', '?')}, strategy {tags.get('strategy', '?')} "
        f"(κ1 to κ4: {tags.get('kappas', '?')}), {_counted(tags.get('images_seen', '?'))} images seen.",
        f"Licence: {tags.get('license') or 'the card of its teacher names none'}. "
        f"Teacher: {tags.get('teacher_model', '?')} version {tags.get('teacher_version', '?')}. "
        f"Training: {tags.get(SECONDS_TAG, '?')} s on {tags.get('hardware', '?')}. "
        "The model card is README.md among the run's artifacts.",
    ]
    scores = {key.removeprefix(SCORE): value for key, value in sorted(tags.items()) if key.startswith(SCORE)}
    if scores:
        rows = []
        for name, told in scores.items():
            value, protocol, rest = (*told.split(", ", 2), "", "")[:3]
            rows.append(f"| {plain_markdown(name)} | {value} | {protocol} | {rest} |")
        lines += ["", "| score | 95 % interval | protocol | of |", "|---|---|---|---|", *rows]
    if "verdict" in tags:
        rules = [value for key, value in sorted(tags.items()) if key.startswith(RULE)]
        lines += ["", f"The gate: **{tags['verdict']}**.", "", *(f"- {rule}" for rule in rules)]
    return "\n".join(lines) + "\n"


def describe(client: MlflowClient, before: Any, tags: Mapping[str, str]) -> None:
    """Let a version's description follow its tags, unless a person has written another.

    Args:
        client: of the registry.
        before: the version with the tags that it had, as MLflow gives it.
        tags: those that it has now.
    """
    if (before.description or "").strip() in ("", description(before.tags).strip()):
        client.update_model_version(before.name, str(before.version), description(tags))


def _counted(number: str) -> str:
    with contextlib.suppress(ValueError):
        return f"{int(number):,}"
    return number
