"""The evaluate component: a registered student and its teacher become a scorecard."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    teacher: str,
    teacher_layout: str,
    held_out: str,
    judge: str,
    protocols: str,
    weights: str,
    teacher_settings: str,
    keep_images: str,
    results_version: str,
    scorecard: Output[Artifact],
    metrics: Output[Metrics],
    html: Output[HTML],
    student: Input[Model] = None,
    version: str = "",
    tracking_uri: str = "",
    setting: dict = {},  # noqa: B006 - only read
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Score a registered student beside its teacher and real images, all under the same protocols.

    Args:
        teacher: The teacher that the student came from: a folder, or one file. A path, bundled:NAME or s3://.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        held_out: Text file of evaluation captions. A local path, or bundled:NAME.
        judge: Safetensors file of the judge network. A local path, or bundled:NAME.
        protocols: Published protocols to score by as well, with commas between. Empty for none.
        weights: Text of the weights.toml that names the files that they need, or its place, which ends in .toml.
        teacher_settings: How the teacher is sampled, such as "teacher 50 steps, CFG", with semicolons between. Empty
            for the default.
        keep_images: Folder or s3:// prefix that receives the pictures. Empty to keep none.
        results_version: Digest of the versions that decide results, a part of the cache key.
        scorecard: All scores, with their protocols, and the image grids.
        metrics: The student's scores, each under its protocol.
        html: The scores, beside published ones where there are any, on one page.
        student: The student. Without it, version says which one.
        version: The ModelVersion record of a student in the registry, as JSON.
        tracking_uri: The registry's MLflow. Empty for the one that the step's environment names.
        setting: In a sweep, the setting's changes: a failure is handed on, and does not end the run. {} elsewhere.

    Returns:
        seconds: How long it took.
    """
    import json
    import tempfile
    import time
    from html import escape
    from pathlib import Path

    from sidlsg.distil.recipes import published_results
    from sidlsg.evaluate.published_suite import load_published
    from sidlsg.evaluate.weights import parse_weights
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.registry.address import given_address
    from sidlsg.registry.files import fetch_student
    from sidlsg.report.scoreboard import write_scoreboard
    from sidlsg.runtime.hardware import require_gpus
    from sidlsg.runtime.progress import note as say
    from sidlsg.runtime.provenance import checkpoints_place
    from sidlsg.stages.evaluate import STUDENT
    from sidlsg.stages.evaluate import evaluate as run_stage
    from sidlsg.stages.handed_on import handing_on, results_in
    from sidlsg.stages.inputs import text_of
    from sidlsg.storage.records import ModelVersion, Student
    from sidlsg.storage.uri import resolve, split_list
    from sidlsg.teacher.source import checked_teacher

    began = time.monotonic()
    with handing_on("evaluate", setting, Path(scorecard.path), say) as handed:
        require_gpus()
        folder, found_sha256 = checked_teacher(teacher, layout=teacher_layout)
        with tempfile.TemporaryDirectory() as scratch:
            if student is None:
                registered = ModelVersion.from_json(version)
                scored = fetch_student(registered, given_address(tracking_uri), Path(scratch) / "student")
            else:
                scored = results_in(Path(student.path))
            name = f"evaluate-{Student.load(scored).digest[:16]}"
            record = run_stage(
                student=scored,
                teacher=folder,
                teacher_sha256=found_sha256,
                output=Path(scorecard.path),
                held_out=read_held_out(resolve(held_out)),
                judge=resolve(judge),
                report=say,
                published=load_published(split_list(protocols, ","), parse_weights(text_of(weights))),
                settings=split_list(teacher_settings, ";") or None,
                keep_images=f"{keep_images}/{name}" if keep_images else "",
                parts=f"{checkpoints_place()}/{name}",
            )
        for score in record.subject(STUDENT).scores:
            metrics.log_metric(score.metric, score.value)
        label = f"student {record.student_sha256[:8]}"
        write_scoreboard([(label, Path(scorecard.path))], Path(html.path), f"Scores of {label}", published_results())
        scorecard.metadata.update(sha256=record.digest, results_version=results_version)
    if handed.failed:
        Path(html.path).write_text(f"<!doctype html><title>Failed</title><p>{escape(handed.failed.text)}</p>")
    # The metrics are the artifact's metadata; without a file as well, a local cache takes the artifact for lost.
    Path(metrics.path).write_text(json.dumps(metrics.metadata))
    return (round(time.monotonic() - began, 1),)
