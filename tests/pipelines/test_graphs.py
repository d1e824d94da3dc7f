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
    ("distil_and_evaluate", "none"): "760ecb4cb60f4218f7fe06b05b4bb66a83bde2033945ca4c5799f0c1d0ff8363",
    ("distil_and_evaluate", "one pod"): "217e29765082dadbab98783fbfbbbb8682068456894feae01e0c840f250966b9",
    ("distil_and_evaluate", "two nodes"): "16993e1880d476f78e00656854fd0a3dcdfb7997dda1e69dadc05d579114ca14",
    ("evaluate_only", "none"): "ad9204eaca9e11ad830e60931b90a77997dd29875f3d0c365c4e2047cba006e7",
    ("evaluate_only", "one pod"): "cd42c1d7f3bcd0f41e59b3466c22821f0e544d91baea5311bec513d51ac88f33",
    ("evaluate_only", "two nodes"): "cd42c1d7f3bcd0f41e59b3466c22821f0e544d91baea5311bec513d51ac88f33",
    ("sweep", "none"): "82c3b8dddcb72fbeca496cbb8260724a73992088533f1b9b545c25cde28c924b",
    ("sweep", "one pod"): "156e7349d356c51627dcaa259e7325355e95f56f6dd4a7350d3e826323b2c90b",
    ("sweep", "two nodes"): "db9cc0bb4cdf4615ea28754d9cfae7ddaaf31e739e62dbe25d956880b390f9c1",
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
