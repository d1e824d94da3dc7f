"""A scorecard on its version and the version's run: metrics, tags, grids, a page, a table of images, a description."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import artifacts
from sidlsg.registry.gate_rules import is_student
from sidlsg.registry.run_log import SECONDS_TAG, evaluation_inputs, log_entries, metric_name
from sidlsg.registry.versions import label, require_same_student
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import plain_markdown
from sidlsg.storage.records import ModelVersion, Score, Scorecard

FOLDER = "evaluation"
"""Scorecard, grids and verdict among the run's artifacts."""
SCORECARD_TAG = "scorecard_sha256"
AWAITS_TAG = "awaits_approval"
"""On a version that only lacks an approval."""
SCORE, RULE = "score/", "rule."
"""Prefixes of a version's tags with its scores, and with the gate's result of each rule."""
VERDICT_TAGS = ("verdict", RULE, AWAITS_TAG)
"""Prefixes of the tags of a verdict."""

PageWriter = Callable[[str, Path, Path], None]
"""Writes an HTML page of scores, given its title, the scorecard's folder, and the file."""


def prefixed(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The tags that begin with a prefix, in order and without it."""
    return {key.removeprefix(prefix): value for key, value in sorted(tags.items()) if key.startswith(prefix)}


def description(tags: Mapping[str, str]) -> str:
    """Markdown on a student's version, its scores and verdict, from its tags alone."""
    tags = {key: plain_markdown(value) for key, value in tags.items()}
    images = tags.get("images_seen", "?")
    with contextlib.suppress(ValueError):
        images = f"{int(images):,}"
    lines = [
        f"One-step student of recipe {tags.get('recipe', '?')}, strategy {tags.get('strategy', '?')} "
        f"(κ1 to κ4: {tags.get('kappas', '?')}), {images} images seen.",
        f"Licence: {tags.get('license') or 'the card of its teacher names none'}. "
        f"Teacher: {tags.get('teacher_model', '?')} version {tags.get('teacher_version', '?')}. "
        f"Training: {tags.get(SECONDS_TAG, '?')} s on {tags.get('hardware', '?')}. "
        "The model card is README.md among the run's artifacts.",
    ]
    if scores := prefixed(tags, SCORE):
        lines += ["", "| score | 95 % interval | protocol | of |", "|---|---|---|---|"]
        for name, text in scores.items():
            value, protocol, rest = (*text.split(", ", 2), "", "")[:3]
            lines.append(f"| {plain_markdown(name)} | {value} | {protocol} | {rest} |")
    if "verdict" in tags:
        rules = prefixed(tags, RULE).values()
        lines += ["", f"The gate: **{tags['verdict']}**.", "", *(f"- {rule}" for rule in rules)]
    return "\n".join(lines) + "\n"


def update_description(client: MlflowClient, before: Any, tags: Mapping[str, str]) -> None:
    """Derive a version's description from its tags now, unless a person has changed the one from those before."""
    if (before.description or "").strip() in ("", description(before.tags).strip()):
        client.update_model_version(before.name, str(before.version), description(tags))


def log_scorecard(
    client: MlflowClient,
    registered: Any,
    card: Scorecard,
    folder: Path,
    inputs: Mapping[str, str] | None,
    page: PageWriter | None,
) -> None:
    """Log a scorecard, whose files were checked, and the evaluation's inputs to the run of its version, once.

    Scores become metrics whose names contain their protocol. All that makes them comparable is in the scorecard, and
    in tags for the student's own.
    """
    run_id = registered.run_id
    known = client.get_run(run_id).data.tags.get(SCORECARD_TAG) == card.digest
    if not (known and f"{FOLDER}/{Scorecard.FILE}" in artifacts(client, run_id, FOLDER)):
        _log_scores(client, run_id, card, known)
        for ref in (*card.grids, *(extreme.picture for extreme in card.extremes)):
            client.log_artifact(run_id, str(folder / ref.path), f"{FOLDER}/{Path(ref.path).parent.as_posix()}")
        _log_table(client, run_id, card, folder)
        if page is not None:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "scoreboard.html"
                page(f"{registered.name} {registered.version}", folder, file)
                client.log_artifact(run_id, str(file), FOLDER)
        client.log_text(run_id, card.to_json(), f"{FOLDER}/{Scorecard.FILE}")
        client.set_tag(run_id, SCORECARD_TAG, card.digest)
    client.log_inputs(run_id, evaluation_inputs(inputs or {}))


def _log_scores(client: MlflowClient, run_id: str, card: Scorecard, known: bool) -> None:
    now = int(time.time() * 1000)
    metrics, tags = [], {}
    for subject in card.subjects:
        for score in subject.scores:
            key = _metric(subject.subject, score.name, score.protocol)
            metrics.append(Metric(key, score.value, now, 0))
            if not is_student(subject):
                continue  # a teacher's settings would fill the run's page; the scorecard has their terms
            terms = {"steps": subject.steps, "guidance_scale": subject.guidance_scale, "protocol": score.protocol}
            terms |= {"n": score.n, "reference_digest": score.reference_digest, "interval": score.interval}
            tags[key] = json.dumps({**terms, "higher_is_better": score.higher_is_better})
        metrics += [
            Metric(_metric(subject.subject, row.style, row.protocol), row.mean, now, 0) for row in subject.styles
        ]
    if not known:
        client.log_batch(run_id, metrics=metrics)
    log_entries(client, run_id, tags=tags)


def _metric(subject: str, what: str, protocol: str) -> str:
    """A metric's name: the part before its only slash is a section of MLflow's page."""
    return metric_name(f"{subject}/{what} {protocol.replace('/', ':')}")


def _log_table(client: MlflowClient, run_id: str, card: Scorecard, folder: Path) -> None:
    """Log the images that fit their prompts best and worst, with the prompts."""
    name = f"{FOLDER}/best_and_worst_{card.digest[:8]}.json"
    # MLflow would append to a table that the run has already.
    if not card.extremes or name in artifacts(client, run_id, FOLDER):
        return
    columns: dict[str, list[object]] = {
        "side": ["best" if extreme.best else "worst" for extreme in card.extremes],
        **{key: [getattr(extreme, key) for extreme in card.extremes] for key in ("prompt", "seed", "value", "measure")},
        "image": [mlflow.Image(str(folder / extreme.picture.path)) for extreme in card.extremes],
    }
    client.log_table(run_id, columns, name)


def score_tags(card: Scorecard) -> dict[str, str]:
    """The scorecard's digest and the student's scores as tags of its version, for MLflow's pages and searches."""
    scores = (score for subject in card.subjects if is_student(subject) for score in subject.scores)
    return {SCORECARD_TAG: card.digest, **{metric_name(f"{SCORE}{score.name}"): _score_text(score) for score in scores}}


def _score_text(score: Score) -> str:
    interval = "" if score.interval is None else " ({:.5g} to {:.5g})".format(*score.interval)
    return f"{score.value:.5g}{interval}, {score.protocol}, {score.n} images, reference {score.reference_digest[:16]}"


def set_tags(client: MlflowClient, registered: Any, tags: Mapping[str, str], stale: Sequence[str] = ()) -> None:
    """Replace a version's score tags, and those with the prefixes `stale`, by `tags`, and update its description."""
    name, number = registered.name, str(registered.version)
    kept = dict(registered.tags)
    for key in registered.tags:
        if key not in tags and key.startswith((SCORE, *stale)):
            client.delete_model_version_tag(name, number, key)
            del kept[key]
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    update_description(client, registered, {**kept, **tags})


@explained
def record_scores(
    version: ModelVersion,
    scorecard_folder: Path,
    tracking_uri: str,
    inputs: Mapping[str, str] | None = None,
    page: PageWriter | None = None,
) -> None:
    """Log a scorecard to the run of its version, and the scores to the version; once, however often it is called.

    Raises:
        InputError: the scorecard is damaged or another student's, or there is no such version.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version)
    log_scorecard(client, registered, card, scorecard_folder, inputs, page)
    judged = registered.tags.get(SCORECARD_TAG)
    # The verdict on other scores would look like one on these.
    set_tags(client, registered, score_tags(card), VERDICT_TAGS if judged not in (None, card.digest) else ())


def own_scorecard(version: ModelVersion, folder: Path) -> Scorecard:
    """Load the scorecard of a version's student; InputError if it is damaged or another student's."""
    card = Scorecard.load(folder)
    card.verify(folder)
    if card.student_sha256 != version.student_sha256:
        raise InputError(
            f"the scorecard at {folder} is of student {card.student_sha256[:16]}, but {label(version)} is "
            f"{version.student_sha256[:16]}; evaluate this version"
        )
    return card
