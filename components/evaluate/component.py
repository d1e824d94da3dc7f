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
    from pathlib import Path

    from sidlsg.stages.evaluate import evaluate_step

    (sha256, scores), seconds = evaluate_step(
        student=None if student is None else Path(student.path),
        version=version,
        tracking_uri=tracking_uri,
        teacher=teacher,
        teacher_layout=teacher_layout,
        held_out=held_out,
        judge=judge,
        protocols=protocols,
        weights=weights,
        teacher_settings=teacher_settings,
        keep_images=keep_images,
        scorecard=Path(scorecard.path),
        metrics=Path(metrics.path),
        html=Path(html.path),
        setting=setting,
    )
    metrics.metadata.update(scores)
    if sha256:
        scorecard.metadata.update(sha256=sha256, results_version=results_version)
    return (seconds,)
