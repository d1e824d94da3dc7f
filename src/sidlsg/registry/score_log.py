"""What a version's run and the version itself hold of a scorecard: metrics, tags, grids, a page, a table of images."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.run_inputs import evaluation_inputs
from sidlsg.registry.run_log import SECONDS_TAG, log_entries
from sidlsg.registry.versions import require_same_student
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import plain_markdown
from sidlsg.storage.records import ModelVersion, Score, Scorecard

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


FOLDER = "evaluation"
"""Where scorecard, grids and verdict are among the run's artifacts."""
SCORECARD_TAG = "scorecard_sha256"
AWAITS_TAG = "awaits_approval"
"""On a version that lacks an approval alone."""
VERDICT_TAGS = ("verdict", RULE, AWAITS_TAG)
"""Start the tags of a verdict."""
STUDENT = "student 1 step"


PageWriter = Callable[[str, Path, Path], None]
"""Writes an HTML page of scores: its title, the scorecard's folder, and the file."""


def log_scorecard(
    client: MlflowClient, run_id: str, card: Scorecard, folder: Path, title: str, page: PageWriter | None = None
) -> None:
    """Log a scorecard to the run of its student's version, once.

    Scores become metrics whose names hold their protocol, with all that makes them comparable as tags.

    Args:
        client: of the registry.
        run_id: the version's run.
        card: the scorecard.
        folder: its folder, with files that were checked.
        title: names the version on the page of scores.
        page: writes that page; None for no page.
    """
    known = client.get_run(run_id).data.tags.get(SCORECARD_TAG) == card.digest
    if known and f"{FOLDER}/{Scorecard.FILE}" in {file.path for file in client.list_artifacts(run_id, FOLDER)}:
        return  # logged already, by an earlier call, and not deleted since
    now = int(time.time() * 1000)
    metrics, tags = [], {}
    for subject in card.subjects:
        for score in subject.scores:
            key = _metric(subject.subject, score.name, score.protocol)
            metrics.append(Metric(key, score.value, now, 0))
            terms = {"steps": subject.steps, "guidance_scale": subject.guidance_scale, "protocol": score.protocol}
            terms |= {"n": score.n, "reference_digest": score.reference_digest, "interval": score.interval}
            tags[key] = json.dumps({**terms, "higher_is_better": score.higher_is_better})
        metrics += [
            Metric(_metric(subject.subject, row.style, row.protocol), row.mean, now, 0) for row in subject.styles
        ]
    if not known:
        client.log_batch(run_id, metrics=metrics)
    log_entries(client, run_id, tags=tags)
    for ref in (*card.grids, *(extreme.picture for extreme in card.extremes)):
        client.log_artifact(run_id, str(folder / ref.path), f"{FOLDER}/{Path(ref.path).parent.as_posix()}")
    _log_table(client, run_id, card, folder)
    if page is not None:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "scoreboard.html"
            page(title, folder, file)
            client.log_artifact(run_id, str(file), FOLDER)
    client.log_text(run_id, card.to_json(), f"{FOLDER}/{Scorecard.FILE}")
    client.set_tag(run_id, SCORECARD_TAG, card.digest)


def score_tags(card: Scorecard) -> dict[str, str]:
    """The student's scores as tags of its version, which the registry's pages show and searches find."""
    scores = (score for subject in card.subjects if subject.subject == STUDENT for score in subject.scores)
    return {_name(f"{SCORE}{score.name}"): _told(score) for score in scores}


def set_tags(client: MlflowClient, registered: Any, tags: Mapping[str, str], stale: Sequence[str] = ()) -> None:
    """Set tags on a version, remove those of earlier scorecards that have none now, and describe it.

    Args:
        client: of the registry.
        registered: the version, as MLflow gives it.
        tags: the new ones, scores among them.
        stale: what the names of others begin with that must go.
    """
    name, number = registered.name, str(registered.version)
    gone = [key for key in registered.tags if key not in tags and key.startswith((SCORE, *stale))]
    for key in gone:
        client.delete_model_version_tag(name, number, key)
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    left = {key: value for key, value in registered.tags.items() if key not in gone}
    describe(client, registered, {**left, **tags})


def _told(score: Score) -> str:
    around = "" if score.interval is None else " ({:.5g} to {:.5g})".format(*score.interval)
    return f"{score.value:.5g}{around}, {score.protocol}, {score.n} images, reference {score.reference_digest[:16]}"


def _log_table(client: MlflowClient, run_id: str, card: Scorecard, folder: Path) -> None:
    """The images that fit their prompts best and worst, beside the prompts."""
    name = f"{FOLDER}/best_and_worst_{card.digest[:8]}.json"
    # MLflow adds to a table that is there.
    if not card.extremes or name in {file.path for file in client.list_artifacts(run_id, FOLDER)}:
        return
    columns: dict[str, list[object]] = {
        "side": ["best" if extreme.best else "worst" for extreme in card.extremes],
        "prompt": [extreme.prompt for extreme in card.extremes],
        "seed": [extreme.seed for extreme in card.extremes],
        "value": [extreme.value for extreme in card.extremes],
        "measure": [extreme.measure for extreme in card.extremes],
        "image": [_image(folder / extreme.picture.path) for extreme in card.extremes],
    }
    client.log_table(run_id, columns, name)


def _image(path: Path) -> mlflow.Image:
    with Image.open(path) as picture:
        return mlflow.Image(np.asarray(picture.convert("RGB")))


def _metric(subject: str, what: str, protocol: str) -> str:
    """A metric's name: what stands before its only slash is a section of MLflow's page."""
    return _name(f"{subject}/{what} {protocol.replace('/', ':')}")


def _name(text: str) -> str:
    """As MLflow allows it."""
    return re.sub(r"[^\w\-. :/]", "_", text)


@explained
def record_scores(
    version: ModelVersion,
    scorecard_folder: Path,
    tracking_uri: str,
    inputs: Mapping[str, str] | None = None,
    page: PageWriter | None = None,
) -> None:
    """Log a scorecard to the run of its version, and put the scores on the version; once, however often it is asked.

    Args:
        version: the version.
        scorecard_folder: its scorecard.
        tracking_uri: where MLflow is, see `connect`.
        inputs: of the evaluation, see `evaluation_inputs`.
        page: writes the page of scores that is logged with them; None for no page.

    Raises:
        InputError: the scorecard is damaged or another student's, or there is no such version.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    log_scorecard(client, registered.run_id, card, scorecard_folder, f"{version.name} {version.version}", page)
    client.log_inputs(registered.run_id, evaluation_inputs(inputs or {}))
    judged = registered.tags.get(SCORECARD_TAG)
    # A verdict of other scores would stand beside these as if it were of them.
    stale = VERDICT_TAGS if judged not in (None, card.digest) else ()
    set_tags(client, registered, {SCORECARD_TAG: card.digest, **score_tags(card)}, stale)


def own_scorecard(version: ModelVersion, scorecard_folder: Path) -> Scorecard:
    """The scorecard in a folder, whole and of the version's student.

    Raises:
        InputError: it is damaged or another student's.
    """
    card = Scorecard.load(scorecard_folder)
    card.verify(scorecard_folder)
    if card.student_sha256 != version.student_sha256:
        raise InputError(
            f"the scorecard at {scorecard_folder} is of student {card.student_sha256[:16]}, but version "
            f"{version.version} of {version.name!r} is {version.student_sha256[:16]}; evaluate this version"
        )
    return card
