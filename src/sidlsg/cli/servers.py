"""The commands `sidlsg services`, local servers of MLflow, PostgreSQL and S3, and `sidlsg serve`, the predictor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli.options import LOCAL, Address, Port
from sidlsg.runtime.errors import InputError, SidlsgError

if TYPE_CHECKING:
    from sidlsg.registry.server.stack import Stack

Folder = Annotated[Path, typer.Option(help="Folder with the servers' data, keys and logs.")]
FOLDER = Path("services")


def start(
    folder: Folder = FOLDER,
    port: Annotated[int, typer.Option(min=0, max=65535, help="MLflow's port; 0 for the previous or a free one.")] = 0,
) -> None:
    """Start the servers and wait until they respond; they keep running after this command.

    Examples:
      sidlsg services start --folder services
      sidlsg services start --port 5000
    """
    stack = _stack(folder, port)
    stack.start()
    _print_status(stack)
    print(f'use them: eval "$(sidlsg services env --folder {stack.folder})"')


def stop(folder: Folder = FOLDER) -> None:
    """Stop the servers; data and ports are kept.

    Examples:
      sidlsg services stop
      sidlsg services stop --folder services
    """
    stack = _stack(folder, made=True)
    stack.stop()
    _print_status(stack)


def status(folder: Folder = FOLDER) -> None:
    """Print which servers are running. Exit code 1: at least one is not.

    Examples:
      sidlsg services status
      sidlsg services status --folder services
    """
    stack = _stack(folder, made=True)
    _print_status(stack)
    if not all(server.is_running for server in stack.servers()):
        raise SidlsgError(f"not all servers run; `sidlsg services start --folder {folder}` starts them")


def env(folder: Folder = FOLDER) -> None:
    """Print shell exports for using the servers, including keys.

    Examples:
      eval "$(sidlsg services env)"
      sidlsg services env --folder services > services.env
    """
    print(_stack(folder, made=True).exports(), end="")


def _stack(folder: Path, port: int = 0, made: bool = False) -> Stack:
    # SQLAlchemy and boto3 take half a second.
    from sidlsg.registry.server.stack import Stack

    if made and not folder.is_dir():
        raise InputError(f"there are no servers in {folder}; `sidlsg services start --folder {folder}` makes them")
    return Stack(folder, port)


def _print_status(stack: Stack) -> None:
    for server in reversed(stack.servers()):
        where = f"runs as process {server.pid}, port {server.port}" if server.is_running else "does not run"
        print(f"{server.NAME:<11} {where}")
    if stack.servers()[0].is_running:
        print(f"MLflow's page: {stack.mlflow.address}")


def serve(
    model: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a copied model, with SHA256SUMS and MLmodel.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Model's name in URLs.")] = "model",
    address: Address = LOCAL,
    port: Port = 8080,
) -> None:
    """Serve a copied model over KServe's protocols, v1 and v2.

    It has metrics for Prometheus.

    SERVING_MODEL_CONFIG holds changes to the model's configuration, as JSON. Exit code 2: the copy is incomplete or
    modified.

    Examples:
      sidlsg serve model
      sidlsg serve model --name sidlsg-tiny --address 0.0.0.0 --port 8080
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
