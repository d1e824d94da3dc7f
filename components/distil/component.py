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
    teacher_sha256: str,
    teacher_layout: str,
    recipe: str,
    changes: str,
    seed: int,
    checkpoints: str,
    held_out: str,
    held_out_sha256: str,
    judge: str,
    judge_sha256: str,
    tracking_uri: str,
    experiment: str,
    package_sha256: str,
    student: Output[Model],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Distil a teacher into a one-step student, without images.

    Args:
        prompt_set: The curated prompts.
        embeddings: Their text states, or the record that says to make them during training.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_sha256: SHA-256 that the teacher's model files must have. Empty for no check.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        recipe: Name of the recipe.
        changes: JSON object of the recipe's values to replace. {} for none.
        seed: Seed of every random draw.
        checkpoints: Folder for checkpoints. One that outlives the step lets a retry go on where it stopped.
        held_out: Text file of evaluation captions, for scores along the way. A place like the teacher's.
        held_out_sha256: SHA-256 that the list must have. Empty for no check.
        judge: Safetensors file of the network that reads generated images. A place like the teacher's.
        judge_sha256: SHA-256 that the judge's file must have. Empty for no check.
        tracking_uri: MLflow, told of the training while it goes on. Empty for nowhere.
        experiment: Experiment of the MLflow run.
        package_sha256: Digest of the versions that decide results, a part of the cache key.
        student: The student, a diffusers folder with its Student record.

    Returns:
        seconds: How long it took, from the start or the last checkpoint.
    """
    import time

    from sidlsg.distil.pod import PodTraining
    from sidlsg.distil.pod import train_in_pod as run_stage
    from sidlsg.run.lines import say

    began = time.monotonic()
    asked = PodTraining(
        prompts=prompt_set.path,
        embeddings=embeddings.path,
        teacher=teacher,
        teacher_sha256=teacher_sha256,
        teacher_layout=teacher_layout,
        recipe=recipe,
        changes=changes,
        seed=seed,
        checkpoints=checkpoints,
        held_out=held_out,
        held_out_sha256=held_out_sha256,
        judge=judge,
        judge_sha256=judge_sha256,
        tracking_uri=tracking_uri,
        experiment=experiment,
        output=student.path,
    )
    record = run_stage(asked, say)
    student.metadata.update(sha256=record.digest, images_seen=record.images_seen, package_sha256=package_sha256)
    return (round(time.monotonic() - began, 1),)
