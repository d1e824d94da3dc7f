"""The group of steps and the notice after it, run by kfp's local runner with steps that take no time."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl, local

from sidlsg.pipelines.noticed import noticed
from unit.kubeflow.receiver import Receiver


@dsl.component
def words(text: str) -> list:
    if text == "fail":
        raise ValueError(text)
    return [text, "last"]


@dsl.component
def upper(word: str) -> str:
    return word.upper()


@dsl.component
def joined(words: list) -> str:
    return " ".join(words)


class Outputs(NamedTuple):
    text: str


@dsl.pipeline(name="steps")
def steps(text: str = "first", tracking_uri: str = "") -> Outputs:  # noqa: ARG001 - what the notice needs
    made = words(text=text)
    with dsl.ParallelFor(items=made.output, parallelism=1) as word:
        each = upper(word=word)
    return Outputs(text=joined(words=dsl.Collected(each.output)).output)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDLSG_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.setattr(local.config.LocalExecutionConfig, "instance", None)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "outputs"))
    return noticed(steps, dsl.PipelineConfig())


def test_a_loop_in_the_group_runs_and_the_outputs_are_the_group_s(run: Any) -> None:
    assert run().outputs == {"text": "FIRST LAST"}


def test_a_failing_step_sends_one_notice_and_the_run_fails(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as webhook:
        monkeypatch.setenv("SIDLSG_NOTICE_URL", webhook.url)
        with pytest.raises(RuntimeError):
            run(text="fail")
    (notice,) = webhook.received
    assert (notice["kind"], notice["pipeline"]) == ("failed", "steps")
