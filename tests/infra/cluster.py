"""What kustomize makes of a folder of `infra/`: its objects, and the pods among them."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
OVERLAYS = ("local", "team", "production")
COMPONENTS = ("external-secrets", "ray", "trainer", "kueue", "monitoring", "serving", "external-s3", "multi-user")
EVERYTHING = ("external-secrets", "ray", "trainer", "kueue", "monitoring", "serving")
"""What may be used together with SeaweedFS and one user."""
CONFIGURATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (name, ()) for name in OVERLAYS},
    **{f"local+{name}": ("local", (name,)) for name in COMPONENTS},
    "local+serving-to-zero": ("local", ("serving", "serving-to-zero")),
    "local+all": ("local", EVERYTHING),
    "local+all+external-s3": ("local", (*EVERYTHING, "external-s3")),
    "local+all+multi-user": ("local", (*EVERYTHING, "multi-user")),
    "production+external-s3+multi-user": ("production", ("external-s3", "multi-user")),
}
"""Name → overlay and the components added to it."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes."""

    owner: str
    namespace: str
    labels: dict[str, str]
    spec: Object
    replicas: int = 1
    serves: bool = False
    """It is there to stay, and not to do one thing."""

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def kustomize(folder: Path) -> str:
    """The text that `kubectl kustomize` prints.

    Raises:
        AssertionError: it refuses the folder; with what it says.
    """
    program = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([str(program), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Warnings of fields that will go, for example.
    assert not done.stderr, done.stderr
    return done.stdout


@cache
def _rendered(overlay: str, components: tuple[str, ...]) -> list[Object]:
    if not components:
        return parsed(kustomize(INFRA / "overlays" / overlay))
    with tempfile.TemporaryDirectory() as temporary:
        infra = Path(temporary) / "infra"
        shutil.copytree(INFRA, infra)
        file = infra / "overlays" / overlay / "kustomization.yaml"
        content = yaml.safe_load(file.read_text())
        added = [name for name in components if f"../../components/{name}" not in content.get("components", [])]
        content["components"] = [*content.get("components", []), *(f"../../components/{name}" for name in added)]
        # What a user does who adds a component with its own image.
        known = {image["name"] for image in content["images"]}
        content["images"] += [
            {"name": name, "newName": f"registry.example.com/sidlsg/{name}", "digest": f"sha256:{'0' * 64}"}
            for name in ("sidlsg-curate", "sidlsg-train", "sidlsg-serve")
            if name not in known
        ]
        file.write_text(yaml.safe_dump(content))
        return parsed(kustomize(file.parent))


def rendered(configuration: str) -> list[Object]:
    """The objects of a configuration; a copy, to be changed at will."""
    return copy.deepcopy(_rendered(*CONFIGURATIONS[configuration]))


def parsed(text: str) -> list[Object]:
    """The objects of a text."""
    return [found for found in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if found]


def name_of(found: Object) -> str:
    """Kind, namespace and name, for messages."""
    meta = found["metadata"]
    return f"{found['kind']} {meta.get('namespace', '')}/{meta['name']}"


def get(objects: Iterable[Object], kind: str, name: str, namespace: str = "sidlsg") -> Object:
    """The object of that name.

    Raises:
        LookupError: there is none.
    """
    for found in objects:
        meta = found["metadata"]
        if found["kind"] == kind and meta["name"] == name and meta.get("namespace", "") == namespace:
            return found
    raise LookupError(f"no {kind} {namespace}/{name}")


def served(objects: Iterable[Object], service: Object) -> Object:
    """What KServe makes of an InferenceService and its ServingRuntime: a pod's template."""
    predictor = service["spec"]["predictor"]
    runtime = get(objects, "ServingRuntime", predictor["model"]["runtime"], service["metadata"]["namespace"])["spec"]
    fields = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks")
    # Knative takes the container's security context, and no pod's.
    common = {
        name: value
        for name, value in runtime["containers"][0]["securityContext"].items()
        if name in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")
    }
    spec = {name: predictor[name] for name in fields} | {"securityContext": common}
    spec |= {name: runtime[name] for name in ("containers", "volumes")}
    return {"metadata": {"labels": service["metadata"]["labels"]}, "spec": spec}


def pods(objects: Iterable[Object]) -> Iterator[Pod]:
    """Every pod that the objects make, those of Ray, Trainer and KServe too."""
    objects = list(objects)
    for found in objects:
        spec, meta = found.get("spec", {}), found["metadata"]
        namespace, owner = meta.get("namespace", "kubeflow"), name_of(found)
        templates: list[tuple[Object, int, bool]] = []
        match found["kind"]:
            case "Deployment" | "StatefulSet":
                templates = [(spec["template"], spec.get("replicas", 1), True)]
            case "Job":
                templates = [(spec["template"], 1, False)]
            case "CronJob":
                templates = [(spec["jobTemplate"]["spec"]["template"], 1, False)]
            case "RayCluster":
                groups = spec["workerGroupSpecs"]
                templates = [(spec["headGroupSpec"]["template"], 1, True)]
                templates += [(group["template"], group["replicas"], True) for group in groups]
            case "ClusterTrainingRuntime":
                nodes = spec["mlPolicy"]["numNodes"]
                jobs = spec["template"]["spec"]["replicatedJobs"]
                templates = [(job["template"]["spec"]["template"], nodes, False) for job in jobs]
            case "InferenceService":
                templates = [(served(objects, found), spec["predictor"]["maxReplicas"], True)]
        for template, replicas, serves in templates:
            labels = template["metadata"].get("labels", {})
            yield Pod(owner, namespace, labels, template["spec"], replicas, serves)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches labels; an empty one matches all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", []):
        value, values = labels.get(term["key"]), term.get("values", [])
        good = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[term["operator"]]
        if not good:
            return False
    return True


def quantity(text: str | int) -> float:
    """A quantity of Kubernetes as a number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    word = str(text)
    for unit, factor in units.items():
        if word.endswith(unit):
            return float(word.removesuffix(unit)) * factor
    return float(word)


def words(container: Object) -> Sequence[str]:
    """The command line of a container."""
    return [*container.get("command", []), *container.get("args", [])]
