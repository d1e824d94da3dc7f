"""Pipelines compiled with a profile: each step's image and share of a cluster, and nothing that changes by itself."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra.schemas import NAME, record
from infra.schemas import PIPELINES as KUBEFLOW_PIPELINES
from sidlsg.cli.catalog import PIPELINES, compile_pipeline
from sidlsg.kubeflow.compile import read_compiled
from sidlsg.kubeflow.nodes.settings import Nodes, read_settings
from sidlsg.kubeflow.profile import IMAGES, Profile
from sidlsg.kubeflow.profile_file import read_profile

TABLES = """
[run]
ttl = "2d"
deadline = "4d"

[defaults]
endpoints = "sidlsg-endpoints"
secrets.sidlsg-s3 = { AWS_ACCESS_KEY_ID = "id", AWS_SECRET_ACCESS_KEY = "secret" }
volumes = [{ claim = "checkpoints", path = "/checkpoints" }]
pull_secrets = ["registry"]

[stages.evaluate]
retries = 0

[stages.distil]
cpu = "8"
cpu_limit = "16"
memory = "64Gi"
gpus = 4
shm = "16Gi"
scratch = "100Gi"
timeout = "3d"
retries = 5
retry_wait = "2m"
restarts = 3
restart_wait = "20s"
node_selector = { "nvidia.com/gpu.product" = "H100" }
tolerations = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
queue = "gpus"
priority = "batch"
labels = { team = "pictures" }
annotations = { "example.com/owner" = "pictures" }
environment = { SIDLSG_METRICS_PORT = "9464" }
"""


NODES = """
[defaults]
secrets.sidlsg-s3 = { AWS_ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID" }

[stages.distil]
nodes = 2
handover = "s3://bucket/handover"
cpu = "8"
memory = "64Gi"
gpus = 8
shm = "16Gi"
timeout = "3d"
tolerations = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
queue = "gpus"

[stages.distil-nodes]
timeout = "10d"
"""
PROFILES = sorted((Path(__file__).parents[2] / "infra" / "profiles").glob("*.toml"))


def profile(folder: Path, train: str = "b" * 64, tables: str = TABLES) -> Profile:
    digests = {"curate": "a" * 64, "train": train, "evaluate": "c" * 64}
    images = "\n".join(f'{name} = "r.example/sidlsg-{name}@sha256:{digest}"' for name, digest in digests.items())
    path = folder / "profile.toml"
    path.write_text(f"[images]\n{images}\n{tables}")
    return read_profile(path)


def compiled(folder: Path, name: str, chosen: Profile, **options: Any) -> str:
    output = folder / "compiled.yaml"
    compile_pipeline(output, name, chosen, **options)
    return output.read_text()


def body(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def platform(text: str) -> dict[str, Any]:
    found: dict[str, Any] = list(yaml.safe_load_all(text))[1]["platforms"]["kubernetes"]
    return found


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_has_its_stage_s_image_labels_limits_and_retries(tmp_path: Path, name: str) -> None:
    chosen = profile(tmp_path)
    text = compiled(tmp_path, name, chosen)
    executors = next(yaml.safe_load_all(text))["deploymentSpec"]["executors"]
    settings = platform(text)["deploymentSpec"]["executors"]
    assert set(settings) == set(executors)
    for executor, container in ((key, each["container"]) for key, each in executors.items()):
        stage = re.sub(r"-\d+$", "", executor.removeprefix("exec-"))
        assert container["image"] == chosen.image(stage)
        environment = {each["name"]: each["value"] for each in container["env"]}
        assert environment["SIDLSG_RUNNING_IMAGE"] == chosen.image(stage)
        assert ("SIDLSG_RESTARTS" in environment) == (stage == "distil")
        resources, share = container["resources"], chosen.stages[stage]
        assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"] == share.memory
        assert resources["resourceCpuRequest"] == share.cpu
        assert resources["resourceCpuLimit"] == share.cpu_limit or share.cpu
        labels = settings[executor]["podMetadata"]["labels"]
        assert labels["sidlsg.dev/stage"] == stage
        assert labels["app.kubernetes.io/part-of"] == "sidlsg"
        assert settings[executor]["fieldPathAsEnv"] == [
            {"name": "SIDLSG_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]
        assert int(settings[executor]["activeDeadlineSeconds"]) > 0
        assert settings[executor]["secretAsEnv"][0]["secretName"] == "sidlsg-s3"
        assert settings[executor]["pvcMount"][0]["mountPath"] == "/checkpoints"
        # A namespace whose pod security is restricted wants to see that nobody is root.
        assert settings[executor]["securityContext"] == {
            "runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True,
        }  # fmt: skip


def test_the_training_step_gets_what_the_profile_says(tmp_path: Path) -> None:
    text = compiled(tmp_path, "distil_and_evaluate", profile(tmp_path))
    document = next(yaml.safe_load_all(text))
    container = document["deploymentSpec"]["executors"]["exec-distil"]["container"]
    settings = platform(text)["deploymentSpec"]["executors"]["exec-distil"]
    assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert container["resources"]["accelerator"]["resourceCount"] == "4"
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert (environment["SIDLSG_GPUS"], environment["SIDLSG_METRICS_PORT"]) == ("4", "9464")
    assert (environment["SIDLSG_RESTARTS"], environment["SIDLSG_RESTART_WAIT"]) == ("3", "20")
    steps = document["components"]["comp-distil-and-evaluate"]["dag"]["tasks"]
    retries = steps["distil"]["retryPolicy"]
    assert retries == {
        "maxRetryCount": 5, "backoffDuration": "120s", "backoffFactor": 1.0, "backoffMaxDuration": "345600s",
    }  # fmt: skip
    assert "retryPolicy" not in steps["evaluate"]
    assert settings["nodeSelector"] == {"labels": {"nvidia.com/gpu.product": "H100"}}
    assert settings["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert settings["activeDeadlineSeconds"] == str(3 * 86400)
    labels = settings["podMetadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["kueue.x-k8s.io/priority-class"]) == ("gpus", "batch")
    assert labels["team"] == "pictures"
    assert settings["podMetadata"]["annotations"] == {"example.com/owner": "pictures"}
    mounts = {each["mountPath"]: each for each in settings["emptyDirMounts"]}
    assert mounts["/dev/shm"] == {
        "mountPath": "/dev/shm", "volumeName": "shared-memory", "medium": "Memory", "sizeLimit": "16Gi",
    }  # fmt: skip
    assert mounts["/tmp"]["sizeLimit"] == "100Gi"
    assert platform(text)["pipelineConfig"] == {
        "resourceTtlOnCompletion": 2 * 86400, "resourceTtlOnSuccess": 2 * 86400, "resourceTtlOnFailure": 2 * 86400,
        "activeDeadlineSeconds": 4 * 86400,
    }  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_two_compiles_give_the_same_bytes_below_the_comments(tmp_path: Path, name: str) -> None:
    chosen = profile(tmp_path)
    assert body(compiled(tmp_path, name, chosen)) == body(compiled(tmp_path, name, chosen))


@pytest.mark.parametrize("name", ["distil_and_evaluate", "sweep"])
def test_another_digest_changes_only_the_lines_of_its_image(tmp_path: Path, name: str) -> None:
    one = body(compiled(tmp_path, name, profile(tmp_path)))
    two = body(compiled(tmp_path, name, profile(tmp_path, train="d" * 64)))
    assert len(one) == len(two)
    changed = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    assert len(changed) == 2 * sum(IMAGES[stage] == "train" for stage in ("encode", "distil"))
    assert all(a.replace("b" * 64, "d" * 64) == b for a, b in changed)
    assert all(re.match(r"\s*(image|value): r\.example/sidlsg-train@sha256:", a) for a, _ in changed)


@pytest.mark.parametrize("name", ["distil_and_evaluate", "sweep"])
def test_more_nodes_than_one_take_the_step_that_starts_a_trainjob(tmp_path: Path, name: str) -> None:
    chosen = profile(tmp_path, tables=NODES)
    document, settings = yaml.safe_load_all(compiled(tmp_path, name, chosen))
    groups = [document["root"], *document["components"].values()]
    tasks = {key: task for group in groups for key, task in group.get("dag", {}).get("tasks", {}).items()}
    assert "distil" not in tasks
    constants = {
        key: each["runtimeValue"]["constant"]
        for key, each in tasks["distil-nodes"]["inputs"]["parameters"].items()
        if "runtimeValue" in each
    }
    nodes = Nodes(
        **{key: value for key, value in constants.items() if key not in ("node_settings",)},
        settings=read_settings(constants["node_settings"]),
    )
    assert (nodes.nodes, nodes.gpus_per_node, nodes.queue) == (2, 8, "gpus")
    assert (nodes.image, nodes.handover) == (chosen.image("distil"), "s3://bucket/handover")
    assert nodes.timeout_minutes == 3 * 24 * 60
    assert (nodes.settings.cpu, nodes.settings.memory, nodes.settings.shm) == ("8", "64Gi", "16Gi")
    assert nodes.settings.tolerations == ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)
    assert nodes.settings.secrets == {"sidlsg-s3": {"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID"}}
    launcher = settings["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-distil-nodes"]
    assert "kueue.x-k8s.io/queue-name" not in launcher["podMetadata"]["labels"]
    container = document["deploymentSpec"]["executors"]["exec-distil-nodes"]["container"]
    assert "accelerator" not in container["resources"]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("file", PROFILES, ids=lambda file: str(file.stem))
def test_the_project_s_own_profiles_compile(tmp_path: Path, name: str, file: Path) -> None:
    assert compiled(tmp_path, name, read_profile(file))


def test_no_value_of_a_secret_is_in_it(tmp_path: Path) -> None:
    settings = platform(compiled(tmp_path, "distil_and_evaluate", profile(tmp_path)))["deploymentSpec"]["executors"]
    found = [(each["secretName"], each["keyToEnv"]) for each in settings["exec-distil"]["secretAsEnv"]]
    assert found == [
        ("sidlsg-s3", [{"secretKey": "id", "envVar": "AWS_ACCESS_KEY_ID"}]),
        ("sidlsg-s3", [{"secretKey": "secret", "envVar": "AWS_SECRET_ACCESS_KEY"}]),
    ]


def test_a_profile_leaves_no_trace_in_what_is_compiled_after_it(tmp_path: Path) -> None:
    compile_pipeline(tmp_path / "before.yaml")
    compiled(tmp_path, "distil_and_evaluate", profile(tmp_path))
    compile_pipeline(tmp_path / "after.yaml")
    assert body((tmp_path / "before.yaml").read_text()) == body((tmp_path / "after.yaml").read_text())


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_manifest_is_what_kubeflow_takes(tmp_path: Path, pipeline: str) -> None:
    text = compiled(tmp_path, pipeline, profile(tmp_path), manifest=True)
    # kubectl keeps a whole object in an annotation, and Kubernetes limits these.
    assert len(text) < 256 * 1024
    objects = list(yaml.safe_load_all(text))
    assert [one["kind"] for one in objects] == list(KUBEFLOW_PIPELINES)
    for one in objects:
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        assert one["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        jsonschema.validate(one["metadata"], record({"name": NAME}))
        jsonschema.validate(one["spec"], KUBEFLOW_PIPELINES[one["kind"]])


def test_a_manifest_holds_the_pipeline_and_a_version_that_is_named_by_its_content(tmp_path: Path) -> None:
    chosen = profile(tmp_path)
    compile_pipeline(tmp_path / "file.yaml", profile=chosen)
    version = read_compiled(tmp_path / "file.yaml").version
    text = compiled(tmp_path, "distil_and_evaluate", chosen, manifest=True, namespace="kubeflow")
    pipeline, pipeline_version = yaml.safe_load_all(text)
    assert (pipeline["kind"], pipeline_version["kind"]) == ("Pipeline", "PipelineVersion")
    assert {each["apiVersion"] for each in (pipeline, pipeline_version)} == {"pipelines.kubeflow.org/v2beta1"}
    assert {each["metadata"]["namespace"] for each in (pipeline, pipeline_version)} == {"kubeflow"}
    assert pipeline_version["metadata"]["name"] == version
    assert pipeline_version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "distil-and-evaluate"
    assert pipeline_version["spec"]["pipelineSpec"]["pipelineInfo"]["name"] == "distil-and-evaluate"
    assert (
        "exec-distil"
        in pipeline_version["spec"]["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    )
