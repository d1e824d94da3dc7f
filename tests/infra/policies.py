"""What every object in the cluster must be like: each policy names the objects that are not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from infra.cluster import Object, Pod, get, name_of, pods, quantity, selects
from infra.page import labels_of_others, yours

Policy = Callable[[list[Object]], list[str]]

_DIGEST = re.compile(r"[a-z0-9.-]+(:\d+)?/[a-z0-9./_-]+@sha256:[0-9a-f]{64}")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|STORE_URI|CREDENTIAL")
_SPACES = ("sidlsg", "kubeflow", "team-a")


def images_are_digests(objects: list[Object]) -> list[str]:
    """A tag can be moved: what was tested is not what runs."""
    return [
        f"{pod.owner}: {container['name']} runs {container['image']}, which is no digest"
        for pod in pods(objects)
        for container in pod.containers
        if not _DIGEST.fullmatch(container["image"])
    ]


def resources_are_told(objects: list[Object]) -> list[str]:
    """Requests and limits of every container, those that come first too."""
    found = []
    for pod in pods(objects):
        for container in pod.containers:
            told = container.get("resources", {})
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory", "ephemeral-storage"} - set(told.get(kind, {}))
                found += [f"{pod.owner}: {container['name']} has no {kind} of {name}" for name in sorted(missing)]
            for name, value in told.get("requests", {}).items():
                if quantity(value) > quantity(told.get("limits", {}).get(name, value)):
                    found.append(f"{pod.owner}: {container['name']} requests more {name} than its limit")
    return found


def pods_are_restricted(objects: list[Object]) -> list[str]:
    """Pod security standard `restricted`, and a root file system that nobody writes to."""
    found = []
    for pod in pods(objects):
        whole = pod.spec.get("securityContext", {})
        wrong = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(name)]
        wrong += [volume["name"] for volume in pod.spec.get("volumes", []) if "hostPath" in volume]
        if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            wrong.append("seccompProfile")
        if whole.get("runAsNonRoot") is not True or not whole.get("runAsUser"):
            wrong.append("runAsNonRoot")
        for container in pod.containers:
            own = container.get("securityContext", {})
            good = {
                "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
                "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
                "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
                "privileged": not own.get("privileged"),
                "runAsUser": own.get("runAsUser", 1) != 0 and own.get("runAsNonRoot", True),
                "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
                "a writable /tmp": any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", [])),
            }
            wrong += [f"{container['name']} {name}" for name, is_good in good.items() if not is_good]
        found += [f"{pod.owner}: {name} is not as `restricted` has it" for name in wrong]
    for space in objects:
        if space["kind"] == "Namespace":
            enforced = space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            found += [] if enforced == "restricted" else [f"{name_of(space)} does not enforce `restricted`"]
    return found


def no_secret_values(objects: list[Object]) -> list[str]:
    """Secrets by reference alone."""
    found = [f"{name_of(one)} has values" for one in objects if one["kind"] == "Secret"]
    for pod in pods(objects):
        for container in pod.containers:
            for variable in container.get("env", []):
                # A path to a token is none.
                value = variable.get("value", "")
                if value and not value.startswith("/") and _SECRET_NAME.search(variable["name"]):
                    found.append(f"{pod.owner}: {variable['name']} has a value")
    return found


def network_selectors_match(objects: list[Object]) -> list[str]:
    """Each selector of a network policy, and each value in it, matches a pod of ours or one that the page names."""
    known = _known_labels(objects)
    found = []
    for policy in (one for one in objects if one["kind"] == "NetworkPolicy"):
        for selector, is_space in _selectors(policy["spec"]):
            labels = known["namespace" if is_space else "pod"]
            parts = [{key: value} for key, value in selector.get("matchLabels", {}).items()]
            for term in selector.get("matchExpressions", []):
                if not any(term["key"] in own for own in labels):
                    found.append(f"{name_of(policy)}: nothing has the label {term['key']}")
                parts += [{term["key"]: value} for value in term.get("values", [])]
            for part in parts:
                if not any(part.items() <= own.items() for own in labels):
                    found.append(f"{name_of(policy)}: nothing has the label {part}")
            if not any(selects(selector, own) for own in labels):
                found.append(f"{name_of(policy)}: nothing matches {selector}")
    return found


def _selectors(spec: Object) -> Iterator[tuple[Object, bool]]:
    yield spec["podSelector"], False
    for peer in [
        peer
        for direction, side in (("ingress", "from"), ("egress", "to"))
        for rule in spec.get(direction, [])
        for peer in rule.get(side, [])
    ]:
        if "namespaceSelector" in peer:
            yield peer["namespaceSelector"], True
        if "podSelector" in peer:
            yield peer["podSelector"], False


def _known_labels(objects: list[Object]) -> dict[str, list[dict[str, str]]]:
    others = labels_of_others()
    spaces = {one["metadata"].get("namespace") for one in objects} - {None}
    return {
        "pod": [pod.labels for pod in pods(objects)] + others["pod"],
        "namespace": [{"kubernetes.io/metadata.name": name} for name in spaces] + others["namespace"],
    }


def pods_are_denied_by_default(objects: list[Object]) -> list[str]:
    """Each pod is under a policy for what comes in, and one for what goes out."""
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    found = []
    for pod in pods(objects):
        own = [
            policy["spec"]["policyTypes"]
            for policy in policies
            if policy["metadata"]["namespace"] in (pod.namespace, _profile(objects, pod))
            and selects(policy["spec"]["podSelector"], pod.labels)
        ]
        for direction in ("Ingress", "Egress"):
            if not any(direction in types for types in own):
                found.append(f"{pod.owner}: no network policy is about its {direction}")
    return found


def _profile(objects: list[Object], pod: Pod) -> str:
    """Where the pods of an object without a namespace run: those of a TrainJob, in its own."""
    if not pod.owner.startswith("ClusterTrainingRuntime"):
        return pod.namespace
    rights = next(one for one in objects if one["kind"] == "Role" and one["metadata"]["name"] == "sidlsg-distil-nodes")
    return str(rights["metadata"]["namespace"])


def services_have_pods(objects: list[Object]) -> list[str]:
    """Each Service has a workload, and its ports are the containers'."""
    found = []
    for service in (one for one in objects if one["kind"] == "Service"):
        selector, space = service["spec"].get("selector", {}), service["metadata"]["namespace"]
        behind = [pod for pod in pods(objects) if pod.serves and pod.namespace == space and selects({"matchLabels": selector}, pod.labels)]  # fmt: skip  # noqa: E501
        if not selector or len(behind) != 1:
            found.append(f"{name_of(service)}: {len(behind)} workloads are behind it")
            continue
        ports = [port for container in behind[0].containers for port in container.get("ports", [])]
        open_ = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        for port in service["spec"]["ports"]:
            if port.get("targetPort", port["port"]) not in open_:
                found.append(f"{name_of(service)}: no container has the port {port['name']}")
    return found


def references_lead_somewhere(objects: list[Object]) -> list[str]:
    """What pods and bindings refer to is among the objects, or in the page's table of what is the user's."""
    there = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects}
    made = {("Secret", one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects if one["kind"] == "ExternalSecret"}  # fmt: skip  # noqa: E501
    keys = {(one["metadata"]["namespace"], one["metadata"]["name"]): set(one.get("data", {})) for one in objects if one["kind"] == "ConfigMap"}  # fmt: skip  # noqa: E501
    table = yours()
    found = []
    for owner, kind, space, name, key in references(objects):
        # In a profile's namespace, the same things are there.
        user = table.get((kind, name))
        if user is None and (kind, space, name) not in there | made:
            found.append(f"{owner} refers to the {kind} {space}/{name}, which nobody makes")
        elif key and user is not None and key not in user.keys:
            found.append(f"{owner} refers to {key} of the {kind} {name}, which the page does not name")
        elif key and kind == "ConfigMap" and key not in keys[space, name]:
            found.append(f"{owner} refers to {key} of the {kind} {name}, which it lacks")
    return found


def references(objects: list[Object]) -> Iterator[tuple[str, str, str, str, str]]:
    """Owner, kind, namespace, name and key of everything that objects refer to."""
    for pod in pods(objects):
        space = _profile(objects, pod)
        yield pod.owner, "ServiceAccount", space, pod.spec.get("serviceAccountName", "default"), ""
        own = {volume["name"] for volume in pod.spec.get("volumes", [])} | _claimed(objects, pod)
        for volume in pod.spec.get("volumes", []):
            if "configMap" in volume:
                yield pod.owner, "ConfigMap", space, volume["configMap"]["name"], ""
            if "secret" in volume:
                yield pod.owner, "Secret", space, volume["secret"]["secretName"], ""
            if "persistentVolumeClaim" in volume:
                yield pod.owner, "PersistentVolumeClaim", space, volume["persistentVolumeClaim"]["claimName"], ""
        for container in pod.containers:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in own:
                    yield pod.owner, "Volume", space, mount["name"], ""
            for source in container.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        yield pod.owner, kind, space, source[field]["name"], ""
            for variable in container.get("env", []):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if field in variable.get("valueFrom", {}):
                        reference = variable["valueFrom"][field]
                        yield pod.owner, kind, space, reference["name"], reference["key"]
    for one in objects:
        owner, space = name_of(one), one["metadata"].get("namespace", "")
        if one["kind"] == "RoleBinding":
            yield owner, one["roleRef"]["kind"], space, one["roleRef"]["name"], ""
            for subject in one["subjects"]:
                yield owner, subject["kind"], subject["namespace"], subject["name"], ""
        if one["kind"] == "ExternalSecret":
            yield owner, one["spec"]["secretStoreRef"]["kind"], "", one["spec"]["secretStoreRef"]["name"], ""
            for entry in one["spec"]["data"]:
                yield owner, "Secret", space, one["spec"]["target"]["name"], entry["secretKey"]
        if one["kind"] == "LocalQueue":
            yield owner, "ClusterQueue", "", one["spec"]["clusterQueue"], ""
        if one["kind"] == "ClusterQueue":
            for group in one["spec"]["resourceGroups"]:
                for flavor in group["flavors"]:
                    yield owner, "ResourceFlavor", "", flavor["name"], ""
        if one["kind"] == "ConfigMap" and "providers" in one.get("data", {}):
            for name in re.findall(r"secretName: (\S+)", one["data"]["providers"]):
                for key in re.findall(r"(?:access|secret)KeyKey: (\S+)", one["data"]["providers"]):
                    yield owner, "Secret", space, name, key


def _claimed(objects: list[Object], pod: Pod) -> set[str]:
    kind, _, name = pod.owner.partition(" ")
    if kind != "StatefulSet":
        return set()
    space, _, name = name.partition("/")
    return {claim["metadata"]["name"] for claim in get(objects, kind, name, space)["spec"]["volumeClaimTemplates"]}


def budgets_mean_something(objects: list[Object]) -> list[str]:
    """A budget matches a workload, and does not promise more pods than there are."""
    found = []
    for budget in (one for one in objects if one["kind"] == "PodDisruptionBudget"):
        spec, space = budget["spec"], budget["metadata"]["namespace"]
        own = [pod for pod in pods(objects) if pod.namespace == space and selects(spec["selector"], pod.labels)]
        if len(own) != 1:
            found.append(f"{name_of(budget)}: {len(own)} workloads match it")
        elif "minAvailable" in spec and spec["minAvailable"] >= own[0].replicas:
            found.append(
                f"{name_of(budget)}: {own[0].replicas} pods can never be {spec['minAvailable']} during a drain"
            )
    return found


def nothing_scales_by_itself(objects: list[Object]) -> list[str]:
    """One PostgreSQL, one triggers service: an autoscaler would make a second."""
    return [name_of(one) for one in objects if "Autoscaler" in one["kind"]]


def jobs_are_bounded(objects: list[Object]) -> list[str]:
    """A CronJob never runs beside itself, and leaves few jobs behind; every job ends."""
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


def quota_is_enough(objects: list[Object]) -> list[str]:
    """All services, with one pod more of each Deployment that is replaced, fit into their namespace's quota."""
    hard = get(objects, "ResourceQuota", "services")["spec"]["hard"]
    needed: dict[str, float] = defaultdict(float)
    for pod in (pod for pod in pods(objects) if pod.namespace == "sidlsg"):
        more = pod.owner == "Deployment sidlsg/mlflow"
        for kind in ("requests", "limits"):
            for name in ("cpu", "memory", "ephemeral-storage"):
                first = [quantity(c["resources"][kind][name]) for c in pod.spec.get("initContainers", [])]
                rest = sum(quantity(c["resources"][kind][name]) for c in pod.spec["containers"])
                needed[f"{kind}.{name}"] += max([rest, *first]) * (pod.replicas + more)
        needed["pods"] += pod.replicas + more
    for one in objects:
        claims = one["spec"].get("volumeClaimTemplates", []) if one["kind"] == "StatefulSet" else []
        for claim in [*claims, *([one] if one["kind"] == "PersistentVolumeClaim" else [])]:
            needed["requests.storage"] += quantity(claim["spec"]["resources"]["requests"]["storage"])
            needed["persistentvolumeclaims"] += 1
    return [
        f"the quota of {name} is {hard[name]}, and {value} are needed"
        for name, value in needed.items()
        if name in hard and value > quantity(hard[name])
    ] + [f"there is no quota of {name}" for name in needed if name not in hard]


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


def no_tokens_without_need(objects: list[Object]) -> list[str]:
    """No pod of ours has Kubernetes' token for everything."""
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    return [
        f"{name_of(one)} mounts its token" for one in accounts if one.get("automountServiceAccountToken") is not False
    ] + [
        f"{pod.owner} mounts a token" for pod in pods(objects) if pod.spec.get("automountServiceAccountToken") is not False
    ]  # fmt: skip


def servers_are_probed(objects: list[Object]) -> list[str]:
    """What stays is asked whether it lives, and whether it is ready, at a port that it names."""
    found = []
    for pod in (pod for pod in pods(objects) if pod.serves):
        for container in pod.spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("readinessProbe", "livenessProbe"):
                asked = container.get(probe)
                if not asked:
                    found.append(f"{pod.owner}: {container['name']} has no {probe}")
                elif "httpGet" in asked and asked["httpGet"]["port"] not in ports:
                    found.append(f"{pod.owner}: the {probe} asks at a port that is not named")
    return found


def monitors_find_something(objects: list[Object]) -> list[str]:
    """What Prometheus is to scrape is there, or is a pipeline's step; and it is let in."""
    found = []
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "ServiceMonitor":
            services = [
                service
                for service in objects
                if service["kind"] == "Service"
                and service["metadata"]["namespace"] in spec["namespaceSelector"]["matchNames"]
                and selects(spec["selector"], service["metadata"].get("labels", {}))
            ]
            ports = {port["name"] for service in services for port in service["spec"]["ports"]}
            missing = {endpoint["port"] for endpoint in spec["endpoints"]} - ports
            found += [f"{name_of(one)}: no service has the port {port}" for port in missing]
        if one["kind"] == "PodMonitor":
            steps = labels_of_others()["pod"]
            if spec["namespaceSelector"]["matchNames"] != [one["metadata"]["namespace"]]:
                found.append(f"{name_of(one)} looks in another namespace")
            for term in spec["selector"]["matchExpressions"]:
                for value in term["values"]:
                    if not any(labels.get(term["key"]) == value for labels in steps):
                        found.append(f"{name_of(one)}: no step has the label {term['key']}: {value}")
    return found


def objects_are_in_their_place(objects: list[Object]) -> list[str]:
    """Each is ours by its label, in one of the two namespaces, and there once."""
    cluster = ("Namespace", "ResourceFlavor", "ClusterQueue", "ClusterTrainingRuntime")
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


POLICIES: tuple[Policy, ...] = (
    images_are_digests,
    resources_are_told,
    pods_are_restricted,
    no_secret_values,
    network_selectors_match,
    pods_are_denied_by_default,
    services_have_pods,
    references_lead_somewhere,
    budgets_mean_something,
    nothing_scales_by_itself,
    jobs_are_bounded,
    quota_is_enough,
    rights_are_least,
    no_tokens_without_need,
    servers_are_probed,
    monitors_find_something,
    objects_are_in_their_place,
)
