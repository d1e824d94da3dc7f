"""The command `sidlsg serve`: the predictor of an InferenceService."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.runtime.errors import InputError


def serve(
    model: Annotated[Path, typer.Argument(help="Folder of a copied model, with SHA256SUMS and MLmodel.")],
    name: Annotated[str, typer.Option(help="Model's name in URLs.")] = "model",
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Serve a copied model over KServe's v1 and v2 protocols, with metrics for Prometheus.

    SERVING_MODEL_CONFIG holds changes to the model's configuration, as JSON. Exit code 2: the copy is incomplete or was
    changed.
    """
    try:
        import prometheus_client  # noqa: F401 - for the message
        import uvicorn
    except ImportError as error:
        raise InputError("the server's packages are not installed; pip install 'sidlsg[serving]'") from error
    from sidlsg.serving.predictor import Predictor, application, configuration
    from sidlsg.teacher.pipeline import quiet_libraries

    quiet_libraries()
    predictor = Predictor(model, name, configuration(os.environ.get("SERVING_MODEL_CONFIG", "")))
    typer.echo(f"serving {name} ({predictor.version[:16]}) on {address}:{port}")
    uvicorn.run(
        application(predictor),
        host=address,
        port=port,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
    )
