"""The distil component: a prompt set and a teacher become a one-step student."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def distil(
    prompt_set: Input[Dataset],
    embeddings: Input[Dataset],
    teacher: str,
    teacher_layout: str,
    recipe: str,
    changes: dict,
    seed: int,
    held_out: str,
    judge: str,
    results_version: str,
    student: Output[Model],
    setting: dict = {},  # noqa: B006 - only read
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Distil a teacher into a one-step student, without images.

    Args:
        prompt_set: The curated prompts.
        embeddings: Their text states, or the record that says to make them during training.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        recipe: Name of the recipe.
        changes: Values of the recipe to replace. {} for none.
        seed: Seed of every random draw.
        held_out: Text file of evaluation captions, for scores along the way. A place like the teacher's.
        judge: Safetensors file of the network that reads generated images. A place like the teacher's.
        results_version: Digest of the versions that decide results, a part of the cache key.
        student: The student, a diffusers folder with its Student record.
        setting: In a sweep, the setting's changes: a failure is handed on, and does not end the run. {} elsewhere.

    Returns:
        seconds: How long it took, from the start or the last checkpoint.
    """
    import os
    import time
    from pathlib import Path

    from sidlsg.runtime.overrides import changes_text
    from sidlsg.runtime.progress import note as say
    from sidlsg.runtime.provenance import checkpoints_place
    from sidlsg.stages.distil_processes import PodTraining
    from sidlsg.stages.distil_processes import train_in_pod as run_stage
    from sidlsg.stages.handed_on import handing_on, without_attempt

    began = time.monotonic()
    asked = PodTraining(
        prompts=prompt_set.path,
        embeddings=embeddings.path,
        teacher=teacher,
        teacher_layout=teacher_layout,
        recipe=recipe,
        changes=changes_text(without_attempt(changes)),
        seed=seed,
        checkpoints=checkpoints_place(),
        held_out=held_out,
        judge=judge,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", ""),
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "sidlsg"),
        output=student.path,
    )
    with handing_on("distil", setting, Path(student.path), say):
        record = run_stage(asked, say)
        student.metadata.update(sha256=record.digest, images_seen=record.images_seen, results_version=results_version)
    return (round(time.monotonic() - began, 1),)
