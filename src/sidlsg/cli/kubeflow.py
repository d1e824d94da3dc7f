"""The commands for Kubeflow: `sidlsg submit`, `schedule`, `profile-images`, and those of a TrainJob's nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli.options import ServerOptions
from sidlsg.runtime.errors import RunFailedError, VerdictError
from sidlsg.runtime.provenance import remark, say

if TYPE_CHECKING:  # MLflow takes seconds
    from sidlsg.registry.verdicts import JudgedVersion

WAIT = "Wait for the run"
"""A panel of the help."""
FIRST_S = 10.0
"""Seconds to wait for a server's first answer, so that a wrong address fails fast."""


def submit(
    server: ServerOptions,
    pipeline: Annotated[
        str, typer.Option(metavar="NAME", help="A name that `sidlsg compile` takes, or a compiled .yaml file.")
    ] = "distil_and_evaluate",
    set_: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the pipeline; repeat for more.")
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The run's name, which is never started twice; by default from pipeline and parameters.",
        ),
    ] = "",
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Experiment there; made if there is none.")
    ] = "sidlsg",
    wait: Annotated[
        bool, typer.Option("--wait", help="Report the stages until the run ends.", rich_help_panel=WAIT)
    ] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="Longest wait; 0 for no limit.", rich_help_panel=WAIT)
    ] = 0.0,
    summary: Annotated[
        Path | None,
        typer.Option(help="Append a summary of the run, in Markdown, to this file.", rich_help_panel=WAIT),
    ] = None,
    tracking_uri: Annotated[
        str,
        typer.Option(
            metavar="URI",
            help="MLflow with the verdict of the run's gate, which then also sets the exit code.",
            rich_help_panel=WAIT,
        ),
    ] = "",
    outputs: Annotated[
        Path | None,
        typer.Option(
            help="Append verdict, model and version to this file, as NAME=VALUE.",
            rich_help_panel=WAIT,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would happen, and change nothing.")] = False,
) -> None:
    """Upload a pipeline and start a run; repeating the command reuses both.

    With --wait, exit code 5: the run failed or was cancelled. 75: waiting was stopped, and the run continues. With
    --tracking-uri as well, 3: it did not pass the gate, or it awaits an approval. 5: the run recorded no verdict.

    Examples:
      sidlsg submit --host http://localhost:8888 --set recipe=tiny --wait
      sidlsg submit --pipeline pipeline.yaml --dry-run
    """
    from sidlsg.cli.catalog import get_compiled
    from sidlsg.kubeflow.server.connection import Connection, PipelinesServer, ServerTimeouts
    from sidlsg.kubeflow.server.runs import Kubeflow
    from sidlsg.kubeflow.server.submission import add_summary, preview, run_name, run_summary, watch
    from sidlsg.kubeflow.server.submission import outputs as output_lines
    from sidlsg.kubeflow.server.submission import submit as start
    from sidlsg.runtime.errors import InputError, StoppedError

    if wait_seconds and not wait:
        raise InputError("--wait-seconds limits --wait; give both")
    if (summary or tracking_uri) and not wait:
        raise InputError("--summary and --tracking-uri report how a run ended; give --wait too")
    if outputs is not None and not tracking_uri:
        raise InputError("--outputs reports the verdict in MLflow; give --tracking-uri too")
    compiled = get_compiled(pipeline)
    parameters = compiled.parsed(set_)
    if dry_run and not server.host:
        preview(None, experiment, compiled, name or run_name(compiled, parameters), parameters, print)
        remark("no server was asked; --host shows what it has already")
        return
    connection = Connection(**vars(server))
    for file in (summary, outputs):
        if file is not None and not dry_run:
            add_summary(file, "")  # a file that cannot be written fails now, not after a run of hours
    PipelinesServer(connection, ServerTimeouts(total=FIRST_S)).reach()
    runs = Kubeflow(PipelinesServer(connection), experiment)
    name = name or run_name(compiled, parameters)
    if dry_run:
        preview(runs, experiment, compiled, name, parameters, print)
        return
    run = start(runs, compiled, name, parameters, print)
    print(connection.run_link(run.run_id))
    if not wait:
        return
    ended: RunFailedError | StoppedError | None = None
    try:
        watch(runs, run.run_id, say, limit=wait_seconds)
    except (RunFailedError, StoppedError) as error:
        ended = error
    judged: tuple[JudgedVersion, ...] = ()
    if tracking_uri and not isinstance(ended, StoppedError):
        # Imported here: MLflow takes seconds.
        from sidlsg.registry.verdicts import judged_by

        judged = judged_by(run.run_id, tracking_uri)
    if summary is not None:
        link = connection.run_link(run.run_id)
        add_summary(summary, run_summary(runs.details(run.run_id), link, judged))
    if outputs is not None:
        add_summary(outputs, output_lines(judged))
    if ended is not None:
        raise ended
    if tracking_uri:
        _require_passed(run.name, judged)


def _require_passed(run: str, judged: tuple[JudgedVersion, ...]) -> None:
    """Print the verdicts of a run; raise if there is none, or one that did not pass."""
    from sidlsg.kubeflow.server.submission import OUTCOMES

    if not judged:
        raise RunFailedError(
            f"the run {run} succeeded and left no verdict in this registry; give the address of the registry that its "
            "gate used, and a pipeline that has a gate"
        )
    for each in judged:
        say(f"version {each.version} of {each.name} {OUTCOMES[each.outcome]}")
    rejected = [each for each in judged if not each.passed]
    if rejected:
        reasons = "; ".join(f"version {each.version} of {each.name}: {each.failed}" for each in rejected)
        raise VerdictError(f"the run {run} did not pass its gate: {reasons}")


def schedule(
    server: ServerOptions,
    file: Annotated[Path, typer.Option(help="TOML file of one experiment's schedules.")],
    apply: Annotated[bool, typer.Option("--apply", help="Make the changes instead of showing them.")] = False,
) -> None:
    """Show how recurring runs differ from a file; --apply changes them.

    Examples:
      sidlsg schedule --host http://localhost:8888 --file schedules.toml
      sidlsg schedule --host http://localhost:8888 --file schedules.toml --apply
    """
    from sidlsg.cli.catalog import get_compiled
    from sidlsg.kubeflow.server.connection import Connection, PipelinesServer, ServerTimeouts
    from sidlsg.kubeflow.server.schedules import difference, read_schedules, synchronise

    connection = Connection(**vars(server))
    declared = read_schedules(file, get_compiled)
    PipelinesServer(connection, ServerTimeouts(total=FIRST_S)).reach()
    pipelines = PipelinesServer(connection)
    changes = difference(pipelines, declared)
    for change in changes:
        say(f"{change.kind:<10} {change.name}{f'  {change.schedule.cron}' if change.schedule else ''}")
    if not apply:
        print("nothing was changed; --apply makes these changes")
        return
    synchronise(pipelines, declared, changes, lambda line: say(f"done: {line}"))


def profile_images(
    profiles: Annotated[list[Path], typer.Argument(metavar="PROFILE", help="Profiles to change.")],
    images: Annotated[Path, typer.Option(help="The images.json of a release.")],
) -> None:
    """Put a release's images, by digest, into profiles; all else is kept.

    Examples:
      sidlsg profile-images team.toml --images images.json
      sidlsg profile-images infra/profiles/*.toml --images images.json
    """
    from sidlsg.kubeflow.profile_file import read_images, with_images
    from sidlsg.storage.files import atomic_write

    given = read_images(images)
    # All are read before one is written.
    changed = {path: with_images(path, given) for path in profiles}
    for path, text in changed.items():
        if text is not None:
            atomic_write(path.resolve(), text)  # a link stays one
        print(f"{path}: {'unchanged' if text is None else 'changed'}")


StagingUri = Annotated[str, typer.Argument(help="URI or folder of the job's staging area.")]
SpecDigest = Annotated[str, typer.Option(help="Digest of the job spec there.")]


def distil_node(
    handover: StagingUri,
    sha256: SpecDigest,
    shutdown_timeout: Annotated[int, typer.Option(help="Seconds that processes may take to save their state.")] = 600,
) -> None:
    """Train as one of a TrainJob's nodes, for the distil_nodes component; exits with its processes' code."""
    from sidlsg.kubeflow.nodes.node import run_node
    from sidlsg.runtime.progress import note as say

    run_node(handover, sha256, shutdown_timeout, say)


def distil_node_process(
    handover: StagingUri,
    sha256: SpecDigest,
    notes: Annotated[Path, typer.Option(help="Folder in which the process records its error for the node's command.")],
) -> None:
    """Train as one process of a node, for the node's command, under torchrun."""
    from sidlsg.distil.supervisor import ProcessNotes
    from sidlsg.kubeflow.nodes.node import train_on_node
    from sidlsg.runtime.distributed import end_with
    from sidlsg.runtime.progress import note as say

    end_with(os.getppid())
    with ProcessNotes(notes).recording():
        train_on_node(handover, sha256, say)
