"""Notices: their texts, the failed step on an emulated Kubernetes, a webhook over HTTP and a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import PipelineTaskFinalStatus

from services.kubernetes_api import NAMESPACE, PODS, Api, RunningApi
from sidlsg.components.notify.component import notify
from sidlsg.kubeflow import notices as module
from sidlsg.kubeflow.nodes.cluster import ClusterTimeouts
from sidlsg.kubeflow.notices import LONGEST, MOST_RULES, Notice, Rejected, check_webhook, failed_step, send
from sidlsg.registry.connection import connect
from sidlsg.runtime.errors import InputError, StorageError
from unit.kubeflow.receiver import Receiver


def test_a_failed_run_names_the_step_its_error_and_the_page() -> None:
    notice = Notice(
        kind="failed", pipeline="sweep", run="r1", run_url="https://k/#/runs/details/r1", step="distil", error="E: bad"
    )
    assert notice.payload() == {
        "id": "sidlsg-r1",
        "kind": "failed",
        "pipeline": "sweep",
        "run": "r1",
        "run_url": "https://k/#/runs/details/r1",
        "step": "distil",
        "error": "E: bad",
        "rejected": (),
        "text": "sweep failed in step distil: E: bad\nRun r1: https://k/#/runs/details/r1",
        "mrkdwn": False,
    }


def test_a_rejected_run_names_the_rules() -> None:
    notice = Notice(
        kind="rejected",
        pipeline="p",
        run="r1",
        rejected=(Rejected(name="m", version=3, rules=("fid at most 3: 7.1",)),),
    )
    assert notice.payload()["text"] == "p: the gate rejected version 3 of m\n- fid at most 3: 7.1\nRun r1"
    (entry,) = notice.payload()["rejected"]
    assert entry == {"name": "m", "version": 3, "rules": ("fid at most 3: 7.1",), "awaits_approval": False}


def test_a_version_that_lacks_an_approval_alone_is_not_called_rejected() -> None:
    waiting = Rejected(name="m", version=3, rules=("approved by ann: by nobody",), awaits_approval=True)
    text = Notice(kind="rejected", pipeline="p", run="r1", rejected=(waiting,)).payload()["text"]
    assert text == "p: version 3 of m awaits an approval\n- approved by ann: by nobody\nRun r1"


def test_the_texts_of_others_are_plain_lines_within_bounds() -> None:
    rules = tuple(f"<!channel> rule {number}" for number in range(100))
    notice = Notice(
        kind="failed",
        pipeline="p",
        run="r",
        error="\x1b[2J <http://x|here>\n" + "long" * 1000,
        rejected=(Rejected(name="m" * 999, version=1, rules=rules),),
    )
    payload = notice.payload()
    assert len(payload["error"]) == LONGEST
    assert payload["error"].startswith("\\x1b[2J <http://x|here> long")
    assert len(payload["rejected"][0]["rules"]) == MOST_RULES
    assert "<" not in payload["text"]
    assert "&lt;!channel&gt; rule 0" in payload["text"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))


def test_a_notice_is_sent_once_with_its_key() -> None:
    with Receiver() as receiver:
        send(receiver.url, {"text": "a"}, "sidlsg-1")
    assert (receiver.received, receiver.keys) == ([{"text": "a"}], ["sidlsg-1"])


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_webhook_that_is_busy_is_tried_again_with_the_same_key(code: int) -> None:
    with Receiver(code, code) as receiver:
        send(receiver.url, {}, "sidlsg-1")
    assert receiver.keys == ["sidlsg-1"] * 3


def test_the_tries_end_and_the_secret_part_of_the_url_is_not_shown() -> None:
    with Receiver(*[503] * 9) as receiver, pytest.raises(StorageError, match=r"in 4 tries.*code 503") as caught:
        send(receiver.url, {}, "sidlsg-1")
    assert len(receiver.received) == 4
    assert "secret-path" not in str(caught.value)


def test_a_webhook_where_nothing_listens_is_named() -> None:
    with Receiver() as receiver:
        pass
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:\d+ did not take the notice in 4 tries"):
        send(receiver.url, {}, "sidlsg-1")


@pytest.mark.parametrize("code", [302, 404])
def test_a_refusal_and_a_redirect_are_not_tried_again(code: int) -> None:
    with Receiver(code) as receiver, pytest.raises(InputError, match=f"refused the notice with code {code}"):
        send(receiver.url, {}, "sidlsg-1")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "no-url", "http:///path", "http://u:p@h/x", "http://h:x/", "http://h/a b"]
)
def test_what_is_no_webhook_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="SIDLSG_NOTICE_URL holds no webhook's URL") as caught:
        check_webhook(url)
    assert url not in str(caught.value)


TRACEBACK = (
    "Traceback (most recent call last):",
    "  File ...",
    "sidlsg.runtime.errors.InputError: no such teacher; give one",
)
LAUNCHER = ("F0101 main.go:57] failed to execute component: exit status 2",)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    with RunningApi(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(module, "_TIMEOUTS", ClusterTimeouts(total=0.2, reach=0.2, first=0.01))
        yield running


def pod(api: Api, step: str, phase: str, *lines: str, run: str = "r1", second: int = 0, **ended: Any) -> None:
    name = f"{step}-{run}"
    labels = {"pipeline/runid": run, "sidlsg.dev/stage": step}
    state = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": f"2026-01-01T00:00:{second:02}Z"} | ended}
    api.objects[PODS, NAMESPACE, name] = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}
    statuses = [{"name": "wait", "state": {"running": {}}}, {"name": "main", "state": state}]
    api.objects[PODS, NAMESPACE, name].patch({"status": {"phase": phase, "containerStatuses": statuses}})
    api.logs[name] = [f"2026-01-01T00:00:00Z {line}" for line in lines]


def test_the_error_is_the_last_one_that_the_step_raised(running: RunningApi) -> None:
    def put(api: Api) -> None:
        pod(api, "curate", "Succeeded")
        pod(api, "encode", "Failed", *TRACEBACK, *LAUNCHER)
        pod(api, "evaluate", "Failed", "ValueError: another run's", run="r2", second=9)

    running.do(put)
    assert failed_step("r1") == ("encode", "InputError: no such teacher; give one")


def test_of_several_failed_pods_the_last_one_counts_and_a_killed_one_says_how(running: RunningApi) -> None:
    def put(api: Api) -> None:
        pod(api, "encode", "Failed", "ValueError: retried", second=1)
        pod(api, "distil", "Failed", "iteration 5", second=2, exitCode=137, reason="OOMKilled")

    running.do(put)
    assert failed_step("r1") == ("distil", "ended with exit code 137 (OOMKilled)")


def test_where_nothing_can_be_found_out_it_says_so(running: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed_step("r1") == ("", "no pod of the run has the reason: see the run's page")
    running.api.faults = ["500"] * 99
    step, error = failed_step("r1")
    assert (step, error[:22]) == ("", "the step is not known:")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert "no cluster is known here" in failed_step("r1")[1]


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
    monkeypatch.setattr(module, "failed_step", lambda _: ("distil", "AlarmError: no"))
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
