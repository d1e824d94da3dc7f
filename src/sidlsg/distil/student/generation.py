"""Generates images with a student's folder, and writes them to a folder of such images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import best_device, plain_float32
from sidlsg.runtime.provenance import remark
from sidlsg.storage.files import atomic_write, refuse_foreign
from sidlsg.storage.records import Student
from sidlsg.teacher.images import MOST_DECODED, Images, decode, png_bytes
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import seeded_noise

_OWN = re.compile(r"\d{6,}(-\d+)?\.png")
"""The names of generated images."""


@torch.no_grad()
def generate(
    folder: Path, prompts: Sequence[str], seeds: Sequence[int], steps: int | None = None, batch: int = 64
) -> Images:
    """Generate one image a prompt; logs a warning where the student is made for another number of steps.

    Args:
        folder: a student's diffusers folder, with its student.json.
        prompts: N prompts.
        seeds: N seeds, one an image. Images do not depend on each other except for rounding: libraries choose their
            kernels by shape, so a value may differ by one from that of an image generated alone.
        steps: of the sampler; by default those that the student is made for.
        batch: images at once.

    Returns:
        [N, H, W, 3] uint8.

    Raises:
        InputError: the folder is not a student's, or `steps` is out of range.
        NotFiniteError: an image is not finite.
    """
    record = Student.load(folder)
    own = FewSteps.of(record)
    used = own if steps is None else replace(own, count=steps)
    if used != own:
        remark(f"{steps} steps: this student is made for {own.count}, and its images are best at that")
    device = best_device()
    # The folder has a teacher's components; its scheduler has the timesteps up to t_init, which suffice.
    student = load_teacher(folder, device)
    with plain_float32(device):
        parts = []
        for start in range(0, len(prompts), batch):
            fresh = used.fresh_noises(used.count)
            noise = seeded_noise(seeds[start : start + batch], student.latent_shape, 1 + fresh).to(device)
            cond = student.encode(prompts[start : start + batch])
            parts.append(
                generate_latents(
                    student.call,
                    student.schedule,
                    noise[0],
                    cond,
                    used.t_init,
                    used.count,
                    noise[1:],
                    step_noise=used.noise,
                )
            )
        # In the same batches, since some processors round by the batch's size.
        return decode(student.vae, torch.cat(parts), min(batch, MOST_DECODED))


def require_image_folder(folder: Path) -> None:
    """Check that an output folder is new, empty, or holds generated images alone; hidden files do not count.

    Raises:
        InputError: it holds something else, or cannot be a folder.
    """
    if folder.is_dir():
        names = (path.name for path in folder.iterdir())
        others = sorted(name for name in names if not name.startswith(".") and not _OWN.fullmatch(name))
        if others:
            raise InputError(
                f"output folder {folder} holds something else ({others[0]}); give a folder that is new, empty or has "
                "generated images alone"
            )
    else:
        refuse_foreign(folder, "")


def write_images(images: Images, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Write each image as `SEED.png`; where another image has that name, it stays, and the new one is `SEED-2.png`."""
    paths = []
    for image, seed in zip(images, seeds, strict=True):
        data, path, number = png_bytes(Image.fromarray(image)), folder / f"{seed:06d}.png", 1
        while path.exists() and path.read_bytes() != data:
            number += 1
            path = folder / f"{seed:06d}-{number}.png"
        atomic_write(path, data)
        paths.append(path)
    return paths
