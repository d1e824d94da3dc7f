"""A sweep of eight settings of which one failed: seven rows, a page, and a run that fails after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Model

from sidlsg.components.compare.component import compare
from sidlsg.components.conclude.component import conclude
from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import StageError
from sidlsg.stages.failures import SettingFailure
from sidlsg.stages.sweep import SETTINGS, parse_setting
from sidlsg.storage.records import Scorecard
from sidlsg.storage.uri import PIN

FAILED = SettingFailure(setting="lsg kappa=4.5", step="distil", error="<the loss> is too large", exit_code=4)


def test_seven_settings_are_compared_and_the_eighth_fails_the_run(
    tracking_uri: str, make_student, make_scorecard, tmp_path: Path
) -> None:
    cards, versions = [], []
    for number, text in enumerate(SETTINGS):
        folder = tmp_path / str(number)
        if text == FAILED.setting:
            FAILED.save(folder)
            versions.append(FAILED.to_json())
        else:
            version = register(make_student(seed=200 + number), tracking_uri, "swept")
            folder = make_scorecard(version.student_sha256)
            replace(Scorecard.load(folder), kappas=parse_setting(text).guidance.scales).save(folder)
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
        settings=list(SETTINGS),
        recipe="tiny",
        tracking_uri=tracking_uri,
        html=page,
        metrics=metrics,
    )
    html = Path(page.path).read_text()
    assert all(f">{parse_setting(text).text}" in html for text in SETTINGS if text != FAILED.setting)
    assert "<li>setting &#39;lsg kappa=4.5&#39;: distil failed: &lt;the loss&gt; is too large</li>" in html
    assert {name.partition(" ")[0] for name in metrics.metadata} == {
        parse_setting(text).folder for text in SETTINGS if text != FAILED.setting
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
            tracking_uri="",
            html=HTML(name="html", uri=str(tmp_path / "page.html"), metadata={}),
            metrics=Metrics(name="metrics", uri=str(tmp_path / "metrics.json"), metadata={}),
        )
