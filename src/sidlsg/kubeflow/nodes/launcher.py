"""The `distil` stage on several nodes: creates a TrainJob, waits for it, and downloads the student."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidlsg.distil.supervisor import on_sigterm
from sidlsg.kubeflow.nodes.cluster import Cluster, Object
from sidlsg.kubeflow.nodes.job_spec import Bundle
from sidlsg.kubeflow.nodes.manifest import SPEC, TRAINING, manifest
from sidlsg.kubeflow.nodes.monitor import NodeLogs, WatchIntervals, follow, has_condition, has_ended, remove
from sidlsg.kubeflow.nodes.settings import Nodes
from sidlsg.kubeflow.nodes.staging import Staging, heartbeat
from sidlsg.kubeflow.profile import RUN_LABEL
from sidlsg.runtime.errors import InputError, SidlsgError, StoppedError
from sidlsg.runtime.provenance import RUN_VARIABLE
from sidlsg.storage.files import refuse_foreign, require_writable
from sidlsg.storage.records import Student

DELETION_S = 300.0
"""How long a deleted job may still exist beyond its nodes' time to save their state."""


def run_of(pod: Object | None) -> str:
    """The pipeline run of this step; empty outside of one."""
    labels = (pod or {}).get("metadata", {}).get("labels", {})
    return os.environ.get(RUN_VARIABLE) or str(labels.get(RUN_LABEL, ""))


def owners_of(pod: Object | None, cluster: Cluster) -> list[Object]:
    """Owner references for the job: the pod's controller, or the pod itself.

    The workflow comes first, since a retried step runs in another pod and finds its job again. Across namespaces
    Kubernetes allows no owner.
    """
    if pod is None or cluster.namespace != cluster.own_namespace:
        return []
    metadata = pod["metadata"]
    itself = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    owner = next((each for each in metadata.get("ownerReferences", []) if each.get("controller")), itself)
    reference = {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
    # An object has one controller; and to block the owner's deletion would take one more right.
    return [reference | {"controller": False, "blockOwnerDeletion": False}]


def _stop() -> None:
    """End the step at the first SIGTERM."""
    _ignore_sigterm()
    raise StoppedError(
        "asked to end: the nodes were asked to save their state and end; run the same step again to resume"
    )


def _ignore_sigterm() -> None:
    """Finish what this process does, whatever asks it to end; only a main thread can."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def distil_on_nodes(
    bundle: Bundle,
    output: Path,
    nodes: Nodes,
    report: Callable[[str], None],
    cluster: Cluster | None = None,
    intervals: WatchIntervals | None = None,
) -> Student:
    """Distil a teacher on the nodes of a TrainJob. The same call again finds its job, and continues to wait.

    Unless the process is killed, the job, its pods and its staged files are deleted at the end, also after an error.

    Args:
        bundle: the job spec with its files.
        output: becomes the student's diffusers folder.
        nodes: the nodes.
        report: receives lines for the user, among them the nodes' logs.
        cluster: by default this pod's, or that of a kubeconfig.
        intervals: by default those of the nodes' timeouts.

    Raises:
        ClusterError: the cluster does not answer.
        InputError: an input, the nodes or the cluster's rights cannot be used.
        SidlsgError: the job failed, was deleted, or took too long; the same call resumes from the last checkpoint.
        StoppedError: the process was asked to end; the same call resumes.
    """
    spec, settings = bundle.spec, nodes.settings
    refuse_foreign(output, Student.FILE)
    require_writable(output.parent)
    nodes.require_shared("checkpoints", spec.checkpoints)
    if spec.values.batch % nodes.processes:
        raise InputError(
            f"batch {spec.values.batch} does not divide among {nodes.processes} processes "
            f"({nodes.nodes} nodes of {max(1, nodes.gpus_per_node)}); change nodes, gpus_per_node or the batch"
        )
    intervals = intervals or WatchIntervals(
        running=nodes.timeout_minutes * 60,
        queued=settings.queue_minutes * 60,
        deletion=settings.grace_seconds + DELETION_S,
    )
    with on_sigterm(_stop):
        return _Launch(bundle, nodes, report, cluster or Cluster(nodes.namespace), intervals).run(output)


@dataclass
class _Launch:
    """One step's work with one job."""

    bundle: Bundle
    nodes: Nodes
    report: Callable[[str], None]
    cluster: Cluster
    intervals: WatchIntervals

    def __post_init__(self) -> None:
        bundle, nodes, cluster = self.bundle, self.nodes, self.cluster
        cluster.reach()
        pod = cluster.own_pod()
        run, spec = run_of(pod), bundle.spec
        self.name = spec.job_name(run)
        self.staging = Staging(f"{nodes.handover.rstrip('/')}/{self.name}")
        self.wanted = manifest(
            self.name,
            cluster.namespace,
            nodes,
            staging=self.staging.uri,
            spec_sha256=spec.digest,
            training=spec.training,
            run=run,
            owners=owners_of(pod, cluster),
            environment=os.environ,
        )

    def run(self, output: Path) -> Student:
        try:
            job = self._find()
            with heartbeat(self.staging.store):
                if job is None:
                    self.staging.upload_inputs(self.bundle, self.report)
                    job = self._create()
                logs = NodeLogs(self.cluster, self.name, self.report)
                follow(self.cluster, job, logs, self.intervals, self.report)
            student = self.staging.download_student(self.bundle.spec, output)
        except _ForeignError:
            raise
        except BaseException:
            self._clean_up()
            raise
        self._clean_up()
        return student

    def _find(self) -> Object | None:
        """The job of an earlier attempt if it runs or brought a student; any other is removed."""
        self._refuse_other_writers()
        job = self.cluster.get(self.name)
        if job is None:
            return None
        if not job["metadata"].get("deletionTimestamp"):
            if has_condition(job, "Complete") and self.staging.has_student():
                self.report(f"TrainJob {self.name} of an earlier attempt is complete")
                return job
            if not has_ended(job):
                if job["metadata"].get("annotations", {}).get(SPEC) != self.wanted["metadata"]["annotations"][SPEC]:
                    raise _ForeignError(
                        f"TrainJob {self.name} is running with other nodes, image or settings than requested now; "
                        f"wait for it, or delete it: kubectl -n {self.cluster.namespace} delete trainjob {self.name}"
                    )
                self.report(f"TrainJob {self.name} of an earlier attempt is still running")
                return job
            NodeLogs(self.cluster, self.name, self.report).poll()
            self.report(f"TrainJob {self.name} of an earlier attempt ended without a student: a new one resumes")
        remove(self.cluster, job, self.intervals)
        return None

    def _create(self) -> Object:
        job = self.cluster.create(self.wanted)
        gpus = f"{self.nodes.gpus_per_node} GPUs each" if self.nodes.gpus_per_node else "no GPU"
        self.report(f"TrainJob {self.name} in namespace {self.cluster.namespace}: {self.nodes.nodes} nodes, {gpus}")
        self._refuse_other_writers(job)
        return job

    def _refuse_other_writers(self, own: Object | None = None) -> None:
        """Keep two jobs from writing the same checkpoints. Of two that start at the same time, the later gives up."""
        for job in self.cluster.labelled(TRAINING, self.wanted["metadata"]["labels"][TRAINING]):
            other = job["metadata"]["name"]
            if other == self.name or has_ended(job) or job["metadata"].get("deletionTimestamp"):
                continue
            if own is not None and _age(own) < _age(job):
                continue
            run = job["metadata"].get("labels", {}).get(RUN_LABEL, "")
            raise InputError(
                f"TrainJob {other}{f' of pipeline run {run}' if run else ''} writes the same checkpoints "
                f"({self.bundle.spec.checkpoints}: same recipe, teacher, prompts and seed); "
                "wait until it ends, and run again"
            )

    def _clean_up(self) -> None:
        """Delete the job and the staged files. What cannot be deleted is reported: the step's own outcome counts."""
        _ignore_sigterm()
        try:
            job = self.cluster.get(self.name)
            if job is not None:
                self.cluster.delete(job)
            # Before the wait, during which this pod may be killed; and after it, for a node may still have uploaded.
            self.staging.remove()
            if job is not None:
                remove(self.cluster, job, self.intervals)
                self.staging.remove()
        except SidlsgError as error:
            self.report(f"TrainJob {self.name} or files in {self.staging.uri} may be left: {error}")


class _ForeignError(InputError):
    """The job of this name belongs to another step, and must not be deleted."""


def _age(job: Object) -> tuple[str, str]:
    """Sorts jobs by their creation."""
    return str(job["metadata"].get("creationTimestamp", "")), job["metadata"]["name"]
