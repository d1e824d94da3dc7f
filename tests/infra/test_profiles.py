"""Profiles of pipelines ask for what the overlays of their name have."""

from __future__ import annotations

from collections import defaultdict

import pytest

from infra.cluster import INFRA, OVERLAYS, get, quantity, rendered
from infra.page import labels_of_others, yours
from sidlsg.kubeflow.profile import IMAGES, STAGE_LABEL
from sidlsg.kubeflow.profile_file import read_profile

every = pytest.mark.parametrize("overlay", OVERLAYS)


@every
def test_what_steps_refer_to_is_there(overlay: str) -> None:
    objects, profile = rendered(overlay), read_profile(INFRA / "profiles" / f"{overlay}.toml")
    for stage, share in profile.stages.items():
        for secret, keys in share.secrets.items():
            assert set(keys.values()) <= yours()["Secret", secret].keys, stage
        if share.endpoints:
            assert set(share.endpoint_keys) <= set(get(objects, "ConfigMap", share.endpoints, "kubeflow")["data"])
        if share.queue:
            get(objects, "LocalQueue", share.queue, "kubeflow")
        if share.priority:
            get(objects, "WorkloadPriorityClass", share.priority, "")


@every
def test_a_step_fits_into_the_queue_and_the_quota(overlay: str) -> None:
    objects, profile = rendered(overlay), read_profile(INFRA / "profiles" / f"{overlay}.toml")
    hard = get(objects, "ResourceQuota", "sidlsg-training", "kubeflow")["spec"]["hard"]
    for stage, share in profile.stages.items():
        assert share.nodes * share.gpus <= quantity(hard["requests.nvidia.com/gpu"]), stage
        if share.queue:
            queue = get(objects, "LocalQueue", share.queue, "kubeflow")["spec"]["clusterQueue"]
            most: dict[str, float] = defaultdict(float)
            for group in get(objects, "ClusterQueue", queue, "")["spec"]["resourceGroups"]:
                for flavor in group["flavors"]:
                    for one in flavor["resources"]:
                        most[one["name"]] = max(most[one["name"]], quantity(one["nominalQuota"]))
            asked = {
                "cpu": share.cpu,
                "memory": share.memory,
                "nvidia.com/gpu": share.gpus,
                "ephemeral-storage": share.scratch,
            }
            for name, value in asked.items():
                assert share.nodes * quantity(value) <= most[name], (stage, name)


@every
def test_training_that_is_scraped_serves_where_it_is_looked_for(overlay: str) -> None:
    profile = read_profile(INFRA / "profiles" / f"{overlay}.toml")
    asked = "PodMonitor" in {one["kind"] for one in rendered(overlay)}
    assert profile.stages["distil"].environment.get("SIDLSG_METRICS_PORT", "") == ("9464" if asked else "")


def test_the_page_names_the_stages_that_pipelines_have() -> None:
    named = {labels[STAGE_LABEL] for labels in labels_of_others()["pod"] if STAGE_LABEL in labels}
    # Those of several nodes are a component of their own, and the pods that it starts.
    assert named - {"distil-nodes", "distil-nodes-worker"} == set(IMAGES) - {"distil-nodes"}
