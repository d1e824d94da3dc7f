"""A kind of objects that a cluster was extended by, with what a user needs to know of it when a request is refused."""

from __future__ import annotations

from dataclasses import dataclass

from sidlsg.kubeflow.nodes.manifest import GROUP, PLURAL, VERSION


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of custom objects."""

    group: str
    version: str
    plural: str
    name: str
    """In messages."""
    rights: str
    """What the service account of who asks needs in the objects' namespace."""
    install: str
    """What to do where the cluster lacks the kind."""


TRAIN_JOB = Kind(
    group=GROUP,
    version=VERSION,
    plural=PLURAL,
    name="TrainJob",
    rights="trainjobs.trainer.kubeflow.org: create, get, list, delete; pods: get, list; pods/log: get",
    install="Kubeflow Trainer v2 must be installed, or distil with one node",
)
