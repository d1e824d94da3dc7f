"""The resolve component: computes the digests of a run's inputs."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve(
    prompts: str,
    held_out: str,
    teacher: str,
    teacher_layout: str,
    judge: str,
    weights: str,
    gate_rules: str,
    recipe: str,
    changes: dict,
    seed: str,
    pipeline_run: str,
    teacher_model: Output[Model],
    held_out_captions: Output[Dataset],
    judge_model: Output[Model],
) -> NamedTuple(
    "Outputs",
    [
        ("prompts_state", str),
        ("held_out", str),
        ("teacher", str),
        ("judge", str),
        ("weights", str),
        ("gate_rules", str),
        ("real_images", str),
        ("results_version", str),
        ("seed", int),
        ("digest", str),
    ],
):
    """Compute the digests of a run's inputs, so that a cached step runs again after an input has changed.

    Args:
        prompts: Tables of captions, separated by semicolons. Empty for none.
        held_out: Text file of evaluation captions. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
        weights: weights.toml: its text, or a URI that ends in .toml. Empty for none.
        gate_rules: TOML file of gate rules: its text, or a URI that ends in .toml. Empty for the recipe's rules.
        recipe: Name of the recipe.
        changes: Values of the recipe to override. {} for none.
        seed: Seed of all random numbers, or fresh to derive one from the run's id.
        pipeline_run: Id of the pipeline run.
        teacher_model: The teacher's URI, with its digest as metadata.
        held_out_captions: URI of the evaluation captions, with their digest as metadata.
        judge_model: The judge's URI, with its digest as metadata.

    Returns:
        prompts_state: Digest of the prompts' tables.
        held_out: URI of the evaluation captions, with the digest of their content.
        teacher: The teacher's URI, with the digest of its content.
        judge: The judge's URI, with the digest of its content.
        weights: The text as given, or the URI with the digest of its content.
        gate_rules: The text as given, or the URI with the digest of its content.
        real_images: Source, state and licence of the recipe's real images, as JSON. Empty for none.
        results_version: Digest of everything else that affects results, mainly this package's versions.
        seed: The seed as a number.
        digest: Digest of all these outputs.
    """
    from pathlib import Path

    from sidlsg.stages.resolve import resolve_step

    found, metadata = resolve_step(
        prompts=prompts,
        held_out=held_out,
        teacher=teacher,
        teacher_layout=teacher_layout,
        judge=judge,
        weights=weights,
        gate_rules=gate_rules,
        recipe=recipe,
        changes=changes,
        seed=seed,
        pipeline_run=pipeline_run,
        teacher_model=Path(teacher_model.path),
        held_out_captions=Path(held_out_captions.path),
        judge_model=Path(judge_model.path),
    )
    teacher_model.metadata.update(metadata["teacher"])
    held_out_captions.metadata.update(metadata["held_out"])
    judge_model.metadata.update(metadata["judge"])
    return found
