"""Generates images with a student's folder, in one step or a few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sidlsg.distil.sampler import generate_latents
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import best_device, plain_float32
from sidlsg.storage.records import Student
from sidlsg.teacher.images import MOST_DECODED, Images, decode
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import seeded_noise


@torch.no_grad()
def generate(folder: Path, prompts: Sequence[str], seeds: Sequence[int], steps: int = 1, batch: int = 64) -> Images:
    """Generate one image a prompt.

    Args:
        folder: a student's diffusers folder, with its student.json.
        prompts: N prompts.
        seeds: N seeds, one an image. Images do not depend on each other except for rounding: libraries choose their
            kernels by shape, so a value may differ by one from that of an image generated alone.
        steps: of the sampler; the student is made for one.
        batch: images at once.

    Returns:
        [N, H, W, 3] uint8.

    Raises:
        InputError: the folder is not a student's, or `steps` is out of range.
        NotFiniteError: an image is not finite.
    """
    record = Student.load(folder)
    if not 1 <= steps <= record.t_init:
        raise InputError(f"steps is {steps}; allowed: 1 to t_init = {record.t_init}")
    device = best_device()
    # The folder has a teacher's components; its scheduler has the timesteps up to t_init, which suffice.
    student = load_teacher(folder, device)
    with plain_float32(device):
        parts = []
        for start in range(0, len(prompts), batch):
            noise = seeded_noise(seeds[start : start + batch], student.latent_shape, steps).to(device)
            cond = student.encode(prompts[start : start + batch])
            further = noise[1:] if steps > 1 else None
            parts.append(
                generate_latents(student.unet, student.schedule, noise[0], cond, record.t_init, steps, further)
            )
        # In the same batches, since some processors round by the batch's size.
        return decode(student.vae, torch.cat(parts), min(batch, MOST_DECODED))
