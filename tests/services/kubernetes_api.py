"""An emulated Kubernetes API over real HTTP, with a controller that moves TrainJobs as a test's script says.

What kmock leaves out of an API server is added here: uids, times, label selectors, preconditions, deletion in the
foreground, logs. What kmock's own answers would not show of a bad network, `faults` and `FaultyProxy` do.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import aiohttp.web
import yaml
from kmock import KubernetesEmulator, KubernetesError, Request, Server, action, resource, subresource

TRAINJOBS = resource("trainer.kubeflow.org", "v1alpha1", "trainjobs")
PODS = resource("", "v1", "pods")
NAMESPACE = "team"
TOKEN = "a token of the tests, and of no other"
FOREGROUND = "foregroundDeletion"
STALL_S = 5.0

Step = Callable[["Api"], None]


class Api(KubernetesEmulator):
    """The API of a cluster with Kubeflow Trainer.

    `script` holds what the controller does, one step each time that somebody reads the job. `faults` holds what
    happens to the next requests, the first one first: a code, "reset" or "stall" before the request is carried out,
    "lost" or "cut" (within the answer) after it, "" for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Step] = []
        self.faults: list[str] = []
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        """Code and message by method and plural."""
        self.happened: Counter[str] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.logs: dict[str, list[str]] = {}
        self.ever: list[dict[str, Any]] = []
        """Every job that was made, as it was asked for."""
        self.controller: Step | None = None
        """Acts each time that somebody reads the job, when the script is at its end."""
        self.deleting: Callable[[Api], bool] = Api._gone
        """Whether what a deleted job has is gone, when somebody looks."""
        self.slow_to_go = 1
        """How often a deleted job is still there when somebody looks."""
        self.restarts = 0
        """How often the JobSet has started all nodes again."""
        self._stamp = itertools.count(1)
        self.resources[TRAINJOBS] = {"kind": "TrainJob", "namespaced": True}
        self.resources[PODS] = {"kind": "Pod", "namespaced": True}
        self[subresource("log")] << self._log
        self[action.LIST] << self._list

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        plural = request.resource.plural if request.resource else ""
        self.asked[(request.method.value, plural or "")] += 1
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise KubernetesError(status=401, reason="Unauthorized", message="Unauthorized")
        fault = self.faults.pop(0) if self.faults else ""
        if fault:
            self.happened[fault] += 1
        if fault == "stall":
            await asyncio.sleep(STALL_S)
        if fault in ("reset", "stall"):
            self._reset(request)
        if fault.isdigit():
            code = int(fault)
            headers = {"Retry-After": "0.01"} if code == 429 else {}
            return aiohttp.web.json_response({"kind": "Status", "code": code}, status=code, headers=headers)
        refusal = self.refusals.get((request.method.value, plural or ""))
        if refusal:
            code, message = refusal
            return aiohttp.web.json_response({"kind": "Status", "code": code, "message": message}, status=code)
        self._prepare(request)
        try:
            answer = await super()._handle(request)
        except KubernetesError:
            if fault == "lost":
                self._reset(request)
            raise
        if fault == "lost":
            self._reset(request)
        if fault == "cut":
            await self._cut(request, answer)
        return answer

    async def _cut(self, request: Request, answer: aiohttp.web.StreamResponse) -> None:
        """Send half of an answer."""
        assert isinstance(answer, aiohttp.web.Response) and isinstance(answer.body, bytes)
        half = aiohttp.web.StreamResponse(status=answer.status, headers={"Content-Length": str(len(answer.body))})
        half.content_type = answer.content_type
        await half.prepare(request._raw_request)
        await half.write(answer.body[: len(answer.body) // 2])
        self._reset(request)

    def _reset(self, request: Request) -> None:
        assert request._raw_request is not None and request._raw_request.transport is not None
        request._raw_request.transport.abort()
        raise KubernetesError(status=500, reason="the connection is gone")

    def _prepare(self, request: Request) -> None:
        """What a real server does besides."""
        if request.action == action.CREATE:
            if (there := self._of(request.resource, request.data["metadata"]["name"])) is not None:
                assert there
                raise KubernetesError(status=409, reason="AlreadyExists", message="already exists")
            if request.resource == TRAINJOBS:
                self.ever.append(copy.deepcopy(request.data))
            request.data["metadata"] |= self._born()
        elif request.action == action.DELETE:
            there = self._of(request.resource, request.name or "")
            options = request.data or {}
            wanted = options.get("preconditions", {}).get("uid")
            if there is not None and wanted not in (None, there["metadata"]["uid"]):
                raise KubernetesError(status=409, reason="Conflict", message="the uid is another")
            if there is not None and options.get("propagationPolicy") == "Foreground":
                self._patch(request.resource, there["metadata"]["name"], {"metadata": {"finalizers": [FOREGROUND]}})
        elif request.action == action.FETCH and request.resource == TRAINJOBS:
            self._control(request.name or "")

    def _born(self) -> dict[str, Any]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"uid": str(uuid.uuid4()), "creationTimestamp": now, "resourceVersion": str(next(self._stamp))}

    def _control(self, name: str) -> None:
        job = self._of(TRAINJOBS, name)
        if job is None:
            return
        if job["metadata"].get("deletionTimestamp"):
            if self.deleting(self):
                self.vanish(name)
        elif self.script:
            self.script.pop(0)(self)
        elif self.controller is not None:
            self.controller(self)

    def _gone(self) -> bool:
        self.slow_to_go -= 1
        return self.slow_to_go < 0

    def vanish(self, name: str) -> None:
        """The job and its pods are gone."""
        for pod in self.all_of(PODS):
            self.objects[PODS, NAMESPACE, pod["metadata"]["name"]].delete()
        self.objects[TRAINJOBS, NAMESPACE, name].delete()
        self.restarts = 0

    def _of(self, kind: Any, name: str) -> dict[str, Any] | None:
        found = [each for each in self.all_of(kind) if each["metadata"]["name"] == name]
        return found[0] if found else None

    def all_of(self, kind: Any) -> list[dict[str, Any]]:
        """All objects of a kind that are there."""
        return [o.raw for (k, _, _), o in self.objects.items() if k == kind and not o.deleted]

    def job(self) -> dict[str, Any]:
        """The only job."""
        (job,) = self.all_of(TRAINJOBS)
        return job

    def left(self) -> list[str]:
        """What is there."""
        return [each["metadata"]["name"] for kind in (TRAINJOBS, PODS) for each in self.all_of(kind)]

    def _patch(self, kind: Any, name: str, changes: dict[str, Any]) -> None:
        self.objects[kind, NAMESPACE, name].patch(changes)

    def set_condition(self, kind: str, status: bool, reason: str = "", message: str = "") -> None:
        """On the only job."""
        job = self.job()
        new = {"type": kind, "status": str(status), "reason": reason or kind, "message": message}
        kept = [each for each in job.get("status", {}).get("conditions", []) if each["type"] != kind]
        self._patch(TRAINJOBS, job["metadata"]["name"], {"status": {"conditions": [*kept, new]}})

    def add_job(self, job: dict[str, Any]) -> None:
        """Put a job there, as some earlier time left it."""
        made = copy.deepcopy(job)
        made["metadata"] |= self._born()
        self.objects[TRAINJOBS, NAMESPACE, made["metadata"]["name"]] = made

    def restart(self) -> None:
        """What JobSet does when a node failed: all pods go, and the next ones have other names and a higher count."""
        for pod in self.all_of(PODS):
            self.objects[PODS, NAMESPACE, pod["metadata"]["name"]].delete()
        self.restarts += 1

    def pod_name(self, node: int) -> str:
        """Of a node's pod in this attempt."""
        return f"{self.job()['metadata']['name']}-node-0-{node}-{'abcde' if not self.restarts else self.restarts}"

    def set_pod(self, node: int, phase: str = "Running", **status: Any) -> None:
        """A node's pod, made where there is none."""
        name = self.pod_name(node)
        key = (PODS, NAMESPACE, name)
        labels = {
            "jobset.sigs.k8s.io/jobset-name": self.job()["metadata"]["name"],
            "batch.kubernetes.io/job-completion-index": str(node),
            "jobset.sigs.k8s.io/restart-attempt": str(self.restarts),
        }
        if self._of(PODS, name) is None:
            self.objects[key] = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}
        self.objects[key].patch({"status": {"phase": phase, **status}})

    def say(self, node: int, *lines: str) -> None:
        """Lines in a node's log, each with a time of its own."""
        for line in lines:
            stamp = f"2026-01-01T00:00:00.{next(self._stamp):09}Z"
            self.logs.setdefault(self.pod_name(node), []).append(f"{stamp} {line}")

    async def _log(self, request: Request) -> bytes:
        if self._of(PODS, request.name or "") is None:
            raise KubernetesError(status=404, reason="NotFound", message="no such pod")
        lines = self.logs.get(request.name or "", [])
        if "tailLines" in request.params:
            lines = lines[-int(request.params["tailLines"]) :]
        return "".join(f"{line}\n" for line in lines).encode()

    async def _list(self, request: Request) -> dict[str, Any]:
        found = self.all_of(request.resource)
        for selector in filter(None, request.params.get("labelSelector", "").split(",")):
            key, _, value = selector.partition("=")
            found = [each for each in found if each["metadata"].get("labels", {}).get(key) == value]
        return {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": found}


class RunningApi:
    """`with RunningApi(folder) as running:` serves `running.api`; `running.kubeconfig` leads to it."""

    def __init__(self, folder: Path, make: Callable[[], Api] = Api) -> None:
        self.folder, self._make = folder, make
        self.loop = asyncio.new_event_loop()
        self._ready: Future[str] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve()), daemon=True)

    def __enter__(self) -> RunningApi:
        self._thread.start()
        self.address = self._ready.result(10)
        self.kubeconfig = self.configured(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        async with self._make() as self.api, Server(self.api) as server:
            self._ready.set_result(str(server.url).rstrip("/"))
            await self._end.wait()

    def configured(self, address: str, token: str = TOKEN) -> Path:
        """A kubeconfig for an address, which may be a proxy's."""
        path = self.folder / f"kubeconfig-{abs(hash((address, token)))}"
        named = {"cluster": "c", "user": "u", "namespace": NAMESPACE}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": named}],
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def do(self, what: Callable[[Api], Any]) -> Any:
        """Something in the server's own thread."""

        async def done() -> Any:
            return what(self.api)

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)


def queued(api: Api) -> None:
    """Kueue has not let the job in."""
    api.set_condition("Suspended", True)


def running(api: Api) -> None:
    """All nodes run."""
    api.set_condition("Suspended", False, "Resumed")
    for node in range(api.job()["spec"]["trainer"]["numNodes"]):
        api.set_pod(node)


def complete(api: Api) -> None:
    """All nodes ended well."""
    api.set_condition("Complete", True, "AllJobsCompleted")


def lost(node: int, code: int, *lines: str) -> Step:
    """One node ended, and JobSet has not acted yet."""

    def step(api: Api) -> None:
        api.say(node, *lines)
        ended = {"name": "node", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
        api.set_pod(node, "Failed", containerStatuses=[ended])

    return step


def restarted(api: Api) -> None:
    """JobSet starts all nodes again; the TrainJob itself says nothing of it."""
    api.restart()
    running(api)


def failed(node: int, code: int, *lines: str) -> Step:
    """One node ended, and so did the job."""

    def step(api: Api) -> None:
        lost(node, code, *lines)(api)
        api.set_condition("Failed", True, "FailedJobs", "jobset failed due to one or more job failures")

    return step


def says(node: int, *lines: str) -> Step:
    """A node writes."""
    return lambda api: api.say(node, *lines)
