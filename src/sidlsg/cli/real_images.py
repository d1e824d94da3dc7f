"""The commands `sidlsg images encode` and `sidlsg images draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import BundledDomain, HeldOut, Seed, TeacherLayout, TeacherUri
from sidlsg.runtime.provenance import say
from sidlsg.storage.uri import HELD_OUT, TEACHER


def encode(
    source: Annotated[
        str, typer.Argument(metavar="URI", help="Image folder, parquet or webdataset tars, with captions.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the latents, captions and text embeddings.")],
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Terms of the images' use, for the records.")] = "",
    teacher: TeacherUri = TEACHER,
    teacher_layout: TeacherLayout = "",
    held_out: HeldOut = HELD_OUT,
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="Of text embeddings: float32, or float16 for such text_states.")
    ] = "float32",
    budget_gb: Annotated[
        float, typer.Option(min=0, help="Disk budget of text embeddings in GB; more are encoded in training.")
    ] = 100.0,
) -> None:
    """Encode real images for `distil --real-images`; the same command again resumes.

    Images of held-out captions, images without caption and those smaller than the teacher's are left out.

    Examples:
      sidlsg images encode shapes --output real --licence CC0-1.0
      sidlsg images encode s3://data/photos --teacher sd15 --output real
    """
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.stages.real_images import encode_real_images as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.source import checked_teacher

    folder, _ = checked_teacher(teacher, layout=teacher_layout)
    captions = read_held_out(resolve(held_out))
    record = stage(source, folder, captions, output, say, licence=licence, dtype=dtype, embeddings_gb=budget_gb)
    print(f"{record.count:,} real images in {output}")


def draw(
    output: Annotated[Path, typer.Option(help="Folder of PNGs with metadata.jsonl; FILE.tar for a webdataset.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 4096,
    seed: Seed = 0,
    domain: BundledDomain = "shapes",
) -> None:
    """Draw real images of a bundled domain, for the recipe tiny_real.

    Examples:
      sidlsg images draw --output shapes
      sidlsg images draw --output shapes.tar --count 20000
    """
    from sidlsg.bundled.domains import domain_named
    from sidlsg.bundled.real_images import write_real_images

    write_real_images(domain_named(domain), output, count, seed)
    print(f"{count:,} images in {output}")
