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
    ("distil_and_evaluate", "none"): "1b1183b4047bc7f6b1743d571bfa6a2389ab87c65e004b45ae3d3dcae73b3e6c",
    ("distil_and_evaluate", "one pod"): "811802be0dcda86cd8e9c6a603ded0327a772fe84d71f0a82348a6ab66c211c7",
    ("distil_and_evaluate", "two nodes"): "1a825348ab6e296ab38e06a0bbac3704c40f287198a88f49b3bd79ebb95d7ffc",
    ("evaluate_only", "none"): "906aa1db67ca9872b12d6cf630c32ca1c5cb3617c3c2dfc0543729516139a684",
    ("evaluate_only", "one pod"): "3bc0c898bf216c0d143adba36fb972e14fc4aaaf4aded6029221a746e54c6064",
    ("evaluate_only", "two nodes"): "3bc0c898bf216c0d143adba36fb972e14fc4aaaf4aded6029221a746e54c6064",
    ("sweep", "none"): "2058ca13c434e78785f96074c2a284285338d902d21b30d383e58a5322ca4f36",
    ("sweep", "one pod"): "59dd0e4eecb8dfb9e698097ca05266ffde62c72e35f8862c8949488dc96ca5a6",
    ("sweep", "two nodes"): "be06f9a6ac08e34836b1d855badb1bacd2636080f53f52f3e4eda541d0417a33",
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
