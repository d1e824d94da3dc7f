"""The commands `sidlsg convert`, `digest` and `teach`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import BundledDomain, TeacherLayout, TeacherUri, Variant


def convert_single_file(
    file: Annotated[str, typer.Argument(metavar="URI", help="A Stable Diffusion in one safetensors file.")],
    layout: Annotated[
        str, typer.Option(metavar="URI", help="Folder with its pipeline's small files; weights there are not read.")
    ],
    output: Annotated[Path, typer.Option(help="Output folder of the teacher.")],
    sha256: Annotated[str, typer.Option(metavar="DIGEST", help="Expected SHA-256 of the file.")] = "",
) -> None:
    """Convert a one-file Stable Diffusion to a diffusers folder, without downloads.

    Examples:
      sidlsg convert single-file sd15.safetensors --layout files --output sd15
      sidlsg convert single-file sd.safetensors --layout f --output o --sha256 D
    """
    from sidlsg.storage.uri import resolve, resolve_with_digest
    from sidlsg.teacher.format import DIFFUSERS
    from sidlsg.teacher.source import convert_single_file as stage

    path, sha256 = resolve_with_digest(file, sha256, folder=DIFFUSERS)
    record = stage(path, resolve(layout, folder=DIFFUSERS), output, sha256)
    print(f"teacher {record.folder_sha256} from {record.file_sha256} in {output}")


def convert_released(
    file: Annotated[
        str, typer.Argument(metavar="URI", help="A released checkpoint: a pickle with the generator under the key ema.")
    ],
    output: Annotated[Path, typer.Option(help="Output folder of the student.")],
    kappa: Annotated[float, typer.Option(help="The published κ, for the record.")],
    teacher: TeacherUri,
    variant: Variant = "",
    teacher_layout: TeacherLayout = "",
    sha256: Annotated[str, typer.Option(metavar="DIGEST", help="Expected SHA-256 of the file.")] = "",
    t_init: Annotated[int, typer.Option(min=1, help="Timestep of the generator's single step.")] = 625,
    images_seen: Annotated[
        int | None, typer.Option(min=1, help="Number of training images; by default from the file's name.")
    ] = None,
) -> None:
    """Convert a released checkpoint to a student's folder; no code in the pickle is executed.

    Examples:
      sidlsg convert released n.pkl --kappa 1.5 --teacher sd15 --output student
      sidlsg convert released n.pkl --kappa 2 --teacher sd21 --output s
    """
    from sidlsg.distil.student.released import convert_released as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.format import DIFFUSERS
    from sidlsg.teacher.source import checked_teacher

    folder, teacher_sha256 = checked_teacher(teacher, layout=teacher_layout, variant=variant)
    student = stage(resolve(file, sha256, folder=DIFFUSERS), folder, output, kappa, t_init, images_seen, teacher_sha256)
    print(f"student from {student.recipe_values['source_sha256']} in {output}")


def digest(
    place: Annotated[
        str, typer.Argument(metavar="URI", help="A file or a teacher's folder: local, bundled:NAME or s3://BUCKET/KEY.")
    ],
    variant: Variant = "",
) -> None:
    """Print the SHA-256 that pins an input; every option that takes a URI also takes URI@sha256:DIGEST.

    Examples:
      sidlsg digest /models/sd15
      sidlsg digest s3://models/held_out.txt
    """
    from sidlsg.storage.uri import uri_digest, with_variant
    from sidlsg.teacher.format import DIFFUSERS

    print(uri_digest(with_variant(place, variant), folder=DIFFUSERS))


def teach(
    output: Annotated[
        Path, typer.Option(help="Folder that receives tiny-sd/, judge/ and prompts/; of another family, the teacher's.")
    ],
    work: Annotated[Path, typer.Option(help="Training state; the same command again resumes from it.")] = Path(
        ".cache/teach"
    ),
    family: Annotated[str, typer.Option(help="sd; or sdxl, sd3 or flux, on the bundled teacher's VAE.")] = "sd",
    domain: BundledDomain = "shapes",
) -> None:
    """Make a bundled teacher, its judge and its prompts; or a tiny teacher of another family.

    Examples:
      sidlsg teach --domain scenes --output scenes
      sidlsg teach --family sd3 --output tiny-sd3
    """
    from sidlsg.bundled.assets import teach as make
    from sidlsg.bundled.assets import teach_family
    from sidlsg.bundled.domains import SHAPES, domain_named
    from sidlsg.bundled.tiny_families import NEW
    from sidlsg.bundled.training import OTHER, RECIPES
    from sidlsg.runtime.errors import InputError, nearest

    began = time.monotonic()
    chosen = domain_named(domain)
    if family == "sd":
        make(chosen, output, work if chosen is SHAPES else work / domain, RECIPES[domain], print)
    elif family not in NEW:
        raise InputError(f"family {family!r} is unknown{nearest(family, NEW)}; allowed: sd, {', '.join(NEW)}")
    elif chosen is not SHAPES:
        raise InputError(f"family {family!r} is given with the domain {domain}; tiny teachers of it draw shapes alone")
    else:
        teach_family(family, output, work / family, OTHER, print)
    print(f"made {output} in {(time.monotonic() - began) / 60:.0f} minutes")
