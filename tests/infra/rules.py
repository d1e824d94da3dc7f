"""All rules for the objects in the cluster: each takes them, and names those that break it."""

from __future__ import annotations

from collections.abc import Callable

from infra.cluster import Object, name_of
from infra.pod_rules import (
    images_are_digests,
    no_secret_values,
    no_tokens_without_need,
    pods_are_restricted,
    quota_is_enough,
    resources_are_set,
    rollouts_have_quota,
    servers_are_probed,
)
from infra.reference_rules import (
    budgets_mean_something,
    monitors_find_something,
    network_selectors_match,
    pods_are_denied_by_default,
    references_lead_somewhere,
    s3_keys_are_its_own,
    selectors_match_their_own_pods,
    services_have_pods,
)

Rule = Callable[[list[Object]], list[str]]

_SPACES = ("sidlsg", "sidlsg-serving", "kubeflow", "team-a")


def nothing_scales_by_itself(objects: list[Object]) -> list[str]:
    """One PostgreSQL, one triggers service: an autoscaler would make a second."""
    return [name_of(one) for one in objects if "Autoscaler" in one["kind"]]


def jobs_are_bounded(objects: list[Object]) -> list[str]:
    """A CronJob never runs twice at the same time, and leaves few jobs behind; every job ends."""
    found = []
    for one in objects:
        if one["kind"] == "CronJob":
            spec = one["spec"]
            good = {
                "concurrencyPolicy": spec.get("concurrencyPolicy") == "Forbid",
                "successfulJobsHistoryLimit": spec.get("successfulJobsHistoryLimit", 99) <= 5,
                "failedJobsHistoryLimit": 1 <= spec.get("failedJobsHistoryLimit", 99) <= 5,
                "startingDeadlineSeconds": spec.get("startingDeadlineSeconds", 0) >= 60,
                "timeZone": "timeZone" in spec,
                "backoffLimit": "backoffLimit" in spec["jobTemplate"]["spec"],
                "activeDeadlineSeconds": "activeDeadlineSeconds" in spec["jobTemplate"]["spec"],
            }
            found += [f"{name_of(one)}: {name}" for name, is_good in good.items() if not is_good]
        if one["kind"] == "Job" and "backoffLimit" not in one["spec"]:
            found.append(f"{name_of(one)}: backoffLimit")
    return found


def rights_are_least(objects: list[Object]) -> list[str]:
    """No rights in the whole cluster, none to everything, none to secrets or to other rights."""
    found = []
    for one in objects:
        if one["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            found.append(f"{name_of(one)} gives rights in the whole cluster")
        for rule in one.get("rules", []) if one["kind"] == "Role" else []:
            every = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if "*" in every or every & {"secrets", "pods/exec", "roles", "rolebindings", "escalate", "impersonate"}:
                found.append(f"{name_of(one)} gives {rule}")
    return found


def objects_are_in_their_place(objects: list[Object]) -> list[str]:
    """Each is ours by its label, in one of the namespaces, and there once."""
    cluster = ("Namespace", "ResourceFlavor", "ClusterQueue", "WorkloadPriorityClass", "ClusterTrainingRuntime")
    found = [
        f"{name_of(one)} is in no namespace of ours"
        for one in objects
        if one["kind"] not in cluster and one["metadata"].get("namespace") not in _SPACES
    ]
    found += [
        f"{name_of(one)} lacks the label app.kubernetes.io/part-of"
        for one in objects
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "sidlsg"
    ]
    names = [name_of(one) for one in objects]
    return found + [f"{name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]


RULES: tuple[Rule, ...] = (
    images_are_digests,
    resources_are_set,
    pods_are_restricted,
    no_secret_values,
    network_selectors_match,
    pods_are_denied_by_default,
    selectors_match_their_own_pods,
    services_have_pods,
    references_lead_somewhere,
    s3_keys_are_its_own,
    budgets_mean_something,
    nothing_scales_by_itself,
    jobs_are_bounded,
    quota_is_enough,
    rollouts_have_quota,
    rights_are_least,
    no_tokens_without_need,
    servers_are_probed,
    monitors_find_something,
    objects_are_in_their_place,
)
