"""What each pod in the cluster must be like; a rule names those that are not."""

from __future__ import annotations

import re
from collections import defaultdict

from infra.cluster import Object, get, name_of, pods, quantity

_DIGEST = re.compile(r"[a-z0-9.-]+(:\d+)?/[a-z0-9./_-]+@sha256:[0-9a-f]{64}")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|STORE_URI|CREDENTIAL", re.IGNORECASE)
_PATH_NAME = re.compile(r"_(FILE|PATH)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s:@]+:[^/\s$@]+@")
"""In an address; a password that the shell puts in is none."""


def images_are_digests(objects: list[Object]) -> list[str]:
    """A tag can be moved: what was tested is not what runs."""
    return [
        f"{pod.owner}: {container['name']} runs {container['image']}, which is no digest"
        for pod in pods(objects)
        for container in pod.containers
        if not _DIGEST.fullmatch(container["image"])
    ]


def resources_are_set(objects: list[Object]) -> list[str]:
    """Requests and limits of every container, those that come first too."""
    found = []
    for pod in pods(objects):
        for container in pod.containers:
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory", "ephemeral-storage"} - set(resources.get(kind, {}))
                found += [f"{pod.owner}: {container['name']} has no {kind} of {name}" for name in sorted(missing)]
            for name, value in resources.get("requests", {}).items():
                if quantity(value) > quantity(resources.get("limits", {}).get(name, value)):
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
            given = {each["name"]: each["value"] for each in container.get("env", []) if each.get("value")}
            found += [f"{pod.owner}: {name} has a value" for name, value in given.items() if _is_secret(name, value)]
            words = [*container.get("command", []), *container.get("args", [])]
            if any(map(_LOGIN.search, words)):
                found.append(f"{pod.owner}: {container['name']} has a login in its words")
    for one in objects:
        given = one.get("data", {}) if one["kind"] == "ConfigMap" else {}
        found += [f"{name_of(one)}: {name} has a value" for name, value in given.items() if _is_secret(name, value)]
    return found


def _is_secret(name: str, value: str) -> bool:
    return bool(_LOGIN.search(value) or (_SECRET_NAME.search(name) and not _PATH_NAME.search(name)))


def no_tokens_without_need(objects: list[Object]) -> list[str]:
    """No pod of ours has Kubernetes' token for everything."""
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    return [
        f"{name_of(one)} mounts its token" for one in accounts if one.get("automountServiceAccountToken") is not False
    ] + [
        f"{pod.owner} mounts a token"
        for pod in pods(objects)
        if pod.spec.get("automountServiceAccountToken") is not False
    ]


def servers_are_probed(objects: list[Object]) -> list[str]:
    """What stays is asked whether it lives, and whether it is ready, at a port that it names."""
    found = []
    for pod in (pod for pod in pods(objects) if pod.serves):
        for container in pod.spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            missing = [probe for probe in ("readinessProbe", "livenessProbe") if not container.get(probe)]
            found += [f"{pod.owner}: {container['name']} has no {probe}" for probe in missing]
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                asked = container.get(probe, {})
                if "httpGet" in asked and asked["httpGet"]["port"] not in ports:
                    found.append(f"{pod.owner}: the {probe} asks at a port that is not named")
    return found


def rollouts_have_quota(objects: list[Object]) -> list[str]:
    """A rollout that is taken back fits: three revisions, of which what is served has all of its pods."""
    found = []
    for pod in (pod for pod in pods(objects) if pod.owner.startswith("InferenceService")):
        hard = get(objects, "ResourceQuota", "serving", pod.namespace)["spec"]["hard"]
        count = pod.replicas + 2
        if count > quantity(hard["pods"]):
            found.append(f"{pod.owner}: the quota has {hard['pods']} pods, and {count} are needed")
        for kind in ("requests", "limits"):
            for name, value in pod.spec["containers"][0]["resources"][kind].items():
                if count * quantity(value) > quantity(hard[f"{kind}.{name}"]):
                    found.append(
                        f"{pod.owner}: the quota of {kind}.{name} is {hard[f'{kind}.{name}']}, for {count} pods"
                    )
    return found


def quota_is_enough(objects: list[Object]) -> list[str]:
    """All services, with one pod more of each Deployment that is replaced, fit into their namespace's quota.

    And each container and claim is within the limit range.
    """
    hard = get(objects, "ResourceQuota", "services")["spec"]["hard"]
    largest = {one["type"]: one["max"] for one in get(objects, "LimitRange", "services")["spec"]["limits"]}
    needed: dict[str, float] = defaultdict(float)
    found = []
    for pod in (pod for pod in pods(objects) if pod.namespace == "sidlsg"):
        more = pod.owner == "Deployment sidlsg/mlflow"
        for kind in ("requests", "limits"):
            for name in ("cpu", "memory", "ephemeral-storage"):
                first = [quantity(c["resources"][kind][name]) for c in pod.spec.get("initContainers", [])]
                rest = sum(quantity(c["resources"][kind][name]) for c in pod.spec["containers"])
                needed[f"{kind}.{name}"] += max([rest, *first]) * (pod.replicas + more)
        needed["pods"] += pod.replicas + more
        for container in pod.containers:
            for name, most in largest["Container"].items():
                if quantity(container["resources"]["limits"][name]) > quantity(most):
                    found.append(f"{pod.owner}: {container['name']} has more {name} than a container may, {most}")
    for one in objects:
        claims = one["spec"].get("volumeClaimTemplates", []) if one["kind"] == "StatefulSet" else []
        for claim in [*claims, *([one] if one["kind"] == "PersistentVolumeClaim" else [])]:
            size = claim["spec"]["resources"]["requests"]["storage"]
            if quantity(size) > quantity(largest["PersistentVolumeClaim"]["storage"]):
                found.append(f"{name_of(one)}: {size} are more than a claim may have")
            needed["requests.storage"] += quantity(size)
            needed["persistentvolumeclaims"] += 1
    found += [f"there is no quota of {name}" for name in needed if name not in hard]
    return found + [
        f"the quota of {name} is {hard[name]}, and {value} are needed"
        for name, value in needed.items()
        if name in hard and value > quantity(hard[name])
    ]
