"""The table of triggers that the manifests bring."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

from infra.cluster import INFRA, get, pods, rendered
from sidlsg.trigger.service.table import read_table

PIPELINES = Path(__file__).parents[2] / "pipelines"


def parameters(pipeline: str) -> set[str]:
    """The names of a pipeline's parameters."""
    for file in PIPELINES.glob("*.py"):
        if re.search(rf'@dsl\.pipeline\(name="{pipeline}"', file.read_text()):
            module = importlib.import_module(f"sidlsg.pipelines.{file.stem}")
            return set(inspect.signature(getattr(module, file.stem).pipeline_func).parameters)
    raise LookupError(f"no pipeline {pipeline}")


def test_the_table_is_read_and_names_pipelines_with_their_parameters() -> None:
    table = read_table(INFRA / "base" / "triggers" / "triggers.toml")
    runs = [rule.run for rule in table.on if rule.run] + [watch.run for watch in table.watch]
    assert runs
    for run in runs:
        assert set(run.parameters) <= parameters(run.pipeline)


def test_the_pod_has_the_table_and_a_new_one_starts_it_anew() -> None:
    objects = rendered("local")
    (pod,) = [pod for pod in pods(objects) if pod.owner == "Deployment sidlsg/triggers"]
    (name,) = [volume["configMap"]["name"] for volume in pod.spec["volumes"] if "configMap" in volume]
    assert re.fullmatch(r"triggers-\w{10}", name)
    told = get(objects, "ConfigMap", name)["data"]["triggers.toml"]
    assert told == (INFRA / "base" / "triggers" / "triggers.toml").read_text()


def test_copies_go_to_a_bucket_that_is_made() -> None:
    table = read_table(INFRA / "base" / "triggers" / "triggers.toml")
    copied = {rule.copy_.to.removeprefix("s3://").partition("/")[0] for rule in table.on if rule.copy_}
    made = get(rendered("local"), "Job", "buckets")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert copied and copied <= set(made)
