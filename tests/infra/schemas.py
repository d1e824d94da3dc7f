"""Short schemas of kinds that others define: what these manifests use of them, and nothing else.

Kubernetes' own kinds are validated by its own schemas. These were written from the projects' documentation, so that a
misspelt field is found; what the projects themselves check is more.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|[KMGT]i)?$"}
DURATION: Schema = {"type": "string", "pattern": r"^\d+[smhd]$"}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object of these fields and no others."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def several(item: Schema) -> Schema:
    """A list of one or more."""
    return {"type": "array", "items": item, "minItems": 1}


def mapping(value: Schema) -> Schema:
    """Texts to values."""
    return {"type": "object", "additionalProperties": value, "minProperties": 1}


LABELS = mapping({"type": "string"})
TERM = record({"key": TEXT, "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}}, {"values": several(TEXT)})
SELECTOR = record({}, {"matchLabels": LABELS, "matchExpressions": several(TERM)})
NAMES = record({"matchNames": several(TEXT)})
POD_TEMPLATE: Schema = {"type": "object", "required": ["metadata", "spec"]}
"""Validated as a pod elsewhere."""

SECRET_ENTRY = record({"secretKey": TEXT, "remoteRef": record({"key": TEXT, "property": TEXT})})
RAY_START = mapping({"type": "string"})
RELABEL = record(
    {"sourceLabels": several(TEXT)},
    {"regex": TEXT, "action": {"enum": ["keep", "drop", "replace"]}, "replacement": TEXT, "targetLabel": TEXT},
)
ENDPOINT: dict[str, Schema] = {"path": TEXT, "interval": DURATION}
ALERT = record(
    {
        "alert": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
        "expr": TEXT,
        "labels": record({"severity": {"enum": ["warning", "critical"]}}),
        "annotations": record({"summary": TEXT, "description": TEXT}),
    },
    {"for": DURATION},
)
QUOTA = record({"name": TEXT, "nominalQuota": QUANTITY})
FLAVOR = record({"name": TEXT, "resources": several(QUOTA)})

SPECS: dict[tuple[str, str], Schema | None] = {
    ("external-secrets.io/v1", "ExternalSecret"): record(
        {
            "refreshInterval": DURATION,
            "secretStoreRef": record({"kind": {"enum": ["SecretStore", "ClusterSecretStore"]}, "name": TEXT}),
            "target": record(
                {
                    "name": TEXT,
                    "creationPolicy": {"enum": ["Owner", "Orphan", "Merge", "None"]},
                    "deletionPolicy": {"enum": ["Delete", "Merge", "Retain"]},
                }
            ),
            "data": several(SECRET_ENTRY),
        }
    ),
    ("ray.io/v1", "RayCluster"): record(
        {
            "enableInTreeAutoscaling": {"type": "boolean"},
            "headGroupSpec": record({"rayStartParams": RAY_START, "template": POD_TEMPLATE}),
            "workerGroupSpecs": several(
                record(
                    {
                        "groupName": TEXT,
                        "replicas": COUNT,
                        "minReplicas": COUNT,
                        "maxReplicas": COUNT,
                        "rayStartParams": RAY_START,
                        "template": POD_TEMPLATE,
                    }
                )
            ),
        }
    ),
    ("kueue.x-k8s.io/v1beta2", "ResourceFlavor"): record(
        {},
        {
            "nodeLabels": LABELS,
            "tolerations": several(
                record(
                    {"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}},
                    {"value": TEXT, "effect": {"enum": ["NoSchedule", "NoExecute", "PreferNoSchedule"]}},
                )
            ),
        },
    ),
    ("kueue.x-k8s.io/v1beta2", "ClusterQueue"): record(
        {
            "namespaceSelector": SELECTOR,
            "queueingStrategy": {"enum": ["StrictFIFO", "BestEffortFIFO"]},
            "preemption": record(
                {"withinClusterQueue": {"enum": ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]}}
            ),
            "resourceGroups": several(record({"coveredResources": several(TEXT), "flavors": several(FLAVOR)})),
        }
    ),
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): record({"clusterQueue": TEXT}),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): record(
        {
            "selector": SELECTOR,
            "namespaceSelector": NAMES,
            "endpoints": several(record({"port": TEXT, **ENDPOINT})),
        }
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): record(
        {
            "selector": SELECTOR,
            "namespaceSelector": NAMES,
            "podMetricsEndpoints": several(record({**ENDPOINT, "relabelings": several(RELABEL)}, {"port": TEXT})),
        }
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): record(
        {"groups": several(record({"name": TEXT, "rules": several(ALERT)}))}
    ),
    # It has no `spec`.
    ("kueue.x-k8s.io/v1beta2", "WorkloadPriorityClass"): record({"value": {"type": "integer"}, "description": TEXT}),
    # By Kubeflow Trainer's own models.
    ("trainer.kubeflow.org/v1alpha1", "ClusterTrainingRuntime"): None,
}
"""API version and kind → schema of what is in the object beside its name: `spec`, for all but one."""
METADATA = record({"name": TEXT}, {"namespace": TEXT, "labels": LABELS, "annotations": LABELS})
