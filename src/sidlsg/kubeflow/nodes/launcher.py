"""The `distil` stage on several nodes: starts a TrainJob, waits for it, and brings the student back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, Object
from sidlsg.kubeflow.nodes.handover import Handover, beating
from sidlsg.kubeflow.nodes.manifest import SPEC, TRAINING, manifest
from sidlsg.kubeflow.nodes.monitor import NodeLogs, WatchIntervals, follow, has_ended, is_complete, remove
from sidlsg.kubeflow.nodes.order import Bundle
from sidlsg.kubeflow.nodes.settings import Nodes
from sidlsg.kubeflow.profile import RUN_LABEL
from sidlsg.runtime.errors import InputError, SidlsgError, StoppedError
from sidlsg.runtime.provenance import RUN_VARIABLE
from sidlsg.storage.files import refuse_foreign, require_writable
from sidlsg.storage.records import Student


def run_of(pod: Object | None) -> str:
    """The pipeline run that this step belongs to; empty outside of one."""
    labels = (pod or {}).get("metadata", {}).get("labels", {})
    return os.environ.get(RUN_VARIABLE) or str(labels.get(RUN_LABEL, ""))


def owners_of(pod: Object | None, cluster: Cluster) -> list[dict[str, Any]]:
    """References for the job: to the pod's controller, else to the pod.

    A step that is tried again runs in another pod, and its job goes on: so the workflow comes first. None across
    namespaces, where Kubernetes allows no owner.
    """
    if pod is None or cluster.namespace != cluster.own_namespace:
        return []
    metadata = pod["metadata"]
    above = [each for each in metadata.get("ownerReferences", []) if each.get("controller")]
    owner = above[0] if above else {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    reference = {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
    # Only one owner controls; and to block its deletion would take a right more.
    return [reference | {"controller": False, "blockOwnerDeletion": False}]


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise in the block at once when the process is asked to end; a second request does not disturb the first's work.

    Only a main thread can.

    Raises:
        StoppedError: the process was asked to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminated(_: int, __: FrameType | None) -> None:
        undisturbed()
        raise StoppedError(
            "asked to end: the nodes were asked to save their state and end; the same step again goes on from there"
        )

    earlier: Any = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def undisturbed() -> None:
    """Let no request to end disturb what follows: it is the end. Until the surrounding `stoppable` is left."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


Report = Callable[[str], None]
GONE_S = 300.0
"""How long a deleted job may take beyond its nodes' time to save their state."""


def distil_on_nodes(
    parcel: Bundle,
    output: Path,
    nodes: Nodes,
    report: Report,
    cluster: Cluster | None = None,
    pace: WatchIntervals | None = None,
) -> Student:
    """Distil a teacher on the nodes of a TrainJob. The same call again finds its job, and goes on waiting.

    However it ends, but by a kill, the job, its pods and what lies in the handover are gone then.

    Args:
        parcel: what to do, with the files that it needs.
        output: becomes the student's diffusers folder.
        nodes: where to do it.
        report: receives lines for the user, among them what the nodes say.
        cluster: whose job it is; by default the one that this process is in, or that a kubeconfig names.
        pace: how often to look, and when to give up; by default as the nodes' timeouts say.

    Returns:
        The record that the leading node wrote, every file of it checked.

    Raises:
        ClusterError: the cluster does not answer.
        InputError: an input, the nodes or the cluster's rights cannot be used.
        SidlsgError: the job failed, was deleted, or took too long; the same call goes on from the last checkpoint.
        StoppedError: the process was asked to end; the same.
    """
    order = parcel.order
    refuse_foreign(output, Student.FILE)
    require_writable(output.parent)
    nodes.require_shared("checkpoints", order.checkpoints)
    if order.values.batch % nodes.processes:
        raise InputError(
            f"batch {order.values.batch} does not divide among {nodes.processes} processes "
            f"({nodes.nodes} nodes of {max(1, nodes.gpus_per_node)}); change nodes, gpus_per_node or the batch"
        )
    cluster = cluster or Cluster(nodes.namespace)
    settings = nodes.settings
    pace = pace or WatchIntervals(
        running=nodes.timeout_minutes * 60, queued=settings.queue_minutes * 60, gone=settings.grace_seconds + GONE_S
    )
    with stoppable():
        return _Launch(parcel, output, nodes, report, cluster, pace).run()


class _Launch:
    """One step's work with one job."""

    def __init__(
        self, parcel: Bundle, output: Path, nodes: Nodes, report: Report, cluster: Cluster, pace: WatchIntervals
    ) -> None:
        self.parcel, self.output, self.nodes, self.report, self.pace = parcel, output, nodes, report, pace
        self.cluster = cluster
        self.order = parcel.order
        cluster.reach()
        pod = cluster.own_pod()
        self.run_id = run_of(pod)
        self.name = self.order.job_name(self.run_id)
        self.handover = Handover(f"{nodes.handover.rstrip('/')}/{self.name}")
        self.wanted = manifest(
            self.name,
            cluster.namespace,
            nodes,
            handover=self.handover.place,
            order_sha256=self.order.digest,
            training=self.order.training,
            run=self.run_id,
            owners=owners_of(pod, cluster),
            environment=os.environ,
        )

    def run(self) -> Student:
        """From whatever an earlier attempt left to the student."""
        with self._cleaned_up():
            job = self._found()
            with beating(self.handover.store):
                if job is None:
                    self.handover.stage(self.parcel, self.report)
                    job = self._created()
                follow(self.cluster, job, NodeLogs(self.cluster, self.name, self.report), self.pace, self.report)
            return self.handover.take(self.order, self.output)

    def _found(self) -> Object | None:
        """The job of an earlier attempt, where it goes on or brought a student; one that ended otherwise is removed."""
        self._refuse_another()
        job = self.cluster.get(self.name)
        if job is None:
            return None
        if not job["metadata"].get("deletionTimestamp"):
            if is_complete(job) and self.handover.has_student():
                self.report(f"TrainJob {self.name} of an earlier attempt is complete")
                return job
            if not has_ended(job):
                self._require_same(job)
                self.report(f"TrainJob {self.name} of an earlier attempt goes on")
                return job
            NodeLogs(self.cluster, self.name, self.report).poll()
            self.report(f"TrainJob {self.name} of an earlier attempt has ended without a student: a new one goes on")
        remove(self.cluster, job, self.pace)
        return None

    def _created(self) -> Object:
        job = self.cluster.create(self.wanted)
        gpus = f"{self.nodes.gpus_per_node} GPUs each" if self.nodes.gpus_per_node else "no GPU"
        self.report(f"TrainJob {self.name} in namespace {self.cluster.namespace}: {self.nodes.nodes} nodes, {gpus}")
        self._refuse_another(job)
        return job

    def _require_same(self, job: Object) -> None:
        asked = self.wanted["metadata"]["annotations"][SPEC]
        if job["metadata"].get("annotations", {}).get(SPEC) != asked:
            raise _ForeignError(
                f"TrainJob {self.name} goes on with other nodes, image or settings than are asked for now; "
                f"wait for it, or delete it: kubectl -n {self.cluster.namespace} delete trainjob {self.name}"
            )

    def _refuse_another(self, own: Object | None = None) -> None:
        """Keep two jobs from writing the same checkpoints. Of two that start at one time, the later one gives up."""
        label = self.wanted["metadata"]["labels"][TRAINING]
        for job in self.cluster.labelled(TRAINING, label):
            other = job["metadata"]["name"]
            if other == self.name or has_ended(job) or job["metadata"].get("deletionTimestamp"):
                continue
            if own is not None and _age(own) < _age(job):
                continue
            run = job["metadata"].get("labels", {}).get(RUN_LABEL, "")
            raise InputError(
                f"TrainJob {other}{f' of pipeline run {run}' if run else ''} writes the same checkpoints "
                f"({self.order.checkpoints}: same recipe, teacher, prompts and seed); wait for its end, and run again"
            )

    @contextlib.contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        """Leave no job and no files, however the block ends."""
        try:
            yield
        except _ForeignError:
            raise
        except BaseException:
            self._clean_up()
            raise
        self._clean_up()

    def _clean_up(self) -> None:
        """What is left is told, and no more: how the block ended is what counts."""
        undisturbed()
        try:
            job = self.cluster.get(self.name)
            if job is not None:
                self.cluster.delete(job)
            # Before the wait, which a pod that is taken away may not live through; and after it, for a node may have
            # been handing over.
            self.handover.remove()
            if job is not None:
                remove(self.cluster, job, self.pace)
                self.handover.remove()
        except SidlsgError as error:
            self.report(f"TrainJob {self.name} or what lies in {self.handover.place} may be left: {error}")


class _ForeignError(InputError):
    """The job of this name is not this step's to delete."""


def _age(job: Object) -> tuple[str, str]:
    """Sorts jobs by their beginning."""
    return str(job["metadata"].get("creationTimestamp", "")), job["metadata"]["name"]
