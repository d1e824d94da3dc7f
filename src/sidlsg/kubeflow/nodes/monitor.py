"""Watches a TrainJob to its end: waiting in a queue, running, complete, failed, deleted by somebody, or too late.

It asks again and again, and keeps no connection open: what cuts a stream of changes off cuts nothing off here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterError, Object
from sidlsg.kubeflow.nodes.manifest import NODE
from sidlsg.runtime.errors import InputError, SidlsgError

JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
"""The label of a job's pods: a TrainJob's JobSet has its name."""
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
ATTEMPT_LABEL = "jobset.sigs.k8s.io/restart-attempt"
"""The label that counts, from 0, how often the JobSet has started all nodes again."""
FIRST_LINES = 1000
"""Of the leading node, where there are more when they are first asked for."""
LAST_LINES = 40
"""Of a node that failed."""
_OVERLAP_S = 5
"""Asked for again, and left out: the cluster's clock and this one's differ."""


class NodeLogs:
    """Passes on what the pods of one job say and do."""

    def __init__(self, cluster: Cluster, job: str, report: Callable[[str], None]) -> None:
        self.failures: list[str] = []
        """In words, of each pod of the newest attempt that failed."""
        self._cluster, self._job, self._report = cluster, job, report
        self._states: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._refused = False
        self._attempt: int | None = None

    def poll(self) -> None:
        """Pass on what is new. A right that lacks is told once; a cluster that does not answer, not at all."""
        if self._refused:
            return
        try:
            pods = self._cluster.pods(f"{JOB_LABEL}={self._job}")
            if pods:
                self._notice_restart(max(map(_attempt, pods)))
            # Those of an earlier attempt are being deleted.
            for pod in sorted((pod for pod in pods if _attempt(pod) == self._attempt), key=_index):
                self._look(pod)
        except InputError as error:
            self._refused = True
            self._report(f"nothing is known of the nodes, and training goes on: {error}")
        except ClusterError as error:
            self._report(f"nothing is known of the nodes for now: {error}")

    def _notice_restart(self, attempt: int) -> None:
        if self._attempt is not None and attempt > self._attempt:
            why = f" after: {'; '.join(self.failures)}" if self.failures else ""
            self._report(f"the cluster restarts all nodes from the newest checkpoint (restart {attempt}){why}")
            self.failures = []
        self._attempt = max(attempt, self._attempt or 0)

    def _look(self, pod: Object) -> None:
        name, node = pod["metadata"]["name"], f"node {_index(pod)}"
        state = state_of(pod)
        leads = _index(pod) == 0
        if leads:
            self._pass_on(name, node)
        if self._states.get(name) == state:
            return
        self._states[name] = state
        self._report(f"{node} ({name}): {state}")
        if pod.get("status", {}).get("phase") == "Failed":
            self.failures.append(f"{node} {state}")
            if not leads:
                self._tail(name, node)

    def _pass_on(self, pod: str, node: str) -> None:
        now = time.monotonic()
        if pod in self._asked:
            since = math.ceil(now - self._asked[pod]) + _OVERLAP_S
            text = self._cluster.log(pod, NODE, since_seconds=since)
        else:
            text = self._cluster.log(pod, NODE, tail=FIRST_LINES)
        if text:
            self._asked[pod] = now
        last = self._last.get(pod, "")
        for stamp, line in _lines(text):
            if stamp > last:
                self._last[pod] = stamp
                self._report(f"{node} | {line}")

    def _tail(self, pod: str, node: str) -> None:
        for _, line in _lines(self._cluster.log(pod, NODE, tail=LAST_LINES)):
            self._report(f"{node} | {line}")


def state_of(pod: Object) -> str:
    """In words, what a pod does, waits for, or ended with."""
    status = pod.get("status", {})
    phase = str(status.get("phase", "Pending"))
    for container in status.get("containerStatuses", []):
        if container.get("name") != NODE:
            continue
        state: dict[str, Any] = container.get("state", {})
        if ended := state.get("terminated"):
            return f"ended with exit code {ended.get('exitCode')}{_because(ended.get('reason'))}"
        if waiting := state.get("waiting"):
            return f"waits{_because(waiting.get('reason'), waiting.get('message'))}"
    if phase == "Failed":
        return f"failed{_because(status.get('reason'), status.get('message'))}"
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"waits for a place{_because(condition.get('reason'), condition.get('message'))}"
    return phase.lower()


def _because(*reasons: str | None) -> str:
    given = ": ".join(" ".join(reason.split()) for reason in reasons if reason and reason not in ("Error", "Completed"))
    return f" ({given})" if given else ""


def _index(pod: Object) -> int:
    return int(pod["metadata"].get("labels", {}).get(INDEX_LABEL, "0"))


def _attempt(pod: Object) -> int:
    return int(pod["metadata"].get("labels", {}).get(ATTEMPT_LABEL, "0"))


def _lines(text: str) -> list[tuple[str, str]]:
    """Each line's time and text. Times are compared as texts, so all are made equally long."""
    found = []
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        seconds, _, fraction = stamp.removesuffix("Z").partition(".")
        found.append((f"{seconds}.{fraction:<09}", rest))
    return found


AGAIN = "the same step again goes on from the last checkpoint"


@dataclass(frozen=True, kw_only=True)
class WatchIntervals:
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


def follow(cluster: Cluster, job: Object, logs: NodeLogs, pace: WatchIntervals, report: Callable[[str], None]) -> None:
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


def remove(cluster: Cluster, job: Object, pace: WatchIntervals) -> None:
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
