"""The table of triggers that the manifests bring."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from infra.cluster import INFRA, get, pods, rendered
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.weights import parse_weights
from sidlsg.stages.gate_rules import gate_rules
from sidlsg.webhooks.rules import Table, read_table

PIPELINES = Path(__file__).parents[2] / "pipelines"


def parameters(pipeline: str) -> set[str]:
    """The names of a pipeline's parameters."""
    for file in PIPELINES.glob("*.py"):
        if re.search(rf'@dsl\.pipeline\(name="{pipeline}"', file.read_text()):
            module = importlib.import_module(f"sidlsg.pipelines.{file.stem}")
            return set(inspect.signature(getattr(module, file.stem).pipeline_func).parameters)
    raise LookupError(f"no pipeline {pipeline}")


@pytest.fixture
def whole(tmp_path: Path) -> Table:
    """The table with the rule that waits for its user's files."""
    before, rule = (INFRA / "base" / "triggers" / "triggers.toml").read_text().split("# [[on]]\n")
    path = tmp_path / "triggers.toml"
    path.write_text(f"{before}[[on]]\n{re.sub('^# ?', '', rule, flags=re.MULTILINE)}")
    return read_table(path)


def test_nothing_is_distilled_before_files_are_put_in() -> None:
    table = read_table(INFRA / "base" / "triggers" / "triggers.toml")
    assert [rule.name for rule in table.on if rule.run] == []


def test_the_rule_that_waits_names_what_its_recipe_s_gate_needs(whole: Table) -> None:
    runs = [rule.run for rule in whole.on if rule.run] + [watch.run for watch in whole.watch]
    assert all(set(run.parameters) <= parameters(run.pipeline) for run in runs)
    (run,) = runs
    given = run.parameters
    assert {"prompts", "held_out"} <= set(given)
    protocols = [PROTOCOLS[name] for name in str(given["protocols"]).split(",")]
    assert {name for protocol in protocols for name in protocol.files} == set(parse_weights(str(given["weights"])))
    gate = gate_rules(str(given["recipe"]))
    judged = {rule.score for rule in (*gate.floors, *gate.not_worse)}
    assert judged <= {score for protocol in protocols for score in protocol.scores}


def test_the_pod_has_the_table_and_a_new_one_starts_it_anew() -> None:
    objects = rendered("local")
    (pod,) = [pod for pod in pods(objects) if pod.owner == "Deployment sidlsg/triggers"]
    (name,) = [volume["configMap"]["name"] for volume in pod.spec["volumes"] if "configMap" in volume]
    assert re.fullmatch(r"triggers-\w{10}", name)
    text = get(objects, "ConfigMap", name)["data"]["triggers.toml"]
    assert text == (INFRA / "base" / "triggers" / "triggers.toml").read_text()


def test_copies_go_to_a_bucket_that_is_made() -> None:
    table = read_table(INFRA / "base" / "triggers" / "triggers.toml")
    copied = {rule.copy_.to.removeprefix("s3://").partition("/")[0] for rule in table.on if rule.copy_}
    made = get(rendered("local"), "Job", "buckets")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert copied and copied <= set(made)
