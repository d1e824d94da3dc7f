"""An emulated Kubernetes API with KServe and Knative: revisions, traffic, and the resource version of each patch.

As KServe's controller does, it copies the annotations to the revision's template, ignores `canaryTrafficPercent` until
a revision had all traffic, and gives traffic to the newest revision that is ready.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import aiohttp.web
from kmock import KubernetesError, Request, action, resource

from services.kubernetes_api import NAMESPACE, Api

SERVICES = resource("serving.kserve.io", "v1beta1", "inferenceservices")
NAME = "champion"
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": NAME,
        "namespace": NAMESPACE,
        "annotations": {"serving.kserve.io/enable-tag-routing": "true"},
    },
    "spec": {"predictor": {"minReplicas": 1, "model": {"modelFormat": {"name": "sidlsg-student"}}}},
}


class KServe(Api):
    """The API of a cluster with KServe and one InferenceService."""

    def __init__(self) -> None:
        super().__init__()
        self.resources[SERVICES] = {"kind": "InferenceService", "namespaced": True}
        made = copy.deepcopy(SERVICE)
        made["metadata"] |= self._born()  # type: ignore[operator]
        self.objects[SERVICES, NAMESPACE, NAME] = made
        self.addresses: dict[str, str] = {}
        """Address by storageUri; what has none never gets ready."""
        self.patches: list[dict[str, Any]] = []
        """Every patch that was carried out."""
        self.most: dict[str, int] = {}
        """The largest share of traffic that each storageUri ever had."""
        self.kill: Callable[[], None] | None = None
        """Ends the client at a random request, before or after it is carried out."""
        self.chance = random.Random(0)
        self._until_kill = 5
        self._revisions: list[dict[str, Any]] = []
        self._rolled_out = ""

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        when = self._moment(request) if request.resource == SERVICES else ""
        if when == "before" and self.kill is not None:
            self.kill()
            self._reset(request)
        answer = await super()._handle(request)
        if when == "after" and self.kill is not None:
            self.kill()
        return answer

    def _moment(self, request: Request) -> str:
        if self.kill is None:
            return ""
        self._until_kill -= 1
        # Between a patch and what the client makes of it most can go wrong.
        if self._until_kill > 0 and not (request.action == action.UPDATE and self.chance.random() < 0.5):
            return ""
        self._until_kill = self.chance.randint(1, 9)
        return self.chance.choice(["before", "after"])

    def _prepare(self, request: Request) -> None:
        if request.resource != SERVICES:
            super()._prepare(request)
        elif request.action == action.FETCH:
            self._reconcile()
        elif request.action == action.UPDATE:
            if request.data["metadata"].get("resourceVersion") != self.service()["metadata"]["resourceVersion"]:
                raise KubernetesError(status=409, reason="Conflict", message="the object has been modified")
            self.patches.append(copy.deepcopy(request.data))
            request.data["metadata"]["resourceVersion"] = str(next(self._stamp))

    def service(self) -> dict[str, Any]:
        """The InferenceService."""
        (found,) = self.all_of(SERVICES)
        return found

    @property
    def uri(self) -> str:
        """What it is to serve."""
        return str(self.service()["spec"]["predictor"]["model"].get("storageUri", ""))

    def _reconcile(self) -> None:
        service = self.service()
        template = [self.uri, dict(service["metadata"]["annotations"])]
        if not self._revisions or self._revisions[-1]["template"] != template:
            name = f"{NAME}-predictor-{len(self._revisions) + 1:05}"
            self._revisions.append({"name": name, "template": template, "reads": 0})
        for revision in self._revisions:
            revision["reads"] += 1
        ready = [each for each in self._revisions if each["reads"] > 2 and self.addresses.get(each["template"][0])]
        status = {"latestCreatedRevision": self._revisions[-1]["name"], "traffic": self._traffic(ready)}
        status["latestReadyRevision"] = ready[-1]["name"] if ready else ""
        predictor = {"status": {"components": {"predictor": status}}}
        if service.get("status") != predictor["status"]:
            stamp = {"metadata": {"resourceVersion": str(next(self._stamp))}}
            self._patch(SERVICES, NAME, predictor | stamp)

    def _traffic(self, ready: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not ready:
            return []
        newest = ready[-1]
        percent = self.service()["spec"]["predictor"].get("canaryTrafficPercent")
        split = percent is not None and self._rolled_out
        share = percent if split else 100
        url = self.addresses[newest["template"][0]]
        traffic = [
            {"revisionName": newest["name"], "latestRevision": True, "percent": share, "tag": "latest", "url": url}
        ]
        if split:
            traffic.append({"revisionName": self._rolled_out, "percent": 100 - share, "tag": "prev"})
        else:
            self._rolled_out = newest["name"]
        for each in traffic:
            (uri,) = [one["template"][0] for one in self._revisions if one["name"] == each["revisionName"]]
            self.most[uri] = max(self.most.get(uri, 0), each["percent"])
        return traffic
