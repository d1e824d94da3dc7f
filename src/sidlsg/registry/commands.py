"""The commands `sidlsg register`, `gate`, `promote` and `rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sidlsg.errors import VerdictError
from sidlsg.options import Recipe, TrackingUri, rejection


def register(
    student: Annotated[Path, typer.Option(help="Folder of a student.")],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(help="Registered model's name.")],
    output: Annotated[Path | None, typer.Option(help="Also write the ModelVersion record to this folder.")] = None,
) -> None:
    """Register a student in MLflow; the same student again makes no second version."""
    from sidlsg.registry.register import register as stage

    version = stage(student, tracking_uri, name)
    _say(version, output)


def gate(
    version: Annotated[Path, typer.Option(help="Folder or file of a ModelVersion record.")],
    scorecard: Annotated[Path, typer.Option(help="Folder of a scorecard.")],
    tracking_uri: TrackingUri,
    recipe: Recipe = "tiny",
    output: Annotated[Path | None, typer.Option(help="Also write the Verdict record to this folder.")] = None,
) -> None:
    """Judge a version by its scorecard. Exit code 3: it did not pass."""
    from sidlsg.recipes.recipe import get_recipe
    from sidlsg.records import ModelVersion
    from sidlsg.registry.gate import gate as stage
    from sidlsg.summary import print_verdict

    verdict = stage(ModelVersion.load(version), scorecard, tracking_uri, get_recipe(recipe).require_gate())
    print_verdict(verdict)
    if output is not None:
        verdict.save(output)
    if not verdict.passed:
        raise VerdictError(rejection(verdict))


def promote(
    verdict: Annotated[Path, typer.Option(help="Folder or file of a Verdict record.")],
    tracking_uri: TrackingUri,
    output: Annotated[Path | None, typer.Option(help="Also write the Promotion record to this folder.")] = None,
) -> None:
    """Move the alias `champion` to a version that passed. Exit code 3: it did not pass, and nothing moved."""
    from sidlsg.records import Verdict
    from sidlsg.registry.promote import promote as stage

    judged = Verdict.load(verdict)
    promotion = stage(judged, tracking_uri)
    _say(promotion, output)
    if not judged.passed:
        raise VerdictError(rejection(judged))


def rollback(
    name: Annotated[str, typer.Argument(help="Registered model's name.")],
    tracking_uri: TrackingUri,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail on the versions.")],
    output: Annotated[Path | None, typer.Option(help="Also write the Promotion record to this folder.")] = None,
) -> None:
    """Make the version that was the champion before the champion again; the aliases change places."""
    from sidlsg.registry.promote import rollback as stage

    _say(stage(tracking_uri, name, reason), output)


def _say(record: Any, output: Path | None) -> None:
    print(record.to_json(), end="")
    if output is not None:
        record.save(output)
