"""The evaluate component: scores a student and its teacher in one scorecard."""

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
    """Score a student, its teacher and real images under the same protocols.

    Args:
        teacher: The student's teacher: a folder or a single safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        held_out: Text file of evaluation captions. A local path or bundled:NAME.
        judge: Safetensors file of the judge network. A local path or bundled:NAME.
        protocols: Published protocols to score under as well, separated by commas. Empty for none.
        weights: weights.toml with the files that these protocols need: its text, or a URI that ends in .toml.
        teacher_settings: Teacher settings to score, such as "teacher 50 steps, CFG", separated by semicolons. Empty for
            the default.
        keep_images: Folder or s3:// prefix that receives the generated images. Empty to keep none.
        results_version: Digest of the versions that affect results; part of the cache key.
        scorecard: All scores with their protocols, and the image grids.
        metrics: The student's scores, each under its protocol.
        html: One page with the scores, next to published scores if there are any.
        student: The student. If it is not given, the student of version is scored.
        version: The ModelVersion record of a student in the registry, as JSON.
        tracking_uri: MLflow address of the registry. Empty for the address in the step's environment.
        setting: In a sweep, the setting's changes; a failure is recorded and does not end the run. {} otherwise.

    Returns:
        seconds: Duration of the step in seconds.
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
