"""The whole tiny pipeline in containers of the real images: no network, little memory, only its root to write to."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from containers.daemon import Daemon
from containers.runner import LIMITS, corrected
from sidlsg.cli.catalog import PIPELINES, with_profile
from sidlsg.kubeflow.profile import IMAGES, Images, Profile, Stage, Whole
from sidlsg.registry.connection import connect
from sidlsg.storage.records import ModelVersion, Promotion, Student, Verdict

pytestmark = pytest.mark.containers


@pytest.fixture
def root(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pipeline root that the containers' user may write to, with the corrected runner over it."""
    monkeypatch.setenv("DOCKER_HOST", daemon.socket)
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    before = os.umask(0)
    with corrected():
        local.init(runner=local.DockerRunner(**LIMITS), pipeline_root=str(root))
        yield root
    os.umask(before)


def profile(images: dict[str, str], root: Path) -> Profile:
    names = {name: f"sidlsg-{name}@{images[name]}" for name in ("curate", "train", "evaluate")}
    shares = {stage: Stage(retries=0) for stage in IMAGES}
    return Profile(images=Images(**names), run=Whole(checkpoints=f"{root}/checkpoints"), stages=shares)


def test_from_prompts_to_a_champion(images: dict[str, str], root: Path) -> None:
    for folder in ("mlflow", "checkpoints"):
        (root / folder).mkdir()
    uri = f"sqlite:///{root}/mlflow/mlflow.db"
    rules = '[[floor]]\nscore = "attributes"\nlimit = 0.0\n'
    task = with_profile(PIPELINES["distil_and_evaluate"], profile(images, root))(
        changes={"iterations": 6, "batch": 16, "grids": 1, "evaluate_every": 0},
        tracking_uri=uri,
        gate_rules=rules,
    )
    outputs = task.outputs
    verdict, promotion = Verdict.from_json(outputs["verdict"]), Promotion.from_json(outputs["promotion"])
    assert verdict.passed
    version = ModelVersion.from_json(outputs["version"])
    assert promotion.changed
    assert promotion.champion_version == version.version
    champion = connect(uri).get_model_version_by_alias("sidlsg-tiny", "champion")
    assert int(champion.version) == version.version
    assert Path(outputs["html"].path).stat().st_size > 10_000
    assert Student.load(Path(outputs["student"].path)).image == f"sidlsg-train@{images['train']}"


def one_step(image: str, *command: str) -> Any:
    """A pipeline of one step."""

    @dsl.container_component
    def step() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image=image, command=list(command))

    @dsl.pipeline(name="one-step")
    def pipeline() -> None:
        step()

    return pipeline


@pytest.mark.usefixtures("root")
def test_a_step_that_does_its_work_ends_well(images: dict[str, str]) -> None:
    one_step(images["trigger"], "true")()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["sh", "-c", "exit 1"], id="at once"),
        pytest.param(["python3", "-c", "x = b'1' * (5 << 30)"], id="too much memory"),
        pytest.param(
            ["python3", "-c", "__import__('socket').create_connection(('198.51.100.1', 80), 5)"], id="network"
        ),
        pytest.param(["sh", "-c", "echo x > /opt/venv/x"], id="writes elsewhere"),
    ],
)
def test_a_step_that_fails_fails_the_run(images: dict[str, str], command: list[str]) -> None:
    with pytest.raises(RuntimeError, match="ended with "):
        one_step(images["trigger"], *command)()
