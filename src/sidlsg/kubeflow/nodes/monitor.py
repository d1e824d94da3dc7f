"""Watches a TrainJob until it is complete, failed, deleted or late, and passes on its nodes' logs.

The job is polled: a watch's open connection would be one more thing to break.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterError, Object
from sidlsg.kubeflow.nodes.manifest import NODE
from sidlsg.runtime.errors import InputError, SidlsgError

JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
"""The label of a job's pods: a TrainJob's JobSet has its name."""
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
ATTEMPT_LABEL = "jobset.sigs.k8s.io/restart-attempt"
"""Counts from 0 how often the JobSet has restarted all nodes."""
FIRST_LINES = 1000
"""Lines of node 0 that the first request for its log gets at most."""
LAST_LINES = 40
"""Lines of another node that failed."""
_OVERLAP_S = 5
"""Requested again and skipped: the cluster's clock and this one's differ."""
RESUME = "run the same step again to resume from the last checkpoint"


@dataclass(frozen=True, kw_only=True)
class WatchIntervals:
    """Times in seconds: how often to poll and report, and when to give up."""

    running: float
    """How long nodes may run; the cluster ends them after this time, and this step `margin` later."""
    queued: float
    poll: float = 5.0
    report: float = 600.0
    """Between two reports of a queued job."""
    margin: float = 120.0
    deletion: float = 900.0
    """How long a deleted job may still exist."""


class NodeLogs:
    """Reports the states and the logs of one job's pods."""

    def __init__(self, cluster: Cluster, job: str, report: Callable[[str], None]) -> None:
        self.failures: list[str] = []
        """A description of each failed pod of the newest attempt."""
        self._cluster, self._job, self._report = cluster, job, report
        self._states: dict[str, str] = {}
        self._last: dict[str, str] = {}
        """By pod: time of the last line that was reported."""
        self._polled: dict[str, float] = {}
        self._refused = False
        self._attempt: int | None = None

    def poll(self) -> None:
        """Report what is new. A missing right is reported once, and ends all further polls."""
        if self._refused:
            return
        try:
            pods = self._cluster.pods(f"{JOB_LABEL}={self._job}")
            if pods:
                self._note_restart(max(_number(pod, ATTEMPT_LABEL) for pod in pods))
            for pod in sorted(pods, key=_index):
                if _number(pod, ATTEMPT_LABEL) == self._attempt:  # those of an earlier attempt are being deleted
                    self._report_pod(pod)
        except InputError as error:
            self._refused = True
            self._report(f"nothing is known of the nodes, and training continues: {error}")
        except ClusterError as error:
            self._report(f"nothing is known of the nodes for now: {error}")

    def _note_restart(self, attempt: int) -> None:
        if self._attempt is not None and attempt > self._attempt:
            why = f" after: {'; '.join(self.failures)}" if self.failures else ""
            self._report(f"the cluster restarts all nodes from the newest checkpoint (restart {attempt}){why}")
            self.failures = []
        self._attempt = max(attempt, self._attempt or 0)

    def _report_pod(self, pod: Object) -> None:
        name, index, state = pod["metadata"]["name"], _index(pod), state_of(pod)
        if index == 0:
            self._report_log(name)
        if self._states.get(name) == state:
            return
        self._states[name] = state
        self._report(f"node {index} ({name}): {state}")
        if pod.get("status", {}).get("phase") == "Failed":
            self.failures.append(f"node {index} {state}")
            if index > 0:
                for _, line in _lines(self._cluster.log(name, NODE, tail=LAST_LINES)):
                    self._report(f"node {index} | {line}")

    def _report_log(self, pod: str) -> None:
        now = time.monotonic()
        if pod in self._polled:
            since = math.ceil(now - self._polled[pod]) + _OVERLAP_S
            text = self._cluster.log(pod, NODE, since_seconds=since)
        else:
            text = self._cluster.log(pod, NODE, tail=FIRST_LINES)
        if text:
            self._polled[pod] = now
        for stamp, line in _lines(text):
            if stamp > self._last.get(pod, ""):
                self._last[pod] = stamp
                self._report(f"node 0 | {line}")


def state_of(pod: Object, name: str = NODE) -> str:
    """A description of what a pod does, waits for, or ended with, by its container of this name."""
    status = pod.get("status", {})
    phase = str(status.get("phase", "Pending"))
    for container in status.get("containerStatuses") or []:
        if container.get("name") != name:
            continue
        state = container.get("state") or {}
        if ended := state.get("terminated"):
            return f"ended with exit code {ended.get('exitCode')}{_because(ended.get('reason'))}"
        if waiting := state.get("waiting"):
            return f"waits{_because(waiting.get('reason'), waiting.get('message'))}"
    if phase == "Failed":
        return f"failed{_because(status.get('reason'), status.get('message'))}"
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"waits to be scheduled{_because(condition.get('reason'), condition.get('message'))}"
    return phase.lower()


def _because(*reasons: str | None) -> str:
    given = ": ".join(" ".join(reason.split()) for reason in reasons if reason and reason not in ("Error", "Completed"))
    return f" ({given})" if given else ""


def _number(pod: Object, label: str) -> int:
    return int(pod["metadata"].get("labels", {}).get(label, "0"))


def _index(pod: Object) -> int:
    return _number(pod, INDEX_LABEL)


def _lines(text: str) -> list[tuple[str, str]]:
    """Each line's time and text. Times are compared as texts, so all get the same length."""
    found = []
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        seconds, _, fraction = stamp.removesuffix("Z").partition(".")
        found.append((f"{seconds}.{fraction:<09}", rest))
    return found


def has_condition(job: Object, kind: str) -> Object | None:
    """A job's condition of that kind, if it is true."""
    conditions: list[Object] = job.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each.get("type") == kind and each.get("status") == "True"), None)


def has_ended(job: Object) -> bool:
    """Whether a job is complete or failed."""
    return bool(has_condition(job, "Complete") or has_condition(job, "Failed"))


def _is_same(job: Object | None, other: Object) -> bool:
    """Whether a job is this very object, rather than another of its name."""
    return job is not None and job["metadata"].get("uid") == other["metadata"].get("uid")


def follow(
    cluster: Cluster, job: Object, logs: NodeLogs, intervals: WatchIntervals, report: Callable[[str], None]
) -> None:
    """Wait until a job is complete, and report what its nodes log.

    Raises:
        ClusterError: the cluster does not answer.
        SidlsgError: the job failed, was deleted, or took too long.
    """
    name = job["metadata"]["name"]
    seconds = {"queued": 0.0, "running": 0.0}
    state, reported, before = "", 0.0, time.monotonic()
    while True:
        found = cluster.get(name)
        if found is None or not _is_same(found, job) or found["metadata"].get("deletionTimestamp"):
            raise SidlsgError(f"TrainJob {name} was deleted while this step waited for it; {RESUME}")
        logs.poll()
        if has_condition(found, "Complete"):
            report(f"TrainJob {name} is complete")
            return
        if failed := has_condition(found, "Failed"):
            raise SidlsgError(_failure(name, failed, logs))
        now = time.monotonic()
        is_queued = has_condition(found, "Suspended") or found.get("spec", {}).get("suspend")
        earlier, state = state, "queued" if is_queued else "running"
        seconds[state] += now - before
        before = now
        if state != earlier or (is_queued and now - reported >= intervals.report):
            reported, minutes = now, seconds["queued"] / 60
            so_far = f", for {minutes:.0f} minutes so far" if minutes >= 1 else ""
            report(f"TrainJob {name} {f'waits in its queue{so_far}' if is_queued else 'runs'}")
        if seconds["running"] > intervals.running + intervals.margin:
            raise SidlsgError(f"TrainJob {name} did not end within {intervals.running / 60:g} minutes; {RESUME}")
        if seconds["queued"] > intervals.queued:
            raise SidlsgError(
                f"TrainJob {name} was not admitted by its queue within {intervals.queued / 60:g} minutes; "
                "request less, wait longer (queue_minutes), or check the queue's quota"
            )
        time.sleep(intervals.poll)


def remove(cluster: Cluster, job: Object, intervals: WatchIntervals) -> None:
    """Delete a job, and wait until it and its pods are gone.

    Raises:
        ClusterError: the cluster does not answer.
        InputError: the cluster refuses.
        SidlsgError: the job still exists after `WatchIntervals.deletion`.
    """
    name = job["metadata"]["name"]
    cluster.delete(job)
    end = time.monotonic() + intervals.deletion
    while _is_same(cluster.get(name), job):
        if time.monotonic() > end:
            raise SidlsgError(
                f"TrainJob {name} was deleted {intervals.deletion / 60:g} minutes ago and still exists; "
                "check which of its finalizers or pods holds it"
            )
        time.sleep(min(intervals.poll, 1.0))


def _failure(name: str, failed: Object, logs: NodeLogs) -> str:
    reason = ": ".join(str(failed[key]) for key in ("reason", "message") if failed.get(key))
    if failed.get("reason") == "DeadlineExceeded":
        return f"TrainJob {name} exceeded its timeout, and was ended by the cluster ({reason}); {RESUME}"
    nodes = f"; {'; '.join(logs.failures)}" if logs.failures else ""
    return f"TrainJob {name} failed ({reason or 'no reason'}){nodes}; see the nodes' logs above; {RESUME}"
