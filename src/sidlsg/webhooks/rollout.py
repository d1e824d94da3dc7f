"""Rolls a copied model out on a KServe InferenceService: a canary, its smoke evaluation, then all traffic or back.

The state is read from the object itself, so a service that was killed resumes. Each change is one patch for the version
of the object that was read: of two equal ones, the second is refused. KServe copies annotations to the pods, so a
changed annotation makes a new revision; they change with `storageUri` only, which makes one anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterTimeouts, Kind, Object
from sidlsg.registry.connection import connect, explained
from sidlsg.registry.versions import alias_version
from sidlsg.runtime.errors import InputError, StorageError
from sidlsg.serving.smoke import smoke
from sidlsg.webhooks.copies import FinishedCopy, copy_model
from sidlsg.webhooks.ledger import DONE, Cause, Ledger
from sidlsg.webhooks.rules import Serve
from sidlsg.webhooks.telemetry import log

INFERENCE_SERVICE = Kind(
    group="serving.kserve.io",
    version="v1beta1",
    plural="inferenceservices",
    name="InferenceService",
    rights="inferenceservices.serving.kserve.io: get, patch",
    install="install KServe with Knative",
)
ROLLOUT, PREVIOUS = "sidlsg.dev/rollout", "sidlsg.dev/previous-storage-uri"
REVISION, SINCE = "sidlsg.dev/revision-before", "sidlsg.dev/changed-at"
REFUSED = "sidlsg.dev/refused"
"""Annotations: the cause of the last rollout; the `storageUri` before it; the newest revision and the time, in seconds
since 1970, when `storageUri` changed; why the rollout was taken back."""
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
ROLLED_BACK = "rolled back"
"""Starts the result of a rollout that was taken back."""
MOVED_ON = "the alias points to another version now"


@dataclass(frozen=True, kw_only=True)
class State:
    """The rollout's state in an InferenceService."""

    stamp: str
    """The object's `resourceVersion`."""
    uri: str
    """`storageUri`; empty for none."""
    canary: int | None
    """`canaryTrafficPercent`."""
    annotations: dict[str, str]
    created: str
    """The newest revision; empty before there is one."""
    url: str
    """Of the newest revision alone; empty until it is ready."""

    @classmethod
    def of(cls, found: Object) -> State:
        """Read an object."""
        predictor = found.get("spec", {}).get("predictor", {})
        status = found.get("status", {}).get("components", {}).get("predictor", {})
        created = status.get("latestCreatedRevision", "")
        newest = [each for each in status.get("traffic", []) if each.get("tag") == "latest"]
        ready = status.get("latestReadyRevision") == created and newest and newest[0].get("revisionName") == created
        return cls(
            stamp=found["metadata"].get("resourceVersion", ""),
            uri=predictor.get("model", {}).get("storageUri", ""),
            canary=predictor.get("canaryTrafficPercent"),
            annotations=found["metadata"].get("annotations", {}),
            created=created,
            url=newest[0].get("url", "") if ready else "",
        )

    def noted(self, name: str) -> str:
        """An annotation; empty if there is none."""
        return self.annotations.get(name, "")

    @property
    def is_ready(self) -> bool:
        """Whether the revision that the last change of `storageUri` made is ready."""
        return bool(self.url) and self.created != self.noted(REVISION)

    @property
    def age_minutes(self) -> float:
        """Time since `storageUri` was changed."""
        return (time.time() - float(self.noted(SINCE) or time.time())) / 60

    @property
    def served_before(self) -> str:
        """The `storageUri` to return to, also where another rollout was left unfinished."""
        unfinished = self.canary is not None and self.noted(ROLLOUT) and not self.noted(REFUSED)
        return self.noted(PREVIOUS) if unfinished else self.uri


def services_of(target: Serve) -> Cluster:
    """A client for the InferenceServices in a target's namespace."""
    # A failing request is given up soon, so that other causes do not wait.
    return Cluster(target.namespace, ClusterTimeouts(total=10.0), INFERENCE_SERVICE)


class Rollout:
    """One rollout, taken a step at a time; nothing in it waits."""

    def __init__(self, cause: str, target: Serve, copy: FinishedCopy, is_current: Callable[[], bool]) -> None:
        """Nothing is sent yet. `is_current` returns whether the alias still points to the version."""
        self._cause, self._target, self._copy, self._is_current = cause, target, copy, is_current
        self._cluster = services_of(target)
        self._smoke = _Smoke(target.service, copy.sha256)

    def step(self) -> str | None:
        """Take the next step if it is due. Returns the result of the rollout; None until it has one.

        Raises:
            InputError: there is no such InferenceService, or the cluster refuses.
            SidlsgError: the cluster does not answer, or the canary does not answer yet.
        """
        name = self._target.service
        found = self._cluster.get(name)
        if found is None:
            raise InputError(
                f"there is no InferenceService {name!r} in namespace {self._cluster.namespace}; "
                "apply infra/components/serving, or name another in 'service'"
            )
        state = State.of(found)
        if state.noted(ROLLOUT) != self._cause:
            if state.uri == self._copy.uri and state.canary is None:
                return f"{state.uri} was served already"
            if TAG_ROUTING not in state.annotations:
                raise InputError(f'InferenceService {name!r} lacks the annotation {TAG_ROUTING}: "true"; set it')
            predictor = {"canaryTrafficPercent": self._target.canary_percent, "model": {"storageUri": self._copy.uri}}
            annotations = {ROLLOUT: self._cause, PREVIOUS: state.served_before, REFUSED: None}
            self._change(state, "canary", predictor, **annotations)
            return None
        if state.noted(REFUSED):
            return self._finish_back(state)
        if state.uri != self._copy.uri:
            return f"left alone: somebody set storageUri to {state.uri!r} meanwhile"
        if state.canary is None:
            return f"{state.uri} is served"
        reason = self._refusal(state)
        if reason is None:
            return None
        if reason:
            self._back(state, reason)
        else:
            self._change(state, "promoted", {"canaryTrafficPercent": None})
        return None

    def _refusal(self, state: State) -> str | None:
        """Why the canary is refused; empty if it is good, None until that is known."""
        if not self._is_current():
            return MOVED_ON
        late = state.age_minutes > self._target.ready_minutes
        if not state.is_ready:
            return f"no canary is ready after {self._target.ready_minutes:g} minutes" if late else None
        try:
            return self._smoke.result(state.url)
        except StorageError as error:
            if late:
                return str(error)
            raise

    def _back(self, state: State, reason: str) -> None:
        """Send all traffic to the previous model, and make its revision the newest."""
        previous = state.noted(PREVIOUS)
        # Until the restored revision starts, the refused one is the newest, and must get nothing. Without a previous
        # model there is no revision to wait for.
        changes = {"canaryTrafficPercent": 0 if previous else None, "model": {"storageUri": previous or None}}
        self._change(state, ROLLED_BACK, changes, **{REFUSED: reason})

    def _finish_back(self, state: State) -> str | None:
        result = f"{ROLLED_BACK} to {state.uri or 'nothing'}: {state.noted(REFUSED)}"
        if state.canary is None:
            return result
        if state.is_ready:
            self._change(state, "restored", {"canaryTrafficPercent": None})
        elif state.age_minutes > self._target.ready_minutes:
            return f"{result}; the restored revision is not ready, so all traffic stays on the one before"
        return None

    def _change(self, state: State, event: str, predictor: dict[str, Any], **notes: str | None) -> None:
        """Patch the object, unless it changed since it was read."""
        metadata: dict[str, Any] = {"resourceVersion": state.stamp}
        if "model" in predictor:
            metadata["annotations"] = notes | {REVISION: state.created, SINCE: f"{time.time():.0f}"}
        changed = self._cluster.patch(self._target.service, {"metadata": metadata, "spec": {"predictor": predictor}})
        if changed is not None:
            why = {"why": reason} if (reason := notes.get(REFUSED)) else {}
            log(event, name=self._cause, service=self._target.service, uri=self._copy.uri, **why)


class _Smoke:
    """The smoke evaluation, in a thread: a large model's images take minutes."""

    def __init__(self, name: str, sha256: str) -> None:
        self._name, self._sha256 = name, sha256
        self._outcome: Future[str] | None = None

    def result(self, url: str) -> str | None:
        """Why the server at `url` is refused, empty if it is good; None until that is known.

        Raises:
            StorageError: the server did not answer; the next call asks it again.
        """
        if self._outcome is None:
            self._outcome = Future()
            # A daemon does not keep the process from ending, as an executor's thread would.
            threading.Thread(target=self._evaluate, args=(url, self._outcome), daemon=True).start()
            return None
        if not self._outcome.done():
            return None
        outcome, self._outcome = self._outcome, None
        return outcome.result()

    def _evaluate(self, url: str, outcome: Future[str]) -> None:
        try:
            outcome.set_result(smoke(url, self._name, self._sha256))
        except StorageError as error:
            outcome.set_exception(error)
        except Exception as error:  # such as an image that cannot be read
            outcome.set_result(f"the smoke evaluation failed ({type(error).__name__}: {error})")


class Rollouts:
    """The rollouts that have no result yet, one for each cause."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._under_way: dict[str, Rollout] = {}

    def step(self, cause: Cause) -> str | None:
        """Copy the model the first time, then take the rollout's next step. Returns its result; None until it has one.

        Raises:
            SidlsgError: something failed that the next call tries again.
        """
        wanted = cause.action["serve"]
        rollout = self._under_way.get(cause.name)
        if rollout is None:
            is_current = partial(_is_current, wanted["model"], wanted["version"], wanted["alias"], self._uri)
            target = Serve(**{name: wanted[name] for name in Serve.model_fields})
            # A rollout that was begun is taken back by its own steps.
            if not is_current() and not _has_begun(cause.name, target):
                return f"left alone: {MOVED_ON}"
            copy = copy_model(wanted["model"], wanted["version"], wanted["alias"], wanted["to"], self._uri)
            rollout = self._under_way[cause.name] = Rollout(cause.name, target, copy, is_current)
        result = rollout.step()
        if result is not None:
            del self._under_way[cause.name]
        return result


def _has_begun(cause: str, target: Serve) -> bool:
    """Whether the InferenceService has a rollout of this cause, finished or not."""
    found = services_of(target).get(target.service)
    return found is not None and State.of(found).noted(ROLLOUT) == cause


@explained
def _is_current(model: str, version: str, alias: str, tracking_uri: str) -> bool:
    """Whether an alias points to a version."""
    return alias_version(connect(tracking_uri), model, alias) == int(version)


def service_of(action: Mapping[str, Any]) -> tuple[str, str] | None:
    """Namespace and name of the InferenceService that an action changes, or None."""
    wanted = action.get("serve")
    return None if wanted is None else (wanted["namespace"], wanted["service"])


def first_of_each_service(causes: Iterable[Cause]) -> list[Cause]:
    """The causes that do not wait for an older rollout on the same InferenceService."""
    chosen, busy = [], set()
    for cause in causes:
        service = service_of(cause.action)
        if service is None or service not in busy:
            chosen.append(cause)
            busy.add(service)
    return chosen


def rolled_back(ledger: Ledger) -> dict[str, str]:
    """Why the last rollout of an InferenceService was rolled back, by the cause's name."""
    last = {
        service: (cause.name, result)
        for cause, state, result, _ in ledger.causes()
        if state == DONE and (service := service_of(cause.action)) is not None
    }
    return {name: result for name, result in last.values() if result.startswith(ROLLED_BACK)}
