"""Alerts and the dashboard ask for metrics that something has, with labels that they have."""

from __future__ import annotations

import json
import re
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from infra.cluster import INFRA, get, rendered
from sidlsg.distil.metrics import TrainingMetrics
from sidlsg.webhooks.telemetry import WebhookMetrics

OF_OTHERS = {
    "kube_pod_status_phase": ("namespace", "pod", "phase"),
    "kube_pod_labels": ("namespace", "pod", "label_sidlsg_dev_stage"),
    "kube_deployment_status_replicas_available": ("namespace", "deployment"),
    "kube_statefulset_status_replicas_ready": ("namespace", "statefulset"),
    "kube_cronjob_status_last_successful_time": ("namespace", "cronjob"),
    "kube_cronjob_created": ("namespace", "cronjob"),
    "kubelet_volume_stats_available_bytes": ("namespace", "persistentvolumeclaim"),
    "kubelet_volume_stats_capacity_bytes": ("namespace", "persistentvolumeclaim"),
}
"""Of kube-state-metrics and the kubelet, as their documentation has them."""
FUNCTIONS = {"time", "increase", "rate", "avg_over_time", "sum", "max", "avg", "label_values"}
WORDS = {"by", "on", "and", "or", "unless", "group_left", "offset"}


def known() -> dict[str, set[str]]:
    """Every metric and its labels."""
    own = labels_by_metric(WebhookMetrics().registry) | labels_by_metric(TrainingMetrics("tiny", 1).registry)
    return own | {name: set(labels) for name, labels in OF_OTHERS.items()}


def labels_by_metric(registry: CollectorRegistry) -> dict[str, set[str]]:
    """What a registry serves; metrics without a child yet, too, which it does not collect."""
    return {
        f"{metric._name}{'_total' if isinstance(metric, Counter) else ''}": set(metric._labelnames)
        for metric in registry._collector_to_names
        if isinstance(metric, Counter | Gauge)
    }


def metrics_in(expression: str) -> dict[str, set[str]]:
    """The metrics of an expression, and the labels that are asked of each."""
    found: dict[str, set[str]] = {}
    bare = re.sub(r'"[^"]*"', '""', expression)
    for name, selector in re.findall(
        r"\b([a-z_]{6,})(?:\{([^}]*)\})?", re.sub(r"\((?=[a-z_, ]*\))[a-z_, ]*\)", "", bare)
    ):
        if name not in FUNCTIONS | WORDS:
            found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
    return found


def check(expression: str) -> list[str]:
    """What is wrong with an expression."""
    metrics, there = metrics_in(expression), known()
    wrong = [f"no metric {name}" for name in metrics if name not in there]
    wrong += [f"{name} has no {label}" for name in metrics if name in there for label in metrics[name] - there[name]]
    if not metrics:
        wrong.append("no metric at all")
    for left, right in ("()", "{}", "[]"):
        if expression.count(left) != expression.count(right):
            wrong.append(f"{left} and {right} do not pair")
    return [f"{found} in {expression}" for found in wrong]


def rules() -> list[dict[str, Any]]:
    groups = get(rendered("team"), "PrometheusRule", "sidlsg")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_alerts_ask_for_metrics_that_are_there() -> None:
    assert [wrong for rule in rules() for wrong in check(rule["expr"])] == []


def test_alerts_name_labels_that_their_metrics_have() -> None:
    there = known()
    for rule in rules():
        labels = {label for name in metrics_in(rule["expr"]) for label in there[name]}
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert named <= labels, rule["alert"]


def test_what_can_go_wrong_has_an_alert() -> None:
    alerts = {rule["alert"] for rule in rules()}
    assert {"SidlsgTrainingStalled", "SidlsgTrainingNan", "SidlsgTrainingAlarm", "SidlsgStepFailed"} <= alerts
    assert {"SidlsgDiskFilling", "SidlsgBackupTooOld", "SidlsgNoBackup", "SidlsgTriggersCannotStart"} <= alerts
    assert {"SidlsgTriggersFailing", "SidlsgTriggersWaiting", "SidlsgTriggersBlind"} <= alerts
    assert len(alerts) == len(rules())


def test_what_fails_in_the_triggers_service_is_reported_while_it_fails() -> None:
    (rule,) = [rule for rule in rules() if rule["alert"] == "SidlsgTriggersFailing"]
    assert (rule["expr"], rule["for"]) == ("sidlsg_triggers_failing > 0", "15m")
    assert "sidlsg triggers list" in rule["annotations"]["description"]


def test_alerts_name_what_the_manifests_have() -> None:
    objects = rendered("team")
    for rule in rules():
        for name in re.findall(r'cronjob="([^"]+)"', rule["expr"]):
            get(objects, "CronJob", name)


def test_the_dashboard_shows_metrics_that_are_there() -> None:
    text = get(rendered("team"), "ConfigMap", "sidlsg-dashboard")["data"]["sidlsg.json"]
    board = json.loads(text)
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    values = [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    expressions += [re.sub(r"^label_values\((\w+), \w+\)$", r"\1", value) for value in values]
    # A variable stands in the place of a value.
    assert [wrong for expression in expressions for wrong in check(expression.replace('"$run"', '""'))] == []
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["title"] and panel["description"] for panel in board["panels"])
    shown = {name for expression in expressions for name in metrics_in(expression)}
    assert {name for name in known() if name.startswith("sidlsg_")} - shown == {
        "sidlsg_training_info",
        "sidlsg_training_active",
    }


def test_panels_do_not_lie_over_each_other() -> None:
    board = json.loads((INFRA / "components" / "monitoring" / "sidlsg.json").read_text())
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in board["panels"]):
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & taken and place["x"] + place["w"] <= 24
        taken |= own


def test_a_misspelt_metric_is_found() -> None:
    assert check("time() - sidlsg_training_last_iteration_timestamp > 900")
    assert check('sum by (run) (sidlsg_training_loss{netwrok="generator"})')
    assert check("sum by (run) (sidlsg_training_loss")
    assert check("time() > 900")
