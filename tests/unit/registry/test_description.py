"""What MLflow's page of a version says, and that a person's words stay."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient

from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.registry.rules import Floor, GateRules
from sidlsg.registry.score_log import description
from sidlsg.stages.gate import gate, record_scores

RULES = GateRules(floors=(Floor(subject="student 1 step", score="accuracy", limit=0.95),))


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return connect(tracking_uri, create=True)


def test_the_page_follows_scores_and_verdict(
    client: MlflowClient, tracking_uri: str, make_student: Any, make_scorecard: Any
) -> None:
    version = register(make_student(61), tracking_uri, "described")

    def told() -> str:
        return str(client.get_model_version("described", "1").description)

    assert "recipe tiny, strategy lsg (κ1 to κ4: 2, 2, 2, 1.5), 64 images seen" in told()
    assert "Licence: the card of its teacher names none." in told()
    assert "| score |" not in told()
    record_scores(version, make_scorecard(version.student_sha256), tracking_uri)
    row = "| accuracy | 0.9 (0.89 to 0.91) | judge/attributes | 2000 images, reference r2 |"
    assert row in told()
    assert "The gate" not in told()
    gate(version, make_scorecard(version.student_sha256), tracking_uri, RULES)
    assert "The gate: **rejected**.\n\n- FAILED: accuracy of student 1 step is at least 0.95: 0.9" in told()
    assert told() == description(client.get_model_version("described", "1").tags)


def test_a_persons_words_stay(client: MlflowClient, tracking_uri: str, make_student: Any, make_scorecard: Any) -> None:
    version = register(make_student(62), tracking_uri, "described-by-ann")
    client.update_model_version("described-by-ann", "1", "For the spring campaign.")
    gate(version, make_scorecard(version.student_sha256), tracking_uri, RULES)
    assert client.get_model_version("described-by-ann", "1").description == "For the spring campaign."
