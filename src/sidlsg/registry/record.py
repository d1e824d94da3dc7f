"""Records a version's scores on it, without a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidlsg.registry.connection import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.run_inputs import evaluation_inputs
from sidlsg.registry.score_log import SCORECARD_TAG, VERDICT_TAGS, log_scorecard, score_tags, set_tags
from sidlsg.registry.versions import require_same_student
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion, Scorecard


@explained
def record_scores(
    version: ModelVersion, scorecard_folder: Path, tracking_uri: str, inputs: Mapping[str, str] | None = None
) -> None:
    """Log a scorecard to the run of its version, and put the scores on the version; once, however often it is asked.

    Args:
        version: the version.
        scorecard_folder: its scorecard.
        tracking_uri: where MLflow is, see `connect`.
        inputs: of the evaluation, see `evaluation_inputs`.

    Raises:
        InputError: the scorecard is damaged or another student's, or there is no such version.
    """
    card = own_scorecard(version, scorecard_folder)
    client = connect(tracking_uri)
    registered = require_same_student(client, version.name, version.version, version.student_sha256)
    log_scorecard(client, registered.run_id, card, scorecard_folder, f"{version.name} {version.version}")
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
