"""The commands `sidlsg triggers`: runs, copies and rollouts in response to registry events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import LOCAL, Address, Port, ServerOptions, TrackingUri
from sidlsg.runtime.provenance import say

LIMITS = "Times and limits"
"""A panel of the help."""

File = Annotated[Path, typer.Option(help="TOML table of events and actions.")]
Folder = Annotated[Path, typer.Option(help="Folder of the service's database.")]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        help="File of secrets that MLflow may sign with, one per line; by default the one in SIDLSG_WEBHOOK_SECRET.",
    ),
]


def serve(
    file: File,
    folder: Folder,
    tracking_uri: TrackingUri,
    server: ServerOptions,
    secret_file: SecretFile = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Kubeflow Pipelines' experiment; made if there is none.")
    ] = "sidlsg",
    address: Address = LOCAL,
    port: Port = 8080,
    poll_seconds: Annotated[
        float, typer.Option(min=1, help="Polling interval without a webhook.", rich_help_panel=LIMITS)
    ] = 60.0,
    window_seconds: Annotated[
        float,
        typer.Option(min=1, help="Maximum error of a delivery's timestamp.", rich_help_panel=LIMITS),
    ] = 300.0,
    per_minute: Annotated[
        int, typer.Option(min=1, help="Maximum deliveries per minute; half of that per sender.", rich_help_panel=LIMITS)
    ] = 600,
    body_bytes: Annotated[
        int,
        typer.Option(min=1024, help="Maximum bytes of a delivery.", rich_help_panel=LIMITS),
    ] = 1 << 20,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be started, and store nothing.")] = False,
) -> None:
    """Receive MLflow's webhooks, and start the actions in the table, once per cause.

    Examples:
      sidlsg triggers serve --file t.toml --folder state --host http://kfp:8888
      sidlsg triggers serve --file t.toml --folder state --host URL --dry-run
    """
    from sidlsg.kubeflow.server.connection import Connection, PipelinesServer, ServerTimeouts
    from sidlsg.kubeflow.server.runs import Kubeflow
    from sidlsg.webhooks.receiver import Limits, webhook_secrets
    from sidlsg.webhooks.rules import read_table
    from sidlsg.webhooks.service import Service

    connection = Connection(**vars(server), timeouts=(5.0, 15.0))
    Service(
        table=read_table(file),
        folder=folder,
        # The service itself retries, so that others need not wait for a failing server.
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


def check(
    file: File,
    places: Annotated[
        bool, typer.Option("--places", help="Also check that the places of copies and prompt sets can be used.")
    ] = False,
) -> None:
    """Check a table of triggers, and print its actions. Exit code 2: it has mistakes, which are listed.

    Examples:
      sidlsg triggers check --file triggers.toml
      sidlsg triggers check --file triggers.toml --places
    """
    from sidlsg.webhooks.registry import check_places
    from sidlsg.webhooks.rules import read_table

    table = read_table(file)
    if places:
        check_places(table)
    for rule in table.on:
        words = (f"{rule.name}:", rule.event, rule.model, rule.alias or rule.tag, rule.action)
        say(" ".join(word for word in words if word))
    for watch in table.watch:
        say(f"{watch.name}: another prompt set at {watch.place} runs {watch.run.pipeline}")


def webhook(
    file: File,
    tracking_uri: TrackingUri,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The service's URL for MLflow, such as http://triggers:8080.")
    ],
    secret_file: SecretFile = None,
) -> None:
    """Register the service's webhook for the table's events in MLflow, with the first secret.

    Examples:
      sidlsg triggers webhook --file triggers.toml --url http://triggers:8080
      sidlsg triggers webhook --file t.toml --url URL --secret-file secrets
    """
    from sidlsg.webhooks.receiver import PATH, webhook_secrets
    from sidlsg.webhooks.registry import require_webhook
    from sidlsg.webhooks.rules import read_table

    print(require_webhook(read_table(file), tracking_uri, f"{url.rstrip('/')}{PATH}", webhook_secrets(secret_file)[0]))


def list_(folder: Folder) -> None:
    """Print every cause and its outcome; for failures, also the reason and the next attempt.

    Examples:
      sidlsg triggers list --folder state
      sidlsg triggers list --folder /var/lib/sidlsg
    """
    from sidlsg.runtime.errors import InputError
    from sidlsg.webhooks.ledger import FILE, Ledger, lines

    if not (folder / FILE).is_file():
        raise InputError(f"no service has worked in {folder}; give the folder that `sidlsg triggers serve` has")
    for line in lines(Ledger(folder / FILE)):
        say(line)
