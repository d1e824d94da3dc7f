"""The images as they are built: what is in them, what is not, how large they are and as whom they run."""

import json
import subprocess
from pathlib import Path

import pytest

from containers.daemon import DOCKER, Daemon
from sidlsg.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
MEGABYTES = {"trigger": 600, "curate": 900, "train": 2300, "evaluate": 2300}
"""Their goals on the stand-in base, with a build of torch for CPUs."""
STAGES = {
    "curate": ["sidlsg.prompts.curate", "sidlsg.prompts.tasks.scan", "sidlsg.prompts.near.groups"],
    "train": ["sidlsg.encode.stage", "sidlsg.distil.stage"],
    "evaluate": ["sidlsg.evaluate.stage", "sidlsg.registry.register", "sidlsg.registry.gate", "sidlsg.report.page"],
    "trigger": ["sidlsg.trigger.service.serve", "sidlsg.trigger.submit", "sidlsg.run.compile"],
}
ABSENT = {
    "curate": ["torch", "mlflow", "diffusers", "kubernetes"],
    "train": ["polars", "sklearn", "matplotlib"],
    "evaluate": ["polars", "sklearn", "matplotlib", "kubernetes"],
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
    assert (config.get("Healthcheck") is not None) == (name == "trigger")


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
