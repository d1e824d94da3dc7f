"""The predictor of an InferenceService: the registered model's own code behind KServe's v1 and v2 protocols."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidlsg import __version__
from sidlsg.runtime.errors import InputError, SidlsgError, first_line
from sidlsg.runtime.parsing import parse_json
from sidlsg.serving.folder import STUDENT, verify_copy
from sidlsg.serving.metrics import ServingMetrics
from sidlsg.serving.protocol import (
    INPUTS,
    OUTPUTS,
    Predictions,
    V1Request,
    V2Request,
    parse,
    v1_answer,
    v2_answer,
)
from sidlsg.serving.reference import reference

BODY_BYTES = 4 << 20
"""The longest request."""


class Predictor:
    """A loaded model, which generates for one request at a time."""

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        """Check the folder, then load the model.

        Args:
            folder: of the copied MLflow model.
            name: under which it is served.
            config: changes to the model's configuration, see docs/serve.md.

        Raises:
            InputError: the folder is no complete copy, or the configuration is not allowed.
        """
        self.name = name
        self.version = verify_copy(folder)
        """Digest that names the copy."""
        self.metrics = ServingMetrics()
        self._student = folder / STUDENT
        try:
            self._model = mlflow.pyfunc.load_model(str(folder), model_config=config)
        except MlflowException as error:
            raise InputError(f"the model in {folder} cannot be served: {error.message}") from error
        self._one = threading.Lock()
        self._reference: Predictions = []
        self._referring = threading.Lock()

    def predict(self, request: V1Request | V2Request) -> Predictions:
        """Generate images.

        Raises:
            InputError: the request asks for what is not allowed.
            MlflowException: the model failed.
        """
        given = request.parameters.model_dump(exclude_none=True)
        try:
            with self._one:
                images: Predictions = self._model.predict(request.prompts, params=given or None)
        except MlflowException as error:
            if error.get_http_status_code() < 500:
                raise InputError(error.message) from error
            raise
        for made in images:
            for image in made:
                self.metrics.images.labels(flagged=str(image is None).lower()).inc()
        return images

    def reference(self) -> Predictions:
        """The smoke evaluation's images by `sidlsg generate`, made when they are first asked for.

        Raises:
            SidlsgError: `sidlsg generate` failed.
        """
        with self._referring:
            if not self._reference:
                self._reference = [list(images) for images in reference(self._student)]
        return self._reference


def application(predictor: Predictor) -> Starlette:
    """The web application; it serves one model, which is loaded already."""
    name = predictor.name
    metadata = {
        "name": name,
        "versions": [predictor.version],
        "platform": "mlflow_pyfunc",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }

    async def v1(request: Request) -> Response:
        body = parse(V1Request, await _body(request))
        return JSONResponse(v1_answer(await run_in_threadpool(predictor.predict, body)))

    async def v2(request: Request) -> Response:
        body = parse(V2Request, await _body(request))
        images = await run_in_threadpool(predictor.predict, body)
        return JSONResponse(v2_answer(body, name, predictor.version, images))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(predictor.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def smoke_reference(_: Request) -> Response:
        try:
            return JSONResponse(v1_answer(await run_in_threadpool(predictor.reference)))
        except SidlsgError as error:
            return JSONResponse({"error": str(error)}, status_code=500)

    def told(content: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            return JSONResponse(content)

        return answer

    return Starlette(
        routes=[
            Route("/v1/models", told({"models": [name]})),
            Route(f"/v1/models/{name}", told({"name": name, "ready": True})),
            Route(f"/v1/models/{name}:predict", partial(_measured, predictor.metrics, "v1", v1), methods=["POST"]),
            Route("/v2", told({"name": "sidlsg", "version": __version__, "extensions": []})),
            Route("/v2/health/live", told({"live": True})),
            Route("/v2/health/ready", told({"ready": True})),
            Route(f"/v2/models/{name}", told(metadata)),
            Route(f"/v2/models/{name}/ready", told({"name": name, "ready": True})),
            Route(f"/v2/models/{name}/infer", partial(_measured, predictor.metrics, "v2", v2), methods=["POST"]),
            Route(f"/smoke/{name}", smoke_reference),
            Route("/metrics", metrics),
        ],
    )


async def _measured(
    metrics: ServingMetrics, protocol: str, answer: Callable[[Request], Awaitable[Response]], request: Request
) -> Response:
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
    """The request's body.

    Raises:
        InputError: it is longer than `BODY_BYTES`.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise InputError(f"a request of more than {BODY_BYTES:,} bytes given; send several")
    return body


def configuration(text: str) -> dict[str, Any]:
    """Read `SERVING_MODEL_CONFIG`, as MLflow's own server does.

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
