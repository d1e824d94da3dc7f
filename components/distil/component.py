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
    from sidlsg.stages.training import distil_step

    record, seconds = distil_step(
        prompts=prompt_set.path,
        embeddings=embeddings.path,
        teacher=teacher,
        teacher_layout=teacher_layout,
        recipe=recipe,
        changes=changes,
        seed=seed,
        held_out=held_out,
        judge=judge,
        output=student.path,
        setting=setting,
    )
    if record is not None:
        student.metadata.update(sha256=record.digest, images_seen=record.images_seen, results_version=results_version)
    return (seconds,)
