"""The encode component: a prompt set's text states, written once where the disk budget allows."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def encode(
    prompt_set: Input[Dataset],
    teacher: str,
    teacher_sha256: str,
    dtype: str,
    budget_gb: float,
    package_sha256: str,
    embeddings: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Encode prompts once, or leave that to training where it takes too much disk.

    Args:
        prompt_set: The curated prompts.
        teacher: Folder of a StableDiffusionPipeline with safetensors weights. A local path, or bundled:NAME.
        teacher_sha256: SHA-256 that the teacher's model files must have. Empty for no check.
        dtype: Type of the states, float16 or float32.
        budget_gb: Most gigabytes that the states may take. 0 to encode during training.
        package_sha256: Digest of the code that runs, a part of the cache key.
        embeddings: The text states with their EmbeddingSet record, or the record alone.

    Returns:
        seconds: How long it took.
    """
    import time
    from pathlib import Path

    from sidlsg.encode.stage import encode as run_stage
    from sidlsg.places import resolve
    from sidlsg.run.lines import say

    began = time.monotonic()
    record = run_stage(
        prompts=Path(prompt_set.path),
        teacher=resolve(teacher, teacher_sha256),
        output=Path(embeddings.path),
        dtype=dtype,
        disk_budget_gb=budget_gb,
        report=say,
    )
    embeddings.metadata.update(sha256=record.digest, shards=len(record.shards), package_sha256=package_sha256)
    return (round(time.monotonic() - began, 1),)
