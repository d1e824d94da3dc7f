"""Talks to a cluster's API: each call with a timeout, again after a fault, and nothing is made twice."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from urllib3.exceptions import HTTPError

from sidlsg.kubeflow.nodes.kind import TRAIN_JOB, Kind
from sidlsg.runtime.deadline import CALL_S, deadline
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.runtime.parsing import parse_json

AGAIN = (408, 425, 429)
"""Codes below 500 that say that the same request may work later."""
_LONGEST = 600


class ClusterError(SidlsgError):
    """The cluster's API did not answer, or not as it should: the same command again is worth trying."""


def worth_another_try(status: int) -> bool:
    """Whether an answer's code says that the same request may work later; 0 is none."""
    return status in AGAIN or status >= 500 or status == 0


def status_of(error: Any) -> dict[str, Any]:
    """The `Status` object in a refusal's body, where it holds one."""
    try:
        body = parse_json(error.body or "{}")
    except (ValueError, TypeError):
        return {}
    return body if isinstance(body, dict) else {}


def meaning(error: Any, what: str, namespace: str, kind: Kind) -> SidlsgError:
    """The project's error for a refusal.

    Args:
        error: the client's ApiException.
        what: was asked, such as `create TrainJob distil-1`.
        namespace: where.
        kind: of the objects that the client works with.
    """
    said = " ".join(str(status_of(error).get("message") or error.reason or "no reason").split())[:_LONGEST]
    where = f"{what} in namespace {namespace}"
    if error.status == 401:
        return InputError(
            f"the cluster does not know who asks ({where}): {said}; "
            "give the step a service account, or a kubeconfig that is signed in"
        )
    if error.status == 403 and "cannot " in said:
        return InputError(
            f"{where} is forbidden: {said}; give the service account of this process these rights: {kind.rights}"
        )
    if error.status == 404 and "namespaces" in said:
        return InputError(f"{where}: {said}; give a namespace that is there")
    if error.status == 404:
        return InputError(f"{where}: this cluster has no {kind.name}s ({said}); {kind.install}")
    return InputError(f"the cluster refuses to {where} (code {error.status}): {said}; change what it names")


T = TypeVar("T")
Object = dict[str, Any]

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the name of its own."""


@dataclass(frozen=True, kw_only=True)
class ClusterTimeouts:
    """How long faults are borne, in seconds."""

    total: float = 30 * 60.0
    """Of one call: training goes on while a control plane is renewed."""
    reach: float = 120.0
    """Of the first call: a wrong address should not look like patience."""
    first: float = 0.5
    """Before the second attempt; doubled for each further one."""
    longest: float = 15.0
    connect: float = 5.0
    """Of one attempt."""
    read: float = 30.0
    """Of one attempt, between two pieces of its answer."""
    whole: float = CALL_S
    """Of one attempt, however steadily pieces arrive."""


class Cluster:
    """Objects of one kind, and pods, of one namespace."""

    def __init__(self, namespace: str = "", patience: ClusterTimeouts | None = None, kind: Kind = TRAIN_JOB) -> None:
        """Find the cluster: that of the pod, else the one that a kubeconfig names. Nothing is sent yet.

        Args:
            namespace: to work in; empty for the pod's own, or that of the kubeconfig's context.
            patience: with faults.
            kind: of the objects.

        Raises:
            InputError: no cluster is known here, or kfp's Kubernetes client is not installed.
        """
        try:
            from kubernetes import client
        except ImportError as error:
            raise InputError("kubernetes is not installed; pip install 'sidlsg[kfp]'") from error
        configuration = client.Configuration()
        # A request is repeated here, where it is known which may be.
        configuration.retries = False
        self.own_namespace = _configure(configuration)
        self.namespace = namespace or self.own_namespace
        connection = client.ApiClient(configuration)
        self._objects, self._core = client.CustomObjectsApi(connection), client.CoreV1Api(connection)
        self._options = client.V1DeleteOptions
        self._refused = client.exceptions.ApiException
        self._patience = patience or ClusterTimeouts()
        self._kind = kind
        self._place = (kind.group, kind.version, self.namespace, kind.plural)

    def reach(self) -> None:
        """Make sure that the cluster answers and has objects of this kind.

        Raises:
            ClusterError: it does not answer.
            InputError: it has none, or refuses.
        """
        self._do(f"list {self._kind.name}s", lambda **how: self._listed(limit=1, **how), self._patience.reach)

    def create(self, job: Object) -> Object:
        """Make a job; one of this name that is there already is taken for it.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        name = job["metadata"]["name"]
        try:
            return self._call(
                f"create {self._kind.name} {name}",
                lambda **how: self._objects.create_namespaced_custom_object(*self._place, job, **how),
            )
        except self._refused as error:
            # An answer that was lost: the job was made all the same.
            if error.status == 409 and (there := self.get(name)) is not None:
                return there
            raise meaning(error, f"create {self._kind.name} {name}", self.namespace, self._kind) from error

    def get(self, name: str) -> Object | None:
        """A job; None where there is none.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        what = f"read {self._kind.name} {name}"
        try:
            found: Object = self._call(
                what, lambda **how: self._objects.get_namespaced_custom_object(*self._place, name, **how)
            )
            return found
        except self._refused as error:
            if error.status == 404:
                return None
            raise meaning(error, what, self.namespace, self._kind) from error

    def patch(self, name: str, changes: Object) -> Object | None:
        """Change an object by a JSON merge patch.

        Args:
            name: of the object.
            changes: null deletes a field. With `metadata.resourceVersion`, an object that somebody changed since is
                left alone.

        Returns:
            The object as it is now; None where it was left alone. An answer that was lost may come to that too, so
            read the object again.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        what = f"change {self._kind.name} {name}"
        try:
            changed: Object = self._call(
                what, lambda **how: self._objects.patch_namespaced_custom_object(*self._place, name, changes, **how)
            )
            return changed
        except self._refused as error:
            if error.status == 409:
                return None
            raise meaning(error, what, self.namespace, self._kind) from error

    def labelled(self, label: str, value: str) -> list[Object]:
        """Jobs by a label.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        found = self._do(
            f"list {self._kind.name}s", lambda **how: self._listed(label_selector=f"{label}={value}", **how)
        )
        items: list[Object] = found["items"]
        return [item for item in items if item.get("metadata", {}).get("labels", {}).get(label) == value]

    def delete(self, job: Object) -> None:
        """Ask that a job and all that is its own be deleted; one that is gone, or has a successor, is fine.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        name, uid = job["metadata"]["name"], job["metadata"].get("uid")
        # The job stays until its pods are gone.
        options: dict[str, Any] = {"propagationPolicy": "Foreground"}
        if uid:
            options["preconditions"] = {"uid": uid}
        what = f"delete {self._kind.name} {name}"
        try:
            self._call(
                what,
                lambda **how: self._objects.delete_namespaced_custom_object(*self._place, name, body=options, **how),
            )
        except self._refused as error:
            if error.status not in (404, 409):
                raise meaning(error, what, self.namespace, self._kind) from error

    def pods(self, selector: str) -> list[Object]:
        """Pods by labels.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        found = self._do(
            "list pods",
            lambda **how: _json(
                self._core.list_namespaced_pod(self.namespace, label_selector=selector, _preload_content=False, **how)
            ),
        )
        items: list[Object] = found["items"]
        return items

    def log(self, pod: str, container: str, *, since_seconds: int | None = None, tail: int | None = None) -> str:
        """What a container wrote, each line with its time in front; nothing where it has no log yet, or no more.

        Raises:
            ClusterError: the cluster does not answer.
            InputError: it refuses.
        """
        options: dict[str, Any] = {"container": container, "timestamps": True, "_preload_content": False}
        if since_seconds is not None:
            options["since_seconds"] = since_seconds
        if tail is not None:
            options["tail_lines"] = tail
        what = f"read the log of pod {pod}"

        def read(**how: Any) -> str:
            answer = self._core.read_namespaced_pod_log(pod, self.namespace, **options, **how)
            return str(answer.data.decode(errors="replace"))

        try:
            return self._call(what, read)
        except self._refused as error:
            if error.status in (400, 404):  # not started, or deleted
                return ""
            raise meaning(error, what, self.namespace, self._kind) from error

    def own_pod(self) -> Object | None:
        """The pod that this process runs in; None where it is in none, or may not look."""
        if not _NAMESPACE.exists():
            return None
        name = os.environ.get("HOSTNAME") or socket.gethostname()
        with contextlib.suppress(self._refused):
            return self._call(
                f"read pod {name}",
                lambda **how: _json(
                    self._core.read_namespaced_pod(name, self.own_namespace, _preload_content=False, **how)
                ),
            )
        return None

    def _listed(self, **options: Any) -> Object:
        found = self._objects.list_namespaced_custom_object(*self._place, **options)
        if not isinstance(found, dict) or not isinstance(found.get("items"), list):
            raise ValueError("not a list")
        return found

    def _do(self, what: str, call: Callable[..., T], total: float | None = None) -> T:
        """As `_call`, with every refusal explained."""
        try:
            return self._call(what, call, total)
        except self._refused as error:
            raise meaning(error, what, self.namespace, self._kind) from error

    def _call(self, what: str, call: Callable[..., T], total: float | None = None) -> T:
        """A call's answer, asked for again until the patience ends.

        Raises:
            ApiException: the cluster refuses, and will refuse again.
            ClusterError: it does not answer.
        """
        patience = self._patience
        began, wait = time.monotonic(), patience.first
        while True:
            after = 0.0
            try:
                with deadline(patience.whole, "the cluster"):
                    answer = call(_request_timeout=(patience.connect, patience.read))
                if isinstance(answer, dict | str):
                    return answer
                reason = "an answer that is no object"
            except self._refused as error:
                if not worth_another_try(error.status):
                    raise
                reason, after = f"code {error.status}", _retry_after(error)
            except StorageError:
                reason = f"an answer that takes over {patience.whole:.0f} s"
            except (HTTPError, OSError, ValueError) as error:
                reason = type(error).__name__
            pause = max(after, wait * random.uniform(0.75, 1.25))
            if time.monotonic() - began + pause > (patience.total if total is None else total):
                raise ClusterError(
                    f"the cluster does not answer ({what}: {reason}) for {time.monotonic() - began:.0f} s; "
                    "see that its API can be reached from here, and run the step again"
                )
            time.sleep(pause)
            wait = min(wait * 2, patience.longest)


def _configure(configuration: Any) -> str:
    """Fill a client's configuration; the namespace that is one's own there."""
    from kubernetes import config

    try:
        config.load_incluster_config(client_configuration=configuration)
        return _NAMESPACE.read_text().strip()
    except config.ConfigException:
        pass
    # Given here: the client reads the variable when it is imported.
    file = os.environ.get("KUBECONFIG") or None
    try:
        config.load_kube_config(config_file=file, client_configuration=configuration)
        _, context = config.list_kube_config_contexts(config_file=file)
    except (config.ConfigException, OSError) as error:
        raise InputError(
            f"no cluster is known here ({error}); run this in a pod with a service account, or set KUBECONFIG"
        ) from error
    return str(context.get("context", {}).get("namespace") or "default")


def _json(answer: Any) -> Object:
    found = parse_json(answer.data)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _retry_after(error: Any) -> float:
    """The seconds that a server asks to wait, at most a minute."""
    try:
        return min(60.0, float((error.headers or {}).get("Retry-After", 0)))
    except (TypeError, ValueError):
        return 0.0
