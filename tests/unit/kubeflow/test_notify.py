"""The step that sends notices, against a real registry and a webhook over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp.dsl import PipelineTaskFinalStatus

from sidlsg.components.notify.component import notify
from sidlsg.kubeflow import notices as stage
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import InputError
from unit.kubeflow.receiver import Receiver

RULES = {"rule.01": "FAILED: fid is at most 3: 7.1", "rule.02": "passed: accuracy is at least 0.5: 0.9"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry in which one run's version was rejected, and another's passed."""
    address = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    client = connect(address, create=True)
    client.create_registered_model("m")
    for run, verdict in (("run-rejected", "rejected"), ("run-promoted", "passed")):
        tags = {"verdict": verdict, "verdict_pipeline_run": run, **RULES}
        client.create_model_version("m", "s3://b/m", tags=tags)
    return address


@pytest.fixture
def webhook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("SIDLSG_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(stage, "failed_step", lambda _: ("distil", "AlarmError: no"))
    with Receiver() as receiver:
        monkeypatch.setenv("SIDLSG_NOTICE_URL", receiver.url)
        yield receiver


def ended(run: str, state: str, store: str) -> None:
    """What Kubeflow Pipelines does at the end of a run."""
    status = PipelineTaskFinalStatus(
        state=state, pipeline_job_resource_name="", pipeline_task_name="steps", error_code=None, error_message=None
    )
    notify.python_func(pipeline="p", pipeline_run=run, tracking_uri=store, status=status)


@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
def test_a_failed_run_sends_one_notice(state: str, store: str, webhook: Receiver) -> None:
    ended("run-1", state, store)
    (notice,) = webhook.received
    assert (notice["kind"], notice["step"], notice["error"]) == ("failed", "distil", "AlarmError: no")
    assert webhook.keys == [notice["id"]] == ["sidlsg-run-1"]


def test_a_rejected_run_sends_one_notice_with_the_reasons(store: str, webhook: Receiver) -> None:
    ended("run-rejected", "COMPLETE", store)
    (notice,) = webhook.received
    assert notice["kind"] == "rejected"
    assert notice["rejected"] == [
        {"name": "m", "version": 1, "rules": ["fid is at most 3: 7.1"], "awaits_approval": False}
    ]


@pytest.mark.parametrize(
    ("run", "state"), [("run-promoted", "COMPLETE"), ("run-promoted", "SUCCEEDED"), ("x", "CANCELED")]
)
def test_a_promoted_and_a_cancelled_run_send_none(run: str, state: str, store: str, webhook: Receiver) -> None:
    ended(run, state, store)
    assert webhook.received == []


def test_a_retried_step_sends_no_second_notice(
    store: str, webhook: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    ended("run-rejected", "COMPLETE", store)
    ended("run-rejected", "COMPLETE", store)
    assert len(webhook.received) == 1
    assert "was sent by an earlier try" in capsys.readouterr().out


def test_a_place_of_checkpoints_that_cannot_be_used_keeps_no_notice_back(
    store: str, webhook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIDLSG_CHECKPOINTS", str(tmp_path / "file"))
    ended("run-1", "FAILED", store)
    assert len(webhook.received) == 1
    assert "a retry of this step would send the notice again" in capsys.readouterr().out


def test_without_a_secret_one_line_says_so(
    store: str, webhook: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDLSG_NOTICE_URL")
    ended("run-1", "FAILED", store)
    assert capsys.readouterr().out == "note: no notice: SIDLSG_NOTICE_URL is not set\n"
    assert webhook.received == []


def test_the_link_is_that_of_the_run_s_page(store: str, webhook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINES_PAGES", "https://kubeflow.example/pipeline/")
    ended("run-1", "FAILED", store)
    assert webhook.received[0]["run_url"] == "https://kubeflow.example/pipeline/#/runs/details/run-1"
    monkeypatch.setenv("SIDLSG_PIPELINES_PAGES", "kubeflow.example")
    with pytest.raises(InputError, match=r"SIDLSG_PIPELINES_PAGES is 'kubeflow\.example'; give the http"):
        ended("run-2", "FAILED", store)
