"""Scores of the EMA while it is trained: cheap ones, from fewer images, for a curve and for the best checkpoint.

They are no `Score`s of the record: a student is judged by what the `evaluate` stage finds under its protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sidlsg.distil.appearance import few_step_latents
from sidlsg.distil.grids import Samples
from sidlsg.errors import InputError
from sidlsg.evaluate.efficientnet import PROJECTED_WIDTH, EfficientNetFeatures
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.protocols import ShapesProtocols, is_shape, load_shapes_protocols
from sidlsg.export.generate import seeded_noise
from sidlsg.recipes.recipe import Recipe
from sidlsg.shapes.draw import IMAGE_SIZE
from sidlsg.teacher.images import Images, pixels_of
from sidlsg.teacher.load import Teacher
from sidlsg.teacher.schedule import NoiseSchedule

REFERENCE_STEPS = 20
"""Of the teacher's own pictures, where there is no other reference."""


class ShapesDuringTraining:
    """The shapes domain's scores: Fréchet distance of the judge's features, and attribute accuracy."""

    best_by = "fid_judge"

    def __init__(self, samples: Samples, protocols: ShapesProtocols) -> None:
        self._samples, self._protocols = samples, protocols

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""
        scores = self._protocols.score(self._samples.images(unet), intervals=False)
        return {score.name: score.value for score in scores} | {"images": float(len(self._samples.z))}


class TeacherLikeness:
    """Fréchet distance to the teacher's own pictures of the same prompts, in many steps: for any teacher.

    The features are EfficientNet-Lite0's. It says how near the student is to what it learns from, and nothing of how
    well the pictures fit their prompts.
    """

    best_by = "fid_teacher"

    def __init__(self, samples: Samples, teacher: Callable[..., Any], uncond: Tensor, kappa4: float) -> None:
        """Args:
        samples: prompts and noises.
        teacher: its UNet as a callable; its pictures are drawn here, once.
        uncond: [1, L, D] the encoded empty prompt.
        kappa4: the teacher's guidance.
        """
        self._samples, self._features = samples, EfficientNetFeatures()
        latents = few_step_latents(teacher, samples, uncond, kappa4, REFERENCE_STEPS)
        self._reference = self._statistics(samples.decoded(latents))

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""
        distance = frechet_distance(self._statistics(self._samples.images(unet)), self._reference)
        return {"fid_teacher": distance, "images": float(len(self._samples.z))}

    def _statistics(self, images: Images) -> FeatureStatistics:
        statistics = FeatureStatistics(PROJECTED_WIDTH)
        for part in torch.split(pixels_of(images), 64):
            statistics.update(self._features(part))
        return statistics


def evaluation_during_training(
    recipe: Recipe,
    teacher: Teacher,
    frozen: Callable[..., Any],
    schedule: NoiseSchedule,
    held_out: Sequence[str],
    judge: Path,
) -> ShapesDuringTraining | TeacherLikeness:
    """What scores the EMA: the shapes domain's judge for its captions, else likeness to the teacher.

    Args:
        recipe: its `evaluate_images` and `t_init`.
        teacher: whose text encoder and VAE are used.
        frozen: the teacher's UNet as it runs beside the student.
        schedule: on the networks' device.
        held_out: prompts that training does not see; they repeat until there are enough.
        judge: the shapes judge's file.

    Raises:
        InputError: there is no prompt.
    """
    if not held_out:
        raise InputError("the list of evaluation prompts is empty; give prompts, or set evaluate_every to 0")
    count = recipe.evaluate_images
    texts = [held_out[i % len(held_out)] for i in range(count)]
    unlike = list(dict.fromkeys(texts))
    states = dict(zip(unlike, teacher.encode.encode(unlike).cpu(), strict=True))
    samples = Samples(
        vae=teacher.vae,
        schedule=schedule,
        z=seeded_noise(range(count), teacher.latent_shape)[0],
        cond=torch.stack([states[text] for text in texts]),
        t_init=recipe.t_init,
        at_once=recipe.micro_batch,
    )
    side = teacher.latent_shape[1] * 2 ** (len(teacher.vae.config.block_out_channels) - 1)
    if side == IMAGE_SIZE and all(is_shape(text) for text in held_out):
        return ShapesDuringTraining(samples, load_shapes_protocols(held_out, judge, count))
    return TeacherLikeness(samples, frozen, teacher.encode.uncond, recipe.guidance.kappa4)
