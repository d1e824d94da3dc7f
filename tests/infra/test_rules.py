"""The rules for objects: every configuration keeps them, and each rule finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infra import rules
from infra.cluster import CONFIGURATIONS, INFRA, OVERLAYS, Object, get, kustomize, parsed, pods, rendered
from infra.page import yours
from infra.reference_rules import references
from infra.rules import RULES, Rule
from sidlsg.kubeflow.profile_file import read_profile

FULL = "production"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_configuration_keeps_every_rule(configuration: str, rule: Rule) -> None:
    assert rule(rendered(configuration)) == []


def test_the_restore_follows_the_rules_with_each_overlay() -> None:
    both = rendered("local") + parsed(kustomize(INFRA / "restore"))
    # It is a job of an hour that a person starts, when MLflow and thus the quota's largest part are gone.
    assert [found for rule in RULES if rule is not rules.quota_is_enough for found in rule(both)] == []


def pod(objects: list[Object], kind: str, name: str) -> Object:
    template = get(objects, kind, name)["spec"]
    template = template["jobTemplate"]["spec"]["template"] if kind == "CronJob" else template["template"]
    found: Object = template["spec"]
    return found


def mlflow(objects: list[Object]) -> Object:
    found: Object = pod(objects, "Deployment", "mlflow")["containers"][0]
    return found


def variable(name: str, value: str) -> Change:
    """Give MLflow's container one more variable."""
    return lambda objects: mlflow(objects)["env"].append({"name": name, "value": value})


def first(objects: list[Object]) -> Object:
    """A container that comes before others."""
    found: Object = pod(objects, "CronJob", "postgres-backup")["initContainers"][0]
    return found


def policy(objects: list[Object], name: str, namespace: str = "sidlsg") -> Object:
    found: Object = get(objects, "NetworkPolicy", name, namespace)["spec"]
    return found


def remove(objects: list[Object], kind: str, name: str, namespace: str = "sidlsg") -> None:
    objects.remove(get(objects, kind, name, namespace))


def secret(objects: list[Object]) -> None:
    objects.append({"kind": "Secret", "metadata": {"name": "x", "namespace": "sidlsg"}, "data": {"a": "Yg=="}})


def autoscaler(objects: list[Object]) -> None:
    objects.append({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "x", "namespace": "sidlsg"}})


def cluster_role(objects: list[Object]) -> None:
    objects.append({"kind": "ClusterRole", "metadata": {"name": "x"}, "rules": []})


def role(objects: list[Object]) -> Object:
    found: Object = get(objects, "Role", "sidlsg-distil-nodes", "kubeflow")["rules"][0]
    return found


def serving_quota(name: str, value: str) -> Change:
    """Change the quota of the component `serving`, which no overlay has."""

    def change(objects: list[Object]) -> None:
        objects[:] = rendered("local+serving")
        get(objects, "ResourceQuota", "serving", "sidlsg-serving")["spec"]["hard"][name] = value

    return change


Change = Callable[[list[Object]], Any]
BROKEN: list[tuple[Rule, str, Change]] = [
    (
        rules.images_are_digests,
        "no digest",
        lambda o: mlflow(o).update(image="registry.example.com/mlflow:latest"),
    ),
    (
        rules.images_are_digests,
        "no digest",
        lambda o: mlflow(o).update(image="registry.example.com/mlflow:1.2.3"),
    ),
    (rules.images_are_digests, "no digest", lambda o: first(o).update(image="postgres")),
    (rules.resources_are_set, "no limits of memory", lambda o: mlflow(o)["resources"]["limits"].pop("memory")),
    (rules.resources_are_set, "no requests of cpu", lambda o: first(o)["resources"]["requests"].pop("cpu")),
    (rules.resources_are_set, "more cpu than", lambda o: first(o)["resources"]["requests"].update(cpu="9")),
    (
        rules.pods_are_restricted,
        "seccompProfile",
        lambda o: pod(o, "Deployment", "mlflow")["securityContext"].pop("seccompProfile"),
    ),
    (
        rules.pods_are_restricted,
        "runAsNonRoot",
        lambda o: pod(o, "Job", "buckets")["securityContext"].update(runAsNonRoot=False),
    ),
    (
        rules.pods_are_restricted,
        "runAsNonRoot",
        lambda o: pod(o, "Job", "buckets")["securityContext"].update(runAsUser=0),
    ),
    (rules.pods_are_restricted, "runAsUser", lambda o: mlflow(o)["securityContext"].update(runAsUser=0)),
    (
        rules.pods_are_restricted,
        "allowPrivilegeEscalation",
        lambda o: first(o)["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    (
        rules.pods_are_restricted,
        "readOnlyRootFilesystem",
        lambda o: mlflow(o)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        rules.pods_are_restricted,
        "capabilities",
        lambda o: mlflow(o)["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
    ),
    (rules.pods_are_restricted, "privileged", lambda o: first(o)["securityContext"].update(privileged=True)),
    (rules.pods_are_restricted, "hostNetwork", lambda o: pod(o, "Deployment", "mlflow").update(hostNetwork=True)),
    (
        rules.pods_are_restricted,
        "docker",
        lambda o: pod(o, "Deployment", "mlflow")["volumes"].append({"name": "docker", "hostPath": {"path": "/run"}}),
    ),
    (rules.pods_are_restricted, "hostPort", lambda o: mlflow(o)["ports"][0].update(hostPort=5000)),
    (rules.pods_are_restricted, "a writable /tmp", lambda o: mlflow(o).update(volumeMounts=[])),
    (
        rules.pods_are_restricted,
        "enforce",
        lambda o: get(o, "Namespace", "sidlsg", "")["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
    ),
    (rules.no_secret_values, "Secret sidlsg/x has values", secret),
    (
        rules.no_secret_values,
        "AWS_SECRET_ACCESS_KEY",
        variable("AWS_SECRET_ACCESS_KEY", "abc"),
    ),
    (
        rules.no_secret_values,
        "MLFLOW_BACKEND_STORE_URI",
        variable("MLFLOW_BACKEND_STORE_URI", "postgresql://u:p@h/d"),
    ),
    (
        rules.no_secret_values,
        "db_password",
        variable("db_password", "/abc+def"),
    ),
    (
        rules.no_secret_values,
        "DATABASE_URL",
        variable("DATABASE_URL", "postgresql://u:p@h/d"),
    ),
    (
        rules.no_secret_values,
        "a login in its words",
        lambda o: mlflow(o).setdefault("args", []).append("--backend-store-uri=postgresql://u:p@h/d"),
    ),
    (
        rules.no_secret_values,
        "ConfigMap sidlsg/sidlsg-endpoints: AWS_SECRET_ACCESS_KEY",
        lambda o: get(o, "ConfigMap", "sidlsg-endpoints")["data"].update(AWS_SECRET_ACCESS_KEY="abc"),
    ),
    (
        rules.selectors_match_their_own_pods,
        "Deployment sidlsg/mlflow",
        lambda o: get(o, "Deployment", "mlflow")["spec"].update(selector={"matchLabels": {"a": "b"}}),
    ),
    (
        rules.selectors_match_their_own_pods,
        "topology",
        lambda o: pod(o, "Deployment", "mlflow").update(
            topologySpreadConstraints=[{"labelSelector": {"matchLabels": {"a": "topology"}}}]
        ),
    ),
    (
        rules.network_selectors_match,
        "mlfow",
        lambda o: policy(o, "mlflow").update(podSelector={"matchLabels": {"app.kubernetes.io/name": "mlfow"}}),
    ),
    (
        rules.network_selectors_match,
        "gone",
        lambda o: policy(o, "postgres")["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"].append(
            "gone"
        ),
    ),
    (
        rules.network_selectors_match,
        "sidlsg.dev/step",
        lambda o: policy(o, "sidlsg-steps-s3", "kubeflow")["podSelector"]["matchExpressions"][0].update(
            key="sidlsg.dev/step"
        ),
    ),
    (
        rules.network_selectors_match,
        "kubeflo'",
        lambda o: policy(o, "mlflow")["ingress"][0]["from"][0].update(
            namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "kubeflo"}}
        ),
    ),
    (rules.network_selectors_match, "seaweedfs", lambda o: remove(o, "StatefulSet", "seaweedfs")),
    (rules.pods_are_denied_by_default, "Ingress", lambda o: remove(o, "NetworkPolicy", "default-deny")),
    (
        rules.pods_are_denied_by_default,
        "ClusterTrainingRuntime",
        lambda o: [
            remove(o, "NetworkPolicy", name, "kubeflow")
            for name in (
                "sidlsg-steps-default-deny",
                "sidlsg-workers",
                "sidlsg-training-metrics",
                "sidlsg-training-push",
            )
        ],
    ),
    (
        rules.services_have_pods,
        "0 workloads",
        lambda o: get(o, "Service", "mlflow")["spec"].update(selector={"app.kubernetes.io/name": "mlfow"}),
    ),
    (rules.services_have_pods, "0 workloads", lambda o: remove(o, "StatefulSet", "postgres")),
    (rules.services_have_pods, "no container has the port", lambda o: mlflow(o).update(ports=[])),
    (
        rules.references_lead_somewhere,
        "Secret sidlsg/sidlsg-s4",
        lambda o: mlflow(o)["envFrom"].append({"secretRef": {"name": "sidlsg-s4"}}),
    ),
    (
        rules.references_lead_somewhere,
        "MLFLOW_STORE",
        lambda o: mlflow(o)["env"][0]["valueFrom"]["secretKeyRef"].update(key="MLFLOW_STORE"),
    ),
    (
        rules.references_lead_somewhere,
        "AWS_REGION",
        lambda o: mlflow(o)["env"].append(
            {"name": "R", "valueFrom": {"configMapKeyRef": {"name": "sidlsg-endpoints", "key": "AWS_REGION"}}}
        ),
    ),
    (
        rules.references_lead_somewhere,
        "ConfigMap sidlsg/postgres-backup",
        lambda o: remove(o, "ConfigMap", "postgres-backup"),
    ),
    (
        rules.references_lead_somewhere,
        "Secret sidlsg/registry",
        lambda o: pod(o, "Deployment", "mlflow").update(imagePullSecrets=[{"name": "registry"}]),
    ),
    (
        rules.references_lead_somewhere,
        "PriorityClass /high",
        lambda o: pod(o, "Deployment", "mlflow").update(priorityClassName="high"),
    ),
    (
        rules.references_lead_somewhere,
        "ConfigMap sidlsg/nobody",
        lambda o: pod(o, "Deployment", "mlflow")["volumes"].append(
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "nobody"}}]}}
        ),
    ),
    (
        rules.references_lead_somewhere,
        "nothing.sh",
        lambda o: pod(o, "Deployment", "mlflow")["volumes"].append(
            {"name": "i", "configMap": {"name": "sidlsg-endpoints", "items": [{"key": "nothing.sh", "path": "x"}]}}
        ),
    ),
    (
        rules.references_lead_somewhere,
        "Service sidlsg/nosuch",
        lambda o: get(o, "StatefulSet", "postgres")["spec"].update(serviceName="nosuch"),
    ),
    (rules.references_lead_somewhere, "ServiceAccount sidlsg/mlflow", lambda o: remove(o, "ServiceAccount", "mlflow")),
    (
        rules.references_lead_somewhere,
        "PersistentVolumeClaim sidlsg/triggers",
        lambda o: remove(o, "PersistentVolumeClaim", "triggers"),
    ),
    (rules.references_lead_somewhere, "Volume sidlsg/tmp", lambda o: pod(o, "Deployment", "mlflow").update(volumes=[])),
    (
        rules.references_lead_somewhere,
        "Role kubeflow/sidlsg-distil-nodes",
        lambda o: (
            remove(o, "Role", "sidlsg-distil-nodes", "kubeflow")
            or o.append(
                {"kind": "Role", "metadata": {"name": "sidlsg-distil-nodes", "namespace": "other"}, "rules": []}
            )
        ),
    ),
    (rules.references_lead_somewhere, "ClusterQueue", lambda o: remove(o, "ClusterQueue", "sidlsg", "")),
    (rules.references_lead_somewhere, "ResourceFlavor", lambda o: remove(o, "ResourceFlavor", "sidlsg-gpu", "")),
    (
        rules.references_lead_somewhere,
        "AWS_KEY",
        lambda o: get(o, "ConfigMap", "kfp-launcher", "kubeflow")["data"].update(
            providers="secretName: sidlsg-s3\naccessKeyKey: AWS_KEY"
        ),
    ),
    (
        rules.s3_keys_are_its_own,
        "Deployment sidlsg/mlflow has the keys of sidlsg/sidlsg-s3-backups",
        lambda o: mlflow(o)["envFrom"].append({"secretRef": {"name": "sidlsg-s3-backups"}}),
    ),
    (
        rules.s3_keys_are_its_own,
        "Deployment sidlsg/mlflow has the keys of pipeline steps",
        lambda o: mlflow(o)["envFrom"].append({"secretRef": {"name": "sidlsg-s3"}}),
    ),
    (
        rules.budgets_mean_something,
        "0 workloads",
        lambda o: get(o, "PodDisruptionBudget", "mlflow")["spec"].update(selector={"matchLabels": {"a": "b"}}),
    ),
    (
        rules.budgets_mean_something,
        "can never be 2",
        lambda o: get(o, "PodDisruptionBudget", "mlflow")["spec"].update(minAvailable=2),
    ),
    (rules.nothing_scales_by_itself, "HorizontalPodAutoscaler", autoscaler),
    (
        rules.jobs_are_bounded,
        "concurrencyPolicy",
        lambda o: get(o, "CronJob", "postgres-backup")["spec"].update(concurrencyPolicy="Allow"),
    ),
    (
        rules.jobs_are_bounded,
        "failedJobsHistoryLimit",
        lambda o: get(o, "CronJob", "postgres-backup")["spec"].pop("failedJobsHistoryLimit"),
    ),
    (rules.jobs_are_bounded, "backoffLimit", lambda o: get(o, "Job", "buckets")["spec"].pop("backoffLimit")),
    (
        rules.quota_is_enough,
        "requests.memory",
        lambda o: get(o, "ResourceQuota", "services")["spec"]["hard"].update({"requests.memory": "4Gi"}),
    ),
    (rules.quota_is_enough, "limits.cpu", lambda o: get(o, "Deployment", "mlflow")["spec"].update(replicas=20)),
    (
        rules.quota_is_enough,
        "requests.storage",
        lambda o: get(o, "PersistentVolumeClaim", "triggers")["spec"]["resources"]["requests"].update(storage="4Ti"),
    ),
    (
        rules.quota_is_enough,
        "no quota of pods",
        lambda o: get(o, "ResourceQuota", "services")["spec"]["hard"].pop("pods"),
    ),
    (rules.quota_is_enough, "than a container may", lambda o: mlflow(o)["resources"]["limits"].update(memory="17Gi")),
    (
        rules.quota_is_enough,
        "than a claim may",
        lambda o: get(o, "PersistentVolumeClaim", "triggers")["spec"]["resources"]["requests"].update(storage="3Ti"),
    ),
    (rules.rollouts_have_quota, "requests.memory is 8Gi, for 4 pods", serving_quota("requests.memory", "8Gi")),
    (rules.rollouts_have_quota, "has 3 pods, and 4 are needed", serving_quota("pods", "3")),
    (rules.rights_are_least, "the whole cluster", cluster_role),
    (rules.rights_are_least, "'*'", lambda o: role(o).update(verbs=["*"])),
    (rules.rights_are_least, "secrets", lambda o: role(o).update(resources=["secrets"])),
    (
        rules.no_tokens_without_need,
        "mounts its token",
        lambda o: get(o, "ServiceAccount", "mlflow").pop("automountServiceAccountToken"),
    ),
    (
        rules.no_tokens_without_need,
        "mounts a token",
        lambda o: pod(o, "Deployment", "triggers").pop("automountServiceAccountToken"),
    ),
    (rules.servers_are_probed, "no readinessProbe", lambda o: mlflow(o).pop("readinessProbe")),
    (
        rules.servers_are_probed,
        "the startupProbe asks",
        lambda o: mlflow(o).update(startupProbe={"httpGet": {"port": "htp"}}),
    ),
    (rules.servers_are_probed, "not named", lambda o: mlflow(o)["livenessProbe"]["httpGet"].update(port="htp")),
    (
        rules.monitors_find_something,
        "no service has the port http",
        lambda o: get(o, "Service", "triggers")["metadata"].update(labels={}),
    ),
    (
        rules.monitors_find_something,
        "no step",
        lambda o: get(o, "PodMonitor", "sidlsg-training", "kubeflow")["spec"]["selector"]["matchExpressions"][0][
            "values"
        ].append("distill"),
    ),
    (
        rules.monitors_find_something,
        "another namespace",
        lambda o: get(o, "PodMonitor", "sidlsg-training", "kubeflow")["spec"]["namespaceSelector"].update(
            matchNames=["default"]
        ),
    ),
    (
        rules.objects_are_in_their_place,
        "no namespace of ours",
        lambda o: get(o, "Service", "mlflow")["metadata"].pop("namespace"),
    ),
    (rules.objects_are_in_their_place, "twice", lambda o: o.append(get(o, "Service", "mlflow"))),
    (rules.objects_are_in_their_place, "part-of", lambda o: get(o, "Service", "mlflow")["metadata"].pop("labels")),
]


@pytest.mark.parametrize(("rule", "message", "change"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_rule_finds_what_breaks_it(rule: Rule, message: str, change: Change) -> None:
    objects = rendered(FULL)
    assert rule(objects) == []
    change(objects)
    assert message in "\n".join(rule(objects))


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_page_names_nothing_that_nobody_needs() -> None:
    every = [one for name in CONFIGURATIONS for one in rendered(name)]
    used = {(kind, name) for _, kind, _, name, _ in references(every)}
    for overlay in OVERLAYS:
        profile = read_profile(INFRA / "profiles" / f"{overlay}.toml")
        used |= {("Secret", name) for share in profile.stages.values() for name in share.secrets}
    assert set(yours()) - used == set()


def test_each_configuration_has_the_services() -> None:
    for name in CONFIGURATIONS:
        owners = {pod.owner for pod in pods(rendered(name))}
        assert {"Deployment sidlsg/mlflow", "Deployment sidlsg/triggers", "StatefulSet sidlsg/postgres"} <= owners
        assert ("StatefulSet sidlsg/seaweedfs" in owners) is ("external-s3" not in name)
