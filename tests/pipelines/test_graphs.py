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
    ("distil_and_evaluate", "none"): "41adddd2a3fe1dfe633b8938415201241fd1887e31905fb317dfb0ee126386aa",
    ("distil_and_evaluate", "one pod"): "b48f3e6b40dd55aa8603302c1e906c2df1d72e4f9c486af2c00861a3cfa4f1c0",
    ("distil_and_evaluate", "two nodes"): "bb4e8d82d6b72172ed940020e6f22d7bb89b13fe55c296c121d890bc757cbc66",
    ("evaluate_only", "none"): "f39733b8657e77cbf9f2cf61b0e9c054e41e4eb966bf136ec888bd88c40954ea",
    ("evaluate_only", "one pod"): "1072c0b7d230b3190b20cd85c648875776cd68bfb0278af164b23938feafc757",
    ("evaluate_only", "two nodes"): "1072c0b7d230b3190b20cd85c648875776cd68bfb0278af164b23938feafc757",
    ("sweep", "none"): "47ef31ce3803f82c2072c03c51e8a74a6e960e1bb1a770ca0360f0457923479f",
    ("sweep", "one pod"): "32dc97080dedd8f9730f65b2f2badcb782261cdb814ea4d93851dcf74e9c9e20",
    ("sweep", "two nodes"): "da9792e15c452eb3a453592741e98cb6b31187bbea61a95fbb68e25e8c80397c",
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
