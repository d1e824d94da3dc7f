"""Scores of the EMA during training: cheap, from fewer images, for a curve and for choosing the best checkpoint.

They are not `Score` records: a student is judged by the scores of the `evaluate` stage, under its protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sidlsg.bundled.domains import domain_of
from sidlsg.bundled.protocols import DomainProtocols, load_domain_protocols
from sidlsg.distil.appearance import few_step_latents
from sidlsg.distil.grids import FixedSamples
from sidlsg.distil.recipes import Recipe
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.networks import PROJECTED_WIDTH, EfficientNetFeatures
from sidlsg.evaluate.suite import Measure
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.teacher.conditioning import Conditioning, mapped
from sidlsg.teacher.families.family import pixels_of_latent
from sidlsg.teacher.images import NOT_FINITE, Images, pixels_of
from sidlsg.teacher.pipeline import Teacher
from sidlsg.teacher.sampling import seeded_noise
from sidlsg.teacher.schedule import Schedule

REFERENCE_STEPS = 20
"""Sampling steps of the teacher's images, the reference of `TeacherLikeness`."""


class DomainScores:
    """A bundled domain's scores: Fréchet distance of the judge's features, and attribute accuracy."""

    best_by = "fid_judge"

    def __init__(self, samples: FixedSamples, protocols: DomainProtocols, world: World) -> None:
        self._samples, self._protocols, self._world = samples, protocols, world

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""
        (prompts,) = self._protocols.sets
        measures: Sequence[Measure] = self._protocols.measures(prompts)

        def read(images: Images, chosen: slice) -> list[Tensor]:
            return [measure(images, prompts.prompts[chosen]) for measure in measures]

        found = _shared(self._samples, unet, read, [measure.width for measure in measures], self._world)
        values = {prompts.name: {measure.name: each for measure, each in zip(measures, found, strict=True)}}
        scores = self._protocols.scores(values, intervals=False)
        return {score.name: score.value for score in scores} | {"images": float(len(self._samples.z))}


class TeacherLikeness:
    """Fréchet distance to the teacher's multi-step images of the same prompts, for any teacher.

    The features are EfficientNet-Lite0's. The distance shows how close the student is to its teacher, not how well the
    images fit their prompts.
    """

    best_by = "fid_teacher"

    def __init__(
        self, samples: FixedSamples, teacher: Callable[..., Any], uncond: Conditioning, kappa4: float, world: World
    ) -> None:
        """The teacher's images are sampled here, once. uncond: [1, …] the encoded empty prompt."""
        self._samples, self._features, self._world = samples, EfficientNetFeatures(), world
        latents = few_step_latents(teacher, samples, uncond, kappa4, REFERENCE_STEPS)
        self._reference = self._statistics(self._read(samples.decoded(latents)))

    def __call__(self, unet: Callable[..., Any]) -> dict[str, float]:
        """Scores by name."""
        (features,) = _shared(
            self._samples, unet, lambda images, _: [self._read(images)], [PROJECTED_WIDTH], self._world
        )
        distance = frechet_distance(self._statistics(features), self._reference)
        return {"fid_teacher": distance, "images": float(len(self._samples.z))}

    def _read(self, images: Images) -> Tensor:
        return torch.cat([self._features(part) for part in torch.split(pixels_of(images), 64)])

    def _statistics(self, features: Tensor) -> FeatureStatistics:
        statistics = FeatureStatistics(PROJECTED_WIDTH)
        for part in torch.split(features, 64):
            statistics.update(part)
        return statistics


def _shared(
    samples: FixedSamples,
    unet: Callable[..., Any],
    read: Callable[[Images, slice], list[Tensor]],
    widths: Sequence[int],
    world: World,
) -> list[Tensor]:
    """Features of all N samples in every process, one [N, width] per measure: each process samples and reads its part.

    A part is a whole number of sampling batches, so that no image depends on the number of processes. `read` takes
    images and the slice of samples that they are.
    """
    count = len(samples.z)
    size = -(-count // (samples.at_once * world.size)) * samples.at_once
    chosen = slice(world.rank * size, min((world.rank + 1) * size, count))
    values = [torch.zeros(count, width) for width in widths]
    failed: NotFiniteError | None = None
    if chosen.start < count:
        try:
            for each, own in zip(values, read(samples.images(unet, chosen), chosen), strict=True):
                each[chosen] = own
        except NotFiniteError as error:
            failed = error
    # All processes fail together: the others would wait for this one's share.
    if int(world.total(torch.tensor(int(failed is not None)))):
        raise failed or NotFiniteError(NOT_FINITE)
    return [world.total(each) for each in values]


def evaluation_prompts(held_out: Sequence[str], count: int) -> list[str]:
    """`count` of the held-out prompts: all, repeated in order; or of more than that, those at equal distances.

    The first ones of a sorted list would be alike, and easier or harder than the rest.
    """
    stride = max(count, len(held_out))
    return [held_out[i * stride // count % len(held_out)] for i in range(count)]


def evaluation_during_training(
    recipe: Recipe,
    teacher: Teacher,
    frozen: Callable[..., Any],
    schedule: Schedule,
    held_out: Sequence[str],
    judge: Path,
    world: World,
) -> DomainScores | TeacherLikeness:
    """The evaluation of the EMA: with a bundled domain's judge for its captions, otherwise by likeness to the teacher.

    `frozen` is the teacher's network as it runs during training, `judge` the domain's judge, and `world` has the
    processes that share the work.

    Raises:
        InputError: the list of prompts is empty.
    """
    if not held_out:
        raise InputError("the list of evaluation prompts is empty; give prompts, or set evaluate_every to 0")
    count = recipe.evaluate_images
    texts = evaluation_prompts(held_out, count)
    unlike = list(dict.fromkeys(texts))
    place = {text: number for number, text in enumerate(unlike)}
    rows = [place[text] for text in texts]
    steps = recipe.few_steps
    noises = seeded_noise(range(count), teacher.latent_shape, 1 + steps.fresh_noises(steps.count))
    samples = FixedSamples(
        vae=teacher.vae,
        schedule=schedule,
        z=noises[0],
        noises=noises[1:],
        cond=mapped(lambda each: each.cpu()[rows], teacher.encode.encode(unlike)),
        steps=steps,
        at_once=recipe.micro_batch,
    )
    side = teacher.latent_shape[1] * pixels_of_latent(teacher.vae.config)
    if domain := domain_of(held_out, side):
        return DomainScores(samples, load_domain_protocols(domain, texts, judge, count), world)
    return TeacherLikeness(samples, frozen, teacher.encode.uncond, recipe.guidance.kappa4, world)
