"""`sidlsg submit --wait` with a registry: the verdict of the run that it waited for decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from services.kfp_server import KfpServer
from services.test_kubeflow_commands import Run, sidlsg, submit  # noqa: F401 - a fixture is among them
from sidlsg.registry.connection import connect


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer() as server:
        server.states = ["PENDING", "SUCCEEDED"]
        yield server
        assert not server.wrong


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(store: str) -> MlflowClient:
    return connect(store, create=True)


def judge(client: MlflowClient, run_id: str, name: str, verdict: str) -> None:
    """What a run's gate leaves; `awaiting` where an approval is all that the version lacks."""
    client.create_registered_model(name)
    tags = {"verdict": verdict, "verdict_pipeline_run": run_id, "run_cost": "12.5000", "score/fid": "2.5, fid/judge"}
    if verdict == "awaiting":
        tags |= {"verdict": "rejected", "awaits_approval": "yes"}
    rule = "passed: enough: 1" if verdict == "passed" else "FAILED: accuracy is at least 0.9: 0.5"
    client.create_model_version(name, "s3://b/m", tags=tags | {"rule.01": rule})
    if verdict == "passed":
        client.set_registered_model_alias(name, "champion", "1")


def started(sidlsg: Run, kfp: KfpServer, name: str) -> str:  # noqa: F811
    assert sidlsg(*submit(kfp.host, "--name", name))[0] == 0
    return str(kfp.runs[-1]["run_id"])


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("rejected", 3)])
def test_the_gate_decides_and_the_summary_tells(
    sidlsg: Run,  # noqa: F811
    kfp: KfpServer,
    client: MlflowClient,
    store: str,
    verdict: str,
    code: int,
) -> None:
    judge(client, started(sidlsg, kfp, verdict), f"model-{verdict}", verdict)
    page = ["--wait", "--summary", "page.md", "--tracking-uri", store]
    found, out, err = sidlsg(*submit(kfp.host, "--name", verdict, *page))
    assert found == code
    text = Path("page.md").read_text()
    assert f"## {verdict}: succeeded" in text
    assert "| distil | succeeded |" in text
    assert "The run cost 12.5000." in text
    assert "| fid | 2.5, fid/judge |" in text
    if code:
        assert f"**Version 1 of model-{verdict} did not pass the gate.** It is not the champion." in text
        assert "- FAILED: accuracy is at least 0.9: 0.5" in text
        assert "run rejected did not pass its gate: version 1 of model-rejected: accuracy is at least 0.9: 0.5" in err
    else:
        assert f"**Version 1 of model-{verdict} passed the gate.** It is the champion now." in text
        assert f"version 1 of model-{verdict} passed the gate" in out
    assert len(kfp.runs) == 1


@pytest.mark.usefixtures("client")
def test_a_run_without_a_verdict_is_no_success(sidlsg: Run, kfp: KfpServer, store: str) -> None:  # noqa: F811
    code, _, err = sidlsg(*submit(kfp.host, "--wait", "--name", "none", "--tracking-uri", store))
    assert code == 5
    assert "the run none succeeded and left no verdict in this registry" in err


@pytest.mark.usefixtures("client")
def test_a_run_that_failed_has_a_summary_too(sidlsg: Run, kfp: KfpServer, store: str) -> None:  # noqa: F811
    kfp.states = ["PENDING", "FAILED"]
    page = ["--wait", "--summary", "page.md", "--tracking-uri", store]
    code, _, err = sidlsg(*submit(kfp.host, "--name", "bad", *page))
    assert code == 5
    assert "the run bad failed in distil (out of memory)" in err
    assert "| distil | failed (out of memory) |" in Path("page.md").read_text()


def test_an_awaited_approval_is_reported_and_is_no_success(
    sidlsg: Run,  # noqa: F811
    kfp: KfpServer,
    client: MlflowClient,
    store: str,
) -> None:
    judge(client, started(sidlsg, kfp, "asks"), "model-asks", "awaiting")
    page = ["--wait", "--summary", "page.md", "--tracking-uri", store, "--outputs", "outputs.txt"]
    code, out, _ = sidlsg(*submit(kfp.host, "--name", "asks", *page))
    assert code == 3
    assert "version 1 of model-asks awaits an approval" in out
    assert "**Version 1 of model-asks awaits an approval.** It is not the champion." in Path("page.md").read_text()
    assert Path("outputs.txt").read_text() == "verdict=awaiting\nmodel=model-asks\nversion=1\n"


def test_outputs_need_a_registry(sidlsg: Run, kfp: KfpServer) -> None:  # noqa: F811
    code, _, err = sidlsg(*submit(kfp.host, "--wait", "--outputs", "outputs.txt"))
    assert (code, kfp.requests) == (2, [])
    assert "--outputs reports the verdict in MLflow; give --tracking-uri too" in err


def test_what_tells_of_an_end_needs_one(sidlsg: Run, kfp: KfpServer) -> None:  # noqa: F811
    code, _, err = sidlsg(*submit(kfp.host, "--summary", "page.md"))
    assert (code, kfp.requests) == (2, [])
    assert "--summary and --tracking-uri report how a run ended; give --wait too" in err


def test_a_summary_that_cannot_be_written_is_an_error_before_anything_starts(sidlsg: Run, kfp: KfpServer) -> None:  # noqa: F811
    code, _, err = sidlsg(*submit(kfp.host, "--wait", "--summary", "none/page.md"))
    assert (code, kfp.requests) == (2, [])
    assert "none/page.md cannot be written" in err
