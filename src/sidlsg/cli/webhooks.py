"""The commands `sidlsg triggers`: runs, copies and rollouts that events of the registry start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.kubeflow import Host, Namespace, ServiceAccount, TokenEnv, TokenFile
from sidlsg.cli.options import TrackingUri
from sidlsg.runtime.provenance import say

app = typer.Typer(help="Start runs, copies and rollouts when MLflow's registry changes.", no_args_is_help=True)

File = Annotated[Path, typer.Option(help="TOML table of events, and what they start.")]
Folder = Annotated[Path, typer.Option(help="Folder of the service's database.")]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the secrets that MLflow may sign with, one a line; by default SIDLSG_WEBHOOK_SECRET has one.",
        show_default=False,
    ),
]


@app.command()
def serve(
    file: File,
    folder: Folder,
    tracking_uri: TrackingUri,
    host: Host,
    secret_file: SecretFile = None,
    experiment: Annotated[str, typer.Option(help="Kubeflow Pipelines' experiment; made if there is none.")] = "sidlsg",
    address: Annotated[str, typer.Option(help="To listen on; 0.0.0.0 for all of the machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen on.")] = 8080,
    poll_seconds: Annotated[
        float, typer.Option(min=1, help="How often the registry is read for what no webhook told.")
    ] = 60.0,
    window_seconds: Annotated[
        float, typer.Option(min=1, help="How far a delivery's timestamp may be from this machine's clock.")
    ] = 300.0,
    per_minute: Annotated[int, typer.Option(min=1, help="Deliveries taken a minute, of one sender half of it.")] = 600,
    body_bytes: Annotated[int, typer.Option(min=1024, help="The longest delivery.")] = 1 << 20,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be started, and remember nothing.")
    ] = False,
    namespace: Namespace = "",
    token_env: TokenEnv = "",
    token_file: TokenFile = None,
    service_account: ServiceAccount = False,
) -> None:
    """Receive MLflow's webhooks, and start what the table says, once for each cause."""
    from sidlsg.kubeflow.server.connection import Connection, PipelinesServer, ServerTimeouts
    from sidlsg.kubeflow.server.runs import Kubeflow
    from sidlsg.webhooks.receiver import Limits, webhook_secrets
    from sidlsg.webhooks.rules import read_table
    from sidlsg.webhooks.service import Service

    connection = Connection(
        host=host,
        namespace=namespace,
        token_env=token_env,
        token_file=token_file,
        service_account=service_account,
        timeouts=(5.0, 15.0),
    )
    Service(
        table=read_table(file),
        folder=folder,
        # What the server refuses the service itself tries again, and others must not wait for it.
        runs=Kubeflow(PipelinesServer(connection, ServerTimeouts(total=10.0)), experiment),
        tracking_uri=tracking_uri,
        secrets=webhook_secrets(secret_file),
        address=address,
        port=port,
        poll_s=poll_seconds,
        limits=Limits(
            window_s=window_seconds,
            body_bytes=body_bytes,
            per_minute=per_minute,
            per_sender=max(1, per_minute // 2),
        ),
        dry_run=dry_run,
    ).run()


@app.command()
def check(file: File) -> None:
    """Read a table of triggers, and say what it starts. Exit code 2: it has mistakes, and all are named."""
    from sidlsg.webhooks.rules import read_table

    table = read_table(file)
    for rule in table.on:
        words = (f"{rule.name}:", rule.event, rule.model, rule.alias or rule.tag, rule.action)
        say(" ".join(word for word in words if word))
    for watch in table.watch:
        say(f"{watch.name}: another prompt set at {watch.place} runs {watch.run.pipeline}")


@app.command()
def webhook(
    file: File,
    tracking_uri: TrackingUri,
    url: Annotated[str, typer.Option(help="Of the service as MLflow reaches it, such as http://triggers:8080.")],
    secret_file: SecretFile = None,
) -> None:
    """Let MLflow tell the service of the table's events, with the first of the secrets."""
    from sidlsg.webhooks.receiver import PATH, webhook_secrets
    from sidlsg.webhooks.registry import require_webhook
    from sidlsg.webhooks.rules import read_table

    print(require_webhook(read_table(file), tracking_uri, f"{url.rstrip('/')}{PATH}", webhook_secrets(secret_file)[0]))


@app.command("list")
def list_(folder: Folder) -> None:
    """Print every cause that the service knows, and what came of it: of what fails, why, and when it is tried again."""
    from sidlsg.runtime.errors import InputError
    from sidlsg.webhooks.ledger import FILE, Ledger
    from sidlsg.webhooks.show import lines

    if not (folder / FILE).is_file():
        raise InputError(f"no service has worked in {folder}; give the folder that `sidlsg triggers serve` has")
    for line in lines(Ledger(folder / FILE)):
        say(line)
