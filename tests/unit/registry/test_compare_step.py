"""A sweep of nine settings of which one failed: eight rows, a page, and a run that fails after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Model

from sidlsg.components.compare.component import compare
from sidlsg.components.conclude.component import conclude
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import StageError
from sidlsg.stages.failures import SettingFailure, recipe_changes
from sidlsg.stages.sweep import SETTINGS, parse_setting, plan_changes
from sidlsg.storage.records import Scorecard
from sidlsg.storage.uri import PIN

TEXTS = (*SETTINGS, "lsg kappa=1.5 steps=4")
FAILED = SettingFailure(setting="lsg kappa=4.5", step="distil", error="<the loss> is too large", exit_code=4)


def test_eight_settings_are_compared_and_the_ninth_fails_the_run(
    tracking_uri: str, make_student, make_scorecard, tmp_path: Path
) -> None:
    cards, versions = [], []
    planned = plan_changes(TEXTS, "tiny", '{"iterations": 2}')
    for number, (text, changes) in enumerate(zip(TEXTS, planned, strict=True)):
        folder = tmp_path / str(number)
        if text == FAILED.setting:
            FAILED.save(folder)
            versions.append(FAILED.to_json())
        else:
            version = register(make_student(seed=200 + number), tracking_uri, "swept")
            folder = make_scorecard(version.student_sha256)
            made = recipe_with_changes("tiny", json.dumps(recipe_changes(changes)))
            card = replace(Scorecard.load(folder), strategy=made.strategy, kappas=made.guidance.scales)
            replace(card, recipe_values=made.values()).save(folder)
            versions.append(version.to_json())
        cards.append(Artifact(name="scorecard", uri=str(folder), metadata={}))
    for name in ("captions", "judge"):
        (tmp_path / name).write_text(f"bundled:{name}{PIN}{'a' * 64}")
    page = HTML(name="html", uri=str(tmp_path / "page.html"), metadata={})
    metrics = Metrics(name="metrics", uri=str(tmp_path / "metrics.json"), metadata={})
    failures = compare.python_func(
        scorecards=cards[::-1],
        versions=versions,
        held_out_captions=Dataset(name="captions", uri=str(tmp_path / "captions"), metadata={}),
        judge_model=Model(name="judge", uri=str(tmp_path / "judge"), metadata={}),
        settings=list(TEXTS),
        recipe="tiny",
        changes={"iterations": 2.0},  # as a pipeline's parameters have them
        tracking_uri=tracking_uri,
        html=page,
        metrics=metrics,
    )
    html = Path(page.path).read_text()
    assert all(f">{text}<" in html for text in TEXTS if text != FAILED.setting)
    assert "<li>setting &#39;lsg kappa=4.5&#39;: distil failed: &lt;the loss&gt; is too large</li>" in html
    assert {name.partition(" ")[0] for name in metrics.metadata} == {
        parse_setting(text).folder for text in TEXTS if text != FAILED.setting
    }
    client = connect(tracking_uri)
    assert all("score/fid" in found.tags for found in client.search_model_versions("name = 'swept'"))
    with pytest.raises(StageError, match=r"lsg kappa=4\.5"):
        conclude.python_func(failures=failures)


def test_where_all_failed_the_error_has_the_reasons(tmp_path: Path) -> None:
    FAILED.save(tmp_path / "card")
    with pytest.raises(StageError, match="the loss"):
        compare.python_func(
            scorecards=[Artifact(name="scorecard", uri=str(tmp_path / "card"), metadata={})],
            versions=[FAILED.to_json()],
            held_out_captions=Dataset(name="captions", uri="captions", metadata={}),
            judge_model=Model(name="judge", uri="judge", metadata={}),
            settings=["lsg kappa=4.5"],
            recipe="tiny",
            changes={},
            tracking_uri="",
            html=HTML(name="html", uri=str(tmp_path / "page.html"), metadata={}),
            metrics=Metrics(name="metrics", uri=str(tmp_path / "metrics.json"), metadata={}),
        )
