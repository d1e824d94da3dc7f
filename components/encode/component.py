"""The encode component: writes a prompt set's text embeddings once, within a disk budget."""

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
    real_images: str,
    held_out: str,
    results_version: str,
    embeddings: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Encode prompts once, or leave encoding to training if the embeddings exceed a disk budget.

    Args:
        prompt_set: The curated prompts.
        teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        dtype: Data type of the text embeddings: float16 or float32.
        budget_gb: Disk budget of the text embeddings in gigabytes. 0 to encode during training.
        real_images: Real images to encode as well: JSON of the component resolve. Empty for none.
        held_out: Text file of evaluation captions, whose images are not used. A path, bundled:NAME or s3://BUCKET/KEY.
        results_version: Digest of the versions that affect results; part of the cache key.
        embeddings: The text embeddings with their EmbeddingSet record, or only the record; and any real images.

    Returns:
        seconds: Duration of the step in seconds.
    """
    from pathlib import Path

    from sidlsg.stages.real_images import encode_step

    record, seconds = encode_step(
        prompt_set=Path(prompt_set.path),
        teacher=teacher,
        teacher_layout=teacher_layout,
        dtype=dtype,
        budget_gb=budget_gb,
        real_images=real_images,
        held_out=held_out,
        embeddings=Path(embeddings.path),
    )
    embeddings.metadata.update(sha256=record.digest, shards=len(record.shards), results_version=results_version)
    return (seconds,)
