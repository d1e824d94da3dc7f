"""The resolve component: what a run's inputs hold now."""

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
        ("results_version", str),
        ("seed", int),
        ("digest", str),
    ],
):
    """Find out what a run's inputs hold now, so that a cached step runs again when one of them has changed.

    Args:
        prompts: Tables of captions, with semicolons between. Empty for none.
        held_out: Text file of evaluation captions. A place like the teacher's.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        judge: Safetensors file of the judge network. A place like the teacher's.
        weights: Text of a weights.toml, or its place, which ends in .toml. Empty for none.
        gate_rules: The same of the gate's rules.
        seed: Seed of every random draw, or fresh for one that follows from the run.
        pipeline_run: Id of the pipeline run.
        teacher_model: The teacher's place, with its digest as metadata.
        held_out_captions: The same of the evaluation captions.
        judge_model: The same of the judge.

    Returns:
        prompts_state: Digest of what lies at the prompts' places.
        held_out: The place, with the digest of its content.
        teacher: The place, with the digest of its content.
        judge: The place, with the digest of its content.
        weights: As given, a place with the digest of its content.
        gate_rules: The same of the gate's rules.
        results_version: Digest of what else decides results, this package's versions above all.
        seed: The seed, a number.
        digest: Of all of these.
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
