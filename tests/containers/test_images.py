"""The images as they are built: what is in them, what is not, how large they are and as whom they run."""

import base64
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from containers.daemon import DOCKER, Daemon
from copied import copied
from sidlsg.cli.app import app
from sidlsg.registry.server.mlflow import MlflowServer
from sidlsg.registry.server.process import free_port

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
MEGABYTES = {"trigger": 600, "curate": 900, "train": 2300, "evaluate": 2300, "serve": 2300}
"""Their goals on the stand-in base, with a build of torch for CPUs."""
STAGES = {
    "curate": [
        "sidlsg.stages.resolve",
        "sidlsg.stages.curate",
        "sidlsg.prompts.phases.scan",
        "sidlsg.prompts.duplicates.candidates",
    ],
    "train": ["sidlsg.stages.encode", "sidlsg.stages.training", "sidlsg.stages.distil", "sidlsg.kubeflow.nodes.step"],
    "evaluate": [
        "sidlsg.stages.evaluate",
        "sidlsg.registry.registration",
        "sidlsg.registry.gate",
        "sidlsg.report.page",
        "matplotlib.figure",
        "sidlsg.kubeflow.notices",
    ],
    "serve": ["sidlsg.serving.predictor", "sidlsg.distil.student.generation", "uvicorn"],
    "trigger": ["sidlsg.webhooks.service", "sidlsg.kubeflow.server.submission", "sidlsg.cli.catalog"],
}
ABSENT = {
    "curate": ["torch", "mlflow", "diffusers", "kubernetes"],
    "train": ["polars", "sklearn", "matplotlib"],
    "evaluate": ["polars", "sklearn"],
    "serve": ["polars", "sklearn", "matplotlib", "kubernetes", "kfp", "boto3"],
    "trigger": ["torch", "polars", "diffusers", "scipy", "sklearn"],
}
NAMES = tuple(MEGABYTES)


def in_container(daemon: Daemon, image: str, *words: str) -> subprocess.CompletedProcess[str]:
    limits = ["--network", "none", "--memory", "2g", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    limits += ["--read-only", "--tmpfs", "/tmp:size=256m,mode=1777"]
    command = [DOCKER, "-H", daemon.socket, "run", "--rm", *limits, image, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_s_modules_are_there_and_what_it_does_not_import_is_not(
    daemon: Daemon, images: dict[str, str], name: str
) -> None:
    program = f"""
import importlib, importlib.util
for module in {STAGES[name]!r}:
    importlib.import_module(module)
print([each for each in {ABSENT[name]!r} if importlib.util.find_spec(each)])
"""
    done = in_container(daemon, images[name], "python3", "-c", program)
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["[]"]), done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_nobody_in_particular_and_can_write_nothing(
    daemon: Daemon, images: dict[str, str], name: str
) -> None:
    program = "id -u; id -g; awk '/CapEff/ {print $2}' /proc/self/status"
    program += "; touch /opt/venv/x || touch /etc/x || echo refused"
    done = in_container(daemon, images[name], "sh", "-c", program)
    assert done.stdout.split() == ["10001", "10001", "0" * 16, "refused"]


@pytest.mark.parametrize("name", NAMES)
def test_no_build_tool_is_left_in_its_environment(daemon: Daemon, images: dict[str, str], name: str) -> None:
    program = (
        "ls /opt/venv/bin | grep -E '^(pip|wheel|gcc|cc)|^uv$' || echo none; command -v gcc cc make git || echo none"
    )
    assert in_container(daemon, images[name], "sh", "-c", program).stdout.split() == ["none", "none"]


@pytest.mark.parametrize("name", NAMES)
def test_its_size_by_layer_is_within_the_goal(
    daemon: Daemon, images: dict[str, str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size = int(daemon.run("inspect", "--format", "{{.Size}}", images[name]).stdout) / 1e6
    layers = daemon.run("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", images[name]).stdout
    with capsys.disabled():
        print(f"\nsidlsg-{name}: {size:.0f} MB, of {MEGABYTES[name]} allowed")
        for line in layers.splitlines():
            if not line.startswith("0B"):
                print("  " + line[:110])
    assert size <= MEGABYTES[name]


@pytest.mark.parametrize("name", NAMES)
def test_its_labels_say_of_which_commit_it_is(daemon: Daemon, images: dict[str, str], name: str) -> None:
    config = json.loads(daemon.run("inspect", "--format", "{{json .Config}}", images[name]).stdout)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    labels = {key.rpartition(".")[2]: value for key, value in config["Labels"].items()}
    assert labels["title"] == f"sidlsg-{name}"
    assert labels["revision"].removesuffix("+changes") == commit.stdout.strip()
    assert labels["licenses"] == "Apache-2.0"
    assert f"SIDLSG_GIT_COMMIT={labels['revision']}" in config["Env"]
    assert labels["created"].endswith("Z")
    assert config["User"] == "10001:10001"
    assert (config.get("Healthcheck") is not None) == (name in ("serve", "trigger"))


def test_the_predictor_answers_with_the_bytes_of_sidlsg_generate(
    daemon: Daemon, images: dict[str, str], tiny_student: Path, tmp_path: Path
) -> None:
    folder, port = copied(tiny_student, tmp_path / "model"), free_port()
    for path in (tmp_path, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    prompt = "a small red circle on a blue background"
    done = CliRunner().invoke(app, ["generate", str(tiny_student), prompt, "--output", str(tmp_path / "images")])
    assert done.exit_code == 0, done.output
    expected = [base64.b64encode((tmp_path / "images" / "000000.png").read_bytes()).decode()]
    words = ["run", "--detach", "--network", "host", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp"]
    words += ["--volume", f"{folder}:/mnt/models:ro", images["serve"], "sidlsg", "serve", "/mnt/models"]
    container = daemon.run(*words, "--name", "tiny", "--port", str(port)).stdout.strip()
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 120
        while (ready := answer(f"{url}/v2/health/ready")) is None:
            assert time.monotonic() < until, daemon.run("logs", container).stderr[-2000:]
            time.sleep(0.5)
        assert ready == {"ready": True}
        assert answer(f"{url}/v1/models/tiny:predict", {"instances": [prompt]}) == {"predictions": [expected]}
        tensor = {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": [prompt]}
        v2 = answer(f"{url}/v2/models/tiny/infer", {"inputs": [tensor]})
        assert v2 is not None and v2["outputs"][0]["data"] == expected
    finally:
        daemon.run("rm", "--force", container)


def answer(url: str, body: object = None) -> dict[str, Any] | None:
    """What a server answers; None where it does not."""
    try:
        with urllib.request.urlopen(url, None if body is None else json.dumps(body).encode(), timeout=120) as found:
            content: dict[str, Any] = json.load(found)
            return content
    except OSError:
        return None


def test_the_service_starts_in_its_image_and_its_health_is_told(
    daemon: Daemon, images: dict[str, str], tmp_path: Path
) -> None:
    table, folder = tmp_path / "triggers.toml", tmp_path / "state"
    table.write_text('[[on]]\nname = "n"\nevent = "model_version.created"\n[on.run]\npipeline = "p"\n')
    folder.mkdir()
    folder.chmod(0o777)
    registry = MlflowServer(tmp_path / "mlflow")
    registry.start()
    words = ["run", "--detach", "--network", "host", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp"]
    words += ["--env", "SIDLSG_WEBHOOK_SECRET=" + "0" * 64, "--health-interval", "2s"]
    words += ["--volume", f"{table}:/etc/sidlsg/triggers.toml:ro", "--volume", f"{folder}:/var/lib/sidlsg"]
    words += [images["trigger"], "sidlsg", "triggers", "serve", "--file", "/etc/sidlsg/triggers.toml"]
    words += ["--folder", "/var/lib/sidlsg", "--tracking-uri", registry.address, "--host", "http://127.0.0.1:9"]
    container = daemon.run(*words).stdout.strip()
    try:
        wait = "until [ $(docker -H {0} inspect -f '{{{{.State.Health.Status}}}}' {1}) = healthy ]; do sleep 1; done"
        done = subprocess.run(
            ["timeout", "120", "bash", "-c", wait.format(daemon.socket, container).replace("docker", DOCKER, 1)]
        )
        assert done.returncode == 0, daemon.run("logs", container).stderr[-2000:]
    finally:
        daemon.run("rm", "--force", container)
        registry.stop()
