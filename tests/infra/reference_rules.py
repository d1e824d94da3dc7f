"""What refers to something must find it; a rule names what does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.cluster import Object, Pod, get, name_of, pods, selects
from infra.page import labels_of_others, yours


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
            unknown = [part for part in parts if not any(part.items() <= own.items() for own in labels)]
            found += [f"{name_of(policy)}: nothing has the label {part}" for part in unknown]
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
        open_ = [direction for direction in ("Ingress", "Egress") if not any(direction in types for types in own)]
        found += [f"{pod.owner}: no network policy is about its {direction}" for direction in open_]
    return found


def _profile(objects: list[Object], pod: Pod) -> str:
    """Where the pods of an object without a namespace run: those of a TrainJob, in its own."""
    if not pod.owner.startswith("ClusterTrainingRuntime"):
        return pod.namespace
    rights = next(one for one in objects if one["kind"] == "Role" and one["metadata"]["name"] == "sidlsg-distil-nodes")
    return str(rights["metadata"]["namespace"])


def selectors_match_their_own_pods(objects: list[Object]) -> list[str]:
    """Kubernetes refuses a workload whose selector does not match its own template, and another one spreads nothing."""
    found = []
    for one in (one for one in objects if one["kind"] in ("Deployment", "StatefulSet")):
        template = one["spec"]["template"]
        spread = [each["labelSelector"] for each in template["spec"].get("topologySpreadConstraints", [])]
        labels = template["metadata"].get("labels", {})
        unmatched = [selector for selector in (one["spec"]["selector"], *spread) if not selects(selector, labels)]
        found += [f"{name_of(one)}: its own pods do not match {selector}" for selector in unmatched]
    return found


def services_have_pods(objects: list[Object]) -> list[str]:
    """Each Service has a workload, and its ports are the containers'."""
    found = []
    for service in (one for one in objects if one["kind"] == "Service"):
        selector, space = service["spec"].get("selector", {}), service["metadata"]["namespace"]
        behind = [
            pod
            for pod in pods(objects)
            if pod.serves and pod.namespace == space and selects({"matchLabels": selector}, pod.labels)
        ]
        if not selector or len(behind) != 1:
            found.append(f"{name_of(service)}: {len(behind)} workloads are behind it")
            continue
        ports = [port for container in behind[0].containers for port in container.get("ports", [])]
        open_ = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        closed = [port for port in service["spec"]["ports"] if port.get("targetPort", port["port"]) not in open_]
        found += [f"{name_of(service)}: no container has the port {port['name']}" for port in closed]
    return found


def references_lead_somewhere(objects: list[Object]) -> list[str]:
    """What pods and bindings refer to is among the objects, or in the page's table of what is the user's."""
    there = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects}
    made = {
        ("Secret", one["metadata"]["namespace"], one["metadata"]["name"])
        for one in objects
        if one["kind"] == "ExternalSecret"
    }
    keys = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): set(one.get("data", {}))
        for one in objects
        if one["kind"] == "ConfigMap"
    }
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
            for source in (volume, *volume.get("projected", {}).get("sources", [])):
                yield from _mounted(pod.owner, space, source)
            if "persistentVolumeClaim" in volume:
                yield pod.owner, "PersistentVolumeClaim", space, volume["persistentVolumeClaim"]["claimName"], ""
        for pull in pod.spec.get("imagePullSecrets", []):
            yield pod.owner, "Secret", space, pull["name"], ""
        if "priorityClassName" in pod.spec:
            yield pod.owner, "PriorityClass", "", pod.spec["priorityClassName"], ""
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
        if one["kind"] == "ServiceAccount":
            for secret in one.get("secrets", []):
                yield owner, "Secret", space, secret["name"], ""
        if one["kind"] == "StatefulSet":
            yield owner, "Service", space, one["spec"]["serviceName"], ""
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


def s3_keys_are_its_own(objects: list[Object]) -> list[str]:
    """Each S3 user's keys are in the pods of one component; only what tells the server of its users has them all."""
    users: dict[str, set[str]] = {}
    for owner, kind, space, name, _ in references(objects):
        if kind == "Secret" and name.startswith("sidlsg-s3-") and not owner.startswith(("StatefulSet", "External")):
            users.setdefault(f"{space}/{name}", set()).add(owner)
    mine = {
        "sidlsg/sidlsg-s3-buckets": {"Job sidlsg/buckets"},
        "sidlsg/sidlsg-s3-mlflow": {"Deployment sidlsg/mlflow"},
        "sidlsg/sidlsg-s3-triggers": {"Deployment sidlsg/triggers"},
        "sidlsg-serving/sidlsg-s3-serving": {"ServiceAccount sidlsg-serving/predictor"},
        "sidlsg/sidlsg-s3-backups": {"CronJob sidlsg/postgres-backup", "Job sidlsg/postgres-restore"},
    }
    found = [
        f"{owner} has the keys of {secret}"
        for secret, owners in users.items()
        for owner in sorted(owners - mine.get(secret, set()))
    ]
    for pod in (pod for pod in pods(objects) if pod.namespace == "sidlsg"):
        for container in pod.containers:
            names = [source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source]
            if "sidlsg-s3" in names and container["name"] != "identities":
                found.append(f"{pod.owner} has the keys of pipeline steps")
    return found


def _mounted(owner: str, space: str, source: Object) -> Iterator[tuple[str, str, str, str, str]]:
    for field, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if field in source:
            mounted = source[field]
            if mounted.get("name") == "kube-root-ca.crt":  # Kubernetes makes it in every namespace
                continue
            for item in mounted.get("items", [{"key": ""}]):
                yield owner, kind, space, mounted.get(name) or mounted["name"], item["key"]


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
