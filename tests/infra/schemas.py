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

PROBE = record(
    {"httpGet": record({"path": TEXT, "port": {"enum": ["http1"]}}), "periodSeconds": COUNT, "timeoutSeconds": COUNT},
    {"failureThreshold": COUNT},
)
SERVING_CONTAINER = record(
    {
        "name": {"enum": ["kserve-container"]},  # by which KServe finds it
        "image": TEXT,
        "command": several(TEXT),
        "args": several(TEXT),
        "env": several({"type": "object"}),
        # Knative takes one port, of this name or without one.
        "ports": {
            **several(record({"name": {"enum": ["http1"]}, "containerPort": COUNT, "protocol": TEXT})),
            "maxItems": 1,
        },
        "resources": {"type": "object"},
        "securityContext": {"type": "object"},
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "volumeMounts": several(record({"name": TEXT, "mountPath": TEXT})),
    }
)
MODEL_FORMAT = {"name": TEXT, "version": TEXT}

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
    ("serving.kserve.io/v1beta1", "InferenceService"): record(
        {
            "predictor": record(
                {
                    "serviceAccountName": TEXT,
                    "automountServiceAccountToken": {"enum": [False]},
                    "enableServiceLinks": {"enum": [False]},
                    "minReplicas": COUNT,
                    "maxReplicas": {"type": "integer", "minimum": 1},
                    "containerConcurrency": COUNT,
                    "timeout": {"type": "integer", "minimum": 1},
                    "model": record(
                        {
                            "modelFormat": record(MODEL_FORMAT),
                            "runtime": TEXT,
                            "protocolVersion": {"enum": ["v1", "v2"]},
                        },
                        {"storageUri": TEXT},
                    ),
                },
                {"canaryTrafficPercent": {"type": "integer", "minimum": 0, "maximum": 100}},
            )
        }
    ),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): record(
        {
            "annotations": LABELS,
            "supportedModelFormats": several(record({**MODEL_FORMAT, "autoSelect": {"type": "boolean"}})),
            "protocolVersions": several({"enum": ["v1", "v2"]}),
            "containers": {**several(SERVING_CONTAINER), "maxItems": 1},
            "volumes": several(record({"name": TEXT, "emptyDir": record({"sizeLimit": QUANTITY})})),
        }
    ),
    # By Kubeflow Trainer's own models.
    ("trainer.kubeflow.org/v1alpha1", "ClusterTrainingRuntime"): None,
}
"""API version and kind → schema of what is in the object besides its name: `spec`, for all but one."""
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "maxLength": 253}
PIPELINES: dict[str, Schema] = {
    "Pipeline": record({"displayName": TEXT}, {"description": TEXT}),
    "PipelineVersion": record(
        {
            "displayName": TEXT,
            # Kubeflow's own bound for a pipeline, shorter than Kubernetes'.
            "pipelineName": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$", "maxLength": 128},
            # The server parses both; its schema takes anything.
            "pipelineSpec": {"type": "object", "required": ["pipelineInfo", "root", "deploymentSpec", "components"]},
            "platformSpec": record({"platforms": record({"kubernetes": {"type": "object"}})}),
        },
        {"description": TEXT},
    ),
}
"""Kind → schema of `spec` for `pipelines.kubeflow.org/v2beta1`, which `sidlsg compile --manifest` writes. By Kubeflow
Pipelines 2.17.0: manifests/kustomize/base/crds and backend/src/apiserver/webhook."""
METADATA = record({"name": TEXT}, {"namespace": TEXT, "labels": LABELS, "annotations": LABELS})
