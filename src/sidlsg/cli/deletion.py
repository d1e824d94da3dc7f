"""The commands `sidlsg delete`: versions, students, checkpoints, the webhook, local servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli.options import ModelName, TrackingUri, Which
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import say

if TYPE_CHECKING:  # MLflow takes seconds
    from sidlsg.registry.deletion import Deletion

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted, and delete nothing.")]


def version(name: ModelName, which: Which, tracking_uri: TrackingUri, dry_run: DryRun = False) -> None:
    """Delete a version with its files and its run; one that has an alias stays.

    So neither the champion nor the previous one can be deleted.

    Examples:
      sidlsg delete version sidlsg-tiny 2 --dry-run
      sidlsg delete version sidlsg-tiny 2
    """
    from sidlsg.registry.deletion import version_deletions

    _delete_in_registry(tracking_uri, version_deletions(tracking_uri, name, which), dry_run)


def student(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a student.")], dry_run: DryRun = False
) -> None:
    """Delete a student's folder; registered versions of it stay.

    Examples:
      sidlsg delete student runs/second/student --dry-run
      sidlsg delete student runs/second/student
    """
    from sidlsg.storage.records import Student

    if not (folder / Student.FILE).is_file():
        raise InputError(f"{folder} has no {Student.FILE}, so it is no student's folder; give a student's folder")
    Student.load(folder)
    _delete_folder(folder, "student", dry_run)


def checkpoints(
    place: Annotated[
        str, typer.Argument(metavar="URI", help="Folder of a run or of its checkpoints, or an s3:// prefix.")
    ],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also delete those of unfinished trainings.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Delete the checkpoints of finished trainings; nothing else there is touched.

    Examples:
      sidlsg delete checkpoints runs/demo/checkpoints --dry-run
      sidlsg delete checkpoints s3://runs/checkpoints
    """
    from sidlsg.distil.finished import stored_trainings
    from sidlsg.storage.uri import open_store

    store = open_store(place, create=False)
    trainings = stored_trainings(store)
    if not trainings:
        raise InputError(
            f"there are no checkpoints in {place}; give a run's folder, or what `sidlsg distil --checkpoints` was given"
        )
    for training in trainings:
        what = f"{place}/{training.name}".rstrip("/")
        state = f"iteration {training.iteration:,} of {training.iterations:,}"
        if not (training.is_finished or unfinished):
            say(f"kept: {what}, {state}; --unfinished deletes it too")
            continue
        if not dry_run:
            store.delete(training.objects)
        _report(f"{what}, {state}", dry_run)


def webhook(tracking_uri: TrackingUri, dry_run: DryRun = False) -> None:
    """Delete the webhook that `sidlsg triggers webhook` made in MLflow.

    Examples:
      sidlsg delete webhook --dry-run
      sidlsg delete webhook --tracking-uri http://localhost:5000
    """
    from sidlsg.webhooks.registry import webhook_deletions

    found = webhook_deletions(tracking_uri)
    if not found:
        raise InputError("MLflow has no webhook of `sidlsg triggers webhook`")
    _delete_in_registry(tracking_uri, found, dry_run)


def services(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of `sidlsg services`.")],
    dry_run: DryRun = False,
) -> None:
    """Delete the data of stopped local servers: the registry, its artifacts, keys and logs.

    Examples:
      sidlsg delete services services --dry-run
      sidlsg delete services services
    """
    from sidlsg.registry.server.stack import MARKER, Stack

    if not (folder / MARKER).is_file():
        raise InputError(f"{folder} is not a folder of `sidlsg services start`; give the one that it was given")
    if running := [server.NAME for server in Stack(folder).servers() if server.is_running]:
        raise InputError(f"{', '.join(running)} of {folder} runs; `sidlsg services stop --folder {folder}` first")
    _delete_folder(folder, "servers' data", dry_run)


def _delete_in_registry(tracking_uri: str, deletions: Iterable[Deletion], dry_run: bool) -> None:
    from sidlsg.registry.deletion import carry_out

    for deletion in deletions:
        if not dry_run:
            carry_out(tracking_uri, deletion)
        _report(deletion.what, dry_run)


def _delete_folder(folder: Path, what: str, dry_run: bool) -> None:
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; give the folder itself, {folder.resolve()}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not dry_run:
        shutil.rmtree(folder)
    _report(f"{what} in {folder}, {size / 1e6:,.1f} MB", dry_run)


def _report(what: str, dry_run: bool) -> None:
    say(f"{'would delete' if dry_run else 'deleted'}: {what}")
