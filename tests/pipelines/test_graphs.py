"""The compiled pipelines without their components' source and descriptions: interfaces, graph, images, shares, caching.

Recorded when components held their stages' logic. A digest that differs says that Kubeflow runs something else than
before; the difference is that of the recorded pipelines in `golden/`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidlsg.cli.catalog import compile_pipeline
from sidlsg.kubeflow.profile_file import read_profile

DIGEST = "0123456789abcdef" * 4
SHARES = f"""
[images]
curate = "r.example/curate@sha256:{DIGEST}"
train = "r.example/train@sha256:{DIGEST}"
evaluate = "r.example/evaluate@sha256:{DIGEST}"

[run]
ttl = "2d"
checkpoints = "s3://bucket/checkpoints"

[defaults]
endpoints = "sidlsg-endpoints"
secrets.sidlsg-s3 = {{ AWS_ACCESS_KEY_ID = "id", AWS_SECRET_ACCESS_KEY = "secret" }}
volumes = [{{ claim = "data", path = "/data" }}]

[stages.distil]
cpu = "8"
memory = "64Gi"
gpus = 4
shm = "16Gi"
timeout = "3d"
retries = 5
tolerations = [{{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }}]
queue = "gpus"
"""
NODES = """
nodes = 2
handover = "s3://bucket/handover"

[stages.distil-nodes]
timeout = "10d"
"""
PROFILES = {"none": "", "one pod": SHARES, "two nodes": SHARES + NODES}
GRAPHS = {
    ("curate", "none"): "884a411c809bbc7150f83c9f7d14e95033ca51b8cc08a8e5e620ea40ac2e0101",
    ("curate", "one pod"): "e849f6541ee777730597a8e8db28775c4afcbdfb2f000c7ce4890dccc2c2adec",
    ("curate", "two nodes"): "e849f6541ee777730597a8e8db28775c4afcbdfb2f000c7ce4890dccc2c2adec",
    ("distil_and_evaluate", "none"): "3a22fb4ac7b2bdcc42ee063980d8ad11df9ea8663c4674d9c095749644a3f8f5",
    ("distil_and_evaluate", "one pod"): "f4e4f74733d292198fc658778f61d1d8bd83d23649337b819106db05e59e1451",
    ("distil_and_evaluate", "two nodes"): "2e4dac5878f3a0b4ef4f53834c6d188da211d07cd71646f40e87f025b753dd35",
    ("evaluate_only", "none"): "cb33ebbe6c9096c63bbce75d02996f550e26cd0deb6a99078881071b26e40595",
    ("evaluate_only", "one pod"): "e7f283e218590be66baaf9c6963013b6284c16b251ada7914c23e5b1c37ed089",
    ("evaluate_only", "two nodes"): "e7f283e218590be66baaf9c6963013b6284c16b251ada7914c23e5b1c37ed089",
    ("sweep", "none"): "54ef32fd14e2d961868edffd1538a5207987a50342b3bbecc08ad49e42aba26a",
    ("sweep", "one pod"): "931375e086067449d90ba64653e22c27068b3b0f0731eaf5e16c626c3723b98e",
    ("sweep", "two nodes"): "aa530eda92ab8a5b61c45005cbdc9f286da66f44bcb45ae0c8734c213a1badc4",
}


def graph(value: Any) -> Any:
    """Without what may change: source and descriptions, the compiler's version, the image of a run on this machine."""
    if isinstance(value, dict):
        return {key: graph(each) for key, each in value.items() if key not in ("description", "sdkVersion")}
    if isinstance(value, list):
        return [graph(each) for each in value if not (isinstance(each, str) and "import kfp" in each)]
    return "image" if isinstance(value, str) and value.startswith("sidlsg-python:") else value


@pytest.mark.parametrize("name", ["curate", "distil_and_evaluate", "evaluate_only", "sweep"])
@pytest.mark.parametrize("shares", PROFILES)
def test_kubeflow_runs_what_it_ran_before(name: str, shares: str, tmp_path: Path) -> None:
    (tmp_path / "profile.toml").write_text(PROFILES[shares])
    profile = read_profile(tmp_path / "profile.toml") if PROFILES[shares] else None
    compile_pipeline(tmp_path / "compiled.yaml", name, profile)
    found = graph(list(yaml.safe_load_all((tmp_path / "compiled.yaml").read_text())))
    assert "exec-" in json.dumps(found)
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    assert digest == GRAPHS[name, shares]
