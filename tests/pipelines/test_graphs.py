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
    ("distil_and_evaluate", "none"): "a770422824d5a4274fedadeeae78fed9dd43a919f84a81eb01eca260ca5110a6",
    ("distil_and_evaluate", "one pod"): "fc594966d25089a9a05894fb31ea01701a679fba915a256337786ff78f480b4d",
    ("distil_and_evaluate", "two nodes"): "e8bcfb6b0179c4cb458efa74a18473f3262602fe51640f663eaa2c7791fbae4d",
    ("evaluate_only", "none"): "d38a646ba52315433bf7051d466924522c77d074e853958fea948d962a52f462",
    ("evaluate_only", "one pod"): "9aa6a8c2019f081c0a27430a59abd08ea0e645227f627eb8376f155a6b5f9950",
    ("evaluate_only", "two nodes"): "9aa6a8c2019f081c0a27430a59abd08ea0e645227f627eb8376f155a6b5f9950",
    ("sweep", "none"): "d3b13a82dd7c84c118f1673701858d44dd3226092c0c39262f7e14435948dec6",
    ("sweep", "one pod"): "651cd19fbfef50146db8b12ecd870e68627f51db665b583d913226bf8520de75",
    ("sweep", "two nodes"): "d950c6d843307c4963985b3ec4c8d5c6c5052898ef9650cdf11ece2fe33cbfdd",
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
