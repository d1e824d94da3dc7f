"""The step that a run failed in, and its error, as Kubernetes still knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, Patience
from sidlsg.kubeflow.stages import RUN_LABEL, STAGE_LABEL
from sidlsg.runtime.errors import SidlsgError, first_line

NOTIFY = "notify"
"""The stage that asks."""
CONTAINER = "main"
"""The container that runs a step."""
LAST_LINES = 200
_PATIENCE = Patience(total=60.0, reach=30.0)
_ERROR = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Interrupt)): (\S.*)")
"""The last line of a Python traceback."""


@dataclass(frozen=True, kw_only=True)
class FailedStep:
    """A step with its error."""

    step: str
    """Empty where it is not known."""
    error: str


def failed_step(run: str) -> FailedStep:
    """The step of a run that failed last.

    Never raises: what cannot be found out is said in `error`.

    Args:
        run: the id of the run.
    """
    try:
        cluster = Cluster(patience=_PATIENCE)
        pods = [pod for pod in cluster.pods(f"{RUN_LABEL}={run}") if _failed(pod)]
        if not pods:
            return FailedStep(step="", error="no pod of the run says why: see the run's page")
        pod = max(pods, key=lambda pod: str(_ended(pod).get("finishedAt", "")))
        step, log = pod["metadata"]["labels"][STAGE_LABEL], ""
        try:
            log = cluster.log(pod["metadata"]["name"], CONTAINER, tail=LAST_LINES)
        except SidlsgError as error:
            return FailedStep(step=step, error=f"{_exit(pod)} (its log: {first_line(error)})")
    except SidlsgError as error:
        return FailedStep(step="", error=f"the step is not known: {first_line(error)}")
    return FailedStep(step=step, error=_raised(log) or _exit(pod))


def _failed(pod: dict[str, Any]) -> bool:
    labels = pod.get("metadata", {}).get("labels", {})
    # An earlier try of this step is not why the run failed.
    return bool(labels.get(STAGE_LABEL, NOTIFY) != NOTIFY and pod.get("status", {}).get("phase") == "Failed")


def _ended(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or []
    states = [each.get("state") or {} for each in statuses if each["name"] == CONTAINER]
    ended: list[dict[str, Any]] = [state["terminated"] for state in states if "terminated" in state]
    return ended[0] if ended else {}


def _exit(pod: dict[str, Any]) -> str:
    ended = _ended(pod)
    if not ended:
        return str(pod["status"].get("message") or pod["status"].get("reason") or "its pod failed")
    return f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode')}"


def _raised(log: str) -> str:
    """The last error in a log whose lines begin with their times; empty where there is none."""
    lines = (line.partition(" ")[2].strip() for line in reversed(log.splitlines()))
    found = next((match for line in lines if (match := _ERROR.fullmatch(line))), None)
    return f"{found[1]}: {found[2]}" if found else ""
