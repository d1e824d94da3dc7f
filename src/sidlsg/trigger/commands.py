"""The commands `sidlsg submit` and `sidlsg schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[
    str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow Pipelines, such as http://ml-pipeline:8888.")
]
Namespace = Annotated[str, typer.Option(help="Of a server with several users; their own.")]
TokenEnv = Annotated[str, typer.Option(metavar="NAME", help="Environment variable that holds a token.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File that holds a token; one that changes is followed.", show_default=False)
]
ServiceAccount = Annotated[
    bool, typer.Option("--service-account", help="Sign in with the token that Kubernetes mounts for the pod.")
]


FIRST_S = 10.0
"""Seconds that a server may be away at first: a wrong address should not look like patience."""


def submit(
    host: Host,
    pipeline: Annotated[
        str, typer.Option(help="A name that `sidlsg compile` takes, or a compiled .yaml file.")
    ] = "distil_and_evaluate",
    set_: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the pipeline; repeat for more.")
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    name: Annotated[
        str,
        typer.Option(
            help="Of the run; one of this name is never started twice. By default made of pipeline and parameters.",
            show_default=False,
        ),
    ] = "",
    experiment: Annotated[str, typer.Option(help="Kubeflow Pipelines' experiment; made if there is none.")] = "sidlsg",
    wait: Annotated[bool, typer.Option("--wait", help="Tell what the stages do until the run ends.")] = False,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait at most; 0 for no limit.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    namespace: Namespace = "",
    token_env: TokenEnv = "",
    token_file: TokenFile = None,
    service_account: ServiceAccount = False,
) -> None:
    """Upload a pipeline to Kubeflow Pipelines and start a run; the same command again finds both.

    With --wait, exit code 5: the run failed or was cancelled. 75: it goes on, and waiting was stopped.
    """
    from sidlsg.errors import InputError
    from sidlsg.trigger.compiled import get_compiled
    from sidlsg.trigger.connection import Connection
    from sidlsg.trigger.runs import Kubeflow
    from sidlsg.trigger.server import Patience, Server
    from sidlsg.trigger.submit import preview, run_name
    from sidlsg.trigger.submit import submit as start
    from sidlsg.trigger.watch import watch

    if wait_seconds and not wait:
        raise InputError("--wait-seconds limits --wait; give both")
    connection = Connection(
        host=host, namespace=namespace, token_env=token_env, token_file=token_file, service_account=service_account
    )
    compiled = get_compiled(pipeline)
    parameters = compiled.parsed(set_)
    Server(connection, Patience(total=FIRST_S)).reach()
    runs = Kubeflow(Server(connection), experiment)
    name = name or run_name(compiled, parameters)
    if dry_run:
        preview(runs, compiled, name, parameters, print)
        return
    run = start(runs, compiled, name, parameters, print)
    print(connection.run_link(run.run_id))
    if wait:
        watch(runs, run.run_id, lambda line: print(line, flush=True), limit=wait_seconds)


def schedule(
    host: Host,
    file: Annotated[Path, typer.Option(help="TOML file that declares the schedules of one experiment.")],
    apply: Annotated[bool, typer.Option("--apply", help="Make the changes; without, they are only shown.")] = False,
    namespace: Namespace = "",
    token_env: TokenEnv = "",
    token_file: TokenFile = None,
    service_account: ServiceAccount = False,
) -> None:
    """Make the recurring runs of Kubeflow Pipelines what a file declares; without --apply, show the difference."""
    from sidlsg.trigger.connection import Connection
    from sidlsg.trigger.schedule import difference, synchronise
    from sidlsg.trigger.schedule_file import read_schedules
    from sidlsg.trigger.server import Patience, Server

    connection = Connection(
        host=host, namespace=namespace, token_env=token_env, token_file=token_file, service_account=service_account
    )
    declared = read_schedules(file)
    Server(connection, Patience(total=FIRST_S)).reach()
    server = Server(connection)
    changes = difference(server, declared)
    for change in changes:
        print(f"{change.kind:<10} {change.name}{f'  {change.schedule.cron}' if change.schedule else ''}")
    if not apply:
        print("nothing was changed; --apply makes these changes")
        return
    synchronise(server, declared, changes, lambda line: print(f"done: {line}"))
