"""A Kubernetes API client: each request has a deadline, is retried after faults, and makes nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from urllib3.exceptions import HTTPError

from sidlsg.runtime.deadline import CALL_S, deadline
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError
from sidlsg.runtime.parsing import parse_json

T = TypeVar("T")
Object = dict[str, Any]
_RETRIED = (0, 408, 425, 429)
"""Status codes below 500 after which the same request may work later; 0 is a request without an answer."""
_LONGEST = 600
"""Characters of a server's message."""
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Holds the name of a pod's own namespace."""


class ClusterError(SidlsgError):
    """The cluster's API did not answer, or gave an invalid answer; the same command may work later."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of custom objects, with what error messages say about it."""

    group: str
    version: str
    plural: str
    name: str
    rights: str
    """What the service account needs in the objects' namespace."""
    install: str
    """What to do where the cluster lacks the kind."""


TRAIN_JOB = Kind(
    group="trainer.kubeflow.org",
    version="v1alpha1",
    plural="trainjobs",
    name="TrainJob",
    rights="trainjobs.trainer.kubeflow.org: create, get, list, delete; pods: get, list; pods/log: get",
    install="Kubeflow Trainer v2 must be installed, or distil with one node",
)


@dataclass(frozen=True, kw_only=True)
class ClusterTimeouts:
    """How long requests are retried, in seconds."""

    total: float = 30 * 60.0
    """Of one call with all its attempts: training continues while a control plane is replaced."""
    reach: float = 120.0
    """`total` of the first call, so that a wrong address is reported soon."""
    first: float = 0.5
    """Before the second attempt; doubled for each further one."""
    longest: float = 15.0
    """Between two attempts."""
    connect: float = 5.0
    read: float = 30.0
    """Between two pieces of an answer."""
    whole: float = CALL_S
    """Of one attempt, however steadily pieces arrive."""


class Cluster:
    """Objects of one kind, and pods, of one namespace.

    Every method that sends a request raises `ClusterError` where the cluster does not answer and `InputError` where
    it refuses.
    """

    def __init__(self, namespace: str = "", timeouts: ClusterTimeouts | None = None, kind: Kind = TRAIN_JOB) -> None:
        """Find the cluster: the pod's own, or that of a kubeconfig. Nothing is sent yet.

        `namespace` is by default the pod's own, or that of the kubeconfig's context.

        Raises:
            InputError: no cluster is known here, or the Kubernetes client is not installed.
        """
        try:
            from kubernetes import client
        except ImportError as error:
            raise InputError("kubernetes is not installed; pip install 'sidlsg[kfp]'") from error
        configuration = client.Configuration()
        configuration.retries = False  # `_send` retries
        self.own_namespace = _configure(configuration)
        self.namespace = namespace or self.own_namespace
        api = client.ApiClient(configuration)
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._refused = client.exceptions.ApiException
        self._timeouts = timeouts or ClusterTimeouts()
        self._kind = kind
        self._path = (kind.group, kind.version, self.namespace, kind.plural)

    def reach(self) -> None:
        """Check that the cluster answers and has objects of this kind."""
        call = partial(self._objects.list_namespaced_custom_object, *self._path, limit=1)
        self._send(f"list {self._kind.name}s", call, _items, total=self._timeouts.reach)

    def create(self, job: Object) -> Object:
        """Create an object. One of this name that exists is returned: its creation's answer was lost."""
        name = job["metadata"]["name"]
        what = f"create {self._kind.name} {name}"
        call = partial(self._objects.create_namespaced_custom_object, *self._path, job)
        made = self._send(what, call, _object, accepted=(409,)) or self.get(name)
        if made is None:
            raise InputError(f"the cluster refuses to {what} (code 409), and none exists; run the step again")
        return made

    def get(self, name: str) -> Object | None:
        """An object; None where there is none."""
        call = partial(self._objects.get_namespaced_custom_object, *self._path, name)
        return self._send(f"read {self._kind.name} {name}", call, _object, accepted=(404,))

    def patch(self, name: str, changes: Object) -> Object | None:
        """Change an object by a JSON merge patch.

        With `metadata.resourceVersion` in the changes, an object that was changed since is left alone.

        Returns:
            The object as it is now; None if it was left alone. A lost answer may also lead to None, so read the object
            again.
        """
        call = partial(self._objects.patch_namespaced_custom_object, *self._path, name, changes)
        return self._send(f"change {self._kind.name} {name}", call, _object, accepted=(409,))

    def labelled(self, label: str, value: str) -> list[Object]:
        """Objects by a label."""
        call = partial(self._objects.list_namespaced_custom_object, *self._path, label_selector=f"{label}={value}")
        return self._send(f"list {self._kind.name}s", call, _items) or []

    def delete(self, job: Object) -> None:
        """Request deletion of an object and its dependents; nothing happens if it is gone or was replaced."""
        name, uid = job["metadata"]["name"], job["metadata"].get("uid")
        # In the foreground: the object stays until its pods are gone.
        options = {"propagationPolicy": "Foreground"} | ({"preconditions": {"uid": uid}} if uid else {})
        call = partial(self._objects.delete_namespaced_custom_object, *self._path, name, body=options)
        self._send(f"delete {self._kind.name} {name}", call, _object, accepted=(404, 409))

    def pods(self, selector: str) -> list[Object]:
        """Pods by labels."""
        call = partial(self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return self._send("list pods", call, _items) or []

    def log(self, pod: str, container: str, *, since_seconds: int | None = None, tail: int | None = None) -> str:
        """A container's log, each line after its time; empty where the container has no log yet, or is gone."""
        options = {"container": container, "timestamps": True, "since_seconds": since_seconds, "tail_lines": tail}
        given = {name: value for name, value in options.items() if value is not None}
        call = partial(self._core.read_namespaced_pod_log, pod, self.namespace, **given)
        return self._send(f"read the log of pod {pod}", call, _text, accepted=(400, 404)) or ""

    def own_pod(self) -> Object | None:
        """The pod of this process; None outside of a pod, or where it may not be read."""
        if not _NAMESPACE.exists():
            return None
        name = os.environ.get("HOSTNAME") or socket.gethostname()
        with contextlib.suppress(InputError):
            return self._send(
                f"read pod {name}", partial(self._core.read_namespaced_pod, name, self.own_namespace), _object
            )
        return None

    def _send(
        self,
        what: str,
        call: Callable[..., Any],
        read: Callable[[bytes], T],
        *,
        accepted: tuple[int, ...] = (),
        total: float | None = None,
    ) -> T | None:
        """Send a request until `read` accepts the answer; None after a refusal with one of the `accepted` codes.

        `what` names the request in messages. `read` raises ValueError for an invalid answer, which leads to a retry.
        """
        timeouts = self._timeouts
        began, wait = time.monotonic(), timeouts.first
        while True:
            after = 0.0
            try:
                with deadline(timeouts.whole, "the cluster"):
                    limits = (timeouts.connect, timeouts.read)
                    answer = call(_preload_content=False, _request_timeout=limits).data
                return read(answer)
            except self._refused as error:
                if error.status in accepted:
                    return None
                if error.status < 500 and error.status not in _RETRIED:
                    raise self._explained(error, what) from error
                reason, after = f"code {error.status}", _retry_after(error)
            except StorageError:
                reason = f"an answer that takes over {timeouts.whole:.0f} s"
            except (HTTPError, OSError, ValueError) as error:
                reason = type(error).__name__
            pause = max(after, wait * random.uniform(0.75, 1.25))
            passed = time.monotonic() - began
            if passed + pause > (timeouts.total if total is None else total):
                raise ClusterError(
                    f"the cluster does not answer ({what}: {reason}) for {passed:.0f} s; "
                    "check that its API can be reached from here, and run the step again"
                )
            time.sleep(pause)
            wait = min(wait * 2, timeouts.longest)

    def _explained(self, error: Any, what: str) -> InputError:
        """The project's error for a refusal, the client's ApiException."""
        kind = self._kind
        try:
            message = _object(error.body).get("message")
        except (ValueError, TypeError, AttributeError):
            message = None
        said = " ".join(str(message or error.reason or "no reason").split())[:_LONGEST]
        where = f"{what} in namespace {self.namespace}"
        if error.status == 401:
            return InputError(
                f"the cluster does not accept the credentials ({where}): {said}; "
                "give the step a service account, or a kubeconfig with a valid login"
            )
        if error.status == 403 and "cannot " in said:
            return InputError(
                f"{where} is forbidden: {said}; give the service account of this process these rights: {kind.rights}"
            )
        if error.status == 404 and "namespaces" in said:
            return InputError(f"{where}: {said}; give an existing namespace")
        if error.status == 404:
            return InputError(f"{where}: this cluster has no {kind.name}s ({said}); {kind.install}")
        return InputError(f"the cluster refuses to {where} (code {error.status}): {said}; change what it names")


def _configure(configuration: Any) -> str:
    """Fill a client's configuration, and return its own namespace."""
    from kubernetes import config

    try:
        config.load_incluster_config(client_configuration=configuration)
        return _NAMESPACE.read_text().strip()
    except config.ConfigException:
        pass
    # Passed on here: the client reads the variable when it is imported.
    file = os.environ.get("KUBECONFIG") or None
    try:
        config.load_kube_config(config_file=file, client_configuration=configuration)
        _, context = config.list_kube_config_contexts(config_file=file)
    except (config.ConfigException, OSError) as error:
        raise InputError(
            f"no cluster is known here ({error}); run this in a pod with a service account, or set KUBECONFIG"
        ) from error
    return str(context.get("context", {}).get("namespace") or "default")


def _object(content: str | bytes) -> Object:
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _items(content: bytes) -> list[Object]:
    items = _object(content).get("items")
    if not isinstance(items, list):
        raise ValueError("not a list")
    return items


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _retry_after(error: Any) -> float:
    """The seconds that a server asks to wait, at most a minute."""
    try:
        return min(60.0, float((error.headers or {}).get("Retry-After", 0)))
    except (TypeError, ValueError):
        return 0.0
