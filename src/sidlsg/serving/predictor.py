"""The predictor of an InferenceService: a registered model's own code behind KServe's v1 and v2 protocols."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidlsg import __version__
from sidlsg.registry.package import PATH_IN_MODEL, without_advice
from sidlsg.runtime.errors import InputError, SidlsgError, first_line
from sidlsg.runtime.parsing import parse_json
from sidlsg.serving.protocol import INPUTS, OUTPUTS, Predictions, V1Request, V2Request, parse, v2_answer
from sidlsg.serving.smoke import reference
from sidlsg.storage.files import SHA256SUMS, parse_sha256sums, sha256_file

BODY_BYTES = 4 << 20
"""Size of the largest request."""
_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Answer = Callable[[Request], Awaitable[Response]]


def verify_copy(folder: Path) -> str:
    """Check every file of a copied MLflow model before any of its code runs.

    Returns:
        Hex SHA-256 of `SHA256SUMS`, which identifies the copy.

    Raises:
        InputError: the folder is not a complete copy, or a file is missing, differs, or is not listed.
    """
    sums = folder / SHA256SUMS
    if not sums.is_file():
        raise InputError(f"{folder} has no {SHA256SUMS}; give a folder that the triggers service copied a model to")
    listed = parse_sha256sums(sums.read_text(encoding="utf-8", errors="replace"), str(sums))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SHA256SUMS}
    if unlike := sorted(present ^ set(listed)):
        state = "is not listed" if unlike[0] in present else "is missing"
        raise InputError(f"{folder / unlike[0]} {state} in {SHA256SUMS}; copy the model again")
    for name, digest in listed.items():
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} differs from its digest in {SHA256SUMS}; copy the model again")
    return sha256_file(sums)


class ServingMetrics:
    """The predictor's metrics for Prometheus, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "sidlsg_serving_request_seconds",
            "Time from a prediction request to its answer, waiting included",
            ["protocol"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.requests = Counter(
            "sidlsg_serving_requests", "Prediction requests, by status", ["protocol", "status"], registry=self.registry
        )
        self.images = Counter(
            "sidlsg_serving_images", "Generated images, by the safety checker", ["flagged"], registry=self.registry
        )
        for flagged in ("false", "true"):
            self.images.labels(flagged=flagged)


class Predictor:
    """A loaded model, which generates for one request at a time."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        """Check the folder of a copied MLflow model, then load the model.

        Args:
            folder: the copy.
            name: the served model's name.
            config: changes to the model's configuration, see docs/serve.md.

        Raises:
            InputError: the folder is not a complete copy, or the configuration is not allowed.
        """
        self.name = name
        self.version = verify_copy(folder)
        """Digest of the copy."""
        self.metrics = ServingMetrics()
        self._student = folder / PATH_IN_MODEL
        try:
            with without_advice():
                self._model = mlflow.pyfunc.load_model(str(folder), model_config=config)
        except MlflowException as error:
            raise InputError(f"the model in {folder} cannot be served: {error.message}") from error
        self._predicting, self._referring = threading.Lock(), threading.Lock()
        self._reference: Predictions = []

    def predict(self, request: V1Request | V2Request) -> Predictions:
        """Generate images.

        Raises:
            InputError: the request is not allowed.
            MlflowException: the model failed.
        """
        given = request.parameters.model_dump(exclude_none=True)
        try:
            with self._predicting:
                predictions: Predictions = self._model.predict(request.prompts, params=given or None)
        except MlflowException as error:
            if error.get_http_status_code() < 500:
                raise InputError(error.message) from error
            raise
        for images in predictions:
            for image in images:
                self.metrics.images.labels(flagged=str(image is None).lower()).inc()
        return predictions

    def reference(self) -> Predictions:
        """The smoke evaluation's images by `sidlsg generate`, cached after the first call.

        Raises:
            SidlsgError: `sidlsg generate` failed.
        """
        with self._referring:
            if not self._reference:
                self._reference = [list(images) for images in reference(self._student)]
        return self._reference


def application(predictor: Predictor) -> Starlette:
    """The web application of one loaded model."""
    name = predictor.name

    async def v1(request: Request) -> Response:
        body = parse(V1Request, await _body(request))
        return JSONResponse({"predictions": await run_in_threadpool(predictor.predict, body)})

    async def v2(request: Request) -> Response:
        body = parse(V2Request, await _body(request))
        images = await run_in_threadpool(predictor.predict, body)
        return JSONResponse(v2_answer(body, name, predictor.version, images))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(predictor.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def smoke_reference(_: Request) -> Response:
        try:
            return JSONResponse({"predictions": await run_in_threadpool(predictor.reference)})
        except SidlsgError as error:
            return JSONResponse({"error": str(error)}, status_code=500)

    metadata = {
        "name": name,
        "versions": [predictor.version],
        "platform": "mlflow_pyfunc",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }
    return Starlette(
        routes=[
            Route("/v1/models", _constant({"models": [name]})),
            Route(f"/v1/models/{name}", _constant({"name": name, "ready": True})),
            Route(f"/v1/models/{name}:predict", partial(_measured, predictor.metrics, "v1", v1), methods=["POST"]),
            Route("/v2", _constant({"name": "sidlsg", "version": __version__, "extensions": []})),
            Route("/v2/health/live", _constant({"live": True})),
            Route("/v2/health/ready", _constant({"ready": True})),
            Route(f"/v2/models/{name}", _constant(metadata)),
            Route(f"/v2/models/{name}/ready", _constant({"name": name, "ready": True})),
            Route(f"/v2/models/{name}/infer", partial(_measured, predictor.metrics, "v2", v2), methods=["POST"]),
            Route(f"/smoke/{name}", smoke_reference),
            Route("/metrics", metrics),
        ],
    )


def _constant(content: dict[str, Any]) -> Answer:
    async def answer(_: Request) -> Response:
        return JSONResponse(content)

    return answer


async def _measured(metrics: ServingMetrics, protocol: str, answer: Answer, request: Request) -> Response:
    """Answer, and count the answer with its time."""
    began = time.perf_counter()
    try:
        response = await answer(request)
    except InputError as error:
        response = JSONResponse({"error": str(error)}, status_code=400)
    except Exception as error:  # the model's code may raise anything, and each failure must be counted
        response = JSONResponse({"error": first_line(error)}, status_code=500)
    metrics.seconds.labels(protocol=protocol).observe(time.perf_counter() - began)
    metrics.requests.labels(protocol=protocol, status=str(response.status_code)).inc()
    return response


async def _body(request: Request) -> bytes:
    """The request's body; InputError if it is longer than `BODY_BYTES`."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise InputError(f"a request of more than {BODY_BYTES:,} bytes given; send several")
    return body


def configuration(text: str) -> dict[str, Any]:
    """Parse `SERVING_MODEL_CONFIG`, as MLflow's own server does.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        config = parse_json(text or "{}")
    except ValueError as error:
        raise InputError(f"SERVING_MODEL_CONFIG is {text!r}, which is not JSON; give an object") from error
    if not isinstance(config, dict):
        raise InputError(f'SERVING_MODEL_CONFIG is {text!r}; give an object such as {{"batch": 8}}')
    return config
