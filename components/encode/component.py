"""The encode component: a prompt set's text states, written once where the disk budget allows."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def encode(
    prompt_set: Input[Dataset],
    teacher: str,
    teacher_layout: str,
    dtype: str,
    budget_gb: float,
    results_version: str,
    embeddings: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Encode prompts once, or leave that to training where it takes too much disk.

    Args:
        prompt_set: The curated prompts.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        dtype: Type of the states, float16 or float32.
        budget_gb: Most gigabytes that the states may take. 0 to encode during training.
        results_version: Digest of the versions that decide results, a part of the cache key.
        embeddings: The text states with their EmbeddingSet record, or the record alone.

    Returns:
        seconds: How long it took.
    """
    from pathlib import Path

    from sidlsg.stages.encode import encode_step

    record, seconds = encode_step(
        Path(prompt_set.path), teacher, teacher_layout, dtype, budget_gb, Path(embeddings.path)
    )
    embeddings.metadata.update(sha256=record.digest, shards=len(record.shards), results_version=results_version)
    return (seconds,)
