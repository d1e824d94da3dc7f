"""The gate against a real registry."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sidlsg.registry.connection import connect
from sidlsg.registry.gate_rule_file import parse_gate_rules
from sidlsg.registry.gate_rules import Approval, Floor, GateRules, MaximumCost, NoRegression, Ratio
from sidlsg.registry.registration import register
from sidlsg.registry.verdicts import judged_by
from sidlsg.registry.versions import record_cost
from sidlsg.runtime.errors import InputError
from sidlsg.stages.gate import gate
from sidlsg.storage.records import Extreme, Scorecard, Verdict, file_ref

STUDENT = "student 1 step"
RULES = GateRules(
    floors=(Floor(subject=STUDENT, score="accuracy", limit=0.8),),
    ratios=(Ratio(subject=STUDENT, score="fid", against_subject="teacher 1 step", factor=0.25),),
    no_regression=(NoRegression(subject=STUDENT, score="fid", tolerance=0.5),),
)


@pytest.fixture(scope="module")
def versions(tracking_uri, make_student):
    """Three students of one model; the tests move the champion's alias themselves."""
    return [register(make_student(seed), tracking_uri, "gated") for seed in range(3)]


@pytest.fixture(autouse=True)
def client(tracking_uri, versions):
    """A client; no version is the champion at first."""
    client = connect(tracking_uri)
    client.delete_registered_model_alias(versions[0].name, "champion")
    return client


def artifact(client, run_id: str, path: str, tmp_path: Path) -> str:
    return Path(client.download_artifacts(run_id, path, str(tmp_path))).read_text()


def test_a_good_student_passes_and_everything_is_recorded(client, versions, make_scorecard, tracking_uri, tmp_path):
    version = versions[0]
    folder = make_scorecard(version.student_sha256, fid=2.0, accuracy=0.9)
    verdict = gate(version, folder, tracking_uri, RULES)
    assert verdict.passed
    assert verdict.champion_version is None
    assert [result.passed for result in verdict.rules] == [True, True, True]
    assert "no champion yet" in verdict.rules[2].found

    run = client.get_run(version.run_id)
    assert run.data.metrics["student 1 step/fid fid:judge-2k"] == 2.0
    assert run.data.metrics["teacher 1 step/accuracy judge:attributes"] == 0.4
    terms = json.loads(run.data.tags["student 1 step/accuracy judge:attributes"])
    assert terms == {
        "steps": 1,
        "guidance_scale": 0.0,
        "protocol": "judge/attributes",
        "n": 2000,
        "reference_digest": "r2",
        "interval": [pytest.approx(0.89), pytest.approx(0.91)],
        "higher_is_better": True,
    }
    logged = artifact(client, version.run_id, "evaluation/scorecard.json", tmp_path)
    assert Scorecard.from_json(logged) == Scorecard.load(folder)
    assert Verdict.from_json(artifact(client, version.run_id, "evaluation/verdict.json", tmp_path)) == verdict
    grids = [file.path for file in client.list_artifacts(version.run_id, "evaluation/grids")]
    assert grids == ["evaluation/grids/student 1 step.png"]
    tags = client.get_model_version("gated", str(version.version)).tags
    assert tags["verdict"] == "passed"
    assert tags["score/accuracy"] == "0.9 (0.89 to 0.91), judge/attributes, 2000 images, reference r2"
    page = artifact(client, version.run_id, "evaluation/scoreboard.html", tmp_path)
    assert f"Scores of gated {version.version}" in page
    assert tags["verdict_rules_sha256"] == RULES.digest
    assert tags["scorecard_sha256"] == Scorecard.load(folder).digest

    assert gate(version, folder, tracking_uri, RULES) == verdict
    assert len(client.get_metric_history(version.run_id, "student 1 step/fid fid:judge-2k")) == 1


def test_a_poor_student_is_rejected(client, versions, make_scorecard, tracking_uri):
    version = versions[1]
    verdict = gate(version, make_scorecard(version.student_sha256, fid=6.0, accuracy=0.5), tracking_uri, RULES)
    assert not verdict.passed
    assert [result.passed for result in verdict.rules] == [False, False, True]
    assert client.get_model_version("gated", str(version.version)).tags["verdict"] == "rejected"


@pytest.mark.parametrize(("fid", "passed"), [(2.4, True), (2.6, False)])
def test_a_challenger_is_compared_with_the_champion(client, versions, make_scorecard, tracking_uri, fid, passed):
    champion, challenger = versions[0], versions[1]
    gate(champion, make_scorecard(champion.student_sha256, fid=2.0), tracking_uri, RULES)
    client.set_registered_model_alias("gated", "champion", str(champion.version))
    verdict = gate(challenger, make_scorecard(challenger.student_sha256, fid=fid), tracking_uri, RULES)
    assert verdict.champion_version == champion.version
    assert verdict.passed is passed
    assert f"champion version {champion.version} has 2: worse by" in verdict.rules[2].found


def test_unlike_protocols_do_not_compare(client, versions, make_scorecard, tracking_uri):
    champion, challenger = versions[0], versions[1]
    gate(champion, make_scorecard(champion.student_sha256, fid=9.0, protocol="fid/judge-500"), tracking_uri, RULES)
    client.set_registered_model_alias("gated", "champion", str(champion.version))
    verdict = gate(challenger, make_scorecard(challenger.student_sha256, fid=1.0), tracking_uri, RULES)
    assert not verdict.passed
    assert "unlike protocol" in verdict.rules[2].found
    assert f"evaluate and gate champion version {champion.version} again" in verdict.rules[2].found


def test_a_champion_that_was_never_gated_fails_the_comparison(client, versions, make_scorecard, tracking_uri):
    champion, challenger = versions[2], versions[1]
    client.set_registered_model_alias("gated", "champion", str(champion.version))
    verdict = gate(challenger, make_scorecard(challenger.student_sha256), tracking_uri, RULES)
    assert [result.passed for result in verdict.rules] == [True, True, False]
    assert f"champion version {champion.version} has no scorecard; evaluate and gate" in verdict.rules[2].found


def test_the_champion_itself_is_compared_with_nothing(client, versions, make_scorecard, tracking_uri):
    champion = versions[0]
    client.set_registered_model_alias("gated", "champion", str(champion.version))
    verdict = gate(champion, make_scorecard(champion.student_sha256), tracking_uri, RULES)
    assert verdict.passed
    assert verdict.champion_version is None
    assert "is this version" in verdict.rules[2].found


def test_a_scorecard_of_another_student_or_a_damaged_one_is_refused(versions, make_scorecard, tracking_uri):
    with pytest.raises(InputError, match=r"the scorecard at .* is of student"):
        gate(versions[0], make_scorecard("f" * 64), tracking_uri, RULES)
    folder = make_scorecard(versions[0].student_sha256)
    (folder / "grids" / "student 1 step.png").write_bytes(b"")
    with pytest.raises(InputError, match="changed or damaged"):
        gate(versions[0], folder, tracking_uri, RULES)


def test_the_best_and_the_worst_images_are_a_table(client, versions, make_scorecard, tracking_uri, tmp_path):
    version = versions[1]
    folder = make_scorecard(version.student_sha256)
    extremes = []
    for best in (True, False):
        path = folder / "extremes" / f"{best}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 4), (200, 10, 10 * best)).save(path)
        terms = {"prompt": f"prompt {best}", "seed": 7, "value": -0.5, "measure": "fit", "best": best}
        extremes.append(Extreme(**terms, picture=file_ref(path, folder)))
    dataclasses.replace(Scorecard.load(folder), extremes=tuple(extremes)).save(folder)
    for _ in range(2):
        gate(version, folder, tracking_uri, RULES)
    (name,) = [
        file.path for file in client.list_artifacts(version.run_id, "evaluation") if "best_and_worst" in file.path
    ]
    table = json.loads(artifact(client, version.run_id, name, tmp_path))
    assert table["columns"] == ["side", "prompt", "seed", "value", "measure", "image"]
    assert [row[:4] for row in table["data"]] == [["best", "prompt True", 7, -0.5], ["worst", "prompt False", 7, -0.5]]
    path = table["data"][0][5]["filepath"]
    with Image.open(client.download_artifacts(version.run_id, path, str(tmp_path))) as image:
        assert np.asarray(image)[0, 0].tolist() == [200, 10, 10]


def test_each_rule_is_on_the_version_and_an_older_verdicts_are_not(client, versions, make_scorecard, tracking_uri):
    version = versions[2]
    folder = make_scorecard(version.student_sha256, fid=9.0, accuracy=0.9)
    gate(version, folder, tracking_uri, RULES)
    tags = client.get_model_version(version.name, str(version.version)).tags
    assert tags["rule.01"].startswith("passed: accuracy of student 1 step is at least 0.8: 0.9 (")
    assert tags["rule.02"].startswith("FAILED: fid of student 1 step is at most 0.25")
    gate(version, folder, tracking_uri, GateRules(floors=RULES.floors))
    tags = client.get_model_version(version.name, str(version.version)).tags
    assert [tag for tag in tags if tag.startswith("rule.")] == ["rule.01"]


def test_a_version_waits_for_approval_and_its_cost_counts(client, versions, make_scorecard, tracking_uri, tmp_path):
    version = versions[1]
    folder = make_scorecard(version.student_sha256, fid=2.0, accuracy=0.9)
    rules = GateRules(
        floors=RULES.floors,
        costs=(MaximumCost(maximum=0.01, hourly_price=2.0),),
        approvals=(Approval(people=("ann",)),),
    )
    waiting = gate(version, folder, tracking_uri, rules)
    assert [result.passed for result in waiting.rules] == [True, True, False]
    assert waiting.rules[1].found == "0.0008333 for 2 s"
    client.set_model_version_tag(version.name, str(version.version), "approved_by", "ann")
    assert gate(version, folder, tracking_uri, rules).passed
    text = artifact(client, version.run_id, "evaluation/gate_rules.toml", tmp_path)
    assert parse_gate_rules(text) == rules


def test_versions_are_found_by_the_pipeline_run_that_judged_last(
    versions, make_scorecard, tracking_uri, monkeypatch: pytest.MonkeyPatch
):
    folder = make_scorecard(versions[1].student_sha256, fid=2.0, accuracy=0.9)
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "0a1b-7")
    gate(versions[1], folder, tracking_uri, RULES)
    (judged,) = judged_by("0a1b-7", tracking_uri)
    assert (judged.name, judged.version, judged.passed, judged.champion) == ("gated", versions[1].version, True, False)
    assert judged.failed == ""
    assert len(judged.rules) == 3
    assert judged.scores.keys() == {"fid", "accuracy"}

    record_cost(versions[1], tracking_uri, 18.95)
    gate(versions[1], make_scorecard(versions[1].student_sha256, fid=2.0, accuracy=0.1), tracking_uri, RULES)
    (judged,) = judged_by("0a1b-7", tracking_uri)
    assert (judged.passed, judged.cost) == (False, "18.9500")
    assert judged.failed.startswith("accuracy of student 1 step")

    monkeypatch.delenv("SIDLSG_PIPELINE_RUN")
    gate(versions[1], folder, tracking_uri, RULES)
    assert judged_by("0a1b-7", tracking_uri) == ()
    with pytest.raises(InputError, match="is not the id of a pipeline run"):
        judged_by("' or '1' = '1", tracking_uri)
