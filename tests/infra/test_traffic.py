"""The page's table of who may talk to whom, and that nobody else may."""

from __future__ import annotations

import itertools

import pytest

from infra.cluster import Object, get, pods, rendered
from infra.traffic import End, may_talk


def service(name: str) -> End:
    return End("sidlsg", {"app.kubernetes.io/name": name})


def step(stage: str, namespace: str = "kubeflow") -> End:
    return End(namespace, {"sidlsg.dev/stage": stage})


ENDS = {
    "postgres": service("postgres"),
    "seaweedfs": service("seaweedfs"),
    "mlflow": service("mlflow"),
    "triggers": service("triggers"),
    "backup": service("postgres-backup"),
    "buckets": service("buckets"),
    "step": step("evaluate"),
    "distil": step("distil"),
    "launcher": step("distil-nodes"),
    "worker": step("distil-nodes-worker"),
    "kubeflow": End("kubeflow", {"app": "ml-pipeline"}),
    "metadata": End("kubeflow", {"component": "metadata-grpc-server"}),
    "pages": End("kubeflow", {"app": "ml-pipeline-ui"}),
    "dns": End("kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": End("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "pushgateway": End("monitoring", {"app.kubernetes.io/name": "prometheus-pushgateway"}),
    "proxy": End("login", {"app": "proxy"}, {"sidlsg.dev/may-use": "mlflow"}),
    "stranger": End("default", {"app": "stranger"}),
    "neighbour": End("sidlsg", {"app": "neighbour"}),
}
PORTS = (53, 5000, 5432, 6443, 8080, 8333, 8887, 8888, 9091, 9333, 9464, 18888, 29500, 40000)
STEPS = ("step", "distil", "launcher")
OURS = ("postgres", "seaweedfs", "mlflow", "triggers", "backup", "buckets", *STEPS, "worker", "neighbour")
FOREIGN = ("kubeflow", "metadata", "pages", "dns", "prometheus", "pushgateway", "proxy", "stranger")

ALLOWED = {
    *{("mlflow", "postgres", 5432), ("backup", "postgres", 5432)},
    *{(source, "seaweedfs", 8333) for source in ("mlflow", "triggers", "backup", "buckets", *STEPS, "worker")},
    *{(source, "seaweedfs", 8333) for source in ("kubeflow", "pages")},
    *{(source, "mlflow", 5000) for source in ("triggers", "proxy", *STEPS, "worker")},
    ("mlflow", "triggers", 8080),
    ("triggers", "kubeflow", 8888),
    *{(source, "kubeflow", port) for source in STEPS for port in (8887, 8888)},
    *{(source, "metadata", 8080) for source in STEPS},
    *{("worker", "worker", port) for port in PORTS},
    *{(source, "dns", 53) for source in OURS},
}
WATCHED = {
    ("prometheus", "triggers", 8080),
    *{("prometheus", target, 9464) for target in ("distil", "worker")},
    *{(source, "pushgateway", 9091) for source in ("distil", "worker")},
}


def found(objects: list[Object]) -> set[tuple[str, str, int]]:
    """Every connection that is allowed and has one of ours at an end."""
    return {
        (source, target, port)
        for source, target in itertools.product(ENDS, ENDS)
        if source in OURS or target in OURS
        for port in PORTS
        if may_talk(objects, ENDS[source], ENDS[target], port)
    }


def test_the_services_and_steps_talk_as_the_page_says_and_not_otherwise() -> None:
    assert found(rendered("local")) == ALLOWED
    assert found(rendered("team")) == ALLOWED | WATCHED


def test_names_are_asked_by_both_protocols() -> None:
    assert may_talk(rendered("local"), ENDS["step"], ENDS["dns"], 53, "UDP")
    assert may_talk(rendered("local"), ENDS["mlflow"], ENDS["dns"], 53, "UDP")


def test_any_s3_is_outside_and_seaweedfs_is_no_more() -> None:
    objects = rendered("local+external-s3")
    for source in ("mlflow", "step", "worker"):
        assert not may_talk(objects, ENDS[source], ENDS["seaweedfs"], 8333)
    outside = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443, "protocol": "TCP"}]}]
    for name, space in (("s3-clients", "sidlsg"), ("sidlsg-steps-s3", "kubeflow")):
        assert get(objects, "NetworkPolicy", name, space)["spec"]["egress"] == outside


def test_notices_leave_the_cluster_by_https_and_no_other_step_does() -> None:
    found = get(rendered("local"), "NetworkPolicy", "sidlsg-notices", "kubeflow")["spec"]
    assert found["podSelector"] == {"matchLabels": {"sidlsg.dev/stage": "notify"}}
    assert found["egress"] == [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443, "protocol": "TCP"}]}
    ]


def test_ray_is_reached_by_curation_alone() -> None:
    objects = rendered("local+ray")
    head, worker = (End("kubeflow", {"sidlsg.dev/ray": role}) for role in ("head", "worker"))
    curate = step("curate")
    assert may_talk(objects, curate, head, 10001)
    assert may_talk(objects, head, worker, 40000) and may_talk(objects, worker, head, 6379)
    assert may_talk(objects, worker, ENDS["seaweedfs"], 8333)
    assert not may_talk(objects, curate, head, 6379)
    assert not any(may_talk(objects, ENDS[name], head, 10001) for name in ENDS)
    assert not may_talk(objects, worker, ENDS["mlflow"], 5000)


def test_the_predictor_is_reached_through_knative_alone() -> None:
    objects = rendered("local+serving")
    predictor = End("sidlsg-serving", {"app.kubernetes.io/name": "predictor"})
    gateway, activator = End("kourier-system", {}), End("knative-serving", {"app": "activator"})
    for source in (gateway, activator):
        assert may_talk(objects, source, predictor, 8012)
        assert not may_talk(objects, source, predictor, 8080)
    assert may_talk(objects, ENDS["prometheus"], predictor, 8080)
    assert may_talk(objects, ENDS["triggers"], gateway, 8081)
    assert may_talk(objects, predictor, ENDS["seaweedfs"], 8333)
    reached = [name for name in ENDS if name != "prometheus" and may_talk(objects, ENDS[name], predictor, 8080)]
    assert reached == [] == [name for name in ENDS if may_talk(objects, ENDS[name], predictor, 8012)]
    assert not may_talk(objects, predictor, ENDS["mlflow"], 5000)
    assert not may_talk(objects, predictor, ENDS["stranger"], 40000)
    assert found(objects) == ALLOWED


def test_the_triggers_service_may_change_one_inference_service_and_nothing_else() -> None:
    objects = rendered("local+serving")
    (rule,) = get(objects, "Role", "sidlsg-rollout", "sidlsg-serving")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (["champion"], ["get", "patch"])
    (pod,) = [each for each in pods(objects) if each.owner == "Deployment sidlsg/triggers"]
    with_token = {c["name"] for c in pod.containers for m in c["volumeMounts"] if m["name"] == "kubernetes-token"}
    assert with_token == {"triggers"}


def test_of_several_users_the_profiles_steps_are_let_in() -> None:
    objects = rendered("local+all+multi-user")
    for port, name in ((5000, "mlflow"), (8333, "seaweedfs")):
        assert may_talk(objects, step("distil", "team-a"), ENDS[name], port)
        assert not may_talk(objects, step("distil", "team-b"), ENDS[name], port)
    assert may_talk(objects, step("distil", "team-a"), ENDS["kubeflow"], 8887)
    assert may_talk(objects, ENDS["prometheus"], step("distil", "team-a"), 9464)
    workers = step("distil-nodes-worker", "team-a")
    assert may_talk(objects, workers, workers, 29500)
    assert not may_talk(objects, workers, ENDS["kubeflow"], 8888)
    assert get(objects, "RoleBinding", "sidlsg-distil-nodes", "team-a")["subjects"][0]["namespace"] == "team-a"


@pytest.mark.parametrize(
    ("name", "namespace", "lost"),
    [
        ("postgres-clients", "sidlsg", ("mlflow", "postgres", 5432)),
        ("sidlsg-workers", "kubeflow", ("worker", "worker", 29500)),
        ("names", "sidlsg", ("mlflow", "dns", 53)),
    ],
)
def test_a_policy_that_is_gone_is_missed(name: str, namespace: str, lost: tuple[str, str, int]) -> None:
    objects = rendered("local")
    objects.remove(get(objects, "NetworkPolicy", name, namespace))
    assert lost in ALLOWED and lost not in found(objects)


def test_without_the_default_everything_would_be_open() -> None:
    objects = rendered("local")
    objects.remove(get(objects, "NetworkPolicy", "sidlsg-steps-default-deny", "kubeflow"))
    assert ("stranger", "step", 40000) in found(objects)
