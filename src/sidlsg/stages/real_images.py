"""`sidlsg images encode`: encodes captioned real images into latents and their captions into text embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sidlsg.prompts.held_out import read_held_out
from sidlsg.real_images import NUMERICS
from sidlsg.real_images.source import find_source
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import require_gpus
from sidlsg.runtime.parsing import parse_json
from sidlsg.runtime.progress import note
from sidlsg.stages import timed
from sidlsg.stages.encode import encode, work_folder
from sidlsg.storage.files import refuse_foreign, refuse_inside
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import EmbeddingSet
from sidlsg.storage.uri import resolve, split_pin
from sidlsg.teacher.folder import check_folder
from sidlsg.teacher.source import checked_teacher


@timed
def encode_step(
    prompt_set: Path,
    teacher: str,
    teacher_layout: str,
    dtype: str,
    budget_gb: float,
    real_images: str,
    held_out: str,
    embeddings: Path,
) -> EmbeddingSet:
    """Encode prompts and, beside them, the recipe's real images, with the GPU that the step requested."""
    require_gpus()
    folder, _ = checked_teacher(teacher, layout=teacher_layout)
    record = encode(prompt_set, folder, embeddings, dtype, budget_gb, note)
    captions = read_held_out(resolve(held_out)) if real_images else ()
    encode_settled(real_images, folder, captions, embeddings, dtype, budget_gb, note)
    return record


def encode_settled(
    settled: str,
    teacher: Path,
    held_out: Sequence[str],
    embeddings: Path,
    dtype: str,
    budget_gb: float,
    report: Callable[[str], None],
) -> RealImageSet | None:
    """Encode what `settled_source` gave into a folder inside that of the embeddings; None if it is empty.

    Raises:
        InputError: the images were changed since, or as `encode_real_images`.
    """
    if not settled:
        return None
    given = parse_json(settled)
    if find_source(given["source"]).state != given["state"]:
        raise InputError(
            f"images at {given['source']} were changed after this run began; start another run while nothing writes "
            "there"
        )
    return encode_real_images(
        given["source"],
        teacher,
        held_out,
        embeddings / RealImageSet.FOLDER,
        report,
        licence=given.get("licence", ""),
        dtype=dtype,
        embeddings_gb=budget_gb,
    )


def encode_real_images(
    uri: str,
    teacher: Path,
    held_out: Sequence[str],
    output: Path,
    report: Callable[[str], None],
    *,
    licence: str = "",
    dtype: str = "float32",
    embeddings_gb: float = 100.0,
) -> RealImageSet:
    """Write a folder with the latents of real images, their captions and the captions' text embeddings.

    After a killed call, the same call resumes at the block that was not finished; the result is the same.

    Args:
        uri: of the images, see `sidlsg.real_images.source.find_source`.
        teacher: folder of a family's pipeline, whose VAE and text encoders are used.
        held_out: captions whose images are not used.
        output: becomes the folder of the RealImageSet.
        report: receives lines for the user.
        licence: the terms of the images' use, for the records.
        dtype: `float16` or `float32`, of the text embeddings.
        embeddings_gb: disk budget of the text embeddings; a larger set of captions is encoded during training.

    Raises:
        InputError: an input or the output folder cannot be used, or no image is left.
        StorageError: the disk or the network failed.
    """
    refuse_foreign(output, RealImageSet.FILE)
    local = {} if "://" in uri or uri.startswith("bundled:") else {"images": Path(split_pin(uri)[0])}
    refuse_inside(output, teacher=teacher, **local)
    check_folder(teacher)
    source = find_source(uri)
    # Imported here: Polars, torch and diffusers take seconds, and a bad source is found before.
    from sidlsg.real_images.encoding import encode_source, work_key

    key = work_key(source, teacher, held_out, licence, NUMERICS)
    with work_folder(output, key, RealImageSet.FILE) as folder:
        finished = folder / RealImageSet.FILE
        record = (
            RealImageSet.load(finished)
            if finished.is_file()
            else encode_source(source, teacher, held_out, licence, folder, report)
        )
        encode(folder / RealImageSet.CAPTIONS, teacher, folder / RealImageSet.EMBEDDINGS, dtype, embeddings_gb, report)
    return record
