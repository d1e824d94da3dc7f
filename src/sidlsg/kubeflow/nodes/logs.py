"""What a job's nodes say: the leading one's lines as they come, any other's when it fails, and what each waits for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, Object
from sidlsg.kubeflow.nodes.manifest import NODE
from sidlsg.kubeflow.nodes.refusals import ClusterError
from sidlsg.runtime.errors import InputError

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
