"""Scores on a version without a verdict, and the version's description."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow import MlflowClient

from sidlsg.registry.connection import connect
from sidlsg.registry.gate_rules import Floor, GateRules
from sidlsg.registry.registration import register
from sidlsg.registry.score_log import description
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate import gate, record_scores
from sidlsg.storage.uri import PIN


def test_scores_are_on_the_version_and_its_run_once(tracking_uri, make_student, make_scorecard):
    version = register(make_student(seed=31), tracking_uri, "recorded")
    folder = make_scorecard(version.student_sha256)
    inputs = {
        "judge": f"bundled:judge{PIN}{'a' * 64}",
        "held-out captions": f"/lists/one.txt{PIN}{'b' * 64}",
    }
    for _ in range(2):
        record_scores(version, folder, tracking_uri, inputs)
    client = connect(tracking_uri)
    tags = client.get_model_version("recorded", "1").tags
    assert tags["score/fid"].startswith("2, fid/judge-2k")
    assert "verdict" not in tags
    history = client.get_metric_history(version.run_id, "student 1 step/fid fid:judge-2k")
    assert [point.value for point in history] == [2.0]
    assert "evaluation/scorecard.json" in [file.path for file in client.list_artifacts(version.run_id, "evaluation")]
    assert client.get_registered_model("recorded").aliases == {}
    read = {
        found.dataset.name: json.loads(found.dataset.source)
        for found in client.get_run(version.run_id).inputs.dataset_inputs
        if [tag.value for tag in found.tags] == ["evaluation"]
    }
    assert read == {
        "judge": {"place": "bundled:judge", "sha256": "a" * 64},
        "held-out captions": {"place": "/lists/one.txt", "sha256": "b" * 64},
    }


def test_a_version_has_the_tags_of_one_scorecard(tracking_uri, make_student, make_scorecard):
    version = register(make_student(seed=33), tracking_uri, "recorded-again")
    rules = GateRules(floors=(Floor(subject="student 1 step", score="fid", limit=100.0),))
    folder = make_scorecard(version.student_sha256)
    gate(version, folder, tracking_uri, rules)
    client = connect(tracking_uri)
    client.set_model_version_tag("recorded-again", "1", "score/kid", "of a protocol that is measured no more")
    record_scores(version, folder, tracking_uri)
    tags = client.get_model_version("recorded-again", "1").tags
    assert tags["verdict"] == "passed"
    assert "score/kid" not in tags
    record_scores(version, make_scorecard(version.student_sha256, fid=9.0), tracking_uri)
    tags = client.get_model_version("recorded-again", "1").tags
    assert tags["score/fid"].startswith("9, ")
    assert not [name for name in tags if name.startswith("verdict")]


def test_another_student_s_scores_are_refused(tracking_uri, make_student, make_scorecard):
    version = register(make_student(seed=32), tracking_uri, "recorded-not")
    with pytest.raises(InputError, match="but version 1 of 'recorded-not' is"):
        record_scores(version, make_scorecard("0" * 64), tracking_uri)
    assert "scorecard_sha256" not in connect(tracking_uri).get_model_version("recorded-not", "1").tags


RULES = GateRules(floors=(Floor(subject="student 1 step", score="accuracy", limit=0.95),))


def test_the_page_follows_scores_and_verdict(
    client: MlflowClient, tracking_uri: str, make_student: Any, make_scorecard: Any
) -> None:
    version = register(make_student(61), tracking_uri, "described")

    def markdown() -> str:
        return str(client.get_model_version("described", "1").description)

    assert "recipe tiny, strategy lsg (κ1 to κ4: 2, 2, 2, 1.5), 64 images seen" in markdown()
    assert "Licence: the card of its teacher names none." in markdown()
    assert "| score |" not in markdown()
    record_scores(version, make_scorecard(version.student_sha256), tracking_uri)
    row = "| accuracy | 0.9 (0.89 to 0.91) | judge/attributes | 2000 images, reference r2 |"
    assert row in markdown()
    assert "The gate" not in markdown()
    gate(version, make_scorecard(version.student_sha256), tracking_uri, RULES)
    assert "The gate: **rejected**.\n\n- FAILED: accuracy of student 1 step is at least 0.95: 0.9" in markdown()
    assert markdown() == description(client.get_model_version("described", "1").tags)


def test_a_persons_description_stays(
    client: MlflowClient, tracking_uri: str, make_student: Any, make_scorecard: Any
) -> None:
    version = register(make_student(62), tracking_uri, "described-by-ann")
    client.update_model_version("described-by-ann", "1", "For the spring campaign.")
    gate(version, make_scorecard(version.student_sha256), tracking_uri, RULES)
    assert client.get_model_version("described-by-ann", "1").description == "For the spring campaign."
