"""Watches a TrainJob to its end: waiting in a queue, running, complete, failed, deleted by somebody, or too late.

It asks again and again, and keeps no connection open: what cuts a stream of changes off cuts nothing off here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, Object
from sidlsg.kubeflow.nodes.logs import NodeLogs
from sidlsg.runtime.errors import SidlsgError

AGAIN = "the same step again goes on from the last checkpoint"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Times in seconds: how often to look and to tell, and when to give up."""

    running: float
    """How long nodes may run; the cluster ends them itself then, and this step a little later."""
    queued: float
    """How long a queue may take."""
    poll: float = 5.0
    told: float = 600.0
    """Between two reports of a job that waits."""
    margin: float = 120.0
    """What the cluster is given to end a job that took too long."""
    gone: float = 900.0
    """How long a deleted job may take to be gone."""


def condition(job: Object, kind: str) -> dict[str, Any] | None:
    """A job's condition of that kind, where it holds."""
    for each in job.get("status", {}).get("conditions", []):
        if each.get("type") == kind and each.get("status") == "True":
            found: dict[str, Any] = each
            return found
    return None


def is_complete(job: Object) -> bool:
    """Whether all nodes ended well."""
    return condition(job, "Complete") is not None


def has_ended(job: Object) -> bool:
    """Whether it will not go on."""
    return is_complete(job) or condition(job, "Failed") is not None


def is_queued(job: Object) -> bool:
    """Whether it waits to be let in."""
    return condition(job, "Suspended") is not None or bool(job.get("spec", {}).get("suspend"))


def same(job: Object | None, other: Object) -> bool:
    """Whether a job is that very one, and not another of its name."""
    return job is not None and job["metadata"].get("uid") == other["metadata"].get("uid")


def follow(cluster: Cluster, job: Object, logs: NodeLogs, pace: Pace, report: Callable[[str], None]) -> None:
    """Wait until a job is complete, and pass on what its nodes say.

    Raises:
        ClusterError: the cluster does not answer.
        SidlsgError: the job failed, was deleted, or took too long.
    """
    name = job["metadata"]["name"]
    began = {"queued": 0.0, "running": 0.0}
    state, told, then = "", 0.0, time.monotonic()
    while True:
        found = cluster.get(name)
        if found is None or not same(found, job) or found["metadata"].get("deletionTimestamp"):
            raise SidlsgError(f"TrainJob {name} was deleted while this step waited for it; {AGAIN}")
        logs.poll()
        if is_complete(found):
            report(f"TrainJob {name} is complete")
            return
        if (failed := condition(found, "Failed")) is not None:
            raise SidlsgError(_failure(name, failed, logs))
        now = time.monotonic()
        queued = is_queued(found)
        began["queued" if queued else "running"] += now - then
        then = now
        if state != str(queued) or (queued and now - told >= pace.told):
            state, told = str(queued), now
            report(f"TrainJob {name} {_waiting(began['queued']) if queued else 'runs'}")
        if began["running"] > pace.running + pace.margin:
            raise SidlsgError(f"TrainJob {name} did not end within {pace.running / 60:g} minutes; {AGAIN}")
        if began["queued"] > pace.queued:
            raise SidlsgError(
                f"TrainJob {name} waited in its queue for {pace.queued / 60:g} minutes and was not let in; "
                "ask for less, wait longer (queue_minutes), or see to the queue's quota"
            )
        time.sleep(pace.poll)


def remove(cluster: Cluster, job: Object, pace: Pace) -> None:
    """Delete a job and wait until it is gone, and its pods with it.

    Raises:
        ClusterError: the cluster does not answer, or it is still there after long.
        InputError: the cluster refuses.
    """
    name = job["metadata"]["name"]
    cluster.delete(job)
    end = time.monotonic() + pace.gone
    while same(cluster.get(name), job):
        if time.monotonic() > end:
            raise SidlsgError(
                f"TrainJob {name} was asked to be deleted {pace.gone / 60:g} minutes ago and is still there; "
                "see which of its finalizers or pods holds it"
            )
        time.sleep(min(pace.poll, 1.0))


def _waiting(seconds: float) -> str:
    return f"waits in its queue{f', for {seconds / 60:.0f} minutes by now' if seconds >= 60 else ''}"


def _failure(name: str, failed: dict[str, Any], logs: NodeLogs) -> str:
    reason = ": ".join(str(failed[key]) for key in ("reason", "message") if failed.get(key))
    if failed.get("reason") == "DeadlineExceeded":
        return f"TrainJob {name} was ended by the cluster, for it took longer than it may ({reason}); {AGAIN}"
    nodes = f"; {'; '.join(logs.failures)}" if logs.failures else ""
    return f"TrainJob {name} failed ({reason or 'no reason'}){nodes}; see what the nodes said above; {AGAIN}"
