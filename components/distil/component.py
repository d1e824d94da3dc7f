"""The distil component: distils a teacher into a one-step student on a prompt set."""

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
    """Distil a teacher into a one-step student without training images.

    Args:
        prompt_set: The curated prompts.
        embeddings: Text embeddings of the prompts, or only their record, if prompts are encoded during training.
        teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        recipe: Name of the recipe.
        changes: Values of the recipe to override. {} for none.
        seed: Seed of all random numbers.
        held_out: Text file of captions for evaluation during training. A path, bundled:NAME or s3://BUCKET/KEY.
        judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
        results_version: Digest of the versions that affect results; part of the cache key.
        student: The student: a diffusers folder with its Student record.
        setting: In a sweep, the setting's changes; a failure is recorded and does not end the run. {} otherwise.

    Returns:
        seconds: Duration in seconds, from the start or the last checkpoint.
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
