"""The commands for the model registry."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidlsg.cli.options import (
    GateRulesFile,
    Json,
    ModelName,
    Recipe,
    TeacherLayout,
    TrackingUri,
    Variant,
    Which,
    require_passed,
)
from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.runtime.provenance import pipeline_run, say

if TYPE_CHECKING:  # records take a third of a second
    from sidlsg.storage.records import Promotion, Record, Verdict

OptionalModel = Annotated[str, typer.Argument(metavar="MODEL", help="Registered model's name.")]
OptionalVersion = Annotated[str, typer.Argument(metavar="VERSION", help="Number of a version, or an alias.")]
RecordFolder = Annotated[Path | None, typer.Option(help="Also write the result to this folder.")]


def register(
    student: Annotated[Path, typer.Option(help="Folder of a student.")],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(metavar="NAME", help="Registered model's name.")],
    output: RecordFolder = None,
    hourly_price: Annotated[float, typer.Option(min=0, help="Hourly price of training.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Register a student in MLflow; registering the same student again creates no second version.

    Examples:
      sidlsg register --student runs/demo/student --name sidlsg-tiny
      sidlsg register --student student --name sd15-student --hourly-price 20
    """
    from sidlsg.registry.registration import Circumstances
    from sidlsg.registry.registration import register as stage

    version = stage(student, tracking_uri, name, Circumstances(pipeline_run=pipeline_run(), hourly_price=hourly_price))
    _print(version, f"version {version.version} of {version.name} is registered", output, as_json)


def register_teacher(
    teacher: Annotated[
        str,
        typer.Argument(metavar="URI", help="A teacher for runs: a folder, or s3://… with its digest."),
    ],
    tracking_uri: TrackingUri,
    name: Annotated[str, typer.Option(metavar="NAME", help="Registered model's name for teachers.")],
    variant: Variant = "",
    teacher_layout: TeacherLayout = "",
) -> None:
    """Register a teacher in MLflow; triggers can start runs for it.

    Examples:
      sidlsg register-teacher /models/sd15 --name teachers
      sidlsg register-teacher s3://models/sd15@sha256:DIGEST --name teachers
    """
    from sidlsg.registry.teachers import register_teacher as stage
    from sidlsg.storage.uri import with_variant
    from sidlsg.teacher.source import checked_teacher

    folder, sha256 = checked_teacher(teacher, layout=teacher_layout, variant=variant)
    version = stage(folder, with_variant(teacher, variant), tracking_uri, name, sha256)
    print(f"{version.name} version {version.version}: teacher {version.sha256}")


def fetch(
    name: ModelName,
    version: Which,
    output: Annotated[Path, typer.Option(help="New folder for the MLflow model.")],
    tracking_uri: TrackingUri,
) -> None:
    """Download a version for serving, and check that its files, including code, are unchanged.

    Examples:
      sidlsg registry fetch sidlsg-tiny champion --output model
      sidlsg registry fetch sidlsg-tiny 3 --output model-3
    """
    from sidlsg.registry.files import fetch_model
    from sidlsg.registry.versions import find_version

    found = find_version(tracking_uri, name, version)
    fetch_model(found, tracking_uri, output)
    print(f"{name} version {found.version} is in {output} as it was registered: mlflow models serve -m {output}")


def doctor(
    name: ModelName,
    tracking_uri: TrackingUri,
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove unused parts, restore deleted runs, complete records.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Download each version and check its files' digests.")] = False,
    as_json: Json = False,
) -> None:
    """Find leftovers of killed commands, incomplete versions, and aliases of deleted versions.

    Exit code 1: some problems remain.

    Examples:
      sidlsg registry doctor sidlsg-tiny
      sidlsg registry doctor sidlsg-tiny --files --fix
    """
    from sidlsg.registry.doctor import examine, mend

    left = []
    for finding in examine(tracking_uri, name, files):
        advice = f"{finding.advice}{'' if finding.mend is None else '; --fix mends it'}"
        if fix and finding.mend is not None:
            try:
                mend(tracking_uri, finding)
            except SidlsgError as error:
                advice = str(error)
            else:
                if not as_json:
                    say(f"mended: {finding.what}")
                continue
        left.append({"found": finding.what, "advice": advice})
        if not as_json:
            say(f"{finding.what}\n  {advice}")
    if as_json:
        print(json.dumps(left, indent=1))
    if left:
        raise typer.Exit(1)
    if not as_json:
        print(f"{name} is in order")


def gate(
    scorecard: Annotated[Path, typer.Option(help="Folder of a scorecard.")],
    tracking_uri: TrackingUri,
    name: OptionalModel = "",
    which: OptionalVersion = "",
    model_version: Annotated[
        Path | None, typer.Option(help="Instead of MODEL VERSION: folder or file of a ModelVersion record.")
    ] = None,
    version: Annotated[Path | None, typer.Option("--version", hidden=True)] = None,
    recipe: Recipe = "tiny",
    rules: GateRulesFile = None,
    output: RecordFolder = None,
    as_json: Json = False,
) -> None:
    """Judge a version by its scorecard. Exit code 3: it did not pass.

    Examples:
      sidlsg gate sidlsg-tiny 2 --scorecard scores
      sidlsg gate sidlsg-tiny 2 --scorecard scores --rules gate.toml --json
    """
    from sidlsg.registry.gate_rule_file import read_gate_rules
    from sidlsg.registry.versions import find_version
    from sidlsg.stages.gate import gate as stage
    from sidlsg.stages.gate_rules import gate_rules as recipe_rules
    from sidlsg.storage.records import ModelVersion

    given = _one_of(name, which, model_version or version, "--model-version")
    demanded = recipe_rules(recipe) if rules is None else read_gate_rules(rules)
    judged = find_version(tracking_uri, name, which) if given is None else ModelVersion.load(given)
    with _naming(f"the rules of recipe {recipe}" if rules is None else f"gate rules {rules}"):
        verdict = stage(judged, scorecard, tracking_uri, demanded)
    _conclude(verdict, output, as_json)


def gate_rules(recipe: Recipe = "tiny") -> None:
    """Print a recipe's gate rules as a TOML file.

    Examples:
      sidlsg gate-rules > gate.toml
      sidlsg gate-rules --recipe sd15
    """
    from sidlsg.registry.gate_rule_file import gate_rules_text
    from sidlsg.stages.gate_rules import gate_rules as recipe_rules

    print(gate_rules_text(recipe_rules(recipe)), end="")


def approve(
    name: ModelName,
    which: Which,
    by: Annotated[
        str, typer.Option(metavar="NAME", help="The approver: one whom the gate's rule lists, if it lists any.")
    ],
    tracking_uri: TrackingUri,
    output: RecordFolder = None,
    as_json: Json = False,
) -> None:
    """Approve a version in a person's name, and judge it again; no alias moves.

    Scorecard and rules stay the same.

    Exit code 3: it did not pass.

    Examples:
      sidlsg approve sidlsg-tiny 3 --by ada
      sidlsg approve sidlsg-tiny 3 --by ada --output approval
    """
    from sidlsg.stages.gate import approve as stage

    _conclude(stage(tracking_uri, name, which, by), output, as_json)


def promote(
    tracking_uri: TrackingUri,
    name: OptionalModel = "",
    which: OptionalVersion = "",
    verdict: Annotated[
        Path | None, typer.Option(help="Instead of MODEL VERSION: folder or file of a Verdict record.")
    ] = None,
    output: RecordFolder = None,
    as_json: Json = False,
) -> None:
    """Move the alias `champion` to a version that passed.

    Exit code 3: it did not pass, and the alias did not move.

    Examples:
      sidlsg promote sidlsg-tiny 2
      sidlsg promote --verdict runs/demo/verdict.json
    """
    from sidlsg.registry.promotion import promote as stage
    from sidlsg.registry.verdicts import recorded_verdict
    from sidlsg.storage.records import Verdict

    given = _one_of(name, which, verdict, "--verdict")
    judged = recorded_verdict(tracking_uri, name, which) if given is None else Verdict.load(given)
    _print_promotion(stage(judged, tracking_uri), output, as_json)
    require_passed(judged, named=True)


def transfer(
    name: ModelName,
    which: Which,
    source: Annotated[str, typer.Option("--from", metavar="URI", help="MLflow to copy from, as --tracking-uri.")],
    tracking_uri: TrackingUri,
    to_name: Annotated[str, typer.Option(metavar="NAME", help="The model's new name; by default the same.")] = "",
    rules: Annotated[
        Path | None,
        typer.Option(help="TOML file of gate rules; by default those that the version passed."),
    ] = None,
    output: RecordFolder = None,
    as_json: Json = False,
) -> None:
    """Copy a version to another registry, judge and promote it.

    Only a version that passed is copied.

    Exit code 3: it did not pass in one of the registries, and the champion is unchanged.

    Examples:
      sidlsg transfer sidlsg-tiny champion --from http://staging:5000
      sidlsg transfer sidlsg-tiny 3 --from http://old:5000 --to-name sd15
    """
    from sidlsg.cli.tables import print_verdict
    from sidlsg.registry.gate_rule_file import read_gate_rules
    from sidlsg.stages.gate import transfer as stage

    demanded = None if rules is None else read_gate_rules(rules)
    with _naming("the rules that the version passed" if rules is None else f"gate rules {rules}"):
        done = stage(source, name, which, tracking_uri, to_name, demanded)
    if output is not None:
        done.version.save(output)
    if done.verdict is not None:
        if not as_json:
            print_verdict(done.verdict)
        if output is not None:
            done.verdict.save(output)
    _print_promotion(done.promotion, output, as_json)
    if done.verdict is not None:
        require_passed(done.verdict)


def rollback(
    name: ModelName,
    tracking_uri: TrackingUri,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Reason, kept as a tag on both versions.")],
    output: RecordFolder = None,
    as_json: Json = False,
) -> None:
    """Make the previous champion the champion again.

    The two aliases are swapped.

    Examples:
      sidlsg rollback sidlsg-tiny --reason "red shapes look orange"
      sidlsg rollback sidlsg-tiny --reason incident-42 --output rollback
    """
    from sidlsg.registry.promotion import rollback as stage

    _print_promotion(stage(tracking_uri, name, reason), output, as_json)


def _one_of(name: str, which: str, record: Path | None, option: str) -> Path | None:
    """The record, or None where a model and a version are given instead; InputError unless it is one of both."""
    if record is not None and name:
        raise InputError(f"MODEL and {option} are both given; give one of them")
    if record is None and not (name and which):
        missing = "VERSION is" if name else "MODEL and VERSION are"
        raise InputError(f"{missing} missing; give both, such as sidlsg-tiny 2, or {option}")
    return record


def _conclude(verdict: Verdict, output: Path | None, as_json: bool = False) -> None:
    from sidlsg.cli.tables import print_verdict

    if as_json:
        print(verdict.to_json(), end="")
    else:
        print_verdict(verdict)
    if output is not None:
        verdict.save(output)
    require_passed(verdict)


def _print_promotion(promotion: Promotion, output: Path | None, as_json: bool) -> None:
    from sidlsg.cli.tables import champion

    _print(promotion, champion(promotion), output, as_json)


def _print(record: Record, line: str, output: Path | None, as_json: bool) -> None:
    print(record.to_json() if as_json else f"{line}\n", end="")
    if output is not None:
        record.save(output)


@contextlib.contextmanager
def _naming(rules: str) -> Iterator[None]:
    """Name the rules in the error of one that does not fit the scorecard."""
    from sidlsg.registry.gate_rules import RuleError

    try:
        yield
    except RuleError as error:
        raise InputError(f"{rules}: {error}; change the rule, or give --rules FILE") from error
