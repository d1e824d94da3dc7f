"""What a version's run and the version itself hold of a scorecard: metrics, tags, grids, a page, a table of images."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from sidlsg.registry.description import RULE, SCORE, describe
from sidlsg.registry.run_log import log_entries
from sidlsg.report.write_scoreboard import write_scoreboard
from sidlsg.storage.records import Score, Scorecard

FOLDER = "evaluation"
"""Where scorecard, grids and verdict are among the run's artifacts."""
SCORECARD_TAG = "scorecard_sha256"
AWAITS_TAG = "awaits_approval"
"""On a version that lacks an approval alone."""
VERDICT_TAGS = ("verdict", RULE, AWAITS_TAG)
"""Start the tags of a verdict."""
STUDENT = "student 1 step"


def log_scorecard(client: MlflowClient, run_id: str, card: Scorecard, folder: Path, title: str) -> None:
    """Log a scorecard to the run of its student's version, once.

    Scores become metrics whose names hold their protocol, with all that makes them comparable as tags.

    Args:
        client: of the registry.
        run_id: the version's run.
        card: the scorecard.
        folder: its folder, with files that were checked.
        title: names the version on the page of scores.
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
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "scoreboard.html"
        write_scoreboard([(title, folder)], page, f"Scores of {title}")
        client.log_artifact(run_id, str(page), FOLDER)
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
