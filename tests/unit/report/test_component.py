"""The component's body: a page, the costs for whoever shows them, and their sum on the version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import HTML, Artifact

from sidlsg.components.report.component import report
from sidlsg.registry.connection import connect
from sidlsg.runtime.costs import STAGES
from sidlsg.runtime.errors import InputError
from sidlsg.stages.register import copy_account
from sidlsg.storage.records import PromptSet


def written(run: Any, folder: Path, prices: dict[str, float], tracking_uri: str) -> list[dict[str, Any]]:
    copy_account(run.student, folder / "account")
    shutil.copy(run.prompts / PromptSet.FILE, folder / "account")
    account = Artifact(name="account", uri=str(folder / "account"), metadata={})
    (costs,) = report.python_func(
        account=account,
        scorecard=Artifact(name="scorecard", uri=str(run.scorecard), metadata={}),
        version=run.version.to_json(),
        verdict=run.verdict.to_json(),
        promotion=run.promotion.to_json(),
        **{f"{stage}_seconds": 360.0 for stage in STAGES},
        hourly_price=0.0,
        prices=prices,
        tracking_uri=tracking_uri,
        html=HTML(name="html", uri=str(folder / "page.html"), metadata={}),
    )
    found: list[dict[str, Any]] = json.loads(costs)
    return found


def test_the_sum_is_on_the_version(make_run: Any, tmp_path: Path) -> None:
    run, store = make_run(), f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(store, create=True)
    client.create_registered_model(run.version.name)
    for _ in range(run.version.version):
        tags = {"student_sha256": run.version.student_sha256}
        client.create_model_version(run.version.name, "s3://b/m", tags=tags)
    costs = written(run, tmp_path, {"distil": 12.5, "gate": 0.5}, store)
    assert [row["stage"] for row in costs] == list(STAGES)
    assert {row["stage"]: row["price"] for row in costs if row["price"]} == {"distil": 12.5, "gate": 0.5}
    registered = client.get_model_version(run.version.name, str(run.version.version))
    assert registered.tags["run_cost"] == "1.3000"
    assert "1.30" in (tmp_path / "page.html").read_text()


def test_without_a_price_the_registry_is_not_asked(make_run: Any, tmp_path: Path) -> None:
    assert {row["price"] for row in written(make_run(), tmp_path, {}, "")} == {0.0}


def test_a_wrong_price_is_an_error_before_the_page_is_written(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a stage with a price"):
        written(make_run(), tmp_path, {"distl": 1.0}, "")
    assert not (tmp_path / "page.html").exists()
