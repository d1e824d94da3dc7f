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
    recipe: str,
    changes: str,
    seed: int,
    checkpoints: str,
    package_sha256: str,
    student: Output[Model],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Distil a teacher into a one-step student, without images.

    Args:
        prompt_set: The curated prompts.
        embeddings: Their text states, or the record that says to make them during training.
        teacher: Folder of a StableDiffusionPipeline with safetensors weights. A local path, or bundled:NAME.
        teacher_sha256: SHA-256 that the teacher's model files must have. Empty for no check.
        recipe: Name of the recipe.
        changes: JSON object of the recipe's values to replace. {} for none.
        seed: Seed of every random draw.
        checkpoints: Folder for checkpoints. One that outlives the step lets a retry go on where it stopped.
        package_sha256: Digest of the code that runs, a part of the cache key.
        student: The student, a diffusers folder with its Student record.

    Returns:
        seconds: How long it took, from the start or the last checkpoint.
    """
    import time
    from pathlib import Path

    from sidlsg.distil.stage import Extras, run_identity, run_name
    from sidlsg.distil.stage import distil as run_stage
    from sidlsg.places import resolve
    from sidlsg.recipes.recipe import recipe_with_changes
    from sidlsg.records import PromptSet
    from sidlsg.run.lines import say
    from sidlsg.teacher.folder import folder_digest

    began = time.monotonic()
    folder, values = resolve(teacher, teacher_sha256), recipe_with_changes(recipe, changes)
    identity = run_identity(values, folder_digest(folder), PromptSet.load(Path(prompt_set.path)).digest, seed)
    record = run_stage(
        prompts=Path(prompt_set.path),
        teacher=folder,
        output=Path(student.path),
        recipe=values,
        seed=seed,
        checkpoints=f"{checkpoints}/{run_name(values, identity)}",
        report=say,
        extras=Extras(embeddings=Path(embeddings.path)),
    )
    student.metadata.update(sha256=record.digest, images_seen=record.images_seen, package_sha256=package_sha256)
    return (round(time.monotonic() - began, 1),)
